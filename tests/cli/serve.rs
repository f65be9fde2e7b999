//! `farepass serve` and its admin listener.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Ended, Home, SHOP, Street, ask, mode, raw, there_is, until, wait};

#[test]
fn it_starts_says_where_and_stops() {
    let home = Home::ready();
    let service = home.serve(&["--export-ca", "given/out"]);
    let said = until("the first line", || {
        Some(home.read("serve.err")).filter(|text| text.contains('\n'))
    });
    let (proxy, admin) = (service.proxy().to_string(), service.admin().to_string());
    assert!(said.starts_with("farepass: proxy on http://"), "{said}");
    assert!(said.contains(&proxy) && said.contains(&admin), "{said}");
    assert_eq!(mode(&home.at(".farepass/serve.json")), 0o600);
    assert_eq!(mode(&home.at(".farepass/admin.token")), 0o600);
    assert_eq!(home.read("given/out/ca.pem"), home.read("certs/ca.pem"));
    assert!(
        home.read("given/out/bundle.pem")
            .ends_with(&home.read("certs/ca.pem"))
    );
    assert_eq!(mode(&home.at("given/out/bundle.pem")), 0o644);
    let given = fs::read_dir(home.at("given/out")).unwrap();
    let mut given: Vec<_> = given.map(|f| f.unwrap().file_name()).collect();
    given.sort();
    let public = ["bundle.pem", "ca.pem", "node-preload.cjs", "truststore.p12"];
    assert_eq!(given, public, "never a key");
    assert_eq!(service.stop(), Some(0));
    assert!(home.beacon().is_none(), "serve.json is gone");
    assert_eq!(home.read("serve.out"), "", "no spend, no events");
}

#[test]
fn it_waits_for_nobody_who_has_asked_for_nothing() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let silent = std::net::TcpStream::connect(service.proxy()).unwrap();
    let mut tunnel = std::net::TcpStream::connect(service.proxy()).unwrap();
    std::io::Write::write_all(&mut tunnel, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n").unwrap();
    let mut said = [0; 12];
    std::io::Read::read_exact(&mut tunnel, &mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 200");
    let began = std::time::Instant::now();
    assert_eq!(service.stop(), Some(0));
    let took = began.elapsed();
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    drop((silent, tunnel));
}

#[test]
fn a_number_of_workers_that_is_none_is_refused_with_one_line() {
    let home = Home::ready();
    for (asked, code) in [("two", 2), ("0", 2), ("3", 0), ("", 0)] {
        let mut run = home.command(["run", "--", "true"]);
        let ended = Ended::of(run.env("TOKIO_WORKER_THREADS", asked).output().unwrap());
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let told = ended.err.contains("TOKIO_WORKER_THREADS is a number");
        assert_eq!(told, code == 2, "{ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
    }
}

#[test]
fn a_second_one_is_refused_with_one_line() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let second = home.farepass(["serve"]).failed(1, &["in use", ".farepass"]);
    assert_eq!(second.err.lines().count(), 1, "{}", second.err);
    assert_eq!(home.beacon().unwrap()["pid"], service.child.id());
}

#[test]
fn a_policy_that_others_may_write_is_refused() {
    let home = Home::ready();
    let file = home.at("farepass.yaml");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o646);
    fs::set_permissions(&file, open).unwrap();
    let refused = home
        .farepass(["serve"])
        .failed(2, &["farepass.yaml", "chmod go-w"]);
    assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    assert!(!home.at(".farepass").exists());
}

