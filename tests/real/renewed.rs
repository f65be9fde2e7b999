//! A session that is made anew while its agent keeps the tunnel that it opened before.

use std::io::BufReader;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::http::{self, Answer};
use crate::support::proxy::Proxy;
use crate::support::{shop, tls, until};

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A tunnel to the shop.
fn tunnel(proxy: &Proxy) -> Tls {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    let config = tls::trusting(&proxy.ca(), &[]);
    let opened = tls::tunnel(stream, (shop::HOST, &[]), config);
    opened.unwrap().expect("200")
}

fn get(tls: &mut Tls, path: &str) -> Answer {
    let host = [("Host".into(), shop::HOST.into())];
    http::write_head(tls, &format!("GET {path} HTTP/1.1"), &host).unwrap();
    http::read_answer(&mut BufReader::new(tls), "GET").unwrap()
}

#[test]
fn a_tunnel_pays_from_the_session_that_replaced_its_own() {
    let (_merchant, mut setup) = shop::open(|_, out| shop::sell("premium", out));
    setup.config["sessions"]["default"] = json!({ "budget": "10 USD", "expires": "4s" });
    let proxy = setup.start();
    let mut tls = tunnel(&proxy);
    assert_eq!(get(&mut tls, "/first").status, 200);
    let mut asked = 0;
    until("the session is over", Duration::from_secs(20), || {
        asked += 1;
        (get(&mut tls, &format!("/late/{asked}")).status != 200).then_some(())
    });
    let create = [
        "session",
        "create",
        "--default",
        "--budget",
        "2 USD",
        "--expires",
        "1h",
    ];
    let made = proxy.setup.run(&create);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(get(&mut tls, "/again").status, 200, "in the same tunnel");
    proxy.assert_verifies();
}
