//! Several `farepass run` at once: one owns the proxy, others use it, and one is inside of another.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::support::{Ended, Home, SHOP, Street, there_is, until};

/// Pieces of an open stream, and the time between two of them.
const PIECES: usize = 80;
const BETWEEN: Duration = Duration::from_millis(100);

/// How late the merchant is in the way of [`late`].
const LATE: Duration = Duration::from_secs(2);

/// An answer that takes eight seconds, longer than a proxy that is gone is waited for.
fn streams() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || stream(client));
        }
    });
    at
}

fn stream(mut client: TcpStream) -> io::Result<()> {
    let _ = client.read(&mut [0; 4096])?;
    client.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
    )?;
    for piece in 0..PIECES {
        write!(client, "data: {piece}\n\n")?;
        wait(BETWEEN);
    }
    Ok(())
}

fn wait(time: Duration) {
    let (_keep, nobody) = std::sync::mpsc::channel::<()>();
    let _ = nobody.recv_timeout(time);
}

/// The same server, but whatever one says to it arrives late.
fn late(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || pass(client, server));
        }
    });
    at
}

fn pass(mut client: TcpStream, server: SocketAddr) -> io::Result<u64> {
    let mut there = TcpStream::connect(server)?;
    let (mut back, mut forth) = (client.try_clone()?, there.try_clone()?);
    thread::spawn(move || io::copy(&mut there, &mut back));
    wait(LATE);
    io::copy(&mut client, &mut forth)
}

/// A name more that leads to an address of this machine.
fn lead(home: &Home, name: &str, to: SocketAddr) {
    let text = home.read("farepass.yaml");
    let more = format!("egress: {{ resolve: {{ \"{name}\": \"{to}\", ");
    let text = text.replace("egress: { resolve: { ", &more);
    fs::write(home.at("farepass.yaml"), text).unwrap();
}

/// `farepass run` of a script that says `NAME.here` when it has begun.
fn begin(home: &Home, name: &str, script: &str) -> Child {
    let script = format!(": > {name}.here; {script}");
    let child = home
        .command(["run", "--agent", name, "--", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    there(home, &format!("{name}.here"));
    child
}

fn there(home: &Home, file: &str) {
    until(file, || home.at(file).exists().then_some(()));
}

/// Shell: until there is such a file, or for a minute.
fn wait_for(file: &str) -> String {
    format!("n=0; until [ -e {file} ] || [ $n -gt 3000 ]; do n=$((n + 1)); sleep 0.02; done")
}

/// Shell: an open stream in the background, and forecasts bought one after the other until it has ended.
fn streaming() -> String {
    format!(
        "(curl -sSN http://stream.example/ > stream.out; : > stream.done) & until grep -q 'data: 3' stream.out; do sleep 0.02; done; : > open; n=0; until [ -e stream.done ]; do n=$((n + 1)); curl -sS -w ' %{{http_code}} %{{http_connect}}\\n' {SHOP}/forecast; sleep 0.5; done; echo \"$n asked\"; wait"
    )
}

#[track_caller]
fn bought_all(ended: &Ended) -> usize {
    let bought = ended.out.matches(" 200 200\n").count();
    assert!(bought > 0, "{ended:?}");
    assert!(
        ended.out.contains(&format!("\n{bought} asked\n")),
        "{ended:?}"
    );
    bought
}

#[test]
fn what_a_second_run_streams_and_buys_while_it_takes_over_is_not_cut() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    lead(home, "stream.example:80", streams());
    let first = begin(home, "first", &wait_for("open"));
    let second = begin(home, "second", &streaming());
    let first_pid = first.id();
    Ended::of(first.wait_with_output().unwrap()).ok();
    let ended = Ended::of(second.wait_with_output().unwrap()).ok();
    let bought = bought_all(&ended);
    assert_eq!(street.sold(), bought);
    let last = format!("data: {}\n\n", PIECES - 1);
    assert!(home.read("stream.out").ends_with(&last));
    assert!(
        home.beacon()
            .is_none_or(|beacon| beacon["pid"] != first_pid)
    );
    home.farepass(["ledger", "verify"]).ok();
    home.assert_tidy();
}

#[test]
fn what_a_second_run_has_asked_for_is_paid_though_the_first_ends_meanwhile() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let slow = late(street.merchant.address());
    let text = home.read("farepass.yaml");
    let text = text.replace(&street.merchant.address().to_string(), &slow.to_string());
    fs::write(home.at("farepass.yaml"), text).unwrap();
    let first = begin(home, "first", &wait_for("asked"));
    let ask = format!("curl -sS {SHOP}/forecast & sleep 0.5; : > asked; wait");
    let second = begin(home, "second", &ask);
    Ended::of(first.wait_with_output().unwrap()).ok();
    let ended = Ended::of(second.wait_with_output().unwrap()).ok();
    assert!(ended.out.contains("14 °C"), "{ended:?}");
    assert_eq!(street.sold(), 1);
}