#[test]
fn health_needs_no_token_and_everything_else_does() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let (at, token) = (service.admin(), home.token());
    let get = |path: &str, more: &str| {
        ask(
            at,
            &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{more}\r\n"),
        )
    };
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(get("/healthz", ""), (200, "ok\n".into()));
    assert_eq!(get("/readyz", ""), (200, "ready\n".into()));
    let (status, page) = get("/metrics", "");
    assert_eq!(status, 200);
    assert!(
        page.contains("# TYPE farepass_payments_total counter\n"),
        "{page}"
    );
    for path in ["/api/v1/sessions", "/api/v1/payments", "/api/v1/nothing"] {
        assert_eq!(get(path, "").0, 401, "{path}");
        for wrong in ["Bearer x", "Basic x", "Bearer", &format!("Bearer {token}x")] {
            assert_eq!(
                get(path, &format!("Authorization: {wrong}\r\n")).0,
                401,
                "{path}: {wrong}"
            );
        }
        assert_eq!(get(path, &bearer.repeat(2)).0, 401, "{path}: twice");
    }
    assert_eq!(get("/api/v1/sessions", &bearer).0, 200);
    assert_eq!(
        get("/api/v1/payments?limit=5&denied=true", &bearer),
        (200, "[]\n".into())
    );
    assert_eq!(get("/api/v1/payments?limt=5", &bearer).0, 400);
    assert_eq!(get("/api/v1/payments/pay_1", &bearer).0, 404);
    assert_eq!(get("/api/v1/nothing", &bearer).0, 404);
    assert_eq!(get("/nothing", &bearer).0, 404);
    assert_eq!(get("/", "").0, 200);
    assert!(!home.read("serve.err").contains(&token));
}

#[test]
fn reading_changes_nothing_and_strangers_do_not_read() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let (at, token) = (service.admin(), home.token());
    let bearer = format!("Authorization: Bearer {token}\r\nConnection: close\r\n");
    let send = |line: &str, host: &str, body: &str| {
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{bearer}\r\n{body}"
        );
        ask(at, &head)
    };
    let here = at.to_string();
    // Names that somebody else's DNS could lead here.
    for host in [
        "evil.example",
        &format!("evil.example:{}", at.port()),
        "localhost.evil.example",
        "",
    ] {
        let (status, told) = send("GET /healthz", host, "");
        assert_eq!(status, 421, "{host:?}");
        assert!(told.contains("ask by address"), "{told}");
        assert_eq!(send("POST /api/v1/sessions", host, "{}").0, 421, "{host:?}");
    }
    for host in [
        "localhost",
        &format!("localhost:{}", at.port()),
        "[::1]:1",
        "10.1.2.3",
    ] {
        assert_eq!(send("GET /healthz", host, "").0, 200, "{host:?}");
    }
    for (line, status) in [
        ("GET /api/v1/sessions/default/close", 405),
        ("PUT /api/v1/sessions", 405),
        ("POST /healthz", 405),
        ("OPTIONS /api/v1/sessions", 405),
        ("POST /api/v1/payments", 405),
    ] {
        assert_eq!(send(line, &here, "").0, status, "{line}");
    }
    for body in [
        "{",
        "[]",
        "{\"agnt\":\"x\"}",
        "{\"budget\":1}",
        "{\"agent\":\"a b\"}",
    ] {
        assert_eq!(send("POST /api/v1/sessions", &here, body).0, 400, "{body}");
    }
    let long = format!("{{\"agent\":\"{}\"}}", "x".repeat(100_000));
    assert_eq!(send("POST /api/v1/sessions", &here, &long).0, 413);
    let sessions: Value = serde_json::from_str(&send("GET /api/v1/sessions", &here, "").1).unwrap();
    assert_eq!(
        sessions.as_array().unwrap().len(),
        1,
        "the default one alone: {sessions}"
    );

    let (status, made) = send(
        "POST /api/v1/sessions",
        &here,
        "{\"agent\":\"bot\",\"expires\":\"5m\"}",
    );
    assert_eq!(status, 201, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    let (status, closed) = send(&format!("POST /api/v1/sessions/{id}/close"), &here, "");
    assert_eq!(status, 200, "{closed}");
    let (_, row) = send(&format!("GET /api/v1/sessions/{id}"), &here, "");
    assert!(
        row.contains("\"closed\":true") && !row.contains("proxy"),
        "{row}"
    );
}

