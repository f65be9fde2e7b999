//! What the doctor finds: nothing where all is well, and each thing that was broken, with its mend.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::{Ended, Home, Street, there_is};

/// What a check found: states and texts, and the mends.
fn about<'a>(findings: &'a Value, check: &str) -> Vec<&'a Value> {
    let all = findings.as_array().unwrap();
    all.iter().filter(|f| f["check"] == check).collect()
}

#[track_caller]
fn wrong(ended: &Ended, check: &str, words: &[&str]) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let findings = ended.json();
    let found = about(&findings, check);
    let bad = found.iter().find(|f| f["state"] == "wrong");
    let bad = bad.unwrap_or_else(|| panic!("{check} is not wrong: {findings:#}"));
    for word in words {
        assert!(bad.to_string().contains(word), "{word:?}: {bad}");
    }
    assert!(bad["mend"].is_string(), "{bad}");
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn under_run_all_is_well() {
    let street = Street::new();
    let doctor = format!("{} doctor", env!("CARGO_BIN_EXE_farepass"));
    let ended = street.home.run(&[], &format!("{doctor} --json"));
    let findings = ended.json();
    for finding in findings.as_array().unwrap() {
        assert_ne!(finding["state"], "wrong", "{findings:#}");
    }
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for check in [
        "ca",
        "wallet main",
        "ledger",
        "clock",
        "admin",
        "variables",
        "trust",
    ] {
        let found = about(&findings, check);
        assert!(
            found.iter().any(|f| f["state"] == "ok"),
            "{check}: {findings:#}"
        );
    }
    for (program, check) in [
        ("curl", "curl"),
        ("wget", "wget"),
        ("git", "git"),
        ("python3", "Python urllib"),
        ("node", "Node fetch"),
        ("java", "Java"),
    ] {
        if there_is(program) {
            let found = about(&findings, check);
            assert!(
                found.iter().any(|f| f["state"] == "ok"),
                "{check}: {findings:#}"
            );
        }
    }
    // What the page asks for is harmless, and paid for by nobody.
    assert_eq!(street.sold(), 0);
    let page = street.home.run(&[], &doctor).ok().out;
    assert!(page.starts_with("STATE    CHECK"), "{page}");
    assert!(!page.contains("To mend it"), "{page}");
}

