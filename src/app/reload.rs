//! A new policy for a running proxy: the whole new one, or the old one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::guard;
use crate::admin::Reloaded;
use crate::config::{Config, ConfigError, Stamp};
use crate::custody::NotOurs;
use crate::event::metrics::Metrics;
use crate::payer::Payer;
use crate::policy;
use crate::settings::Reload;

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
}

impl NotReloaded {
    /// May the same file be taken a little later? What is wrong in the file itself stays so.
    fn passes(&self) -> bool {
        match self {
            Self::Config(ConfigError::Missing(_) | ConfigError::Unreadable { .. })
            | Self::Unsafe(_) => true,
            Self::Config(ConfigError::Invalid(_)) | Self::Weaker { .. } => false,
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
    turn: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        (file, first): (PathBuf, Option<Stamp>),
        settings: Reload,
        payer: &Arc<Payer>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            file,
            settings,
            first,
            payer: Arc::clone(payer),
            metrics: Arc::clone(metrics),
            turn: Mutex::default(),
        })
    }

    /// Reads the file again and puts its policy in place, whole. The rest of it is for the next start.
    ///
    /// # Errors
    /// [`NotReloaded`]; nothing has changed then.
    pub fn reload(&self, may: Weaker) -> Result<Reloaded, NotReloaded> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let config = Config::load(Some(&self.file))?;
        guard(&config)?;
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
        self.payer.set_policy(Arc::new(new));
        tracing::info!(
            policy = %hash,
            changed = %changed.join("; "),
            weaker = %weaker.join("; "),
            "the policy was read again; other settings are for the next start"
        );
        Ok(Reloaded {
            policy: hash,
            changed,
            weaker,
        })
    }

    /// The same, with the error in the log.
    pub fn try_reload(&self) {
        if let Err(error) = self.reload(Weaker::AsWritten) {
            tracing::error!(%error, "no reload");
        }
    }

    /// The same for a file that is watched: is it done with? What was told of it last is not told again.
    fn try_watched(&self, told: &mut String) -> bool {
        let last = std::mem::take(told);
        let Err(error) = self.reload(Weaker::AsWritten) else {
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

    pub(super) fn watches(&self) -> bool {
        self.settings.watch
    }

    /// Reloads when another file is there, until `drains` turns true.
    pub(super) async fn watch(self: Arc<Self>, mut drains: watch::Receiver<bool>) {
        let (mut taken, mut seen) = (self.first, None);
        let mut told = String::new();
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = drains.wait_for(|d| *d) => return,
                _ = ticks.tick() => {}
            }
            let now = Stamp::of(&self.file);
            // Twice the same: whoever writes it has finished. One that is gone may be on its way.
            if now.is_some() && now != taken && now == seen {
                // What could not be read for another reason than its text is tried again at the next look.
                if self.try_watched(&mut told) {
                    taken = now;
                }
            }
            seen = now;
        }
    }
}
