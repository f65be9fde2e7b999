//! What was seen at a path, and the rule that says no more than that.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use crate::config::Config;
use crate::event::SpendEvent;
use crate::money::Usd;

/// Recipients of one rule. A person should read them all.
const PAYEES: usize = 100;

/// Bytes of a rule besides what was seen, and of each text besides itself, at most. Texts count for more than
/// they have, because a file may not have too many values either.
const RULE_COSTS: usize = 600;
const TEXT_COSTS: usize = 12;

/// A method and a path of one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    pub(super) host: String,
    pub(super) method: String,
    pub(super) path: String,
}

/// What was asked there: what one rule may say.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Terms {
    payees: BTreeSet<String>,
    networks: BTreeSet<String>,
    assets: BTreeSet<String>,
    schemes: BTreeSet<String>,
    pub(super) highest: Option<Usd>,
    /// The highest price that was over the cap of its rule.
    over_cap: Option<Usd>,
    more_payees: bool,
}

/// Paths of one host and method on the same terms.
pub(super) struct Rule<'a> {
    pub(super) host: &'a str,
    pub(super) method: &'a str,
    pub(super) paths: Vec<&'a str>,
    pub(super) terms: &'a Terms,
    pub(super) times: usize,
}

impl Route {
    pub(super) fn costs(&self) -> usize {
        let texts = [&self.host, &self.method, &self.path];
        texts.iter().map(|text| text.len() + TEXT_COSTS).sum()
    }
}

impl Terms {
    /// What one event shows.
    pub(super) fn of(event: &SpendEvent, asset: String, price: Usd, over_cap: bool) -> Self {
        let one = |text: &String| BTreeSet::from([text.clone()]);
        Self {
            payees: one(&event.pay_to),
            networks: one(&event.network),
            assets: BTreeSet::from([asset]),
            schemes: one(&event.scheme),
            highest: Some(price).filter(|_| !over_cap),
            over_cap: Some(price).filter(|_| over_cap),
            more_payees: false,
        }
    }

    /// The price of its rule.
    fn most(&self) -> Usd {
        self.highest.or(self.over_cap).unwrap_or_default()
    }

    fn lists(&self) -> [&BTreeSet<String>; 4] {
        [&self.payees, &self.networks, &self.assets, &self.schemes]
    }

    /// Is there nothing in the other one that this one lacks, but for the price?
    pub(super) fn has(&self, other: &Self) -> bool {
        let mut pairs = self.lists().into_iter().zip(other.lists());
        pairs.all(|(own, theirs)| theirs.is_subset(own))
    }

    /// By how many bytes the other one lengthens this one, at most.
    pub(super) fn costs(&self, other: &Self) -> usize {
        let pairs = self.lists().into_iter().zip(other.lists());
        let new = pairs.flat_map(|(own, theirs)| theirs.difference(own));
        new.map(|text| text.len().saturating_add(TEXT_COSTS)).sum()
    }

    /// Whoever was asked for above the cap only is no recipient of what is within it.
    pub(super) fn add(&mut self, other: Self) {
        let (within, beyond) = (other.highest.is_some(), self.highest.is_some());
        self.over_cap = self.over_cap.max(other.over_cap);
        if !within && beyond {
            return;
        }
        if within && !beyond {
            let over_cap = self.over_cap;
            *self = Self { over_cap, ..other };
            return;
        }
        self.highest = self.highest.max(other.highest);
        self.networks.extend(other.networks);
        self.assets.extend(other.assets);
        self.schemes.extend(other.schemes);
        self.more_payees |= fill(&mut self.payees, other.payees, PAYEES);
    }
}

impl<'a> Rule<'a> {
    pub(super) fn of(route: &'a Route, terms: &'a Terms, times: usize) -> Self {
        Self {
            host: &route.host,
            method: &route.method,
            paths: vec![&route.path],
            terms,
            times,
        }
    }

    pub(super) fn costs(&self) -> usize {
        let paths: usize = self.paths.iter().map(|path| path.len() + TEXT_COSTS).sum();
        let names = self.host.len() + self.method.len();
        RULE_COSTS + names + paths + Terms::default().costs(self.terms)
    }

    fn write(&self, out: &mut dyn Write, number: usize) -> io::Result<()> {
        let terms = self.terms;
        let most = terms.most();
        writeln!(out, "  # asked for {} times, {most} at most", self.times)?;
        let mark = match (terms.highest, terms.over_cap) {
            (Some(_), Some(over)) => {
                writeln!(out, "  # and for {over}, over the cap of its rule")?;
                ""
            }
            (Some(_), None) => "",
            (None, _) => {
                writeln!(
                    out,
                    "  # always over the cap of its rule, so not a rule here"
                )?;
                "# "
            }
        };
        if terms.more_payees {
            writeln!(out, "  # more recipients than these {PAYEES} were seen")?;
        }
        for line in self.lines(number, most) {
            writeln!(out, "{mark}{line}")?;
        }
        Ok(())
    }

    fn lines(&self, number: usize, most: Usd) -> Vec<String> {
        let terms = self.terms;
        let mut lines = vec![
            format!("  - name: seen-{number}"),
            "    match:".to_owned(),
            format!("      hosts: [{}]", quoted(self.host)),
            format!("      methods: [{}]", quoted(self.method)),
            format!("      paths: [{}]", list(&self.paths)),
            "    pay:".to_owned(),
            format!("      max: {}", quoted(&most.to_string())),
            format!("      schemes: [{}]", list(&terms.schemes)),
        ];
        if terms.schemes.contains("upto") {
            lines.push("      transfer_methods: [eip3009, permit2]".to_owned());
        }
        lines.extend([
            format!("      networks: [{}]", list(&terms.networks)),
            format!("      assets: [{}]", list(&terms.assets)),
            format!("      pay_to: [{}]", list(&terms.payees)),
        ]);
        lines
    }
}

pub(super) fn write(rules: &[Rule<'_>], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "# What was asked for, as `farepass learn` saw it. Read every line before you pay by it: merchants wrote it."
    )?;
    writeln!(
        out,
        "# Put the rules into your file; `farepass check` reads this one as it is. What was asked for inside of MCP or A2A\n# needs `mcp: true` below its `pay`: events do not tell it from the rest."
    )?;
    let none = rules.iter().all(|rule| rule.terms.highest.is_none());
    writeln!(out, "version: 1\nrules:{}", if none { " []" } else { "" })?;
    for (number, rule) in rules.iter().enumerate() {
        rule.write(out, number.saturating_add(1))?;
    }
    Ok(())
}

/// Could a file have it as a rule? Merchants wrote what is in it, and paths, methods and addresses are
/// not always such as rules may name.
pub(super) fn loads(route: &Route, terms: &Terms) -> bool {
    let mut text = String::from("version: 1\nrules:\n");
    for line in Rule::of(route, terms, 1).lines(1, terms.most()) {
        text.push_str(&line);
        text.push('\n');
    }
    Config::parse(Path::new("learned.yaml"), &text).is_ok()
}

/// Takes what there is room for, and says whether that was not all.
fn fill(list: &mut BTreeSet<String>, more: BTreeSet<String>, most: usize) -> bool {
    let mut left_out = false;
    for text in more {
        match list.len() < most || list.contains(&text) {
            true => drop(list.insert(text)),
            false => left_out = true,
        }
    }
    left_out
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn list(all: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let all: Vec<_> = all.into_iter().map(|text| quoted(text.as_ref())).collect();
    all.join(", ")
}
