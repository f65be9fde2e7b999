//! A new policy for a running proxy: the whole new one, or the old one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::ground::Ground;
use super::guard;
use super::lowered::Standing;
use crate::admin::Reloaded;
use crate::config::{Config, ConfigError, Stamp};
use crate::custody::NotOurs;
use crate::event::metrics::Metrics;
use crate::payer::Payer;
use crate::policy;
use crate::settings::{Reload, Sessions};

/// How often a watched file is looked at. Clusters take longer to bring a new one.
const LOOK: Duration = Duration::from_secs(2);

/// May the new policy be weaker than the old one, where the file says `strict`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weaker {
    /// The operator said so, this once.
    Allowed,
    /// As the file says.
    AsWritten,
}

/// Why the policy stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// The file cannot be used.
    #[error("the configuration cannot be used; the policy stays as it is: {0}")]
    Config(#[from] ConfigError),
    /// Others may change it.
    #[error("the configuration is not safe; the policy stays as it is: {0}")]
    Unsafe(#[from] NotOurs),
    /// It could pay where the old one refuses.
    #[error(
        "the new policy {policy} is weaker, so the old one stays as it is ({}); to take it, write it as `reload: {{ accept: \"{policy}\" }}`, or allow it by the API",
        weaker.join("; ")
    )]
    Weaker {
        /// Its hash.
        policy: String,
        /// In what.
        weaker: Vec<String>,
    },
    /// It did not come to its end.
    #[error("the reload broke off; the policy stays as it is")]
    BrokeOff,
}

impl NotReloaded {
    /// May the same file be taken a little later? What is wrong in the file itself stays so.
    fn passes(&self) -> bool {
        match self {
            Self::Config(ConfigError::Missing(_) | ConfigError::Unreadable { .. })
            | Self::Unsafe(_) => true,
            Self::Config(ConfigError::Invalid(_)) | Self::Weaker { .. } | Self::BrokeOff => false,
        }
    }
}

/// Takes new policies, one after the other.
pub struct Reloader {
    file: PathBuf,
    /// As it was at start.
    settings: Reload,
    /// The file whose policy was the first.
    first: Option<Stamp>,
    payer: Arc<Payer>,
    metrics: Arc<Metrics>,
    standing: Standing,
    /// In the order of asking.
    turn: Arc<Mutex<()>>,
    /// By a signal.
    asked: Notify,
}

/// What is known of the file that is watched.
struct Watched {
    /// The one that was done with.
    taken: Option<Stamp>,
    /// The one that was there at the last look.
    seen: Option<Stamp>,
    /// What was said of it.
    told: String,
}

impl Reloader {
    pub(super) fn new(
        ground: &Ground,
        settings: Reload,
        payer: &Arc<Payer>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        let (file, first) = ground.file.clone();
        Arc::new(Self {
            file,
            settings,
            first,
            payer: Arc::clone(payer),
            metrics: Arc::clone(metrics),
            standing: Standing::of(ground),
            turn: Arc::default(),
            asked: Notify::new(),
        })
    }

    /// Reads the file again and puts its policy in place, whole. The rest of it is for the next start. Requests
    /// go on meanwhile: a long file takes its time.
    ///
    /// # Errors
    /// [`NotReloaded`]; nothing has changed then.
    pub async fn reload(self: Arc<Self>, may: Weaker) -> Result<Reloaded, NotReloaded> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let reloader = Arc::clone(&self);
        let work = tokio::spawn(async move {
            // Whoever asked may be gone before it is over; the next one waits all the same.
            let _turn = turn;
            reloader.take(may).await
        });
        let taken = work.await.unwrap_or(Err(NotReloaded::BrokeOff));
        let (reloaded, sessions) = taken?;
        self.standing.compare(&sessions).await;
        Ok(reloaded)
    }

    async fn take(self: Arc<Self>, may: Weaker) -> Result<(Reloaded, Sessions), NotReloaded> {
        let reloader = Arc::clone(&self);
        let read = spawn_blocking(move || {
            let config = Config::load(Some(&reloader.file))?;
            guard(&config)?;
            Ok(config)
        });
        let config: Config = read.await.unwrap_or(Err(NotReloaded::BrokeOff))?;
        let (old, new) = (self.payer.policy(), config.policy);
        let hash = new.hash().to_owned();
        let weaker = policy::weaker(&old, &new);
        let accepted = may == Weaker::Allowed || config.reload.accept.as_ref() == Some(&hash);
        if self.settings.strict && !accepted && !weaker.is_empty() {
            return Err(NotReloaded::Weaker {
                policy: hash,
                weaker,
            });
        }
        let changed = policy::difference(&old, &new);
        self.metrics.name_hosts(new.paid_patterns().cloned());
        self.payer.set_policy(Arc::new(new)).await;
        tracing::info!(
            policy = %hash,
            changed = %changed.join("; "),
            weaker = %weaker.join("; "),
            "the policy was read again; other settings are for the next start"
        );
        let reloaded = Reloaded {
            policy: hash,
            changed,
            weaker,
        };
        Ok((reloaded, config.sessions))
    }

    /// The same, soon, with the error in the log. Who asks often before it begins has asked once.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Reloads when it is asked to, and when another file is there if it watches; until `drains` turns true.
    pub(super) async fn run(self: Arc<Self>, mut drains: watch::Receiver<bool>) {
        let mut watched = Watched {
            taken: self.first,
            seen: None,
            told: String::new(),
        };
        let mut ticks = tokio::time::interval(LOOK);
        // Two looks are apart also after a reload that took long.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                biased;
                _ = drains.wait_for(|d| *d) => return,
                () = self.asked.notified() => true,
                _ = ticks.tick(), if self.settings.watch => false,
            };
            match asked {
                true => self.try_reload().await,
                false => self.look(&mut watched).await,
            }
        }
    }

    async fn try_reload(self: &Arc<Self>) {
        if let Err(error) = Arc::clone(self).reload(Weaker::AsWritten).await {
            tracing::error!(%error, "no reload");
        }
    }

    async fn look(self: &Arc<Self>, watched: &mut Watched) {
        let now = Stamp::of(&self.file);
        // Twice the same: whoever writes it has finished. One that is gone may be on its way.
        if now.is_some() && now != watched.taken && now == watched.seen {
            // What could not be read for another reason than its text is tried again at the next look.
            if self.try_watched(&mut watched.told).await {
                watched.taken = now;
            }
        }
        watched.seen = now;
    }

    /// Is the file done with? What was told of it last is not told again.
    async fn try_watched(self: &Arc<Self>, told: &mut String) -> bool {
        let last = std::mem::take(told);
        let Err(error) = Arc::clone(self).reload(Weaker::AsWritten).await else {
            return true;
        };
        let why = error.to_string();
        if why != last {
            tracing::error!(%error, "no reload");
        }
        if error.passes() {
            *told = why;
        }
        told.is_empty()
    }
}
