//! `transfer_methods: [eip3009, permit2]`: how an asset may be moved. What approves a spender or recurs
//! is not among them: one such signature escapes every limit.

use crate::payment::{Reason, Refusal};
use crate::section::Section;

use super::schemes::{known, some};
use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "transfer_methods",
    doc: "how an asset may be moved; eip3009 if not written",
    about: About::Means,
    build: Build::Key(|section, _| {
        let read = |s: Section| some(s, "transfer methods", |item| known(item, METHODS));
        let methods = section.map_or(Ok(vec!["eip3009"]), read)?;
        Ok(Some(Box::new(Methods(methods))))
    }),
};

const METHODS: &[(&str, bool)] = &[("eip3009", true), ("permit2", true)];

/// How whatever pays an invoice moves.
const LIGHTNING: &str = "lightning";

/// How tokens move on chains that have one way.
const PLAIN: &str = "transfer";

/// How Tempo's tokens move.
const TIP20: &str = "tip20";

struct Methods(Vec<&'static str>);

impl Term for Methods {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("transfer_methods", Bound::only(&self.0))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let refuse = |detail| Err(Refusal::new(Reason::TransferMethodUnsupported, detail));
        let method = &*ask.requirement.transfer_method;
        // Bitcoin moves over Lightning in one way only, a Tempo charge in another: `schemes` has said it all.
        let by_scheme = method == LIGHTNING && ask.requirement.network.is_lightning()
            || method == TIP20 && ask.requirement.scheme == "tempo/charge";
        if by_scheme {
            return Ok(());
        }
        // So do tokens on Solana.
        if method == PLAIN && ask.requirement.network.is_solana() {
            return Ok(());
        }
        if !self.0.contains(&method) {
            return refuse(format!("the rule moves assets by {}", self.0.join(", ")));
        }
        let signable = |a: &crate::money::Asset| a.eip3009 && a.eip712.is_some();
        if method == "eip3009" && !ask.asset.is_some_and(signable) {
            return refuse("the asset's contract has no EIP-3009, as far as the table says".into());
        }
        Ok(())
    }
}
