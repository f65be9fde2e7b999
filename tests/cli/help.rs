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
    &["man"],
];

/// Every command that there is, by asking for help.
fn commands(home: &Home) -> Vec<Vec<String>> {
    let (mut left, mut all) = (vec![vec![]], vec![]);
    while let Some(command) = left.pop() {
        let mut args: Vec<String> = command.clone();
        args.push("--help".into());
        let page = home.farepass(&args).ok().out;
        let below = page.split_once("Commands:\n").map_or("", |(_, rest)| rest);
        let below = below.lines().take_while(|l| !l.is_empty());
        let below = below.filter(|l| l.starts_with("  ") && !l.starts_with("   "));
        for name in below.filter_map(|l| l.split_whitespace().next()) {
            left.push([&command[..], &[name.to_owned()]].concat());
        }
        all.push(command);
    }
    all.sort();
    all
}

/// Commands without `--json`, and what they print instead.
const NO_JSON: &[(&str, &str)] = &[
    ("ca", "see below it"),
    ("ca export", "a certificate"),
    ("ca install", "shell commands"),
    ("ca uninstall", "shell commands"),
    ("completions", "a script"),
    ("demo", "a demonstration"),
    ("inject", "manifests"),
    ("learn", "a policy"),
    ("ledger", "see below it"),
    ("man", "a manual page"),
    ("mcp", "a protocol"),
    ("merchant", "see below it"),
    ("merchant forget", "nothing"),
    ("run", "what its program prints"),
    ("serve", "JSON"),
    ("session", "see below it"),
    ("wallet", "see below it"),
    ("webhook", "manifests"),
];

#[test]
fn every_command_that_prints_data_prints_json() {
    let home = Home::new();
    let without = commands(&home).into_iter().filter(|command| {
        let args = command.iter().map(String::as_str).chain(["--help"]);
        let page = home.farepass(args).ok().out;
        !command.is_empty() && !page.contains("--json")
    });
    let without: Vec<_> = without.map(|command| command.join(" ")).collect();
    let excused: Vec<_> = NO_JSON.iter().map(|(command, _)| *command).collect();
    assert_eq!(without, excused);
}

#[test]
fn a_manual_page_of_every_command_is_whole() {
    let home = Home::new();
    let dir = home.at("man1");
    home.farepass(["man", "--dir", dir.to_str().unwrap()]).ok();
    let pages = commands(&home);
    assert!(pages.len() > 30, "{}", pages.len());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), pages.len());
    for command in pages {
        let name = [&["farepass".to_owned()], &command[..]].concat().join("-");
        let file = dir.join(format!("{name}.1"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        let printed = home.farepass(
            ["man"]
                .into_iter()
                .chain(command.iter().map(String::as_str)),
        );
        assert_eq!(printed.ok().out, text, "{name}");
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(text.contains(section), "{name}: {section}\n{text}");
        }
        // As groff reads it, with every warning it has.
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(&file);
        if let Ok(read) = groff.output() {
            let said = String::from_utf8_lossy(&read.stderr);
            assert!(read.status.success() && said.is_empty(), "{name}: {said}");
        }
    }
    let run = home.farepass(["man", "run"]).ok().out;
    assert!(run.contains("run [OPTIONS] \\-\\- <CMD>...\n"), "{run}");
    let root = home.farepass(["man"]).ok().out;
    assert!(root.contains("Exit codes"), "{root}");
    home.farepass(["man", "pay"])
        .failed(2, &["no command `pay`"]);
}

/// What takes long says so at a terminal, and nowhere else.
#[test]
fn who_waits_at_a_terminal_is_told_what_for() {
    let home = Home::ready();
    let ended = home.farepass(["ready", "--wait", "2s"]);
    assert!(!ended.err.contains("waiting for"), "{}", ended.err);
    let alive = &["ready", "--alive", "--json"][..];
    for (args, name) in [(&["ready", "--json"][..], "ready"), (alive, "alive")] {
        let told = home.farepass(args).failed(1, &[]).json();
        assert_eq!(told[name], false, "{told}");
        assert!(told["problem"].is_string(), "{told}");
    }
    // A terminal of its own as stderr, and what was written there.
    let script = "\
import os, pty, subprocess, sys
here, there = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stderr=there)
os.close(there)
said = b''
try:
    while chunk := os.read(here, 4096):
        said += chunk
except OSError:
    pass
child.wait()
sys.stdout.buffer.write(said)";
    let args = ["ready", "--wait", "2500ms"];
    let binary = env!("CARGO_BIN_EXE_farepass");
    let mut python = Command::new("python3");
    python.current_dir(home.path()).stdin(Stdio::null());
    python.args(["-c", script, binary]).args(args);
    let Ok(out) = python.output() else {
        eprintln!("SKIPPED: no python3");
        return;
    };
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("\rwaiting for the proxy … 1 s"), "{said:?}");
    assert!(said.contains("… 2 s"), "{said:?}");
    // The line is gone before the last word, and no control sequence was needed.
    let (_, last) = said.rsplit_once(" \r").unwrap();
    assert!(last.starts_with("farepass: "), "{said:?}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

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
fn where_no_proxy_runs_the_probe_says_so() {
    let home = Home::ready();
    for probe in [&["ready"][..], &["ready", "--alive"]] {
        let ended = home.farepass(probe).failed(1, &["no proxy runs on "]);
        assert!(!ended.err.contains("holds"), "{ended:?}");
    }
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

/// As other programs have it.
#[test]
fn help_is_a_word_too() {
    let home = Home::new();
    for (word, option) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "ledger", "list"], &["ledger", "list", "--help"]),
        (&["--no-color", "help", "run"], &["run", "--help"]),
        (
            &["--log", "warn", "--log-format=json", "help", "run"],
            &["run", "--help"],
        ),
    ] {
        let page = home.farepass(word).ok().out;
        assert_eq!(page, home.farepass(option).ok().out);
        assert!(page.contains("Usage: farepass"), "{page}");
    }
    home.farepass(["help", "nobody"]).failed(2, &["nobody"]);
    // Here it is somebody's value.
    home.farepass(["--log", "help"]).failed(2, &[]);
}
