//! Can programs go around the proxy? Only the network can forbid it, and only a try can tell.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::finding::Finding;

const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn look(targets: &[String]) -> Vec<Finding> {
    if targets.is_empty() {
        let said =
            "not tried: name an address that only the proxy may reach, with --direct HOST:PORT";
        return vec![Finding::unknown("bypass", said)];
    }
    let mut all = vec![];
    for target in targets {
        let shown = crate::cli::table::plain(target);
        all.push(match timeout(PATIENCE, TcpStream::connect(target)).await {
            Ok(Ok(_)) => Finding::wrong(
                "bypass",
                format!("{shown} is reached without the proxy"),
                "forbid it in the network: a firewall rule, or a NetworkPolicy that lets out the proxy alone",
            ),
            // Silence and a refusal look the same from outside: maybe nobody listens there.
            Ok(Err(e)) => Finding::ok("bypass", format!("{shown} is not reached directly: {e}")),
            Err(_) => Finding::ok("bypass", format!("{shown} is not reached directly: no answer")),
        });
    }
    all
}
