//! `farepass learn`: a first policy from what was seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;

use super::{Command, Exit, Failure, Terminal};
use crate::event::{SpendEvent, State};
use crate::money::{Asset, Network, Usd, canonical_assets};
use crate::payment::Reason;

mod written;

use written::{Route, Rule, Terms, loads, write};

/// Bytes of one line. Events have some hundred.
const LINE_MAX: u64 = 64 * 1024;

/// Rules, and paths of one rule. A person should read them all.
const RULES: usize = 1000;
const PATHS: usize = 100;

/// Bytes of all rules: with what stands above them less than a file may have. As many of what is kept for them.
const RULES_MAX: usize = 1_000_000;

/// Write a first policy from what merchants asked for
///
/// Reads spend events, as `serve` writes them or as `farepass ledger export --denied` gives them, and writes
/// rules to stdout: what was paid, or only lacked a rule, and nothing beyond. A price that was over the cap of
/// its rule is written as a comment. Changes no file. With `mode: observe` nothing is paid while you watch.
#[derive(Debug, clap::Args)]
pub(super) struct Learn {
    /// The events, one JSON object a line [default: stdin]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Everything that was seen.
#[derive(Default)]
struct Learned {
    /// With how many times each was asked for.
    routes: BTreeMap<Route, (Terms, usize)>,
    /// Events of something that cannot be written as a rule.
    left_out: usize,
    /// Events of what was refused for its terms.
    refused: usize,
    /// Events that the file has no room for.
    beyond: usize,
    unreadable: usize,
    /// Bytes of what is kept.
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
        let (rules, beyond) = learned.rules();
        if learned.unreadable > 0 {
            let many = learned.unreadable;
            terminal.say(format_args!("farepass: {many} lines are no spend events"));
        }
        let why = [
            (
                learned.left_out,
                "no price that is known, or nothing that a rule can name",
            ),
            (
                learned.refused,
                "a person, a rule or a safeguard refused what they asked for",
            ),
            (beyond, "there is no room for more in one file"),
        ];
        for (many, why) in why.into_iter().filter(|(many, _)| *many > 0) {
            terminal.say(format_args!("farepass: {many} events are left out: {why}"));
        }
        if rules.is_empty() {
            let failure = Failure::new(Exit::Failed, "nothing was seen that could be paid");
            return Err(failure.hint("farepass ledger export --denied | farepass learn"));
        }
        write(&rules, &mut terminal.out)?;
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
        let over_cap = match wanted(event) {
            Wanted::Yes => false,
            Wanted::OverCap => true,
            Wanted::Refused => {
                self.refused = self.refused.saturating_add(1);
                return;
            }
            Wanted::No => return,
        };
        let Some((price, asset)) = priced(event, assets) else {
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        let route = Route {
            host: event.host.clone(),
            method: event.method.clone(),
            path: event.path.clone(),
        };
        let alone = Terms::of(event, asset, price, over_cap);
        let known = self.routes.get(&route);
        let new = known.is_none_or(|(terms, _)| !terms.has(&alone));
        let texts = [
            &event.host,
            &event.path,
            &event.method,
            &event.pay_to,
            &event.scheme,
        ];
        let plain = texts.into_iter().all(|text| is_plain(text));
        if !plain || new && !loads(&route, &alone) {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let costs = match known {
            Some((terms, _)) => terms.costs(&alone),
            None => Terms::default().costs(&alone) + route.costs(),
        };
        let bytes = self.bytes.saturating_add(costs);
        if bytes > RULES_MAX {
            self.beyond = self.beyond.saturating_add(1);
            return;
        }
        self.bytes = bytes;
        let (terms, times) = self.routes.entry(route).or_default();
        terms.add(alone);
        *times = times.saturating_add(1);
    }

    /// Those that a file has room for, and how many events it has none for. Paths on the same terms are one
    /// rule; a price, a recipient or a method of one path is never another's.
    fn rules(&self) -> (Vec<Rule<'_>>, usize) {
        let mut alike: BTreeMap<_, Vec<Rule<'_>>> = BTreeMap::new();
        for (route, (terms, times)) in &self.routes {
            let same = alike.entry((&route.host, &route.method, terms));
            let same = same.or_default();
            match same.last_mut().filter(|rule| rule.paths.len() < PATHS) {
                Some(rule) => {
                    rule.paths.push(&route.path);
                    rule.times = rule.times.saturating_add(*times);
                }
                None => same.push(Rule::of(route, terms, *times)),
            }
        }
        let (mut rules, mut bytes, mut beyond) = (vec![], 0_usize, self.beyond);
        for rule in alike.into_values().flatten() {
            let more = bytes.saturating_add(rule.costs());
            if more > RULES_MAX || rules.len() >= RULES {
                beyond = beyond.saturating_add(rule.times);
                continue;
            }
            bytes = more;
            rules.push(rule);
        }
        (rules, beyond)
    }
}

/// What an event says of a rule that would pay it.
enum Wanted {
    Yes,
    /// But for its price.
    OverCap,
    /// For its terms, or by a person.
    Refused,
    /// Nothing: denied by name, or not over.
    No,
}

/// Was it paid, or did it only lack a rule or money? What was refused for anything else is no wish.
fn wanted(event: &SpendEvent) -> Wanted {
    match event.state {
        State::Settled | State::Unknown => return Wanted::Yes,
        State::Reserved | State::Released => return Wanted::No,
        State::Denied => {}
    }
    let code = event.reason.as_deref();
    match Reason::ALL
        .iter()
        .find(|reason| code == Some(reason.code()))
    {
        Some(Reason::DeniedByRule) => Wanted::No,
        Some(Reason::OverRequestCap) => Wanted::OverCap,
        Some(
            Reason::HostNotAllowed
            | Reason::ObserveMode
            | Reason::OverSessionCap
            | Reason::OverBudget
            | Reason::RateLimited
            | Reason::SessionExpired
            | Reason::SessionClosed
            | Reason::WalletUnavailable
            | Reason::LedgerUnavailable
            | Reason::Draining,
        ) => Wanted::Yes,
        Some(_) | None => Wanted::Refused,
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
