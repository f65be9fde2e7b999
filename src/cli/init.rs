//! `farepass init`: a first configuration, a certificate authority and a wallet key.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::guide::{self, Guide};
use super::{Command, Exit, Failure, Terminal};
use crate::config::{self, Config, ConfigError, WalletEntry};
use crate::tls::Authority;
use crate::wallet;
use crate::wallet::local::{self, KeyError};

mod next;

const TEMPLATE: &str = include_str!("init/farepass.yaml");

/// The line of the template that a wallet takes the place of.
const WALLET: &str = "  # here\n";

/// The key's line in the template, after which its passphrase is named.
const KEY_LINE: &str = "    key_file: wallet.key";

/// What one request may cost in the template, and what is written above it for a Lightning node.
const PRICE_LINE: &str = "      max: \"0.05 USD\"";
const SCHEMES_LINE: &str = "      schemes: [l402]\n";

/// Write a first configuration, a certificate authority and a wallet key
///
/// Writes what is missing and overwrites nothing, so it can be run again. With an existing
/// configuration, its paths are used.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass init
  farepass init --config agents/farepass.yaml
  farepass init --passphrase-file /run/secrets/wallet-pass    an encrypted key
  farepass init --wallet cdp    a wallet whose key is elsewhere, and what it needs")]
pub(super) struct Init {
    /// Kind of the wallet: local, web3signer, cdp, privy, kms, agentcore or lightning
    #[arg(long, value_name = "KIND", default_value = "local", value_parser = kind, hide_default_value = true)]
    wallet: &'static Guide,
    /// Encrypt the new key with the passphrase in this file (mode 0600)
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn kind(word: &str) -> Result<&'static Guide, String> {
    guide::of(word).ok_or_else(|| {
        let kinds: Vec<_> = guide::GUIDES.iter().map(|guide| guide.kind).collect();
        kinds.join(", ")
    })
}

/// What was done about one file.
struct Done {
    path: PathBuf,
    new: bool,
    what: &'static str,
}

impl Command for Init {
    const NAME: &'static str = "init";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let file = terminal.globals.config.clone();
        let named = file.or_else(config::named);
        let file = named.unwrap_or_else(|| "farepass.yaml".into());
        if self.passphrase_file.is_some() && self.wallet.kind != LOCAL {
            return Err(Failure::new(Exit::Usage, NO_KEY));
        }
        let passphrase_file =
            match &self.passphrase_file {
                // The configuration names it from its own folder.
                Some(path) => Some(fs::canonicalize(path).map_err(|e| {
                    Failure::new(Exit::Usage, format_args!("{}: {e}", path.display()))
                })?),
                None => None,
            };
        if let Some(path) = &passphrase_file {
            // Before anything is written.
            local::passphrase(path).map_err(|e| Failure::new(Exit::Usage, e))?;
        }
        let new = write_config(&file, self.wallet, passphrase_file.as_deref())?;
        if !new && passphrase_file.is_some() {
            terminal.say("the configuration exists already, so --passphrase-file is not used");
        }
        if !new && self.wallet.kind != LOCAL {
            terminal.say("the configuration exists already, so --wallet is not used");
        }
        let config = Config::load(Some(&file))?;
        let mut done = vec![Done {
            path: file.clone(),
            new,
            what: "what may be paid, to whom, and how much",
        }];
        let ca = config.tls.ca_dir.join("ca.pem");
        let new = !ca.exists();
        Authority::open_or_create(&config.tls.ca_dir)?;
        done.push(Done {
            path: ca,
            new,
            what: "whom your agents trust; its key stays beside it",
        });
        let mut wallets = vec![];
        for entry in config.wallets.iter().filter(|w| w.kind == LOCAL) {
            let (key, address) = key_of(entry)?;
            done.push(key);
            wallets.push((entry, address));
        }
        let next = next::steps(&file, &config);
        match self.json {
            true => report_json(terminal, &done, &wallets, &next)?,
            false => report(terminal, &done, &wallets, &next)?,
        }
        Ok(Exit::Done)
    }
}

