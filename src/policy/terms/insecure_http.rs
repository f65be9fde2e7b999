//! `insecure_http: true`: pay over a connection that anybody may read and change.

use crate::payment::{Reason, Refusal};

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "insecure_http",
    doc: "true: also pay without TLS, where anybody on the way may take the payment",
    about: About::Deal,
    build: Build::Key(|section, _| {
        let allowed = section.map_or(Ok(false), |s| s.flag())?;
        let term = || Box::new(Secure) as Box<dyn Term>;
        Ok((!allowed).then(term))
    }),
};

struct Secure;

impl Term for Secure {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("insecure_http", Bound::holds(["tls"]))]
    }

    fn check(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if ask.asked.secure {
            return Ok(());
        }
        let detail = "the connection is not TLS, and the rule does not say `insecure_http: true`";
        Err(Refusal::new(Reason::InsecureTransport, detail))
    }
}
