//! The configuration file: found, read, and handed out, each room its own section.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::money::Network;
use crate::policy::{Catalog, Policy};
use crate::section::{Problems, Section, SectionError};
use crate::settings::{self, Egress, Limits, Listen, Refusals, Reload, Sessions, Tls, Unproven};

mod assets;
mod book;
mod find;
mod guard;
mod partly;
mod reach;
mod rpc;
mod shadow;
mod stamp;
mod wallets;

pub use find::{Missing, find, named};
pub use rpc::RpcEntry;
pub use stamp::Stamp;
pub use wallets::{Mark, WalletEntry};

/// From where relative paths of a file start.
fn folder(file: &Path) -> PathBuf {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new(".")).to_path_buf()
}

/// JSON Schema (draft 2020-12) of the file, for editors. What fits together only the program knows.
pub const SCHEMA: &str = include_str!("schema.json");

/// Everything the operator wrote, and the defaults of what was left out.
pub struct Config {
    /// The file.
    pub file: PathBuf,
    /// Which file that was, from before it was read: one that is written meanwhile is another one. None of a
    /// text that is no file.
    pub stamp: Option<Stamp>,
    /// What is well formed and yet worth a second look.
    pub warnings: Vec<SectionError>,
    /// Its folder, from which relative paths start.
    pub base: PathBuf,
    /// The listeners.
    pub listen: Listen,
    /// Ledger, session secrets, admin token.
    pub state_dir: PathBuf,
    /// The database of the ledger, if it is not in `state_dir`.
    pub ledger: Option<settings::Postgres>,
    /// Interception and verification.
    pub tls: Tls,
    /// Where connections may go.
    pub egress: Egress,
    /// Bounds on everything.
    pub limits: Limits,
    /// What unpaid agents are told.
    pub refusals: Refusals,
    /// Our name in `Via` fields; none are added without one, and a request that has it goes no further.
    pub via: Option<String>,
    /// Who is told what a person should know.
    pub webhook: Option<settings::Webhook>,
    /// Catalogues that are looked in.
    pub discovery: Vec<http::Uri>,
    /// Where spend events are written, besides standard output.
    pub events: Option<PathBuf>,
    /// Traces and logs for a collector.
    pub telemetry: settings::Telemetry,
    /// Who signs, in the order of preference.
    pub wallets: Vec<WalletEntry>,
    /// Which chains can be asked, and where.
    pub rpc: Vec<RpcEntry>,
    /// What sessions get.
    pub sessions: Sessions,
    /// What becomes of payments that nobody can prove.
    pub unproven: Unproven,
    /// When a running proxy takes a new policy.
    pub reload: settings::Reload,
    /// The rules.
    pub policy: Policy,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It cannot be read.
    #[error("{}: cannot be read: {problem}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        problem: std::io::Error,
    },
    /// It cannot be used.
    #[error("{}", Lines(.0))]
    Invalid(Vec<SectionError>),
}

/// One error after the other.
struct Lines<'a>(&'a [SectionError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Finds and reads the file. `named` is the one that the command line names.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is wrong: then with everything that is wrong.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        let (file, text, stamp) = source(named)?;
        let config = Self::parse(&file, &text).map_err(ConfigError::Invalid)?;
        Ok(Self { stamp, ..config })
    }

    /// Reads the text of a file. Nothing is opened.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<SectionError>> {
        let (config, problems) = Self::read_all(file, text)?;
        match problems.is_empty() {
            true => Ok(config),
            false => Err(problems.into_sorted()),
        }
    }

    /// What can be read, and what is wrong with the rest.
    fn read_all(file: &Path, text: &str) -> Result<(Self, Problems), Vec<SectionError>> {
        let name = file.display().to_string();
        let mut section = Section::file(&name, text).map_err(|e| vec![e])?;
        let mut problems = Problems::default();
        let listen = section.peek("listen");
        let written = section.has("version");
        if written || !section.is_map() {
            match version(&mut section) {
                Err(error) if written => problems.push(error),
                read => read.map_err(|error| vec![error])?,
            }
        }
        let (rules, categories) = (section.peek("rules"), section.peek("categories"));
        let mut config = Self::read(file, &mut section, &mut problems);
        let unreached = reach::unpaid(rules.clone(), categories.as_ref(), &config);
        let shadowed = shadow::shadowed(rules.clone());
        let unpaid = wallets::unpaid(rules, &config.wallets);
        let all = shadowed.into_iter().chain(unpaid).chain(unreached);
        config.warnings.extend(all);
        if !written {
            // By now only keys are left that nobody knows: one of them may be meant.
            problems.keep(version(&mut section));
        }
        for unguarded in guard::unguarded(listen, &config) {
            problems.push(unguarded);
        }
        problems.keep(section.finish());
        Ok((config, problems))
    }

    /// Reads on after an error, with the default, so that all errors are found.
    fn read(file: &Path, section: &mut Section, problems: &mut Problems) -> Self {
        let base = folder(file);
        let state_dir = section.or("state_dir", base.join(".farepass"), |s| {
            settings::path(s, &base)
        });
        let ledger = section.or("ledger", None, |s| settings::Postgres::read(s, &base));
        let listen = section.or("listen", Listen::default(), |s| Listen::read(s, &base));
        let tls = tls(section.take("tls"), &base, problems);
        let egress = section.or("egress", Egress::default(), |s| Egress::read(s, &base));
        let limits = section.or("limits", Limits::default(), Limits::read);
        let refusals = section.or("refusals", Refusals::default(), Refusals::read);
        let via = section.or("via", None, via);
        let told = Told::read(section, &base, problems);
        let sessions = section.or("sessions", Sessions::default(), Sessions::read);
        let unproven = section.or("unproven", Unproven::default(), Unproven::read);
        let reload = section.or("reload", Reload::default(), Reload::read);
        let listen = problems.keep(listen).unwrap_or_default();
        let limits = problems.keep(limits).unwrap_or_default();
        let sessions = problems.keep(sessions).unwrap_or_default();
        let mut wallets = wallets::read(section.take("wallets"), &base, problems);
        let priced = wallets::assets(&wallets, problems);
        let catalog = Catalog {
            assets: assets::read(section.peek("assets"), priced, problems),
            validity: limits.validity.as_secs(),
            requirements: limits.requirements,
            identical_payments: limits.identical_payments,
            ..Catalog::default()
        };
        let upto = rpc::upto(section);
        let policy = Policy::read(section, catalog, problems);
        section.take("assets");
        let rpc = rpc::read(section.take("rpc"), &base, problems);
        wallets::unasked(&wallets, &rpc, problems);
        let mut warnings = rpc::doubts(&upto, &wallets, &rpc);
        let known = (policy.assets(), &*rpc);
        warnings.extend(wallets::marked(&mut wallets, known, problems));
        Self {
            file: file.to_path_buf(),
            stamp: None,
            warnings,
            wallets,
            rpc,
            state_dir: problems.keep(state_dir).unwrap_or_default(),
            ledger: problems.keep(ledger).flatten(),
            egress: problems.keep(egress).unwrap_or_default(),
            refusals: problems.keep(refusals).unwrap_or_default(),
            via: problems.keep(via).flatten(),
            discovery: settings::discovery(section, problems),
            webhook: told.webhook,
            events: told.events,
            telemetry: told.telemetry,
            unproven: problems.keep(unproven).unwrap_or_default(),
            reload: problems.keep(reload).unwrap_or_default(),
            base,
            listen,
            tls,
            limits,
            sessions,
            policy,
        }
    }

    /// Every network that some wallet may pay on, in the order of the wallets.
    #[must_use]
    pub fn networks(&self) -> Vec<Network> {
        let mut networks: Vec<Network> = vec![];
        for network in self.wallets.iter().flat_map(|w| &w.networks) {
            if !networks.contains(network) {
                networks.push(network.clone());
            }
        }
        networks
    }

    /// Runs the `tests:` of the file. Returns how many ran, and one error for each that failed.
    #[must_use]
    pub fn run_tests(&self) -> (usize, Vec<SectionError>) {
        self.policy
            .run_tests(&self.networks(), self.sessions.budget)
    }
}

