//! `farepass run`: the environment of the program, its end, and what it spent.

use std::fs;
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::{Ended, Home, SHOP, Street, kill, there_is, until, wait};

#[test]
fn the_program_gets_every_variable() {
    let home = Home::ready();
    let mut command = home.command(["run", "--", "env"]);
    command.env("NODE_OPTIONS", "--no-warnings");
    command.env("JAVA_TOOL_OPTIONS", "-Xmx64m");
    command.env("PHP_INI_SCAN_DIR", "conf.d");
    command.env("ALL_PROXY", "socks5://elsewhere.example");
    command.env("HTTPS_PROXY", "http://me:hunter2@corp.example:3128");
    let ended = Ended::of(command.output().unwrap()).ok();
    let set = |name: &str| {
        let line = ended
            .out
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("{name} is not set"))
    };
    let url = set("HTTPS_PROXY");
    assert!(
        url.starts_with("http://run:") && url.contains("@127.0.0.1:"),
        "{url}"
    );
    for name in [
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "WSS_PROXY",
        "WS_PROXY",
    ] {
        assert_eq!(set(name), url, "{name}");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(set(name), "localhost,127.0.0.1,::1");
    }
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "npm_config_cafile",
        "CARGO_HTTP_CAINFO",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "HTTPLIB2_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ] {
        assert!(set(name).ends_with("/bundle.pem"), "{name}");
    }
    for name in ["NODE_EXTRA_CA_CERTS", "DENO_CERT"] {
        assert!(set(name).ends_with("/ca.pem"), "{name}");
    }
    assert!(set("SSL_CERT_DIR").ends_with("/certs"));
    assert!(set("WGETRC").ends_with("/wgetrc"));
    assert_eq!(
        (set("NODE_USE_ENV_PROXY"), set("NODE_USE_SYSTEM_CA")),
        ("1", "1")
    );
    assert!(
        set("NODE_OPTIONS").starts_with("--no-warnings \"--require="),
        "what was there stays"
    );
    let java = set("JAVA_TOOL_OPTIONS");
    let port = url.rsplit(':').next().unwrap();
    assert!(
        java.starts_with("-Xmx64m -Dhttps.proxyHost=127.0.0.1"),
        "{java}"
    );
    assert!(
        java.contains(&format!("-Dhttps.proxyPort={port} ")),
        "{java}"
    );
    assert!(set("PHP_INI_SCAN_DIR").starts_with("conf.d:/"));
    assert!(!ended.out.contains("ALL_PROXY"), "it may point elsewhere");
    assert!(
        ended.err.contains("$HTTPS_PROXY is not used"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("hunter2"), "{}", ended.err);
    home.assert_tidy();
}

#[test]
fn the_exit_code_is_the_programs() {
    let home = Home::ready();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let ended = home.run(&[], script);
        assert_eq!(ended.code, Some(code), "{script}: {}", ended.err);
        assert!(
            ended.err.contains("spent 0.00 USD of 1.00 USD"),
            "{}",
            ended.err
        );
        home.assert_tidy();
    }
    home.farepass(["run", "--", "no-such-program"])
        .failed(127, &["no-such-program"]);
    home.farepass(["run", "--", "./farepass.yaml"])
        .failed(126, &["farepass.yaml"]);
    home.farepass(["run", "--agent", "a b", "--", "true"])
        .failed(2, &["letters"]);
    home.assert_tidy();
    assert!(home.beacon().is_none());
    let open = home.farepass(["session", "list", "--json"]).ok().json();
    assert!(
        open.as_array().unwrap().iter().all(|s| s["closed"] == true),
        "{open}"
    );
}

#[test]
fn input_and_output_are_the_programs() {
    let home = Home::ready();
    let mut child = home
        .command(["run", "--", "tr", "a-z", "A-Z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"fare\n").unwrap();
    drop(input);
    assert_eq!(child.wait_with_output().unwrap().stdout, b"FARE\n");
}

#[test]
fn signals_are_for_the_program() {
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
    ] {
        let home = Home::ready();
        let script = format!(
            "trap 'echo caught; exit 9' {name}; : > here; {}",
            wait_for("never")
        );
        let mut child = heard(&home.command(["run", "--", "sh", "-c", &script]))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the program", || home.at("here").exists().then_some(()));
        kill(&child, signal);
        assert_eq!(wait(&mut child), Some(9), "{name}");
        let out = child.wait_with_output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&out), "caught\n", "{name}");
        home.assert_tidy();
    }
}

