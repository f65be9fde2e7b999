//! `networks: ["eip155:84532"]`: chains that may be used, of those that a wallet pays on.

use crate::money::Network;
use crate::payment::{Reason, Refusal};
use crate::section::Section;
use crate::settings;

use super::schemes::some;
use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "networks",
    doc: "chains that may be used; those of the wallets if not written",
    about: About::Means,
    build: Build::Key(|section, _| {
        let read = |s: Section| some(s, "networks", settings::network);
        let networks = section.map(read).transpose()?;
        Ok(Some(Box::new(Networks(networks))))
    }),
};

struct Networks(Option<Vec<Network>>);

impl Term for Networks {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        let only = |list| ("networks", Bound::only::<&Network>(list));
        self.0.iter().map(only).collect()
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let refuse = |detail: String| Err(Refusal::new(Reason::NetworkNotAllowed, detail));
        let join = |names: Vec<&str>| match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        if ask.payer.is_none() {
            let ours = ask.payers.iter().map(|(network, _)| network.as_str());
            return refuse(format!(
                "no wallet pays on the network; the wallets' networks: {}",
                join(ours.collect())
            ));
        }
        match &self.0 {
            Some(list) if !list.contains(&ask.requirement.network) => {
                let listed = list.iter().map(Network::as_str).collect();
                refuse(format!("the rule pays on these networks: {}", join(listed)))
            }
            _ => Ok(()),
        }
    }
}
