//! Wallets: can each be opened, and which address pays?

use super::finding::Finding;
use crate::config::Config;
use crate::policy::Mode;
use crate::wallet;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    if config.wallets.is_empty() {
        let said = "none is configured, so nothing is paid";
        return vec![match config.policy.mode() {
            Mode::Observe => Finding::ok("wallet", said),
            Mode::Enforce => Finding::wrong("wallet", said, "farepass init"),
        }];
    }
    let look = |entry: &crate::config::WalletEntry| {
        let check = format!("wallet {}", entry.name);
        match wallet::open(&entry.kind, entry.opening(None)) {
            Ok(wallet) => {
                let pays = wallet.networks().iter().filter_map(|network| {
                    let address = wallet.address(network)?;
                    Some(format!("{address} on {network}"))
                });
                Finding::ok(check, pays.collect::<Vec<_>>().join(", "))
            }
            Err(error) => {
                let mend = match &error.hint {
                    Some(hint) => hint.clone(),
                    None => mend(&error.problem, config),
                };
                Finding::wrong(check, error.problem, mend)
            }
        }
    };
    config.wallets.iter().map(look).collect()
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
