//! `farepass learn`: a first policy from what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::{Path, PathBuf};

use super::{Command, Exit, Failure, Terminal};
use crate::config::Config;
use crate::event::{SpendEvent, State};
use crate::money::{Asset, Network, Usd, canonical_assets};
use crate::payment::Reason;

/// Bytes of one line. Events have some hundred.
const LINE_MAX: u64 = 64 * 1024;

/// Hosts, and paths and recipients of one host, that become rules. A person should read them all.
const HOSTS: usize = 500;
const PATHS: usize = 100;
const PAYEES: usize = 100;

/// Bytes of all rules: with what stands above them less than a file may have.
const RULES_MAX: usize = 1_000_000;

/// Bytes of a rule besides what was seen, and of each text besides itself, at most. Texts count for more than
/// they have, because a file may not have too many values either.
const RULE_COSTS: usize = 600;
const TEXT_COSTS: usize = 12;

/// Write a first policy from what merchants asked for
///
/// Reads spend events, as `serve` writes them or as `farepass ledger export --denied` gives them, and writes
/// rules to stdout: hosts, paths, recipients and prices that were seen, and nothing beyond. Changes no file.
/// With `mode: observe` nothing is paid while you watch.
#[derive(Debug, clap::Args)]
pub(super) struct Learn {
    /// The events, one JSON object a line [default: stdin]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What was seen of one host.
#[derive(Default)]
struct Seen {
    methods: BTreeSet<String>,
    paths: BTreeSet<String>,
    payees: BTreeSet<String>,
    networks: BTreeSet<String>,
    assets: BTreeSet<String>,
    schemes: BTreeSet<String>,
    highest: Usd,
    times: usize,
    more_paths: bool,
    more_payees: bool,
}

/// Everything that was seen.
#[derive(Default)]
struct Learned {
    hosts: BTreeMap<String, Seen>,
    /// Events of something that cannot be written as a rule.
    left_out: usize,
    /// Events that the file has no room for.
    beyond: usize,
    unreadable: usize,
    /// Bytes of the rules, at most.
    bytes: usize,
}

impl Command for Learn {
    const NAME: &'static str = "learn";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let learned = match &self.file {
            None => Learned::read(io::stdin().lock()),
            Some(path) => {
                let file = File::open(path).map_err(|e| {
                    Failure::new(Exit::Failed, format_args!("{}: {e}", path.display()))
                })?;
                Learned::read(BufReader::new(file))
            }
        };
        let learned = learned.map_err(|e| Failure::new(Exit::Failed, e))?;
        if learned.unreadable > 0 {
            let many = learned.unreadable;
            terminal.say(format_args!("farepass: {many} lines are no spend events"));
        }
        if learned.left_out > 0 {
            let many = learned.left_out;
            terminal.say(format_args!(
                "farepass: {many} events are left out: no price that is known, or nothing that a rule can name"
            ));
        }
        if learned.beyond > 0 {
            let many = learned.beyond;
            terminal.say(format_args!(
                "farepass: {many} events are left out: there is no room for more in one file"
            ));
        }
        if learned.hosts.is_empty() {
            let failure = Failure::new(Exit::Failed, "nothing was seen that could be paid");
            return Err(failure.hint("farepass ledger export --denied | farepass learn"));
        }
        learned.write(&mut terminal.out)?;
        Ok(Exit::Done)
    }
}

impl Learned {
    fn read(mut from: impl BufRead) -> io::Result<Self> {
        let (mut learned, assets) = (Self::default(), canonical_assets());
        let mut line = vec![];
        loop {
            line.clear();
            let length = from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
            if length == 0 {
                return Ok(learned);
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice::<SpendEvent>(&line) {
                Ok(event) if !event.host.is_empty() => learned.take(&event, &assets),
                // Other events have no host, or another form.
                Ok(_) | Err(_) => learned.unreadable = learned.unreadable.saturating_add(1),
            }
        }
    }

    fn take(&mut self, event: &SpendEvent, assets: &[Asset]) {
        if !is_sought(event) {
            return;
        }
        let Some((price, asset)) = priced(event, assets) else {
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        let alone = Seen::of(event, price, asset);
        let known = self.hosts.get(&event.host);
        let new = known.is_none_or(|seen| !seen.has(&alone));
        let texts = [
            &event.host,
            &event.path,
            &event.method,
            &event.pay_to,
            &event.scheme,
        ];
        let plain = texts.into_iter().all(|text| is_plain(text));
        if !plain || new && !alone.loads(&event.host) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let costs = match known {
            Some(seen) => seen.costs(&alone),
            None => Seen::default().costs(&alone) + RULE_COSTS + event.host.len(),
        };
        let bytes = self.bytes.saturating_add(costs);
        if bytes > RULES_MAX || known.is_none() && self.hosts.len() >= HOSTS {
            self.beyond = self.beyond.saturating_add(1);
            return;
        }
        self.bytes = bytes;
        let seen = self.hosts.entry(event.host.clone()).or_default();
        seen.add(alone);
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "# What was asked for, as `farepass learn` saw it. Read every line before you pay by it: merchants wrote it."
        )?;
        writeln!(
            out,
            "# Put the rules into your file; `farepass check` reads this one as it is. What was asked for inside of MCP or A2A\n# needs `mcp: true` below its `pay`: events do not tell it from the rest."
        )?;
        writeln!(out, "version: 1\nrules:")?;
        for (number, (host, seen)) in self.hosts.iter().enumerate() {
            seen.write(out, number.saturating_add(1), host)?;
        }
        Ok(())
    }
}

impl Seen {
    /// What one event shows.
    fn of(event: &SpendEvent, price: Usd, asset: String) -> Self {
        let one = |text: &String| BTreeSet::from([text.clone()]);
        Self {
            methods: one(&event.method),
            paths: one(&event.path),
            payees: one(&event.pay_to),
            networks: one(&event.network),
            assets: BTreeSet::from([asset]),
            schemes: one(&event.scheme),
            highest: price,
            times: 1,
            more_paths: false,
            more_payees: false,
        }
    }

