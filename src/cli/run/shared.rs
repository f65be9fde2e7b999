//! A proxy that somebody else runs. When that one was a `run` as well and ends first, the place is
//! taken over on the same port, so that our program does not notice.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::LENT;
use super::guests::Guest;
use crate::admin::Beacon;
use crate::admin::sessions;
use crate::app::{self, Options, Running, StartError};
use crate::cli::{Failure, owner};
use crate::config::Config;
use crate::ledger::{OpenError, Opening};
use crate::payment::SessionId;
use crate::settings::Listen;

/// How often it is looked whether the other one is still there. Connections are refused so long.
const LOOK: Duration = Duration::from_millis(200);

/// The proxy of another process.
pub(super) struct Neighbour {
    here: Option<Guest>,
    ledger: Result<Opening, OpenError>,
    over: oneshot::Sender<()>,
    watch: JoinHandle<Option<Running>>,
}

impl Neighbour {
    /// Watches the proxy that `beacon` is of, if it is one that ends with its program. A service
    /// is left to its supervisor, and nobody who comes after it waits for us. Inside of another `run` we end with
    /// that: what its environment names, such as roots, is gone then, and our session is over.
    pub(super) fn watch(config: Config, beacon: &Beacon) -> Self {
        let heir = beacon.passing && std::env::var_os(LENT).is_none();
        // Without it, its owner ends without regard to us, and we take over.
        let enter = || {
            Guest::enter(&config.state_dir).inspect_err(
                |error| tracing::warn!(%error, "the proxy's owner cannot be told of this program"),
            )
        };
        let here = heir.then(enter).and_then(Result::ok);
        let (over, ended) = oneshot::channel();
        let ledger = config.opening();
        let beacon = beacon.clone();
        let watch = tokio::spawn(async move {
            tokio::select! {
                _ = ended => None,
                running = successor(config, &beacon), if heir => running,
            }
        });
        Self {
            here,
            ledger,
            over,
            watch,
        }
    }

    /// Leaves a session that is somebody else's. The proxy is ours if we took over.
    pub(super) async fn leave(self) -> Option<Running> {
        // Whoever took over has nobody to listen, and is known by its result.
        let _ = self.over.send(());
        self.watch.await.ok().flatten()
    }

    /// Closes the session, wherever it is by now. The proxy is ours if we took over.
    pub(super) async fn end(self, session: &SessionId) -> (Option<Running>, Result<(), Failure>) {
        // Whoever took over has nobody to listen, and is known by its result.
        let _ = self.over.send(());
        if let Ok(Some(running)) = self.watch.await {
            drop(self.here);
            let now = running.clock.now();
            let closed = sessions::close(&*running.ledger, now, session).await;
            return (Some(running), closed.map(drop).map_err(Failure::from));
        }
        let closed = match self.ledger {
            Ok(ledger) => owner::close_session(&ledger, session).await,
            Err(error) => Err(error.into()),
        };
        (None, closed)
    }
}

/// Waits until the other one is gone, and becomes the proxy in its place. Our own program says who it is, if
/// need be through its door. `None` when that cannot be done.
async fn successor(config: Config, beacon: &Beacon) -> Option<Running> {
    loop {
        tokio::time::sleep(LOOK).await;
        if Beacon::seen(&config.state_dir).is_some() {
            continue;
        }
        let Ok(mut config) = Config::load(Some(&config.file)) else {
            break;
        };
        config.listen = Listen {
            proxy: vec![beacon.proxy.clone()],
            admin: SocketAddr::new(beacon.admin.ip(), 0),
            ..Listen::default()
        };
        let options = Options {
            successor: true,
            ..Options::default()
        };
        match app::start(config, options).await {
            Ok(running) => return Some(running),
            // Still ending, or a third one was faster.
            Err(StartError::Ledger(OpenError::InUse { .. })) => {}
            Err(error) => {
                tracing::error!(%error, "cannot become the proxy");
                break;
            }
        }
    }
    tracing::error!("the proxy that this program used has ended, and cannot be replaced");
    None
}