/// The port that `run` lends leads to this proxy as well.
#[test]
fn under_run_beside_a_service_all_is_well() {
    let street = Street::new();
    let service = street.home.serve(&[]);
    let doctor = format!("{} doctor --json", env!("CARGO_BIN_EXE_farepass"));
    let findings = street.home.run(&[], &doctor).json();
    for check in ["variables", "trust", "curl", "Java"] {
        for finding in about(&findings, check) {
            assert_ne!(finding["state"], "wrong", "{findings:#}");
        }
    }
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn programs_that_go_around_or_do_not_trust_are_named() {
    let street = Street::new();
    let doctor = format!("{} doctor --json", env!("CARGO_BIN_EXE_farepass"));
    let mut bare = street.home.command(["doctor", "--json"]);
    let bare = bare.env_clear().env("HOME", street.home.path());
    let bare = Ended::of(bare.output().unwrap());
    wrong(&bare, "variables", &["HTTPS_PROXY", "farepass run"]);
    wrong(&bare, "trust", &["farepass ca install"]);
    let mut page = street.home.command(["doctor"]);
    let page = page.env_clear().env("HOME", street.home.path());
    let page = Ended::of(page.output().unwrap()).out;
    let (_, mends) = page.split_once("To mend it:").unwrap();
    let mends = mends.lines().filter_map(|line| line.rsplit_once("  for "));
    let mut mends: Vec<_> = mends.map(|(mend, _)| mend.trim()).collect();
    let all = mends.len();
    assert!(all > 0, "{page}");
    mends.sort_unstable();
    mends.dedup();
    assert_eq!(mends.len(), all, "each once: {page}");
    // The merchant's CA instead of ours.
    let other = street.home.at("merchant/ca.pem");
    let script = format!("CURL_CA_BUNDLE={} {doctor}", other.display());
    let ended = street.home.run(&[], &script);
    wrong(&ended, "trust", &["$CURL_CA_BUNDLE lacks the authority"]);
    if there_is("curl") {
        wrong(&ended, "curl", &["does not trust the authority"]);
    }
    for (setting, words) in [
        (
            "NO_PROXY=localhost,.example",
            &["shop.example", "export NO_PROXY="][..],
        ),
        ("no_proxy='*'", &["shop.example", "export no_proxy="]),
        (
            "ALL_PROXY=http://user:hunter2@192.0.2.1:1",
            &["192.0.2.1:1", "unset ALL_PROXY"],
        ),
        (
            "npm_config_https_proxy=http://user:hunter2@192.0.2.1:1",
            &["$npm_config_https_proxy", "unset npm_config_https_proxy"],
        ),
        (
            "PIP_PROXY=http://user:hunter2@192.0.2.1:1",
            &["$PIP_PROXY", "unset PIP_PROXY"],
        ),
        (
            "GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.proxy GIT_CONFIG_VALUE_0=http://user:hunter2@192.0.2.1:1",
            &["$GIT_CONFIG_VALUE_0", "farepass run"],
        ),
        (
            "HTTPS_PROXY=http://user:hunter2@127.0.0.1:1",
            &["127.0.0.1:1", "not this proxy"],
        ),
    ] {
        let ended = street.home.run(&[], &format!("{setting} {doctor}"));
        wrong(&ended, "variables", words);
        assert!(!ended.out.contains("hunter2"), "{}", ended.out);
    }
    if there_is("curl") {
        let ended = street.home.run(
            &[],
            &format!("NO_PROXY=.invalid no_proxy=.invalid {doctor}"),
        );
        wrong(&ended, "curl", &["goes around the proxy"]);
    }
}

#[test]
fn a_direct_way_is_found_by_trying_it() {
    let home = Home::ready();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let ended = home.farepass(["doctor", "--json", "--direct", &open]);
    wrong(&ended, "bypass", &["reached without the proxy", "firewall"]);
    drop(listener);
    let ended = home.farepass(["doctor", "--json", "--direct", &open]);
    let findings = ended.json();
    assert_eq!(about(&findings, "bypass")[0]["state"], "ok", "{findings:#}");
    let findings = home.farepass(["doctor", "--json"]).json();
    assert_eq!(
        about(&findings, "bypass")[0]["state"],
        "unknown",
        "not tried, not known"
    );
}

#[test]
fn what_cannot_be_tried_directly_is_not_well() {
    let home = Home::ready();
    for bad in ["192.0.2.7", "https://api.example.com:443"] {
        home.farepass(["doctor", "--direct", bad])
            .failed(2, &["HOST:PORT"]);
    }
    let bypass = |target: &str| {
        let findings = home
            .farepass(["doctor", "--json", "--direct", target])
            .json();
        about(&findings, "bypass")[0].clone()
    };
    let mistyped = bypass("no-such-name.invalid:443");
    assert_eq!(mistyped["state"], "unknown", "{mistyped}");
    assert!(mistyped.to_string().contains("does not resolve"));
    // Where the network redirects to the proxy, it is the proxy that answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    transparent(&home);
    let answered = bypass(&open);
    assert_eq!(answered["state"], "unknown", "{answered}");
    assert!(answered.to_string().contains("listen.transparent"));
}

/// A home with a listener for redirected traffic.
fn transparent(home: &Home) {
    let text = home.read("farepass.yaml");
    let text = text.replace(
        "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }",
        "listen: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0, transparent: 127.0.0.1:4021 }",
    );
    fs::write(home.at("farepass.yaml"), text).unwrap();
}

/// Doctor with these variables and no other that matters.
fn with(home: &Home, variables: &[(&str, &str)]) -> Ended {
    let mut command = home.command(["doctor", "--json"]);
    command.envs(variables.iter().copied());
    Ended::of(command.output().unwrap())
}

#[test]
fn redirected_programs_need_no_variable() {
    let home = Home::ready();
    wrong(&with(&home, &[]), "variables", &["go around the proxy"]);
    transparent(&home);
    let findings = with(&home, &[]).json();
    for finding in about(&findings, "variables") {
        assert_eq!(finding["state"], "unknown", "{finding}");
        assert!(finding.to_string().contains("listen.transparent"));
    }
    let elsewhere = with(&home, &[("HTTPS_PROXY", "http://192.0.2.1:1")]);
    wrong(&elsewhere, "variables", &["not this proxy"]);
}

#[test]
fn a_name_of_the_proxys_address_leads_to_it() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let url = format!("http://localhost:{}", service.proxy().port());
    let findings = with(&home, &[("HTTPS_PROXY", &url), ("http_proxy", &url)]).json();
    let variables = about(&findings, "variables");
    assert!(
        !variables.is_empty() && variables.iter().all(|f| f["state"] == "ok"),
        "{findings:#}"
    );
}