/// Writes the template, unless there is something already. Returns whether it did.
fn write_config(
    file: &Path,
    guide: &Guide,
    passphrase_file: Option<&Path>,
) -> Result<bool, Failure> {
    let failed = |e: io::Error| Failure::new(Exit::Failed, format_args!("{}: {e}", file.display()));
    let mut text = TEMPLATE.replacen(WALLET, guide.wallet, 1);
    if wallet::pays_itself(guide.kind) {
        // Bought with invoices, and asked so by the tests of the file.
        text = text.replacen(PRICE_LINE, &format!("{SCHEMES_LINE}{PRICE_LINE}"), 1);
        text = text.replace(", amount:", ", scheme: l402, amount:");
    }
    if let Some(path) = passphrase_file {
        // JSON's strings are YAML's.
        let path = serde_json::to_string(&path.display().to_string()).unwrap_or_default();
        let named = format!("    passphrase_file: {path}\n{KEY_LINE}");
        text = text.replacen(KEY_LINE, &named, 1);
    }
    // A kind that this build leaves out is said before anything is written.
    Config::parse(file, &text).map_err(ConfigError::Invalid)?;
    if let Some(parent) = file.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut options = fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o644).open(file) {
        Ok(mut new) => {
            new.write_all(text.as_bytes()).map_err(failed)?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

/// The kind whose key is made here.
const LOCAL: &str = "local";

/// Why nothing is encrypted.
const NO_KEY: &str =
    "--passphrase-file encrypts a key of kind `local`; the keys of other kinds are elsewhere";

/// Why no key is made.
const UNENCRYPTED: &str = "Solana keys are kept as the Solana CLI keeps them, which is never encrypted: leave `passphrase_file` out";

/// Makes the key of a wallet, unless there is one already.
fn key_of(entry: &WalletEntry) -> Result<(Done, String), Failure> {
    let failed = |e: KeyError| Failure::new(Exit::Usage, e);
    let path_of = |key: &str| {
        let mut section = entry.section.clone();
        let text = section.take(key).and_then(|s| s.text().ok());
        text.map(|text| entry.base.join(text))
    };
    let path = path_of("key_file").unwrap_or_else(|| entry.base.join("wallet.key"));
    let passphrase = path_of("passphrase_file").map(|p| local::passphrase(&p));
    let passphrase = passphrase.transpose().map_err(failed)?;
    let new = !path.exists();
    let solana = entry.networks.iter().any(|n| n.is_solana());
    let address = match (new, solana, &passphrase) {
        (false, _, _) => local::address_of(&path, passphrase.as_ref()),
        (true, true, None) => local::create_solana_key(&path),
        (true, true, Some(_)) => return Err(Failure::new(Exit::Usage, UNENCRYPTED)),
        (true, false, _) => local::create_key(&path, passphrase.as_ref()).map(|a| a.to_string()),
    };
    let done = Done {
        path,
        new,
        what: "the key that pays; back it up, show it to nobody",
    };
    Ok((done, address.map_err(failed)?))
}

fn report_json(
    terminal: &mut Terminal,
    done: &[Done],
    wallets: &[(&WalletEntry, String)],
    next: &[String],
) -> Result<(), Failure> {
    let files = done.iter().map(|d| json!({ "path": d.path, "new": d.new }));
    let wallets = wallets.iter().map(|(entry, address)| {
        let networks: Vec<_> = entry.networks.iter().map(|n| n.as_str()).collect();
        json!({ "name": entry.name, "address": address, "networks": networks })
    });
    terminal.json(&json!({
        "files": files.collect::<Vec<_>>(),
        "wallets": wallets.collect::<Vec<_>>(),
        "next": next,
    }))
}

fn report(
    terminal: &mut Terminal,
    done: &[Done],
    wallets: &[(&WalletEntry, String)],
    next: &[String],
) -> Result<(), Failure> {
    let out = &mut terminal.out;
    let shown = |path: &Path| path.display().to_string();
    let width = done.iter().map(|d| shown(&d.path).len()).max().unwrap_or(0);
    for Done { path, new, what } in done {
        let word = if *new { "wrote" } else { "kept " };
        writeln!(out, "{word}  {:width$}  {what}", shown(path))?;
    }
    for (entry, address) in wallets {
        let networks: Vec<_> = entry.networks.iter().map(|n| n.as_str()).collect();
        writeln!(
            out,
            "\nwallet {}: {address} on {}",
            entry.name,
            networks.join(", ")
        )?;
    }
    writeln!(out, "\nNext:")?;
    for (step, number) in next.iter().zip(1..) {
        writeln!(out, "  {number}. {step}")?;
    }
    let secrets = done.iter().any(|d| in_git(&d.path));
    if secrets {
        terminal.say("this folder is under git: keep wallet.key, certs/ and .farepass/ out of it (.gitignore)");
    }
    Ok(())
}

/// Is the file in a work tree?
fn in_git(path: &Path) -> bool {
    let whole = fs::canonicalize(path).unwrap_or_default();
    whole.ancestors().any(|a| a.join(".git").exists())
}