/// With signals as at a terminal: whoever runs tests in the background may have them ignored.
fn heard(command: &std::process::Command) -> std::process::Command {
    let mut env = std::process::Command::new("env");
    env.arg("--default-signal=INT,QUIT,HUP");
    env.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        env.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => env.env(name, value),
            None => env.env_remove(name),
        };
    }
    env
}

/// A proxy that does not answer: `run` waits for its session, and the program has not begun.
#[test]
fn a_signal_before_the_program_begins_ends_the_run() {
    let home = Home::ready();
    let service = home.serve(&[]);
    service.signal(Signal::STOP);
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = heard(&home.command(["run", "--", "touch", "begun"]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("its folder", || {
            fs::read_dir(home.temporary()).unwrap().next().map(drop)
        });
        kill(&child, signal);
        assert_eq!(wait(&mut child), Some(code));
        assert!(!home.at("begun").exists());
        home.assert_tidy();
    }
}

/// At a terminal the program would be thought to have got it.
#[test]
fn ctrl_c_before_the_program_begins_ends_the_run() {
    if !there_is("python3") {
        return;
    }
    let home = Home::ready();
    let service = home.serve(&[]);
    service.signal(Signal::STOP);
    let terminal = "import os, pty, signal, sys, time
pid, keys = pty.fork()
if pid == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.argv[3], sys.argv[3:])
while not os.listdir(sys.argv[1]):
    time.sleep(0.01)
os.write(keys, b'\\x03')
said = b''
while b'^C' not in said:
    said += os.read(keys, 4096)
os.kill(int(sys.argv[2]), signal.SIGCONT)
try:
    while more := os.read(keys, 4096):
        said += more
except OSError:
    pass
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let binary = home.command([] as [&str; 0]).get_program().to_owned();
    let mut python = std::process::Command::new("python3");
    python.args(["-c", terminal]).arg(home.temporary());
    python.arg(service.child.id().to_string()).arg(binary);
    python.args(["run", "--", "touch", "begun"]);
    python.current_dir(home.path()).env("HOME", home.path());
    python.env("TMPDIR", home.temporary());
    let ended = Ended::of(python.output().unwrap());
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(!home.at("begun").exists(), "{ended:?}");
    let rows = home.farepass(["session", "list", "--json"]).ok().json();
    let mut rows = rows.as_array().unwrap().iter();
    let open = rows.find(|row| row["agent"] == "run" && row["closed"] != true);
    assert_eq!(open, None);
    home.assert_tidy();
}

/// `nohup` says that nobody is to be stopped when the terminal goes.
#[test]
fn a_signal_that_is_ignored_stays_so() {
    let home = Home::ready();
    let binary = home.command([] as [&str; 0]).get_program().to_owned();
    let script = "trap '' HUP; exec \"$0\" run -- sh -c 'kill -HUP $PPID; kill -HUP $$; echo here'";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script]).arg(binary);
    shell.current_dir(home.path()).env("HOME", home.path());
    shell.env("TMPDIR", home.temporary()).stdin(Stdio::null());
    let ended = Ended::of(shell.output().unwrap()).ok();
    assert_eq!(ended.out, "here\n", "{ended:?}");
    home.assert_tidy();
}

/// A write over the limit of a file's size is an error for a proxy, and whatever it was for a program.
#[test]
fn a_program_that_writes_too_much_ends_as_without() {
    let home = Home::ready();
    let much = "ulimit -f 0; echo much > much";
    assert_eq!(home.run(&[], much).code, Some(128 + 25));
    let kept = format!("trap '' XFSZ; exec \"$0\" run -- sh -c '{much}; echo here'");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &kept, env!("CARGO_BIN_EXE_farepass")]);
    command.current_dir(home.path()).env("HOME", home.path());
    command.env("TMPDIR", home.temporary()).stdin(Stdio::null());
    let ended = Ended::of(command.output().unwrap()).ok();
    assert_eq!(ended.out, "here\n", "{ended:?}");
}