/// Threat S-06: in every spelling of its address.
#[test]
fn the_admin_listener_is_not_reached_through_the_proxy() {
    let home = Home::ready();
    home.configure("egress: { allow_private: [127.0.0.0/8, \"::1/128\"], ports: [1, 65535] }");
    let text = home.read("farepass.yaml");
    let service = home.serve(&[]);
    let port = service.admin().port();
    drop(service);
    // Now with a port that may be dialled.
    let text = text.replace("ports: [1, 65535]", &format!("ports: [{port}]"));
    let text = text.replace("admin: 127.0.0.1:0", &format!("admin: 127.0.0.1:{port}"));
    fs::write(home.at("farepass.yaml"), text).unwrap();
    let service = home.serve(&[]);
    assert_eq!(service.admin().port(), port);
    for host in [
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "127.1.2.3",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
    ] {
        let inner = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        let through =
            format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n{inner}");
        let plain = format!(
            "GET http://{host}:{port}/healthz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
        );
        for request in [through, plain] {
            let answer = raw(service.proxy(), &request);
            assert!(answer.starts_with("HTTP/1.1 "), "{host}: {answer:?}");
            assert!(!answer.ends_with("\r\n\r\nok\n"), "{host}: {answer}");
        }
    }
}

#[test]
fn a_reload_takes_the_new_policy_or_keeps_the_old() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let service = home.serve(&[]);
    let buy = || {
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "-sS",
            "--noproxy",
            "",
            "--proxy",
            &format!("http://{}", service.proxy()),
        ]);
        curl.args(["--cacert", "certs/ca.pem", &format!("{SHOP}/forecast")]);
        let out = curl.current_dir(home.path()).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    assert!(buy().contains("Utrecht"));
    let good = home.read("farepass.yaml");
    let reload = |text: &str, says: &str| {
        fs::write(home.at("farepass.yaml"), text).unwrap();
        let before = home.read("serve.err").matches(says).count();
        service.signal(Signal::HUP);
        until(says, || {
            (home.read("serve.err").matches(says).count() > before).then_some(())
        });
    };
    reload(&good.replace("0.05 USD", "0.001 USD"), "read again");
    assert!(buy().contains("over_request_cap"));
    reload("version: 1\nrulez: []\n", "stays as it is");
    assert!(buy().contains("over_request_cap"), "the last good policy");
    reload(&good, "read again");
    assert!(buy().contains("Utrecht"));
    assert_eq!(street.sold(), 2);
    // Spend events: one object a line, on stdout.
    let states = || {
        let text = home.read("serve.out");
        let lines = text.lines();
        let mut lines: Vec<Value> = lines.map(|l| serde_json::from_str(l).unwrap()).collect();
        // A later line of the same state brings the delivery.
        lines.dedup_by(|b, a| a["id"] == b["id"] && a["state"] == b["state"]);
        let names = lines
            .iter()
            .map(|e| format!("{} {}", e["event"], e["state"]));
        names.collect::<Vec<_>>()
    };
    assert_eq!(service.stop(), Some(0));
    let paid = ["\"payment\" \"reserved\"", "\"payment\" \"settled\""];
    let denied = ["\"denied\" \"denied\""; 2];
    assert_eq!(states(), [&paid[..], &denied, &paid].concat());
}

/// The proxy that runs has read a good file. Probes must not end it over a bad one, and it can be stopped.
#[test]
fn a_mistake_in_the_file_is_no_reason_not_to_freeze() {
    let home = Home::ready();
    let _service = home.serve(&[]);
    home.farepass(["ready", "--alive", "--wait", "20s"]).ok();
    home.configure("via: []");
    for args in [
        &["ready", "--alive"][..],
        &["freeze", "--why", "lunch"],
        &["freeze", "--list"],
        &["unfreeze"],
        &["approve"],
    ] {
        let ended = home.farepass(args).ok();
        let warning = ended.err.lines().next().unwrap_or_default();
        assert!(warning.starts_with("farepass: warning: "), "{ended:?}");
        assert!(warning.contains(" via: "), "{ended:?}");
    }
    assert_eq!(home.farepass(["deny", "apr_00"]).code, Some(1));
    home.farepass(["session", "list"]).failed(2, &["via"]);
    // Who knows which ledger is meant?
    home.configure("ledgr: { postgres: { url_file: url } }");
    home.farepass(["freeze"])
        .failed(2, &["more: farepass check"]);
}

