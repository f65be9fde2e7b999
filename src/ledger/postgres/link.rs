//! The connection for questions: shared by all who ask, and made anew when it breaks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::dial::{Dial, Purpose};
use super::fault::Fault;

/// For one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A value with the type of its column.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

#[derive(Clone)]
pub(super) struct Link {
    pub(super) dial: Dial,
    carrier: Handle,
    client: Arc<Mutex<Option<Arc<Client>>>>,
}

impl Link {
    /// `carrier` is the runtime that connections live on: it outlives whoever asks.
    pub(super) fn new(dial: Dial, carrier: Handle) -> Self {
        Self {
            dial,
            carrier,
            client: Arc::default(),
        }
    }

    fn kept(&self) -> Option<Arc<Client>> {
        let kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clone().filter(|client| !client.is_closed())
    }

    /// The connection. Two that find none may make one each; the later stays.
    pub(super) async fn client(&self) -> Result<Arc<Client>, Fault> {
        if let Some(client) = self.kept() {
            return Ok(client);
        }
        let client = Arc::new(self.connect(Purpose::Work).await?);
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(Arc::clone(&client));
        Ok(client)
    }

    /// A connection of one's own.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Client, Fault> {
        let dial = self.dial.clone();
        let connected = self
            .carrier
            .spawn(async move { dial.connect(purpose).await });
        let gone = |_| Fault::Lost("the ledger is closed".into());
        connected.await.map_err(gone)?
    }

    /// Does something beside whoever asks.
    pub(super) fn aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.carrier.spawn(work));
    }

    /// Asks one thing, on one state of the tables.
    pub(super) async fn ask(&self, sql: &str, values: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let client = self.client().await?;
        match timeout(PATIENCE, client.query_typed(sql, values)).await {
            Ok(rows) => Ok(rows?),
            Err(_) => {
                // It may never answer again.
                self.drop_client();
                Err(Fault::late("a question"))
            }
        }
    }

    fn drop_client(&self) {
        self.client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}