#[test]
fn without_a_configuration_nothing_is_paid_and_nothing_is_left() {
    let home = Home::new();
    let ended = home
        .run(&[], "test -s \"$SSL_CERT_FILE\" && echo fine")
        .ok();
    assert_eq!(ended.out, "fine\n");
    assert!(
        ended.err.contains("hint: there is no configuration"),
        "{}",
        ended.err
    );
    home.assert_tidy();
    assert_eq!(
        fs::read_dir(home.path()).unwrap().count(),
        1,
        "the empty temporary folder"
    );
    // But a file that was named must be there.
    home.farepass(["run", "--config", "my.yaml", "--", "true"])
        .failed(2, &["my.yaml"]);
}

#[test]
fn the_files_are_what_programs_expect() {
    let home = Home::ready();
    let script = "cd \"$(dirname \"$SSL_CERT_FILE\")\"; ls; stat -c %a .; cat wgetrc php/ca.ini";
    fs::write(home.at(".wgetrc"), "timeout = 7\n").unwrap();
    let ended = home.run(&[], script).ok();
    for word in [
        "bundle.pem",
        "ca.pem",
        "node-preload.cjs",
        "truststore.p12",
        "\n700\n",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    assert!(
        ended.out.contains("timeout = 7\n"),
        "the user's own settings stay: {}",
        ended.out
    );
    assert!(ended.out.contains("ca_certificate = /"), "{}", ended.out);
    assert!(ended.out.contains("curl.cainfo = \"/"), "{}", ended.out);
    if there_is("openssl") {
        let verify = "openssl verify -CAfile \"$SSL_CERT_FILE\" \"$DENO_CERT\" && openssl verify -no-CAfile -no-CAstore -CApath \"$SSL_CERT_DIR\" \"$DENO_CERT\"";
        let ended = home.run(&[], verify).ok();
        assert_eq!(ended.out.matches(": OK").count(), 2, "{}", ended.out);
    }
    if there_is("python3") {
        let script = "import ssl; roots = ssl.create_default_context().get_ca_certs(); print(sum('Farepass' in str(r['subject']) for r in roots), len(roots) > 20)";
        let ended = home.farepass(["run", "--", "python3", "-c", script]).ok();
        assert_eq!(ended.out, "1 True\n", "our root once, and the system's");
    }
}

/// Buys once as each client would that is installed: nothing in them knows about proxies.
#[test]
fn programs_buy_without_knowing() {
    let street = Street::new();
    let node = "const https = require('node:https'); fetch(process.argv[1]).then(r => r.text()).then(t => { console.log(t); https.get(process.argv[1], r => r.pipe(process.stdout)); })";
    let python =
        "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let url = format!("{SHOP}/forecast");
    let programs: [(&str, &[&str], usize); 4] = [
        ("curl", &["-sS", &url], 1),
        ("python3", &["-c", python, &url], 1),
        ("node", &["-e", node, &url], 2),
        ("wget", &["-q", "-O", "-", &url], 1),
    ];
    let mut bought = 0;
    for (program, arguments, times) in programs {
        if program == "wget"
            && std::process::Command::new("wget")
                .arg("--version")
                .output()
                .is_err()
        {
            continue;
        }
        if !there_is(program) {
            continue;
        }
        let command = [&["run", "--agent", program, "--", program], arguments].concat();
        let ended = street.home.farepass(command).ok();
        assert_eq!(
            ended.out.matches("14 °C").count(),
            times,
            "{program}: {ended:?}"
        );
        let summary = format!("  shop.example  {times} payment");
        assert!(ended.err.contains(&summary), "{program}: {}", ended.err);
        bought += times;
        assert_eq!(street.sold(), bought, "{program}");
    }
    street.home.assert_tidy();
}

#[test]
fn java_goes_through_the_proxy_and_knows_the_root() {
    let street = Street::new();
    let Ok(_) = std::process::Command::new("keytool").output() else {
        return;
    };
    let script = "F=$(dirname \"$SSL_CERT_FILE\")/truststore.p12; keytool -list -storetype PKCS12 -storepass changeit -keystore \"$F\" | grep -c trustedCertEntry; grep -c BEGIN \"$SSL_CERT_FILE\"; keytool -printcert -rfc -sslserver shop.example | openssl x509 -noout -issuer";
    let ended = street.home.run(&[], script).ok();
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines[0], lines[1], "every root of the bundle: {ended:?}");
    assert!(lines[2].contains("Farepass local CA"), "{ended:?}");
}