/// Rules take patterns of agents, so somebody in a hurry writes one.
#[test]
fn a_pattern_of_agents_freezes_nobody_and_says_so() {
    let home = Home::ready();
    for name in ["bot-*", "*", "bot 1", ""] {
        home.farepass(["freeze", "agent", name]).failed(2, &[]);
    }
    home.farepass(["freeze", "agent", "bot-*"])
        .failed(2, &["bot-*", "patterns are not taken", "freeze all"]);
    home.farepass(["freeze", "host", "*.example.com"])
        .failed(2, &[]);
    // An older version may have taken it.
    let listed = home.farepass(["unfreeze", "agent", "bot-*"]).ok();
    assert!(listed.err.contains("nothing is frozen"), "{listed:?}");
    let listed = home.farepass(["freeze", "agent", "bot-41"]).ok();
    assert!(
        listed.out.starts_with("frozen: agent bot-41 since "),
        "{listed:?}"
    );
}

/// Whatever takes an object takes nothing else, as the description says: a list of the members in their order
/// would do for the parser, and `["all"]` would freeze everything.
#[test]
fn a_list_is_no_body_for_the_api() {
    let home = Home::ready();
    let service = home.serve(&[]);
    let asked = |method: &str, path: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            home.token(),
            body.len()
        );
        let (status, answer) = ask(service.admin(), &(head + body));
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let (_, description) = asked("GET", "/api/v1/openapi.json", "");
    let mut tried = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation.get("requestBody").is_none() {
                continue;
            }
            tried += 1;
            let method = method.to_uppercase();
            for list in [
                "[]",
                "[[]]",
                "[\"all\",null,\"\"]",
                " [false]",
                "null",
                "\"all\"",
            ] {
                let (status, told) = asked(&method, path, list);
                assert_eq!(status, 400, "{method} {path} {list}: {told}");
                assert_eq!(told["detail"], "the body must be a JSON object", "{told}");
            }
        }
    }
    assert!(tried >= 6, "{tried}");
    let (_, frozen) = asked("GET", "/api/v1/freezes", "");
    assert_eq!(frozen, serde_json::json!([]));
    let (status, told) = asked(
        "POST",
        "/api/v1/freezes",
        "{\"scope\":\"agent\",\"name\":\"bot-*\"}",
    );
    assert_eq!(status, 400, "{told}");
    let (status, told) = asked("POST", "/api/v1/freezes", " {\"scope\":\"all\"}");
    assert_eq!((status, &told[0]["what"]), (200, &"all".into()));
}

#[test]
fn without_a_wallet_it_is_not_ready() {
    let home = Home::new();
    let text = "version: 1\nlisten: { proxy: 127.0.0.1:0, admin: 127.0.0.1:0 }\n";
    fs::write(home.at("farepass.yaml"), text).unwrap();
    let service = home.serve(&[]);
    let get = |path: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        ask(service.admin(), &request)
    };
    let (status, why) = get("/readyz");
    assert_eq!(status, 503);
    assert!(why.contains("no wallet is configured"), "{why}");
    assert_eq!(get("/healthz").0, 200, "but alive");
    until("the warning", || {
        home.read("serve.err")
            .contains("nothing is paid")
            .then_some(())
    });
}

#[test]
fn a_default_session_that_is_over_stays_over() {
    let home = Home::ready();
    assert_eq!(home.serve(&[]).stop(), Some(0));
    home.farepass(["session", "close", "default"]).ok();
    let service = home.serve(&[]);
    let hint = "farepass session create --default";
    until("the warning", || {
        home.read("serve.err").contains(hint).then_some(())
    });
    home.farepass(["session", "create", "--default", "--budget", "2 USD"])
        .ok();
    let shown = home
        .farepass(["session", "show", "default", "--json"])
        .ok()
        .json();
    assert_eq!(
        (&shown["closed"], &shown["budget"]),
        (&false.into(), &"2.00 USD".into())
    );
    assert_eq!(service.stop(), Some(0));
}

