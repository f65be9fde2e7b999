//! Few files may be open: agents take what is theirs, and the operator is heard.

use std::net::TcpStream;
use std::time::Duration;

use crate::support::agent::Ask;
use crate::support::{shop, until};

const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: &str = "https://shop.stand.test/x";
const FEW: &str = r#"ulimit -n 64; exec "$0" "$@""#;

#[test]
fn agents_leave_files_to_the_operator() {
    let (_merchant, mut setup) = shop::open(|_, out| shop::sell("goods", out));
    let through = ["sh", "-c", FEW].map(String::from);
    setup.program.splice(..0, through);
    let mut proxy = setup.start();
    let held: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(proxy.address()).unwrap())
        .collect();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(proxy.ask_admin(path).unwrap().status, 200, "{path}");
    }
    let freeze = proxy.setup.run(&["freeze"]);
    assert!(freeze.status.success(), "{freeze:?}");
    drop(held);
    // That they have gone is not known at once.
    let frozen = until("a connection", PATIENCE, || {
        let answer = proxy.agent(PATIENCE).send(&Ask::get(PAGE)).unwrap();
        Some(answer).filter(|answer| answer.reason().is_some() || answer.status != 503)
    });
    assert_eq!(frozen.reason().as_deref(), Some("frozen"), "{frozen:?}");
    let said = proxy.stderr();
    assert!(said.matches("accept").count() <= 2, "{said}");
    assert_eq!(said.matches("limits.connections").count(), 1, "{said}");
    assert!(proxy.alive());
}