#[test]
fn the_summary_tells_what_was_spent_and_what_was_not() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let script = format!("curl -sS {SHOP}/forecast {SHOP}/forecast {SHOP}/luxury {SHOP}/");
    let ended = street.home.run(&["--budget", "0.50 USD"], &script).ok();
    assert!(
        ended.err.contains("farepass: spent 0.02 USD of 0.50 USD\n"),
        "{}",
        ended.err
    );
    assert!(
        ended
            .err
            .contains("  shop.example  2 payments, 0.02 USD; refused 1× over_request_cap\n"),
        "{}",
        ended.err
    );
    let script = format!("curl -sS {SHOP}/forecast {SHOP}/forecast");
    let ended = street.home.run(&["--budget", "0.01 USD"], &script).ok();
    assert!(
        ended
            .err
            .contains("1 payment, 0.01 USD; refused 1× over_session_cap"),
        "{}",
        ended.err
    );
    assert_eq!(street.sold(), 3);
}

#[test]
fn beside_a_service_its_proxy_is_used() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let service = street.home.serve(&[]);
    // Once with the session's credentials, and once without any, as Java and browsers ask.
    let script = format!(
        "echo $HTTPS_PROXY; curl -sS {SHOP}/forecast; curl -sS --proxy \"http://${{HTTPS_PROXY##*@}}\" {SHOP}/forecast"
    );
    let ended = street
        .home
        .run(&["--budget", "0.30 USD", "--agent", "guest"], &script)
        .ok();
    let url = ended.out.lines().next().unwrap();
    assert!(url.starts_with("http://guest:"), "{url}");
    assert!(
        url.contains("@127.0.0.1:") && !url.ends_with(&format!("@{}", service.proxy())),
        "a port of its own: {url}"
    );
    assert_eq!(ended.out.matches("14 °C").count(), 2, "{ended:?}");
    assert!(
        ended.err.contains("spent 0.02 USD of 0.30 USD"),
        "{}",
        ended.err
    );
    let sessions = street
        .home
        .farepass(["session", "list", "--json"])
        .ok()
        .json();
    let guest = &sessions
        .as_array()
        .unwrap()
        .iter()
        .find(|s| s["agent"] == "guest")
        .unwrap();
    assert_eq!(
        (&guest["closed"], &guest["spent"]),
        (&true.into(), &"0.02 USD".into())
    );
    assert_eq!(service.stop(), Some(0));
}

