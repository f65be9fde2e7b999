//! A new policy for a running proxy: by signal, by the API, by the file itself; whole, or not at all.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use farepass::app::{self, Options};
use farepass::config::Config;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::support::{Home, SHOP, Service, Street, ask, there_is, until, wait};

/// `POST /api/v1/reload`.
fn reload(home: &Home, service: &Service, body: &str) -> (u16, Value) {
    let request = format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        service.admin(),
        home.token(),
        body.len()
    );
    let (status, body) = ask(service.admin(), &request);
    (status, serde_json::from_str(&body).unwrap())
}

fn buy(home: &Home, service: &Service) -> String {
    let proxy = format!("http://{}", service.proxy());
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "", "--proxy", &proxy]);
    curl.args(["--cacert", "certs/ca.pem", &format!("{SHOP}/forecast")]);
    let out = curl.current_dir(home.path()).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn said(home: &Home, what: &str) {
    until(what, || home.read("serve.err").contains(what).then_some(()));
}

#[test]
fn a_strict_proxy_takes_a_weaker_policy_only_when_told() {
    let street = Street::new();
    let home = &street.home;
    home.configure("reload: { strict: true }");
    let service = home.serve(&[]);
    let strict = home.read("farepass.yaml");
    let put = |text: &str| fs::write(home.at("farepass.yaml"), text).unwrap();
    let weak = strict.replace("0.05 USD", "0.50 USD");
    let (status, same) = reload(home, &service, "");
    assert_eq!((status, &same["changed"]), (200, &serde_json::json!([])));
    put(&weak);
    let (status, no) = reload(home, &service, "{}");
    let detail = no["detail"].as_str().unwrap();
    assert_eq!(status, 409, "{no}");
    assert!(detail.contains("pay.max"), "{detail}");
    service.signal(Signal::HUP);
    said(home, "is weaker");
    // Dropping the key does not help: that is for the next start.
    put(&weak.replace("reload: { strict: true }", ""));
    assert_eq!(reload(home, &service, "{}").0, 409);
    let (status, _) = reload(home, &service, "{\"allow_weaker\": 1}");
    assert_eq!(status, 400);
    let hash = detail.split(' ').nth(3).unwrap();
    let accept = format!("reload: {{ strict: true, accept: \"{hash}\" }}");
    put(&weak.replace("reload: { strict: true }", &accept));
    let (status, taken) = reload(home, &service, "{}");
    assert_eq!(status, 200, "{taken}");
    assert_eq!(taken["policy"], hash);
    assert!(
        taken["weaker"][0].as_str().unwrap().contains("pay.max"),
        "{taken}"
    );
    // What was accepted is no word for what is changed beside the rules.
    let accepted = home.read("farepass.yaml");
    put(&format!(
        "{accepted}\nlimits: {{ identical_payments: off }}\n"
    ));
    let (status, no) = reload(home, &service, "{}");
    assert_eq!(status, 409, "{no}");
    let detail = no["detail"].as_str().unwrap();
    assert!(detail.contains("limits.identical_payments"), "{detail}");
    // Back to the strict one, and without any word but the API's.
    put(&strict);
    assert_eq!(reload(home, &service, "{}").0, 200);
    put(&weak);
    let (status, taken) = reload(home, &service, "{\"allow_weaker\": true}");
    assert_eq!((status, &taken["policy"]), (200, &Value::from(hash)));
    let log = home.read("serve.err");
    assert!(!log.contains("0.50"), "names and keys, no values: {log}");
    put("version: 1\nrulez: []\n");
    let (status, broken) = reload(home, &service, "{\"allow_weaker\": true}");
    assert_eq!(status, 409, "{broken}");
    assert!(
        broken["detail"].as_str().unwrap().contains("rulez"),
        "{broken}"
    );
    // Nobody without the token.
    let bare = format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        service.admin()
    );
    assert_eq!(ask(service.admin(), &bare).0, 401);
}

