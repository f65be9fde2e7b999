//! What is left to do after `init`, by the wallets of the configuration.

use std::path::Path;

use crate::cli::guide::{self, Guide};
use crate::config::{Config, WalletEntry};
use crate::wallet;

/// One line each.
pub(super) fn steps(file: &Path, config: &Config) -> Vec<String> {
    let shown = file.display();
    // Where it is looked for anyway it need not be named.
    let named = match file == Path::new("farepass.yaml") {
        true => String::new(),
        false => format!(" --config {}", quoted(&shown.to_string())),
    };
    let mut steps = vec![];
    for entry in &config.wallets {
        if let Some(guide) = guide::of(&entry.kind).filter(|guide| guide.kind != "local") {
            steps.extend(of(entry, guide));
        }
    }
    let elsewhere = !steps.is_empty();
    if elsewhere {
        steps.push(format!(
            "farepass doctor{named}, which says what is still missing"
        ));
    }
    if config.wallets.iter().any(|w| !wallet::pays_itself(&w.kind)) {
        steps.push("send test USDC to the address; no gas is needed".into());
    }
    steps.push(format!(
        "write your rules into {shown}, then: farepass check{named}"
    ));
    steps.push(format!("farepass run{named} -- your-agent"));
    steps
}

/// As a shell takes it for one word.
fn quoted(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match path.chars().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
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