/// It keeps what it has: whoever lowers the file is told what else to do.
#[test]
fn a_default_session_that_may_more_than_the_file_says_is_told_of() {
    let home = Home::ready();
    let whole = home.read("farepass.yaml");
    let written = "{ budget: \"1.00 USD\", expires: 60m }";
    let low = |text: &str| fs::write(home.at("farepass.yaml"), whole.replace(written, text));
    let told = |words: &str| {
        until(words, || {
            home.read("serve.err").contains(words).then_some(())
        });
    };
    let service = home.serve(&[]);
    low("{ budget: \"0.20 USD\", expires: 60m }").unwrap();
    service.signal(Signal::HUP);
    told("(a budget of 1.00 USD, not 0.20 USD)");
    assert_eq!(service.stop(), Some(0));
    low("{ budget: \"0.20 USD\", expires: 30m }").unwrap();
    let service = home.serve(&[]);
    told("more than 30m from now");
    // As it is told.
    told(
        "farepass session close default, then farepass session create --default --budget \"0.20 USD\" --expires 30m",
    );
    home.farepass(["session", "close", "default"]).ok();
    let create = ["session", "create", "--default", "--budget", "0.20 USD"];
    home.farepass(create.iter().chain(&["--expires", "30m"]))
        .ok();
    assert_eq!(service.stop(), Some(0));
    let service = home.serve(&[]);
    assert_eq!(service.stop(), Some(0));
    let said = home.read("serve.err");
    assert!(!said.contains("keeps what it was opened with"), "{said}");
}

#[test]
fn a_pipe_for_events_that_nobody_reads_is_refused_at_once() {
    let home = Home::ready();
    home.configure("events: { file: pipe }");
    let made = std::process::Command::new("mkfifo")
        .arg(home.at("pipe"))
        .status();
    assert!(made.unwrap().success());
    home.farepass(["serve"])
        .failed(1, &["/pipe: ", "a pipe that nobody reads"]);
}

/// A site that answers when it is told to.
fn slow_site() -> (
    std::net::SocketAddr,
    std::sync::mpsc::Sender<()>,
    std::sync::mpsc::Receiver<()>,
) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go, told) = std::sync::mpsc::channel::<()>();
    let (asked, was_asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        asked.send(()).unwrap();
        let _ = told.recv();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate";
        let _ = stream.write_all(answer);
    });
    (address, go, was_asked)
}

#[test]
fn sigterm_lets_what_is_open_finish() {
    for patient in [true, false] {
        let home = Home::ready();
        let (site, go, asked) = slow_site();
        home.configure(&format!(
            "egress: {{ resolve: {{ \"slow.example:80\": \"{site}\" }} }}"
        ));
        let mut service = home.serve(&[]);
        let (proxy, admin) = (service.proxy(), service.admin());
        let client = std::thread::spawn(move || {
            let head = "GET http://slow.example/ HTTP/1.1\r\nHost: slow.example\r\nConnection: close\r\n\r\n";
            raw(proxy, head)
        });
        asked.recv().unwrap();
        service.signal(Signal::TERM);
        until("the end of readiness", || {
            let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let (status, why) = ask(admin, request);
            (status == 503 && why.contains("shutting down")).then_some(())
        });
        assert!(service.child.try_wait().unwrap().is_none(), "it waits");
        if patient {
            go.send(()).unwrap();
            assert_eq!(wait(&mut service.child), Some(0));
            assert!(client.join().unwrap().ends_with("late"));
        } else {
            service.signal(Signal::TERM);
            assert_eq!(wait(&mut service.child), Some(1));
            assert!(home.read("serve.err").contains("stopped at once"));
            drop(go);
            client.join().unwrap();
        }
        assert!(home.beacon().is_none(), "serve.json is gone");
    }
}
