//! Settings for wget, which reads no variable for certificates, and believes its files before those for proxies.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::sidecar::variables;

/// The user's own settings, which ours would hide, and then the proxy: of two lines the last counts.
pub(super) fn settings(url: &str) -> String {
    let mut all = own();
    let direct = variables::DIRECT;
    // A list grows with each line, until one is empty.
    let _ = write!(
        all,
        "\nuse_proxy = on\nhttps_proxy = {url}\nhttp_proxy = {url}\nno_proxy =\nno_proxy = {direct}\n"
    );
    all
}

fn own() -> String {
    let named = std::env::var_os("WGETRC").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".wgetrc"));
    let file = named.or_else(home);
    let text = file.and_then(|file| std::fs::read_to_string(file).ok());
    let text = text.unwrap_or_default();
    let lines = text.lines().filter(|line| !names_somebody(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Is it for the user's own proxy? wget would say that to ours, and not what the URL says.
fn names_somebody(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default().trim();
    // wget reads a name without these.
    let name = name.replace(['_', '-'], "").to_ascii_lowercase();
    ["proxyuser", "proxypassword", "proxypasswd"].contains(&&*name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_somebody_is_left_out() {
        for line in ["proxy_user = me", " Proxy-Password=x", "proxypasswd = x"] {
            assert!(names_somebody(line), "{line}");
        }
        for line in ["user = me", "# proxy_user = me", "proxy = on", ""] {
            assert!(!names_somebody(line), "{line}");
        }
    }
}