/// The service signs with the old one until it is started again, its successor with the new one.
#[test]
fn beside_a_service_both_authorities_of_a_rotation_are_known() {
    let street = Street::new();
    let home = &street.home;
    let service = home.serve(&[]);
    home.farepass(["ca", "rotate"]).ok();
    let count = "for file in \"$SSL_CERT_FILE\" \"$NODE_EXTRA_CA_CERTS\"; do cp \"$file\" .; done; ls \"$SSL_CERT_DIR\" | wc -l";
    let ended = home.run(&[], count).ok();
    assert_eq!(ended.out.trim(), "2", "each under its name");
    let both = fs::read_dir(home.at("certs")).unwrap();
    let both = both.map(|entry| entry.unwrap().path());
    let both: Vec<_> = both
        .filter(|path| !path.display().to_string().contains("ca-key"))
        .collect();
    assert_eq!(both.len(), 2);
    for (file, path) in ["bundle.pem", "ca.pem"]
        .iter()
        .flat_map(|file| both.iter().map(move |path| (file, path)))
    {
        let pem = fs::read_to_string(path).unwrap();
        assert!(home.read(file).contains(pem.trim()), "{file}: {path:?}");
    }
    if there_is("curl") {
        let ended = home.run(&[], &format!("curl -sS {SHOP}/forecast")).ok();
        assert!(ended.out.contains("14 °C"), "{ended:?}");
    }
    if there_is("java") && there_is("keytool") {
        let list = "keytool -list -storepass changeit -keystore \"$(dirname \"$SSL_CERT_FILE\")/truststore.p12\" | grep -c 'trustedCertEntry'; grep -c 'BEGIN' \"$SSL_CERT_FILE\"";
        let ended = home.run(&[], list).ok();
        let lines: Vec<_> = ended.out.lines().collect();
        assert_eq!(lines[0], lines[1], "as many as in the bundle: {ended:?}");
    }
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_proxy_that_is_gone_through_is_not_called_unused() {
    let home = Home::ready();
    let mut command = home.command(["run", "--", "true"]);
    let command = command.env("HTTPS_PROXY", "http://corp.example:3128");
    let direct = Ended::of(command.output().unwrap()).ok();
    assert!(direct.err.contains("$HTTPS_PROXY is not used"));
    home.configure("egress: { upstream_proxy: environment }");
    let through = Ended::of(command.output().unwrap()).ok();
    assert!(!through.err.contains("is not used"), "{}", through.err);
}

/// Two at once: the second uses the first one's proxy, and outlives it.
#[test]
fn a_second_run_takes_over_when_the_first_ends() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let begin = |name: &str, then: &str| {
        let script = format!(
            "echo $HTTPS_PROXY > {name}.url; : > {name}.here; {}; {then}",
            wait_for(&format!("{name}.go"))
        );
        let child = home
            .command(["run", "--agent", name, "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until(name, || {
            home.at(&format!("{name}.here")).exists().then_some(())
        });
        child
    };
    let first = begin("first", "true");
    let second = begin(
        "second",
        &format!("curl -sS --retry 20 --retry-connrefused --retry-delay 1 {SHOP}/forecast"),
    );
    fs::write(home.at("first.go"), "").unwrap();
    let first_pid = first.id();
    Ended::of(first.wait_with_output().unwrap()).ok();
    until("the second one's proxy", || {
        home.beacon().filter(|b| b["pid"] != first_pid)
    });
    fs::write(home.at("second.go"), "").unwrap();
    let ended = Ended::of(second.wait_with_output().unwrap()).ok();
    assert!(ended.out.contains("14 °C"), "{ended:?}");
    assert!(ended.err.contains("spent 0.01 USD"), "{ended:?}");
    assert!(home.beacon().is_none());
    home.farepass(["ledger", "verify"]).ok();
    home.assert_tidy();
}

/// What the first one left behind asks as Java does: without saying who it is.
#[test]
fn what_a_run_left_behind_does_not_spend_the_budget_of_its_successor() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let left = format!(
        "({}; curl -sS -o left.out -w '%{{http_connect}}' --proxy \"http://${{HTTPS_PROXY##*@}}\" {SHOP}/forecast > left.code; : > left.done) > left.log 2>&1 &",
        wait_for("second.here")
    );
    let mut first = home
        .command(["run", "--agent", "first", "--", "sh", "-c"])
        .arg(format!("{left} {}", wait_for("second.up")))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let first_pid = until("the first one's proxy", || home.beacon())["pid"].clone();
    let second = format!(": > second.up; {}", wait_for("second.go"));
    let second = home
        .command(["run", "--agent", "second", "--", "sh", "-c", &second])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(wait(&mut first), Some(0));
    until("the second one's proxy", || {
        home.beacon().filter(|b| b["pid"] != first_pid)
    });
    fs::write(home.at("second.here"), "").unwrap();
    until("an answer", || home.at("left.done").exists().then_some(()));
    fs::write(home.at("second.go"), "").unwrap();
    let ended = Ended::of(second.wait_with_output().unwrap()).ok();
    assert!(ended.err.contains("spent 0.00 USD"), "{ended:?}");
    assert_eq!(home.read("left.code"), "407");
    assert_eq!(street.sold(), 0);
}

#[test]
fn a_run_that_does_not_begin_leaves_no_session_open() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let ca = home.at("certs/ca.pem");
    let whole = fs::read(&ca).unwrap();
    let refused = |words: &[&str]| {
        home.farepass(["run", "--agent", "guest", "--", "true"])
            .failed(1, words);
        let all = home.farepass(["session", "list", "--json"]).ok().json();
        let all = all.as_array().unwrap().clone();
        let guests: Vec<_> = all.into_iter().filter(|s| s["agent"] == "guest").collect();
        assert!(guests.iter().all(|s| s["closed"] == true), "{guests:?}");
        guests.len()
    };
    fs::remove_file(&ca).unwrap();
    assert_eq!(refused(&["ca.pem"]), 1);
    fs::write(&ca, "none").unwrap();
    assert_eq!(refused(&["the CA is no certificate"]), 2);
    fs::write(&ca, whole).unwrap();
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn where_a_program_cannot_enter_no_session_is_asked_for() {
    let home = Home::new();
    home.farepass(["init"]).ok();
    home.configure("listen: { proxy: \"unix:.farepass/proxy.sock\", admin: \"127.0.0.1:0\" }");
    let service = home.serve(&[]);
    home.farepass(["run", "--agent", "guest", "--", "true"])
        .failed(2, &["which most programs cannot use"]);
    let all = home.farepass(["session", "list", "--json"]).ok().out;
    assert!(!all.contains("guest"), "{all}");
    assert_eq!(service.stop(), Some(0));
}