/// A slim image without certificates.
#[test]
fn nobody_to_believe_merchants_by_is_wrong() {
    let home = Home::ready();
    let (file, folder) = (home.at("none.pem"), home.at("none"));
    fs::write(&file, "").unwrap();
    fs::create_dir(&folder).unwrap();
    let [file, folder] = [&file, &folder].map(|path| path.to_str().unwrap());
    let ended = with(&home, &[("SSL_CERT_FILE", file), ("SSL_CERT_DIR", folder)]);
    wrong(
        &ended,
        "upstream tls",
        &["0 roots", "ca-certificates", "tls.extra_roots"],
    );
}

#[test]
fn files_that_are_wrong_are_named_with_the_command_that_mends_them() {
    let home = Home::ready();
    let doctor = || home.farepass(["doctor", "--json"]);
    let mended = |check: &str| {
        let findings = doctor().json();
        assert_eq!(about(&findings, check)[0]["state"], "ok", "{findings:#}");
    };
    for (file, check) in [("certs/ca-key.pem", "ca"), ("wallet.key", "wallet main")] {
        chmod(&home.at(file), 0o644);
        wrong(&doctor(), check, &["chmod 600", file]);
        chmod(&home.at(file), 0o600);
        mended(check);
    }
    home.configure("tls: { extra_roots: [none.pem] }");
    wrong(&doctor(), "upstream tls", &["none.pem"]);
    fs::remove_file(home.at("certs/ca.pem")).unwrap();
    fs::remove_file(home.at("certs/ca-key.pem")).unwrap();
    wrong(&doctor(), "ca", &["farepass init"]);
}

#[test]
fn a_damaged_ledger_is_told() {
    let home = Home::ready();
    home.farepass(["session", "create"]).ok();
    let file = home.at(".farepass/ledger.db");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|w| w == b"1.00 USD").unwrap();
    bytes[at] = b'9';
    fs::write(&file, bytes).unwrap();
    wrong(
        &home.farepass(["doctor", "--json"]),
        "ledger",
        &["farepass ledger verify"],
    );
}

/// What a start refuses is wrong here too, though anybody may read it.
#[test]
fn a_ledger_that_others_may_write_to_is_told() {
    let home = Home::ready();
    home.farepass(["session", "create"]).ok();
    for (path, closed, open) in [
        (".farepass/ledger.db", 0o600, 0o666),
        (".farepass/installed", 0o600, 0o620),
        (".farepass", 0o755, 0o775),
    ] {
        chmod(&home.at(path), open);
        let start = home.farepass(["session", "create"]);
        start.failed(2, &["may be written by others"]);
        let ended = home.farepass(["doctor", "--json"]);
        wrong(
            &ended,
            "ledger",
            &["may be written by others", "chmod", path],
        );
        chmod(&home.at(path), closed);
    }
    let findings = home.farepass(["doctor", "--json"]).json();
    assert_eq!(about(&findings, "ledger")[0]["state"], "ok", "{findings:#}");
}

/// A service has a user of its own, and the administrator asks from outside.
#[test]
fn what_another_user_owns_is_not_wrong_for_the_administrator() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::ready();
    home.farepass(["session", "create"]).ok();
    for (path, check) in [
        (".farepass/ledger.db", "ledger"),
        ("farepass.yaml", "files"),
    ] {
        std::os::unix::fs::chown(home.at(path), Some(4242), None).unwrap();
        let ended = home.farepass(["doctor", "--json"]);
        let findings: Value = serde_json::from_str(&ended.out).unwrap();
        let found = about(&findings, check)[0];
        assert_eq!(found["state"], "unknown", "{found}");
        let said = found["finding"].as_str().unwrap();
        assert!(
            said.contains("4242") && said.contains("as that user"),
            "{said}"
        );
    }
}

#[test]
fn a_lost_ledger_is_told() {
    let home = Home::ready();
    home.farepass(["session", "create"]).ok();
    fs::remove_file(home.at(".farepass/ledger.db")).unwrap();
    wrong(&with(&home, &[]), "ledger", &["is missing", "backup"]);
}

/// A program from the future: its own file is newer than the clock.
#[test]
fn a_clock_that_is_behind_is_told() {
    let home = Home::ready();
    let copy = home.at("farepass-copy");
    fs::copy(env!("CARGO_BIN_EXE_farepass"), &copy).unwrap();
    let later = SystemTime::now() + Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(&copy).unwrap();
    file.set_modified(later).unwrap();
    drop(file);
    let mut command = std::process::Command::new(&copy);
    command.args(["doctor", "--json"]).current_dir(home.path());
    let ended = Ended::of(
        command
            .env_clear()
            .env("HOME", home.path())
            .output()
            .unwrap(),
    );
    wrong(&ended, "clock", &["own file", "timedatectl"]);
}