#[test]
fn a_watched_file_is_taken_also_where_a_link_is_swapped() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    home.configure("reload: { watch: true }");
    // As a cluster mounts a ConfigMap: the file is a link through a link to a folder.
    let text = home.read("farepass.yaml");
    for (folder, text) in [
        ("v1", text.clone()),
        ("v2", text.replace("0.05 USD", "0.001 USD")),
        ("v3", "version: 1\nrulez: []\n".to_owned()),
    ] {
        fs::create_dir(home.at(folder)).unwrap();
        fs::write(home.at(folder).join("farepass.yaml"), text).unwrap();
    }
    fs::remove_file(home.at("farepass.yaml")).unwrap();
    symlink("current/farepass.yaml", home.at("farepass.yaml")).unwrap();
    symlink("v1", home.at("current")).unwrap();
    let swap = |to: &str| {
        symlink(to, home.at("next")).unwrap();
        fs::rename(home.at("next"), home.at("current")).unwrap();
    };
    let service = home.serve(&[]);
    assert!(buy(home, &service).contains("Utrecht"));
    swap("v2");
    said(home, "read again");
    assert!(buy(home, &service).contains("over_request_cap"));
    swap("v3");
    said(home, "stays as it is");
    assert!(buy(home, &service).contains("over_request_cap"));
    let before = home.read("serve.err").matches("read again").count();
    fs::write(home.at("v3").join("farepass.yaml"), &text).unwrap();
    until("the file in place", || {
        (home.read("serve.err").matches("read again").count() > before).then_some(())
    });
    assert!(buy(home, &service).contains("Utrecht"));
}

/// The file that is there when the watch begins may be another one than the one that was read.
#[test]
fn a_watched_file_that_changes_during_the_start_is_taken() {
    let home = Home::ready();
    home.configure("reload: { watch: true }");
    let file = home.at("farepass.yaml");
    let config = Config::load(Some(&file)).unwrap();
    let first = config.policy.hash().to_owned();
    let text = home.read("farepass.yaml");
    fs::write(&file, text.replace("0.05 USD", "0.001 USD")).unwrap();
    let runtime = Runtime::new().unwrap();
    let running = runtime.block_on(app::start(config, Options::default()));
    let running = running.unwrap();
    until("the other policy", || {
        (running.payer.policy().hash() != first).then_some(())
    });
    runtime.block_on(running.stop());
}

/// What stands in the way may be something else than the file.
#[test]
fn a_watched_file_that_could_not_be_taken_is_tried_again_without_another_change() {
    let home = Home::ready();
    home.configure("reload: { watch: true }");
    let text = home.read("farepass.yaml");
    let _service = home.serve(&[]);
    let open = |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
    open(0o707);
    fs::write(
        home.at("farepass.yaml"),
        text.replace("0.05 USD", "0.001 USD"),
    )
    .unwrap();
    said(&home, "the configuration is not safe");
    open(0o700);
    said(&home, "the policy was read again");
    assert_eq!(home.read("serve.err").matches("no reload").count(), 1);
}

/// A pipe in place of the configuration: whoever reads it waits for what is written.
fn pipe(home: &Home) -> impl Fn() -> File {
    let made = Command::new("mkfifo")
        .args(["-m", "600", "pipe"])
        .current_dir(home.path())
        .status();
    assert!(made.unwrap().success());
    fs::rename(home.at("pipe"), home.at("farepass.yaml")).unwrap();
    let path = home.at("farepass.yaml");
    // It opens for nobody before somebody reads.
    move || {
        let open = || rustix::fs::open(&path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty());
        until("a reader", || open().ok()).into()
    }
}

