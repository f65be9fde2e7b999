//! What is left to do after `init`, by the wallets of the configuration.

use std::path::Path;

use crate::cli::guide::{self, Guide};
use crate::config::{Config, WalletEntry};
use crate::wallet;

/// One line each.
pub(super) fn steps(file: &Path, config: &Config) -> Vec<String> {
    let mut steps = vec![];
    for entry in &config.wallets {
        if let Some(guide) = guide::of(&entry.kind).filter(|guide| guide.kind != "local") {
            steps.extend(of(entry, guide));
        }
    }
    let elsewhere = !steps.is_empty();
    if elsewhere {
        steps.push("farepass doctor, which says what is still missing".into());
    }
    if config.wallets.iter().any(|w| !wallet::pays_itself(&w.kind)) {
        steps.push("send test USDC to the address; no gas is needed".into());
    }
    let shown = file.display();
    steps.push(format!(
        "write your rules into {shown}, then: farepass check"
    ));
    steps.push("farepass run -- your-agent".into());
    steps
}

/// What a wallet needs whose key is elsewhere.
fn of(entry: &WalletEntry, guide: &Guide) -> Vec<String> {
    let name = &entry.name;
    let mut steps = vec![
        format!(
            "wallet {name}: {}; write what it says into the configuration",
            guide.account
        ),
        format!("wallet {name}: permissions: {}", guide.permissions),
    ];
    for (path, what) in guide.files_of(entry) {
        let path = path.display();
        steps.push(format!("wallet {name}: {path}, mode 0600: {what}"));
    }
    steps
}
