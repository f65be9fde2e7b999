//! Wallets: is everything there that each needs, whose key has its signer, and what does it hold?

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::finding::Finding;
use crate::app::{self, Holding, Holdings};
use crate::cli::guide::{self, Guide, NOBODY};
use crate::config::{Config, WalletEntry};
use crate::policy::Mode;
use crate::wallet::{self, Probe, Wallet};

/// For a signer's word about its key.
const PATIENCE: Duration = Duration::from_secs(8);

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    if config.wallets.is_empty() {
        let said = "none is configured, so nothing is paid";
        return vec![match config.policy.mode() {
            Mode::Observe => Finding::ok("wallet", said),
            Mode::Enforce => Finding::wrong("wallet", said, "farepass init"),
        }];
    }
    let mut all = vec![];
    for entry in &config.wallets {
        let missing = missing(entry);
        if !missing.is_empty() {
            all.extend(missing);
            continue;
        }
        match open(entry, config) {
            Ok(wallet) => {
                all.push(address(entry, &*wallet, config));
                all.extend(secret(entry));
                all.extend(signer(entry, &*wallet, config).await);
                all.push(balance(entry, &wallet, config).await);
            }
            Err(finding) => all.push(finding),
        }
    }
    all
}

/// Files that are not there, with what belongs into them.
fn missing(entry: &WalletEntry) -> Vec<Finding> {
    let files = guide::of(&entry.kind).map(|guide| guide.files_of(entry));
    let gone = files
        .into_iter()
        .flatten()
        .filter(|(path, _)| !path.exists());
    let finding = |(path, what): (PathBuf, &str)| {
        let path = path.display();
        let check = format!("wallet {}", entry.name);
        let mend = format!("make it (chmod 600 {path}): {what}");
        Finding::wrong(check, format!("there is no file {path}"), mend)
    };
    gone.map(finding).collect()
}

fn open(entry: &WalletEntry, config: &Config) -> Result<Arc<dyn Wallet>, Finding> {
    let fetch = match wallet::is_remote(&entry.kind) {
        true => app::signers(config).ok(),
        false => None,
    };
    wallet::open(&entry.kind, entry.opening(fetch)).map_err(|error| {
        let mend = match &error.hint {
            Some(hint) => hint.clone(),
            None => mend(&error.problem, config),
        };
        Finding::wrong(format!("wallet {}", entry.name), error.problem, mend)
    })
}

fn address(entry: &WalletEntry, wallet: &dyn Wallet, config: &Config) -> Finding {
    let check = format!("wallet {}", entry.name);
    let pays = wallet.networks().iter().filter_map(|network| {
        let address = wallet.address(network)?;
        Some((address, network))
    });
    let pays: Vec<_> = pays.collect();
    if pays.iter().any(|(address, _)| address == NOBODY) {
        let file = config.file.display();
        let account = guide::of(&entry.kind).map_or("", |guide| guide.account);
        let mend = format!("{account}; write it as `address:` into {file}");
        return Finding::wrong(check, "its address is still to be written", mend);
    }
    let pays = pays
        .iter()
        .map(|(address, network)| format!("{address} on {network}"));
    Finding::ok(check, pays.collect::<Vec<_>>().join(", "))
}

/// Is its secret where others can read it?
fn secret(entry: &WalletEntry) -> Option<Finding> {
    let error = wallet::exposed(&entry.kind, &entry.section)?;
    let check = format!("secret {}", entry.name);
    // It pays all the same, so it is no failure of the check.
    Some(Finding {
        mend: error.hint,
        ..Finding::unknown(check, error.problem)
    })
}

/// Whose key has whoever signs elsewhere?
async fn signer(entry: &WalletEntry, wallet: &dyn Wallet, config: &Config) -> Option<Finding> {
    let guide = guide::of(&entry.kind).filter(|_| wallet::is_remote(&entry.kind))?;
    let check = format!("signer {}", entry.name);
    let probe = timeout(PATIENCE, wallet.probe()).await;
    let probe = probe.unwrap_or_else(|_| Probe::Unanswered("no answer in time".into()));
    Some(match probe {
        Probe::Right => Finding::ok(check, "it has the key of this address"),
        Probe::Wrong(problem) => {
            let file = config.file.display();
            let mend = format!("correct `address:` in {file}, or name the other key there");
            Finding::wrong(check, problem, mend)
        }
        Probe::Unanswered(problem) => Finding::wrong(check, problem, reach(guide)),
        Probe::Untold => Finding::unknown(
            check,
            "it cannot be asked whose key it has; the first payment shows it",
        ),
    })
}

fn reach(guide: &Guide) -> String {
    let permissions = guide.permissions;
    format!("look at `url`, the network and the credentials; permissions: {permissions}")
}

/// What it holds, in one line.
async fn balance(entry: &WalletEntry, wallet: &Arc<dyn Wallet>, config: &Config) -> Finding {
    let check = format!("balance {}", entry.name);
    let chains = match app::chains(config) {
        Ok(chains) => chains,
        Err(error) => return Finding::unknown(check, error),
    };
    let one = std::iter::once((wallet, &entry.low_balance[..]));
    let held = Holdings::new(one, config.policy.assets(), chains);
    let held = held.look().await;
    let known = held.iter().any(|h| h.held.is_ok());
    if !known {
        let why = held.into_iter().find_map(|h| h.held.err());
        let why = why.unwrap_or_else(|| "no asset on its networks has a price".into());
        return Finding::unknown(check, why);
    }
    let there: Vec<&Holding> = held.iter().filter(|h| holds(h)).collect();
    let send = |h: &Holding| {
        let network = &h.asset.network;
        format!("send {} to {} on {network}", h.label, h.address)
    };
    if let Some(low) = held.iter().find(|h| h.is_low() == Some(true)) {
        let mark = low.low.map(|mark| mark.whole(low.asset.decimals));
        let said = format!(
            "{}, below its `low_balance` of {}",
            text(low),
            mark.unwrap_or_default()
        );
        return Finding::wrong(check, said, send(low));
    }
    match (there.is_empty(), held.first()) {
        (true, Some(first)) => Finding::wrong(
            check,
            "it holds nothing, so nothing can be paid",
            send(first),
        ),
        (true, None) | (false, _) => {
            let texts = there.into_iter().map(text);
            Finding::ok(check, texts.collect::<Vec<_>>().join(", "))
        }
    }
}

fn holds(holding: &Holding) -> bool {
    holding.held.as_ref().is_ok_and(|held| held.0 > 0)
}

/// `1000 USDC on eip155:84532`.
fn text(holding: &Holding) -> String {
    let held = holding.held.as_ref().ok();
    let held = held.map(|held| held.whole(holding.asset.decimals));
    let (held, network) = (held.unwrap_or_default(), &holding.asset.network);
    format!("{held} {} on {network}", holding.label)
}

/// The problem says its own remedy when it has one: "run `chmod 600 …`".
fn mend(problem: &str, config: &Config) -> String {
    let told = problem
        .split_once("run `")
        .and_then(|(_, rest)| rest.split_once('`'));
    match told {
        Some((command, _)) => command.to_owned(),
        None => format!("correct `wallets:` in {}", config.file.display()),
    }
}
