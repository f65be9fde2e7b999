//! The first answer of the database: what is made, checked and learned before anything else is asked. It may
//! come long after the process began.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::dial::Purpose;
use super::fault::Fault;
use super::follow::Follower;
use super::known::Known;
use super::link::Link;
use super::session::{self, Seen};
use super::writer::{PATIENCE, RETRY_FIRST, RETRY_MAX};
use super::{lead, schema};
use crate::ledger::PostError;

pub(super) struct Beginning {
    link: Link,
    known: Arc<Known>,
    every: Duration,
    /// The try that goes on.
    running: Option<JoinHandle<Result<Follower, Fault>>>,
}

/// Connects, makes the tables or brings them up to date, and learns what is known without asking.
async fn begin(link: Link, known: Arc<Known>, every: Duration) -> Result<Follower, Fault> {
    let client = link.dial.connect(Purpose::Work).await?;
    schema::prepare(&client).await?;
    lead::prepare(&link).await?;
    let id = schema::id(&client).await?;
    let row = client
        .query_typed_one("SELECT seq, hash FROM farepass_head", &[])
        .await?;
    let head = schema::head(row.try_get(0)?, row.try_get(1)?)?;
    if head.seq > 0 && !session::has(&client, head).await? {
        return Err(Fault::Records(format!(
            "record {} does not match the end of the chain",
            head.seq
        )));
    }
    known.begun(Seen { id, head });
    let mut follower = Follower {
        link,
        known,
        place: 0,
        every,
        tidied: std::time::Instant::now(),
    };
    follower.look().await?;
    Ok(follower)
}

impl Beginning {
    pub(super) fn new(link: Link, known: Arc<Known>, every: Duration) -> Self {
        Self {
            link,
            known,
            every,
            running: None,
        }
    }

    /// One try. It goes on when nobody waits for it any more, and is the next one then: to bring the tables of
    /// a long history up to date takes its time, and is not begun anew.
    async fn once(&mut self) -> Result<Follower, Fault> {
        let running = self.running.get_or_insert_with(|| {
            let (link, known) = (self.link.clone(), Arc::clone(&self.known));
            tokio::spawn(begin(link, known, self.every))
        });
        let done = running.await;
        self.running = None;
        done.unwrap_or_else(|e| Err(Fault::Lost(e.to_string())))
    }

    /// Tries for a while, and says that posts are taken: a database may be starting as we are, or be changing places.
    pub(super) async fn patiently(&mut self) -> Result<Follower, Fault> {
        let until = Instant::now() + PATIENCE;
        loop {
            let fault = match self.once().await {
                Ok(follower) => {
                    self.known.writes(Ok(()));
                    return Ok(follower);
                }
                Err(fault) => fault,
            };
            if !fault.is_passing() || Instant::now() >= until {
                return Err(fault);
            }
            self.known.writes(Err(fault.into()));
            sleep(RETRY_FIRST).await;
        }
    }

    /// The same for whoever can begin without it: `None` when that while is over.
    ///
    /// # Errors
    /// What waiting does not heal.
    pub(super) async fn unless_away(&mut self) -> Result<Option<Follower>, Fault> {
        match timeout(PATIENCE, self.patiently()).await {
            Ok(Err(fault)) if fault.is_passing() => {
                self.known.writes(Err(fault.into()));
                Ok(None)
            }
            Ok(done) => done.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Tries until it answers. A password, a certificate or a server may be put right meanwhile; records
    /// that contradict each other are for a person, and end it.
    pub(super) async fn at_last(&mut self) -> Option<Follower> {
        let mut pause = RETRY_FIRST;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
            let why = match self.once().await {
                Ok(follower) => return Some(follower),
                Err(fault) => PostError::from(fault),
            };
            // The same every few seconds is no news.
            if self.known.writable().as_ref() != Err(&why) {
                tracing::error!(error = %why, "still without the ledger; nothing is paid");
            }
            let damaged = matches!(why, PostError::Damaged(_));
            self.known.writes(Err(why));
            if damaged {
                return None;
            }
        }
    }
}