#[test]
fn everything_goes_on_while_a_policy_is_read() {
    let home = Home::ready();
    home.configure("reload: { watch: true }");
    let text = home.read("farepass.yaml").replace("0.05 USD", "0.04 USD");
    let mut service = home.serve(&[]);
    let writer = pipe(&home);
    service.signal(Signal::HUP);
    let mut written = writer();
    let many = std::thread::available_parallelism().unwrap().get() + 2;
    std::thread::scope(|scope| {
        let ask_again = || reload(&home, &service, "");
        let asked: Vec<_> = (0..many).map(|_| scope.spawn(ask_again)).collect();
        let get = |path: &str| {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
                home.token()
            );
            ask(service.admin(), &request)
        };
        service.signal(Signal::USR1);
        until("the freeze", || {
            (get("/api/v1/freezes").1.contains("SIGUSR1")).then_some(())
        });
        for _ in 0..20 {
            assert_eq!(get("/healthz").0, 200);
        }
        assert!(asked.iter().all(|asked| !asked.is_finished()));
        // Whoever waited for its turn reads what is there by then.
        fs::write(home.at("new.yaml"), &text).unwrap();
        fs::rename(home.at("new.yaml"), home.at("farepass.yaml")).unwrap();
        written.write_all(text.as_bytes()).unwrap();
        drop(written);
        for asked in asked {
            let (status, told) = asked.join().unwrap();
            assert_eq!((status, &told["changed"]), (200, &serde_json::json!([])));
        }
    });
    said(&home, "the policy was read again");
    // What is read at the end is read to its end.
    let writer = pipe(&home);
    service.signal(Signal::HUP);
    let written = writer();
    service.signal(Signal::TERM);
    said(&home, "stopping");
    drop(written);
    assert_eq!(wait(&mut service.child), Some(0));
}

#[test]
fn a_storm_of_reloads_changes_no_sum() {
    let street = Street::new();
    if !there_is("curl") {
        return;
    }
    let home = &street.home;
    let one = home.read("farepass.yaml").replace("5.00 USD", "0.15 USD");
    assert!(one.contains("limit: \"0.15 USD\""), "{one}");
    let texts = [one.clone(), one.replace("0.05 USD", "0.04 USD")];
    fs::write(home.at("farepass.yaml"), &texts[0]).unwrap();
    let service = home.serve(&[]);
    let (bought, reloads) = std::thread::scope(|scope| {
        let buyers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..8)
                        .filter(|_| buy(home, &service).contains("Utrecht"))
                        .count()
                })
            })
            .collect();
        let mut reloads = 0;
        while buyers.iter().any(|buyer| !buyer.is_finished()) {
            fs::write(home.at("new.yaml"), &texts[reloads % 2]).unwrap();
            fs::rename(home.at("new.yaml"), home.at("farepass.yaml")).unwrap();
            service.signal(Signal::HUP);
            assert_eq!(reload(home, &service, "{}").0, 200);
            reloads += 1;
        }
        let bought = buyers.into_iter().map(|buyer| buyer.join().unwrap());
        (bought.sum::<usize>(), reloads)
    });
    assert!(reloads >= 10, "{reloads}");
    assert_eq!(bought, street.sold(), "each was sold once");
    let rows = home
        .farepass(["ledger", "list", "--limit", "0", "--json"])
        .ok()
        .json();
    let billionths = |text: &Value| {
        let (whole, part) = text
            .as_str()
            .unwrap()
            .trim_end_matches(" USD")
            .split_once('.')
            .unwrap();
        whole.parse::<u64>().unwrap() * 1_000_000_000
            + format!("{part:0<9}").parse::<u64>().unwrap()
    };
    let rows = rows.as_array().unwrap();
    let counted = rows.iter().filter(|row| row["state"] != "released");
    let sum: u64 = counted.clone().map(|row| billionths(&row["charged"])).sum();
    assert_eq!(counted.count(), bought);
    let session = home
        .farepass(["session", "show", "default", "--json"])
        .ok()
        .json();
    assert_eq!(billionths(&session["spent"]), sum);
    assert!(
        sum <= 150_000_000,
        "the budget held through all of it: {sum}"
    );
    assert!(sum > 150_000_000 - 50_000_000, "and was used: {sum}");
    home.farepass(["ledger", "verify"]).ok();
}
