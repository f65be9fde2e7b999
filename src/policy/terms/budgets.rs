//! `budgets: [hourly, per-host]`: each becomes one limit that the ledger must keep.

use std::sync::Arc;

use crate::payment::Refusal;
use crate::policy::Duties;
use crate::policy::catalog::{Budget, Catalog};
use crate::section::{Section, SectionError};

use super::{About, Ask, Bound, Build, Term, TermKind};

pub(super) const TERM: TermKind = TermKind {
    key: "budgets",
    doc: "budgets that the rule draws on, besides those that no rule names",
    about: About::Deal,
    build: Build::Key(|section, catalog| {
        let mut budgets = section.map_or(Ok(vec![]), |s| read(s, catalog))?;
        budgets.extend(catalog.everywhere.iter().cloned());
        Ok(Some(Box::new(Budgets(budgets))))
    }),
};

struct Budgets(Vec<Arc<Budget>>);

fn read(section: Section, catalog: &Catalog) -> Result<Vec<Arc<Budget>>, SectionError> {
    let mut budgets: Vec<Arc<Budget>> = vec![];
    for item in section.items()? {
        let name = item.clone().text()?;
        let found = catalog.budgets.iter().find(|b| b.name == name);
        let unread = |called: &String| called.is_empty() || *called == name;
        if found.is_none() && catalog.unread.iter().any(unread) {
            // What is wrong with it is told where it is defined.
            continue;
        }
        let Some(budget) = found else {
            let error = item.error(format!("no budget is called \"{}\"", name.escape_debug()));
            return Err(match catalog.budgets.is_empty() {
                true => error.hint("define it below `budgets:` of the file"),
                false => error.hint_words(&name, catalog.budgets.iter().map(|b| &*b.name)),
            });
        };
        if budgets.contains(budget) {
            return Err(item.error(format!("the budget `{name}` is named twice")));
        }
        budgets.push(Arc::clone(budget));
    }
    Ok(budgets)
}

impl Term for Budgets {
    fn bounds(&self) -> Vec<(&'static str, Bound)> {
        vec![("budgets", Bound::holds(self.0.iter().map(|b| &b.name)))]
    }

    /// Only the ledger knows what is left.
    fn check(&self, _ask: &Ask<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn duties(&self, ask: &Ask<'_>, duties: &mut Duties) {
        let payer = ask.payer.unwrap_or_default();
        for budget in &self.0 {
            let limit = budget.limit(ask.asked, payer, ask.now);
            duties.warnings.extend(budget.warning(&limit));
            duties.limits.push(limit);
        }
    }
}