/// Runs `farepass` at a terminal of its own, and prints what was shown there. With `file`, Ctrl-C is pressed once
/// the proxy says that it stays and that file is there.
fn at_a_terminal(home: &Home, file: Option<&str>, script: &str) -> Child {
    let keyboard = "import os, pty, sys, time
pid, keys = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said = b''
pressed = not sys.argv[1]
try:
    while more := os.read(keys, 4096):
        said += more
        if not pressed and b'goes on' in said:
            while not os.path.exists(sys.argv[1]):
                time.sleep(0.01)
            os.write(keys, b'\\x03')
            pressed = True
except OSError:
    pass
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let command = home.command([] as [&str; 0]);
    let mut python = Command::new("python3");
    python.args(["-c", keyboard, file.unwrap_or_default()]);
    python.arg(command.get_program());
    python.args(["run", "--agent", "first", "--", "sh", "-c", script]);
    python.current_dir(home.path()).env("HOME", home.path());
    python.env("TMPDIR", home.temporary()).stdin(Stdio::null());
    let child = python.stdout(Stdio::piped()).spawn().unwrap();
    there(home, "first.here");
    child
}

#[test]
fn at_a_terminal_a_run_goes_on_while_another_one_uses_its_proxy() {
    let street = Street::new();
    if !there_is("curl") || !there_is("python3") {
        return;
    }
    let home = &street.home;
    lead(home, "stream.example:80", streams());
    let script = format!(": > first.here; {}; exit 7", wait_for("open"));
    let first = at_a_terminal(home, None, &script);
    let owner = until("the first one's proxy", || home.beacon())["pid"].clone();
    let script = format!("{}; cat .farepass/serve.json", streaming());
    let second = begin(home, "second", &script);
    let ended = Ended::of(second.wait_with_output().unwrap()).ok();
    let bought = bought_all(&ended);
    assert!(bought > 1, "nothing waits for another proxy: {ended:?}");
    assert_eq!(street.sold(), bought);
    assert!(
        ended.out.contains(&format!("\"pid\":{owner},")),
        "{ended:?}"
    );
    let first = Ended::of(first.wait_with_output().unwrap());
    assert_eq!(first.code, Some(7), "{first:?}");
    assert_eq!(first.out.matches("goes on").count(), 1, "{first:?}");
    assert!(first.out.contains("spent 0.00 USD"), "{first:?}");
    assert!(home.beacon().is_none());
    home.assert_tidy();
}

#[test]
fn at_a_terminal_ctrl_c_hands_the_proxy_over() {
    let street = Street::new();
    if !there_is("curl") || !there_is("python3") {
        return;
    }
    let home = &street.home;
    let script = format!(": > first.here; {}", wait_for("second.here"));
    let first = at_a_terminal(home, Some("second.here"), &script);
    let script = format!("{}; curl -sS {SHOP}/forecast", wait_for("second.go"));
    let second = begin(home, "second", &script);
    let first = Ended::of(first.wait_with_output().unwrap()).ok();
    assert!(first.out.contains("goes on"), "{first:?}");
    fs::write(home.at("second.go"), "").unwrap();
    let ended = Ended::of(second.wait_with_output().unwrap()).ok();
    assert!(ended.out.contains("14 °C"), "{ended:?}");
    home.assert_tidy();
}

/// Runs this inside of another `run`.
fn inside(home: &Home, outer: &[&str], inner: &str, script: &str) -> Ended {
    let binary = home.command([] as [&str; 0]).get_program().to_owned();
    fs::write(home.at("inner.sh"), script).unwrap();
    let inner = format!("'{}' run {inner} -- sh inner.sh", binary.display());
    home.run(outer, &inner)
}

#[test]
fn a_run_inside_of_a_run_spends_of_the_same_budget() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let thrice = format!("curl -sS {SHOP}/forecast {SHOP}/forecast {SHOP}/forecast");
    let outer = ["--budget", "0.01 USD", "--agent", "outer"];
    // As a service may own the proxy, so may the outer one.
    for sold in [1, 2] {
        let service = (sold == 2).then(|| home.serve(&[]));
        let ended = inside(home, &outer, "--agent other", &thrice).ok();
        assert_eq!(street.sold(), sold, "{ended:?}");
        let told = "in the session of the proxy in the environment: outer, 0.01 USD left";
        assert!(ended.err.contains(told), "{ended:?}");
        assert!(ended.err.contains("--agent other is not used"), "{ended:?}");
        assert!(
            !ended.err.contains("connects to merchants directly"),
            "{ended:?}"
        );
        assert!(
            ended.err.contains("refused 2× over_session_cap"),
            "{ended:?}"
        );
        drop(service);
    }
    let rows = home.farepass(["session", "list", "--json"]).ok().json();
    let agents: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["agent"])
        .collect();
    assert!(!agents.iter().any(|agent| **agent == "other"), "{agents:?}");
    home.assert_tidy();
}

