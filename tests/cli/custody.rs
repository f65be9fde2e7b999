//! Files that others may change or read: a proxy does not start on them, and says how to mend it
//! (threats A-01, T-05).

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Home, until};

fn chmod(home: &Home, name: &str, mode: u32) {
    fs::set_permissions(home.at(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// A home in a folder of its own, so that the folder above it can be opened too.
fn home() -> Home {
    let home = Home::ready();
    for (from, to) in [
        ("farepass.yaml", "etc/farepass.yaml"),
        ("wallet.key", "etc/wallet.key"),
        ("certs", "etc/certs"),
    ] {
        fs::create_dir_all(home.at("etc")).unwrap();
        fs::rename(home.at(from), home.at(to)).unwrap();
    }
    fs::create_dir(home.at("open")).unwrap();
    chmod(&home, "open", 0o777);
    home
}

const SERVE: [&str; 3] = ["serve", "--config", "etc/farepass.yaml"];

/// A volume of a container platform, or a folder of a team: no fault, but said once.
#[test]
fn a_folder_that_a_group_may_write_to_is_warned_of_once() {
    let home = home();
    let group = rustix::process::geteuid().as_raw() + 4242;
    if std::os::unix::fs::chown(home.at("etc"), None, Some(group)).is_err() {
        return;
    }
    chmod(&home, "etc", 0o775);
    let run = ["run", "--config", "etc/farepass.yaml", "--", "true"];
    let told = home.farepass(run).ok().err;
    assert_eq!(told.matches("others may write").count(), 1, "{told}");
}

#[test]
fn nothing_that_others_may_change_is_stood_on() {
    for (name, mode, words) in [
        ("etc", 0o777, "chmod go-w"),
        ("etc/farepass.yaml", 0o666, "chmod go-w"),
        ("etc/certs", 0o777, "chmod go-w"),
        ("etc/.farepass", 0o777, "chmod go-w"),
        ("etc/wallet.key", 0o640, "chmod 600"),
        ("etc/certs/ca-key.pem", 0o640, "chmod 600"),
        ("etc/.farepass/admin.token", 0o644, "chmod 600"),
        ("etc/.farepass/ledger.db", 0o666, "chmod go-w"),
    ] {
        let home = home();
        // Once, so that everything is there.
        home.farepass(["session", "create", "--config", "etc/farepass.yaml"])
            .ok();
        fs::write(home.at("etc/.farepass/admin.token"), "0".repeat(64)).unwrap();
        chmod(&home, "etc/.farepass/admin.token", 0o600);
        chmod(&home, name, mode);
        let refused = home.farepass(SERVE).failed(2, &[name, words]);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        assert!(home.beacon().is_none());
        if words == "chmod go-w" && !name.ends_with("ledger.db") {
            let doctor = home.farepass(["doctor", "--json", "--config", "etc/farepass.yaml"]);
            let found: Vec<Value> = serde_json::from_str(&doctor.out).unwrap();
            let told = |f: &Value| {
                let mend = f["mend"].as_str().unwrap_or_default();
                f["state"] == "wrong" && mend.starts_with(words) && mend.ends_with(name)
            };
            assert!(found.iter().any(told), "{name}: {found:?}");
        }
    }
}

#[test]
fn a_link_in_a_folder_of_others_is_not_followed() {
    let home = home();
    symlink(home.at("etc/farepass.yaml"), home.at("open/farepass.yaml")).unwrap();
    home.farepass(["serve", "--config", "open/farepass.yaml"])
        .failed(2, &["open", "chmod go-w"]);
    // Nor is a key that is reached like that.
    let policy = fs::read_to_string(home.at("etc/farepass.yaml")).unwrap();
    symlink(home.at("etc/wallet.key"), home.at("open/wallet.key")).unwrap();
    fs::write(
        home.at("etc/farepass.yaml"),
        policy.replace("wallet.key", "../open/wallet.key"),
    )
    .unwrap();
    home.farepass(SERVE).failed(2, &["open", "chmod go-w"]);
}

#[test]
fn a_reload_takes_no_policy_that_others_may_change() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let before = home.read("farepass.yaml");
    chmod(&home, "farepass.yaml", 0o666);
    service.signal(Signal::HUP);
    until("the complaint", || {
        home.read("serve.err").contains("chmod go-w").then_some(())
    });
    assert!(!home.read("serve.err").contains("was read again"));
    chmod(&home, "farepass.yaml", 0o600);
    fs::write(home.at("farepass.yaml"), before).unwrap();
    service.signal(Signal::HUP);
    until("the new policy", || {
        home.read("serve.err")
            .contains("was read again")
            .then_some(())
    });
}
