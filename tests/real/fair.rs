//! What one session may take of what all share.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::api::ask;
use crate::support::curl::{curl, fetch};
use crate::support::http::{self, Answer};
use crate::support::merchant::After;
use crate::support::proxy::Proxy;
use crate::support::{linger, shop, tls, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A POST to the shop whose body is not sent to its end.
fn held(proxy: &Proxy, length: usize, sent: usize) -> impl Sized {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    let config = tls::trusting(&proxy.ca(), &[]);
    let opened = tls::tunnel(stream, (shop::HOST, &[]), config);
    let mut tls = opened.unwrap().expect("200");
    let fields = [
        ("Host".into(), shop::HOST.into()),
        ("Content-Length".into(), length.to_string()),
    ];
    http::write_head(&mut tls, "POST /held HTTP/1.1", &fields).unwrap();
    tls.write_all(&vec![b'x'; sent]).unwrap();
    tls.flush().unwrap();
    tls
}

/// Posts a body through this proxy's address.
fn post(proxy: &Proxy, through: &str, length: usize) -> Answer {
    let mut curl = curl(through, &proxy.ca());
    let url = format!("https://{}/small", shop::HOST);
    curl.args(["--data", &"x".repeat(length), &url]);
    fetch(curl).unwrap()
}

/// Threat D-06.
#[test]
fn bodies_that_one_session_keeps_leave_room_for_others() {
    let (merchant, mut setup) = shop::open(|_, out| shop::sell("sold", out));
    setup.config["limits"]["replay_body"] = json!("4 KiB");
    setup.config["limits"]["replay_bodies"] = json!("8 KiB");
    let proxy = setup.start();
    let made = json!({ "agent": "honest", "budget": "1 USD" });
    let made = ask(&proxy, "POST", "/api/v1/sessions", Some(&made)).json();
    let honest = made["proxy"].as_str().unwrap();
    let bodies = [held(&proxy, 4000, 3999), held(&proxy, 4000, 3999)];
    until("the merchant to see them", PATIENCE, || {
        let full = post(&proxy, &proxy.url(), 300);
        (full.reason().as_deref() == Some("body_not_replayable")).then_some(full)
    });
    let full = post(&proxy, &proxy.url(), 300);
    assert_eq!(full.json()["retryable"], true, "{}", full.text());
    assert!(full.text().contains("replay_bodies"), "{}", full.text());
    let other = post(&proxy, honest, 300);
    assert_eq!(other.status, 200, "{}", other.text());
    drop(bodies);
    until("room again", PATIENCE, || {
        (post(&proxy, &proxy.url(), 300).status == 200).then_some(())
    });
    drop(merchant);
}

/// Threat D-06: whoever waits for its session's turn holds none of the places of all others.
#[test]
fn whoever_waits_for_its_turn_takes_no_place_of_others() {
    let (_merchant, mut setup) = shop::open(|_, out| {
        linger(Duration::from_millis(500));
        shop::sell("sold", out)
    });
    setup.config["limits"]["payments_in_flight"] = json!(1);
    let proxy = setup.start();
    let buying = || {
        let page = proxy.ask_admin("/metrics").unwrap().text();
        let line = page
            .lines()
            .find_map(|l| l.strip_prefix("farepass_purchases_in_flight "));
        line.unwrap().parse::<u32>().unwrap()
    };
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let proxy = &proxy;
                    move || proxy.get(&format!("https://{}/{n}", shop::HOST)).status
                })
            })
            .collect();
        let mut most = 0;
        while asked.iter().any(|a| !a.is_finished()) {
            most = most.max(buying());
            linger(Duration::from_millis(20));
        }
        assert_eq!(most, 1);
        for answer in asked {
            assert_eq!(answer.join().unwrap(), 200);
        }
    });
}

/// I6: the payload of an unfinished purchase is live, and whoever listens could use it.
#[test]
fn what_was_signed_for_https_never_goes_out_in_the_clear() {
    let (merchant, setup) = shop::open(|_, _| Ok(After::Close));
    let proxy = setup.start();
    let lost = proxy.get(&format!("https://{}/lost", shop::HOST));
    assert_eq!(lost.reason().as_deref(), Some("outcome_unknown"));
    assert_eq!(shop::payments(&merchant).len(), 1);
    let clear = proxy.get(&format!("http://{}:443/lost", shop::HOST));
    assert_eq!(
        clear.reason().as_deref(),
        Some("insecure_transport"),
        "{}",
        clear.text()
    );
    // The same inside of a tunnel.
    let mut stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = format!("{}:443", shop::HOST);
    let fields = [("Host".to_owned(), host.clone())];
    http::write_head(&mut stream, &format!("CONNECT {host} HTTP/1.1"), &fields).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert!(
        http::read_head(&mut reader)
            .unwrap()
            .unwrap()
            .first
            .contains("200")
    );
    http::write_head(&mut stream, "GET /lost HTTP/1.1", &fields).unwrap();
    let inside = http::read_answer(&mut reader, "GET").unwrap();
    assert_eq!(inside.reason().as_deref(), Some("insecure_transport"));
    assert_eq!(shop::payments(&merchant).len(), 1, "{:?}", merchant.seen());
}
