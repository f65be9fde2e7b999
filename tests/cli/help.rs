//! What people read first. A change of these snapshots is a change of the manual.

use std::io::Read as _;
use std::process::{Command, Stdio};

use crate::support::Home;

const PAGES: &[&[&str]] = &[
    &[],
    &["demo"],
    &["run"],
    &["serve"],
    &["init"],
    &["check"],
    &["explain"],
    &["doctor"],
    &["ready"],
    &["session"],
    &["session", "create"],
    &["session", "list"],
    &["session", "show"],
    &["session", "close"],
    &["wallet"],
    &["wallet", "list"],
    &["spend"],
    &["ledger"],
    &["ledger", "list"],
    &["ledger", "show"],
    &["ledger", "export"],
    &["ledger", "reconcile"],
    &["ledger", "verify"],
    &["dispute"],
    &["ca"],
    &["ca", "show"],
    &["ca", "export"],
    &["ca", "install"],
    &["ca", "uninstall"],
    &["ca", "rotate"],
    &["inject"],
    &["webhook"],
    &["schema"],
    &["completions"],
];

#[test]
fn every_help_page() {
    let home = Home::new();
    let mut pages = String::new();
    for page in PAGES {
        let args = page.iter().chain(&["--help"]);
        let ended = home.farepass(args).ok();
        assert_eq!(ended.err, "");
        let wide = ended.out.lines().find(|l| l.chars().count() > 100);
        assert_eq!(wide, None, "{page:?}");
        pages += &format!("$ farepass {}--help\n{}\n", page.join(" ") + " ", ended.out);
    }
    insta::assert_snapshot!(pages);
}

#[test]
fn wrong_arguments_are_exit_code_2() {
    let home = Home::new();
    for (args, words) in [
        (&["pay"][..], &["unrecognized subcommand 'pay'"][..]),
        (&["run"], &["<CMD>"]),
        (
            &["ledger", "list", "--state", "gone"],
            &["gone", "reserved, unknown"],
        ),
        (&["session", "create", "--budget", "5"], &["0.05 USD"]),
        (
            &["session", "create", "--default", "--agent", "x"],
            &["--default", "--agent"],
        ),
        (&["completions", "tcsh"], &["tcsh"]),
        (&["ca", "show", "--log", "farepass=loud"], &["--log"]),
    ] {
        let ended = home.farepass(args).failed(2, words);
        assert_eq!(ended.out, "", "{args:?}");
    }
    let nothing = home.farepass([] as [&str; 0]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(2), ""));
    assert!(nothing.err.contains("Start here"), "{}", nothing.err);
}

#[test]
fn version_is_the_packages() {
    let ended = Home::new().farepass(["--version"]).ok();
    assert_eq!(
        ended.out,
        format!("farepass {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_know_every_command() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.farepass(["completions", shell]).ok().out;
        for word in ["session", "verify", "export-ca", "no-color"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = home.farepass(["completions", "bash"]).ok().out;
    let file = home.at("completions.bash");
    std::fs::write(&file, script).unwrap();
    if let Ok(status) = Command::new("bash").arg("-n").arg(&file).status() {
        assert!(status.success());
    }
}

/// `farepass … | head`: whoever closes the pipe has what it wanted.
#[test]
fn a_closed_pipe_is_quiet() {
    let home = Home::new();
    let mut child = home
        .command(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut err = String::new();
    child.stderr.unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((status.code(), err.as_str()), (Some(0), ""));
}

#[test]
fn without_a_configuration_the_hint_is_init() {
    let home = Home::new();
    for args in [
        &["serve"][..],
        &["session", "list"],
        &["ledger", "list"],
        &["ca", "show"],
    ] {
        let ended = home
            .farepass(args)
            .failed(2, &["there is no configuration", "farepass.yaml"]);
        assert!(
            ended.err.contains("\nhint: `farepass init` writes one\n"),
            "{}",
            ended.err
        );
    }
    assert_eq!(
        std::fs::read_dir(home.path()).unwrap().count(),
        1,
        "only the temporary folder"
    );
}
