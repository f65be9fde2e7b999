//! Who trusts the authority, and its successor: real stores, none of them this machine's own.

use std::fs;
use std::process::Command;

use crate::support::{Ended, Home, mode, there_is};

/// Runs a script that sees its own copy of the system's store of roots. `None` where this user cannot
/// make one, or the system is another.
fn in_a_copy_of_the_store(home: &Home, script: &str) -> Option<Ended> {
    let possible = Command::new("unshare").args(["-rm", "true"]).status();
    let debian = fs::exists("/usr/sbin/update-ca-certificates").unwrap_or(false);
    if !possible.is_ok_and(|s| s.success()) || !debian {
        eprintln!("SKIPPED: no private copy of the system's store to be had");
        return None;
    }
    // What is new in the store Debian's package manager tells Java: its books are a copy too, or two of these at
    // once would find each other's.
    let copy = "cp -a /etc/ssl/certs store; mount --bind store /etc/ssl/certs
        mount -t tmpfs none /usr/local/share/ca-certificates
        for books in /var/lib/dpkg /var/lib/ca-certificates-java; do
            test -d $books || continue
            cp -a $books books-${books##*/}
            mount --bind books-${books##*/} $books
        done\n";
    let mut shell = home.command(["--version"]);
    let binary = shell.get_program().to_owned();
    shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-euc", &(copy.to_owned() + script)]);
    shell
        .current_dir(home.path())
        .env("F", binary)
        .env("HOME", home.path());
    shell.env(
        "PATH",
        format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()),
    );
    Some(Ended::of(shell.output().unwrap()))
}

#[test]
fn the_systems_store_trusts_it_when_asked_and_no_longer_when_not() {
    let home = Home::ready();
    let Some(ended) = in_a_copy_of_the_store(
        &home,
        r#"trusted() { openssl verify -no-CAfile -CApath /etc/ssl/certs "$1" > verdict 2>&1 && echo "$2 trusted" || echo "$2 not trusted"; }
        trusted certs/ca.pem before
        "$F" ca install --print > plan
        trusted certs/ca.pem printed
        "$F" ca install > done
        cmp plan done
        trusted certs/ca.pem installed
        cp certs/ca.pem first.pem
        "$F" ca rotate > kept
        "$F" ca install > done
        trusted certs/ca.pem second
        trusted first.pem first
        "$F" ca uninstall --old > done
        trusted certs/ca.pem second
        trusted first.pem first
        "$F" ca uninstall > done
        trusted certs/ca.pem second
        "$F" ca uninstall"#,
    ) else {
        return;
    };
    let ended = ended.ok();
    let said: Vec<_> = ended.out.lines().collect();
    assert_eq!(
        said,
        [
            "before not trusted",
            "printed not trusted",
            "installed trusted",
            "second trusted",
            "first trusted",
            "second trusted",
            "first not trusted",
            "second not trusted",
        ],
        "{ended:?}"
    );
    assert!(
        ended.err.contains("none of these stores has it"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("ca-key-"),
        "the old key is named, and kept: {}",
        ended.err
    );
    let plan = home.read("plan");
    assert!(
        plan.starts_with("install -m 0644 ") && plan.contains("\nupdate-ca-certificates\n"),
        "{plan}"
    );
}

/// Debian's own hook gives Java what the system trusts, and takes nothing out again.
#[test]
fn java_trusts_it_no_longer_when_the_system_does_not() {
    let home = Home::ready();
    let hook = fs::exists("/etc/ca-certificates/update.d/jks-keystore").unwrap_or(false);
    let store = fs::exists("/etc/ssl/certs/java/cacerts").unwrap_or(false);
    if !hook || !store || !there_is("keytool") {
        eprintln!("SKIPPED: no Java of Debian's");
        return;
    }
    let Some(ended) = in_a_copy_of_the_store(
        &home,
        r#"known() { keytool -list -storepass changeit -keystore /etc/ssl/certs/java/cacerts | grep -c debian:farepass- || :; }
        known
        "$F" ca install > done
        known
        "$F" ca uninstall --print > plan
        known
        "$F" ca uninstall > done
        known
        cmp plan done
        "$F" ca uninstall"#,
    ) else {
        return;
    };
    let ended = ended.ok();
    assert_eq!(ended.out, "0\n1\n1\n0\n", "{ended:?}");
    let plan = home.read("plan");
    assert!(
        plan.starts_with("keytool ") && plan.contains(" -delete -alias debian:farepass-"),
        "{plan}"
    );
}

#[test]
fn browsers_and_java_trust_it_when_asked() {
    let home = Home::ready();
    for (store, tool) in [("nss", "certutil"), ("java", "keytool")] {
        if Command::new(tool).arg("-H").output().is_err() {
            eprintln!("SKIPPED: {tool} is not installed");
            continue;
        }
        let keystore = home.at("java.p12");
        let options = ["--store", store, "--keystore", keystore.to_str().unwrap()];
        let ask = |command: &str, more: &[&str]| {
            home.farepass(["ca", command].iter().chain(&options).chain(more))
                .ok()
        };
        let trusts = || {
            let mut list = Command::new(tool);
            match store {
                "nss" => list
                    .args(["-L", "-d"])
                    .arg(format!("sql:{}", home.at(".pki/nssdb").display())),
                _ => list
                    .args(["-list", "-storepass", "changeit", "-keystore"])
                    .arg(&keystore),
            };
            String::from_utf8_lossy(&list.output().unwrap().stdout).contains("farepass-")
        };
        let plan = ask("install", &["--print"]).out;
        assert!(plan.contains(tool) && !trusts(), "{plan}");
        assert_eq!(ask("install", &[]).out, plan);
        assert!(trusts(), "{store}");
        // Whoever sets a machine up may do so twice.
        ask("install", &[]);
        assert!(trusts(), "{store}");
        assert!(ask("uninstall", &["--print"]).out.contains(tool));
        assert!(trusts(), "only printed");
        ask("uninstall", &[]);
        assert!(!trusts(), "{store}");
        assert_eq!(ask("uninstall", &[]).out, "");
    }
}

#[test]
fn java_has_one_certificate_under_our_name() {
    if !there_is("keytool") {
        eprintln!("SKIPPED: keytool is not installed");
        return;
    }
    let (home, other) = (Home::ready(), Home::ready());
    let store = home.at("java.p12");
    let store = store.to_str().unwrap();
    let install = || {
        home.farepass(["ca", "install", "--store", "java", "--keystore", store])
            .ok()
    };
    let keytool = |words: &[&str]| {
        let usual = ["-storepass", "changeit", "-keystore", store];
        let out = Command::new("keytool").args(words).args(usual).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{words:?}: {out:?}");
        out.stdout
    };
    let first = install().out;
    let alias = first.split(" -alias ").nth(1).unwrap();
    let alias = alias.split(' ').next().unwrap();
    let der = || keytool(&["-exportcert", "-alias", alias]);
    let ours = der();
    let again = install();
    assert_eq!(again.out, "");
    assert!(again.err.contains("have it already"), "{again:?}");
    let file = other.at("certs/ca.pem");
    keytool(&["-delete", "-alias", alias]);
    let import = ["-importcert", "-noprompt", "-alias", alias, "-file"];
    keytool(&[&import[..], &[file.to_str().unwrap()]].concat());
    assert_ne!(der(), ours);
    let replaced = install().out;
    assert!(
        replaced.contains(" -delete ") && replaced.ends_with(&first),
        "{replaced}"
    );
    assert_eq!(der(), ours);
}

#[test]
fn what_cannot_be_done_is_told_with_its_command() {
    let home = Home::ready();
    let nowhere = home.at("no such folder/java.p12");
    let ended = home.farepass([
        "ca",
        "install",
        "--store",
        "java",
        "--keystore",
        nowhere.to_str().unwrap(),
    ]);
    if there_is("keytool") {
        ended.failed(1, &["keytool", "-importcert"]);
    }
}

#[test]
fn a_new_authority_takes_over_and_the_old_one_is_kept() {
    let home = Home::ready();
    let (old, old_key) = (home.read("certs/ca.pem"), home.read("certs/ca-key.pem"));
    let ended = home.farepass(["ca", "rotate"]).ok();
    assert_eq!(ended.out.matches("kept  ").count(), 2, "{ended:?}");
    assert!(
        ended.err.contains("ca install") && ended.err.contains("--old"),
        "{ended:?}"
    );
    let kept: Vec<_> = ended
        .out
        .lines()
        .filter_map(|l| l.strip_prefix("kept  "))
        .collect();
    assert_eq!(fs::read_to_string(home.at(kept[0])).unwrap(), old);
    assert_eq!(fs::read_to_string(home.at(kept[1])).unwrap(), old_key);
    for key in [kept[1], "certs/ca-key.pem"] {
        assert_eq!(mode(&home.at(key)), 0o600, "{key}");
    }
    assert_ne!(home.read("certs/ca.pem"), old);
    assert_ne!(home.read("certs/ca-key.pem"), old_key);
    // It works, and the old one vouches for upstreams no more than the new one does.
    drop(home.serve(&[]));
    home.configure(&format!("tls: {{ extra_roots: [\"{}\"] }}", kept[0]));
    home.farepass(["serve"])
        .failed(2, &["must not vouch for upstreams"]);
    // Twice in a row.
    home.farepass(["ca", "rotate"]).ok();
    assert_eq!(fs::read_dir(home.at("certs")).unwrap().count(), 6);
}

#[test]
fn a_new_authority_is_told_as_json() {
    let home = Home::ready();
    let told = home.farepass(["ca", "rotate", "--json"]).ok().json();
    let kept = told["kept"].as_array().unwrap();
    assert_eq!(kept.len(), 2, "{told}");
    for file in kept.iter().chain([&told["new"]]) {
        assert!(home.at(file.as_str().unwrap()).exists(), "{told}");
    }
}