/// A proxy raises one limit for its connections and lowers the other for its keys.
#[test]
fn a_program_has_the_limits_that_it_would_have_without() {
    let home = Home::ready();
    let limits = "ulimit -Sn; ulimit -Sc; ulimit -Hn; ulimit -Hc";
    let low = "ulimit -Sn 200; ulimit -Sc 0; ulimit -Sc $(ulimit -Hc)";
    let binary = env!("CARGO_BIN_EXE_farepass");
    let script = format!("{low}; {limits}; exec {binary} run -- sh -c '{limits}'");
    let mut command = home.command(["--version"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(home.path());
    for (name, value) in command.env("LC_ALL", "C").get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let ended = Ended::of(shell.output().unwrap()).ok();
    let lines: Vec<_> = ended.out.lines().collect();
    let (before, after) = lines.split_at(4);
    assert_eq!(before[0], "200", "{ended:?}");
    assert_eq!(after, before, "{ended:?}");
}

#[test]
fn many_runs_begin_at_once() {
    let home = Home::ready();
    let begin = |n: usize| {
        let agent = format!("bot-{n}");
        let script = "test -s \"$SSL_CERT_FILE\" && echo \"$HTTPS_PROXY\"";
        let mut command = home.command(["run", "--agent", &agent, "--", "sh", "-c", script]);
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        pipes.spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(begin).collect();
    for (n, child) in children.into_iter().enumerate() {
        let ended = Ended::of(child.wait_with_output().unwrap()).ok();
        assert!(
            ended.out.starts_with(&format!("http://bot-{n}:")),
            "{ended:?}"
        );
    }
    let rows = home.farepass(["session", "list", "--json"]).ok().json();
    let rows = rows.as_array().unwrap();
    assert!(
        rows.len() == 4 && rows.iter().all(|r| r["closed"] == true),
        "{rows:?}"
    );
    home.assert_tidy();
}

/// At a terminal Ctrl-C goes to everybody in front: the program must see it once, not twice.
#[test]
fn at_a_terminal_the_program_reads_the_keyboard() {
    if !there_is("python3") {
        return;
    }
    let home = Home::ready();
    let program = "n = 0
def caught(*_):
    global n
    n += 1
import signal, sys
signal.signal(signal.SIGINT, caught)
print('ready', flush=True)
print('read', sys.stdin.readline().strip(), n, flush=True)";
    let terminal = "import os, pty, sys
pid, keys = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b''
while b'ready' not in said:
    said += os.read(keys, 4096)
os.write(keys, b'\\x03')
while b'^C' not in said:
    said += os.read(keys, 4096)
os.write(keys, b'fare\\n')
try:
    while more := os.read(keys, 4096):
        said += more
except OSError:
    pass
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let mut command = home.command([] as [&str; 0]);
    let binary = command.get_program().to_owned();
    command = {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", terminal]).arg(binary);
        python.args(["run", "--", "python3", "-c", program]);
        python
            .current_dir(home.path())
            .env("TMPDIR", home.temporary());
        python.env("HOME", home.path());
        python
    };
    let ended = Ended::of(command.output().unwrap()).ok();
    assert!(ended.out.contains("read fare 1"), "{ended:?}");
    assert!(ended.out.contains("spent 0.00 USD"), "{ended:?}");
    home.assert_tidy();
}

/// Shell: until there is such a file, or for a minute, so that a failed test leaves nothing running.
fn wait_for(file: &str) -> String {
    format!("n=0; until [ -e {file} ] || [ $n -gt 3000 ]; do n=$((n + 1)); sleep 0.02; done")
}