/// A name for `Via` fields, if there is one.
fn via(section: Section) -> Result<Option<String>, SectionError> {
    match section.is_nothing() {
        true => Ok(None),
        false => settings::name(section).map(Some),
    }
}

fn tls(section: Option<Section>, base: &Path, problems: &mut Problems) -> Tls {
    let read = section.and_then(|tls| problems.keep(Tls::read(tls, base)));
    read.unwrap_or_else(|| Tls {
        ca_dir: base.join("certs"),
        ..Tls::default()
    })
}

/// The file, its text, and which file that was.
fn source(named: Option<&Path>) -> Result<(PathBuf, String, Option<Stamp>), ConfigError> {
    let file = find(named)?;
    let stamp = Stamp::of(&file);
    let bytes = bytes(&file).map_err(|problem| ConfigError::Unreadable {
        file: file.clone(),
        problem,
    })?;
    let name = file.display().to_string();
    let text = text(&name, bytes).map_err(|e| ConfigError::Invalid(vec![e]))?;
    Ok((file, text, stamp))
}

/// A little more than a file may have, so that an endless one is told so.
fn bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    const MOST: u64 = 2 * 1024 * 1024;
    let mut bytes = vec![];
    File::open(file)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(name: &str, bytes: Vec<u8>) -> Result<String, SectionError> {
    String::from_utf8(bytes).map_err(|e| {
        let good = e.as_bytes().get(..e.utf8_error().valid_up_to());
        let before = String::from_utf8_lossy(good.unwrap_or_default());
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        SectionError {
            file: name.into(),
            path: String::new(),
            place: Some((line, column)).into(),
            problem: "this is not UTF-8 text".into(),
            hint: None,
        }
    })
}

/// Who is told what happens, besides standard output and the page of metrics.
struct Told {
    webhook: Option<settings::Webhook>,
    events: Option<PathBuf>,
    telemetry: settings::Telemetry,
}

impl Told {
    fn read(section: &mut Section, base: &Path, problems: &mut Problems) -> Self {
        let webhook = section.or("webhook", None, |s| settings::Webhook::read(s, base));
        let events = section.or("events", None, |s| events(s, base));
        let telemetry = section.or("telemetry", settings::Telemetry::default(), |s| {
            settings::Telemetry::read(s, base)
        });
        Self {
            webhook: problems.keep(webhook).flatten(),
            events: problems.keep(events).flatten(),
            telemetry: problems.keep(telemetry).unwrap_or_default(),
        }
    }
}

/// `events:`, which names a file.
fn events(mut section: Section, base: &Path) -> Result<Option<PathBuf>, SectionError> {
    if section.is_nothing() {
        return Ok(None);
    }
    let file = settings::path(section.need("file")?, base)?;
    section.finish()?;
    Ok(Some(file))
}

fn version(section: &mut Section) -> Result<(), SectionError> {
    let version = section.need("version").map_err(|e| match e.hint {
        None => e.hint("the first line is `version: 1`"),
        Some(_) => e,
    })?;
    match version.clone().number(1..=1) {
        Ok(_) => Ok(()),
        Err(_) => Err(version
            .expected("1")
            .hint("this program reads version 1 of the file")),
    }
}
