//! The text format of Prometheus (exposition format 0.0.4): families with their help, and samples.

use std::fmt::Write as _;

use crate::money::Usd;

/// What a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, as long as the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// A name and what it means; every family of a page is in a table of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Begins with `farepass_`, ends with its unit.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

impl Family {
    /// What only grows.
    #[must_use]
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            labels,
            help,
        }
    }

    /// What goes up and down.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            kind: Kind::Gauge,
            ..Self::counter(name, labels, help)
        }
    }
}

/// A page in the making.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a family.
    pub fn family(&mut self, family: &Family) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let Family { name, help, .. } = family;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value. There are as many labels as the family has names; what is missing is empty.
    pub fn sample(&mut self, family: &Family, values: &[&str], value: impl std::fmt::Display) {
        self.line(family, "", values, None, value);
    }

    /// One value of a histogram: `_bucket` with its upper bound, `_sum`, `_count`.
    pub(super) fn line(
        &mut self,
        family: &Family,
        suffix: &str,
        values: &[&str],
        bound: Option<&str>,
        value: impl std::fmt::Display,
    ) {
        let _ = write!(self.0, "{}{suffix}", family.name);
        let own = family.labels.iter().zip(values);
        let labels = own.map(|(name, value)| (*name, *value));
        let labels = labels.chain(bound.map(|bound| ("le", bound)));
        let mut between = '{';
        for (name, value) in labels {
            let _ = write!(self.0, "{between}{name}=\"{}\"", escaped(value));
            between = ',';
        }
        let end = if between == ',' { "}" } else { "" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A family with one value and no labels.
    pub fn single(&mut self, family: &Family, value: impl std::fmt::Display) {
        self.family(family);
        self.sample(family, &[], value);
    }

    /// The text.
    #[must_use]
    pub fn text(self) -> String {
        self.0
    }
}

/// Dollars as a plain decimal number, to the last billionth.
#[must_use]
pub fn dollars(usd: Usd) -> String {
    let (whole, part) = (usd.0 / 1_000_000_000, usd.0 % 1_000_000_000);
    format!("{whole}.{part:09}")
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}