    fn lists(&self) -> [&BTreeSet<String>; 6] {
        [
            &self.methods,
            &self.paths,
            &self.payees,
            &self.networks,
            &self.assets,
            &self.schemes,
        ]
    }

    /// Is there nothing in the other one that this one lacks, but for the price?
    fn has(&self, other: &Self) -> bool {
        let mut pairs = self.lists().into_iter().zip(other.lists());
        pairs.all(|(own, theirs)| theirs.is_subset(own))
    }

    /// By how many bytes the other one lengthens this one, at most. What is beyond a bound is not written.
    fn costs(&self, other: &Self) -> usize {
        let full = [
            (&self.paths, self.paths.len() >= PATHS),
            (&self.payees, self.payees.len() >= PAYEES),
        ];
        let is_full = |list| {
            full.iter()
                .any(|(own, full)| *full && std::ptr::eq(*own, list))
        };
        let pairs = self.lists().into_iter().zip(other.lists());
        let open = pairs.filter(|(own, _)| !is_full(*own));
        let new = open.flat_map(|(own, theirs)| theirs.difference(own));
        new.map(|text| text.len().saturating_add(TEXT_COSTS)).sum()
    }

    fn add(&mut self, other: Self) {
        self.times = self.times.saturating_add(other.times);
        self.highest = self.highest.max(other.highest);
        self.methods.extend(other.methods);
        self.networks.extend(other.networks);
        self.assets.extend(other.assets);
        self.schemes.extend(other.schemes);
        self.more_paths |= fill(&mut self.paths, other.paths, PATHS);
        self.more_payees |= fill(&mut self.payees, other.payees, PAYEES);
    }

    /// Could a file have it as a rule? Merchants wrote what is in it, and paths, methods and addresses are
    /// not always such as rules may name.
    fn loads(&self, host: &str) -> bool {
        let mut text = b"version: 1\nrules:\n".to_vec();
        let written = self.write(&mut text, 1, host);
        let text = String::from_utf8(text).ok().filter(|_| written.is_ok());
        text.is_some_and(|text| Config::parse(Path::new("learned.yaml"), &text).is_ok())
    }

    fn write(&self, out: &mut dyn Write, number: usize, host: &str) -> io::Result<()> {
        writeln!(
            out,
            "  # asked for {} times, {} at most",
            self.times, self.highest
        )?;
        if self.more_paths {
            writeln!(out, "  # more paths than these {PATHS} were seen")?;
        }
        if self.more_payees {
            writeln!(out, "  # more recipients than these {PAYEES} were seen")?;
        }
        writeln!(out, "  - name: seen-{number}")?;
        writeln!(out, "    match:\n      hosts: [{}]", quoted(host))?;
        writeln!(out, "      methods: [{}]", list(&self.methods))?;
        writeln!(out, "      paths: [{}]", list(&self.paths))?;
        writeln!(
            out,
            "    pay:\n      max: {}",
            quoted(&self.highest.to_string())
        )?;
        writeln!(out, "      schemes: [{}]", list(&self.schemes))?;
        if self.schemes.contains("upto") {
            writeln!(out, "      transfer_methods: [eip3009, permit2]")?;
        }
        writeln!(out, "      networks: [{}]", list(&self.networks))?;
        writeln!(out, "      assets: [{}]", list(&self.assets))?;
        writeln!(out, "      pay_to: [{}]", list(&self.payees))
    }
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

/// Was it paid, or would a person want to know that it was asked for? Not what a rule denied by name.
fn is_sought(event: &SpendEvent) -> bool {
    let reason = event.reason.as_deref();
    match event.state {
        State::Denied => reason != Some(Reason::DeniedByRule.code()),
        State::Settled => true,
        State::Reserved | State::Unknown | State::Released => false,
    }
}

/// Its price, and the symbol of its asset, by our own table: what merchants call it counts for nothing.
fn priced(event: &SpendEvent, assets: &[Asset]) -> Option<(Usd, String)> {
    let network: Network = event.network.parse().ok()?;
    let amount = event.amount?;
    let known =
        |a: &&Asset| a.network == network && (a.is(&event.asset) || a.symbol == event.asset);
    let asset = assets.iter().find(known)?;
    Some((
        event.price.or_else(|| asset.price(amount))?,
        asset.symbol.clone(),
    ))
}

/// Fit for a rule: nothing that needs an escape, and no wildcard.
fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\' | b'*');
    !text.is_empty() && text.bytes().all(plain)
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn list(all: &BTreeSet<String>) -> String {
    let all: Vec<_> = all.iter().map(|text| quoted(text)).collect();
    all.join(", ")
}