/// It spends with the programs around it, and nobody can tell them apart.
#[test]
fn a_run_inside_of_a_run_cannot_hold_less_than_is_left() {
    let street = Street::new();
    let home = &street.home;
    let outer = ["--budget", "0.05 USD"];
    let ended = inside(home, &outer, "--budget '0.02 USD'", "echo begun");
    assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains("0.05 USD"), "{ended:?}");
    // Nor can it end before.
    let ended = inside(home, &outer, "--expires 1h", "echo begun");
    assert_eq!((ended.code, &*ended.out), (Some(2), ""), "{ended:?}");
    assert!(ended.err.contains("--expires: "), "{ended:?}");
    inside(home, &outer, "--expires 48h", "echo begun").ok();
    let ended = inside(home, &outer, "--budget '0.05 USD'", "echo begun").ok();
    assert_eq!(ended.out, "begun\n");
    // Where the environment names nobody's session it has its own.
    let apart = "--budget '0.02 USD' --agent apart";
    let script = format!("unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy; {apart}");
    let binary = home.command([] as [&str; 0]).get_program().to_owned();
    let script = script.replace(
        apart,
        &format!("'{}' run {apart} -- echo begun", binary.display()),
    );
    let ended = home.run(&outer, &script).ok();
    assert!(
        ended.err.contains("spent 0.00 USD of 0.02 USD"),
        "{ended:?}"
    );
    home.assert_tidy();
}

/// Its own session would be a new budget, given by whoever has used up the old one.
#[test]
fn a_run_in_a_session_that_is_over_does_not_begin() {
    let street = Street::new();
    let home = &street.home;
    let outer = ["--budget", "0.01 USD", "--expires", "1s"];
    let binary = home.command([] as [&str; 0]).get_program().to_owned();
    let binary = binary.display();
    let script = format!("sleep 1; '{binary}' run --budget '5 USD' -- echo begun");
    let ended = home
        .run(&outer, &script)
        .failed(3, &["session_expired", "farepass session create"]);
    assert_eq!(ended.out, "", "{ended:?}");

    // A session of a service, before and after the service ends.
    let service = home.serve(&[]);
    let made = ["session", "create", "--agent", "rogue", "--json"];
    let made = home.farepass(made).ok().json();
    let (id, url) = (
        made["id"].as_str().unwrap(),
        made["proxy"].as_str().unwrap(),
    );
    let run = |url: &str| {
        let mut run = home.command(["run", "--budget", "5 USD", "--", "echo", "begun"]);
        Ended::of(run.env("HTTPS_PROXY", url).output().unwrap())
    };
    assert_eq!(run(url).ok().out, "begun\n");
    home.farepass(["session", "close", id]).ok();
    let closed = ["session_closed", "rogue", "HTTPS_PROXY"];
    assert_eq!(run(url).failed(3, &closed).out, "");
    assert_eq!(service.stop(), Some(0));
    assert_eq!(run(url).failed(3, &closed).out, "");
    // Nobody's secret is another proxy's.
    assert_eq!(run("http://rogue:5ec@127.0.0.1:9").ok().out, "begun\n");
    home.assert_tidy();
}

#[test]
fn a_session_that_ends_while_a_run_looks_for_its_proxy_is_over() {
    let home = Home::ready();
    let made = home.farepass(["session", "create", "--json"]).ok().json();
    let (id, url) = (
        made["id"].as_str().unwrap(),
        made["proxy"].as_str().unwrap(),
    );
    // Its proxy may come back within two seconds.
    let mut run = home.command(["run", "--", "echo", "begun"]);
    run.env("HTTPS_PROXY", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = run.spawn().unwrap();
    wait(Duration::from_millis(500));
    home.farepass(["session", "close", id]).ok();
    let ended = Ended::of(run.wait_with_output().unwrap());
    assert_eq!(ended.failed(3, &["session_closed"]).out, "");
}

#[test]
fn a_run_inside_of_one_whose_agent_is_frozen_pays_nothing() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let service = home.serve(&[]);
    let made = ["session", "create", "--agent", "rogue", "--json"];
    let made = home.farepass(made).ok().json();
    home.farepass(["freeze", "agent", "rogue"]).ok();
    let forecast = format!("{SHOP}/forecast");
    let mut run = home.command(["run", "--agent", "other", "--", "curl", "-sS", &forecast]);
    run.env("HTTPS_PROXY", made["proxy"].as_str().unwrap());
    let ended = Ended::of(run.output().unwrap()).ok();
    assert!(ended.out.contains("\"frozen\""), "{ended:?}");
    assert_eq!((street.sold(), service.stop()), (0, Some(0)));
}
