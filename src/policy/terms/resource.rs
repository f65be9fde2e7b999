//! The challenge is for the host that was asked, not one that it passes on for another (threat X-06).

use crate::payment::{Asked, Reason, Refusal};
use crate::settings::origin;

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "resource",
    doc: "the URL that the challenge names is on the host that was asked",
    about: About::Deal,
    build: Build::Always(|_| Box::new(SameHost)),
};

struct SameHost;

impl Term for SameHost {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        let resource = ask.requirement.resource.as_deref();
        if resource.and_then(|r| is_of(ask.asked, r)) != Some(false) {
            return Ok(());
        }
        let detail = "the challenge names a URL on another host or port than the one asked";
        Err(Refusal::new(Reason::ResourceMismatch, detail))
    }
}

/// Is the URL on the host and port that were asked? `None`: it names no host.
pub(in crate::policy) fn is_of(asked: &Asked, resource: &str) -> Option<bool> {
    let (host, port) = origin(resource, asked.tool.name().is_some())?;
    let port_ok = port.is_none_or(|port| port == asked.port);
    Some(port_ok && host.is_some_and(|host| host == *asked.host))
}
