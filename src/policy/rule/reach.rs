//! What a rule is about, compared with what another is about, without any request.

use super::Rule;
use crate::policy::glob::Glob;

impl Rule {
    /// Does it match everything that the other matches? `false` where that is not plain to see.
    pub(in crate::policy) fn covers(&self, other: &Self) -> bool {
        let hosts = |theirs| self.hosts.iter().any(|own| own.covers(theirs));
        other.hosts.iter().all(hosts)
            && within(&self.methods, &other.methods)
            && within(&self.paths, &other.paths)
            && globs(&self.agents, &other.agents)
            && globs(&self.tools, &other.tools)
    }

    /// May a request match both? `true` where that is not plain to see.
    pub(in crate::policy) fn may_meet(&self, other: &Self) -> bool {
        let meets = |own: &crate::settings::HostPattern| {
            let theirs = &mut other.hosts.iter();
            theirs.any(|theirs| own.may_meet(theirs))
        };
        let common = |method: &http::Method| other.methods.contains(method);
        self.hosts.iter().any(meets)
            && (self.methods.is_empty()
                || other.methods.is_empty()
                || self.methods.iter().any(common))
    }
}

/// Is every one of `theirs` in `own`? An empty list stands for everything.
fn within<T: PartialEq>(own: &[T], theirs: &[T]) -> bool {
    own.is_empty() || (!theirs.is_empty() && theirs.iter().all(|item| own.contains(item)))
}

/// The same of texts with stars, where a lone star is every text, but not the lack of one.
fn globs(own: &[Glob], theirs: &[Glob]) -> bool {
    within(own, theirs) || (!theirs.is_empty() && own.contains(&Glob::new("*")))
}
