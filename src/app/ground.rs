//! What a proxy stands on: wallets, ledger, authority, listeners, sessions. Opened in the order in
//! which a mistake does the least: what the file alone decides first, what leaves traces last.

use std::path::PathBuf;
use std::sync::Arc;

use super::balances::{Holdings, Watchman};
use super::doors::Doors;
use super::watchers::Watch;
use super::{Options, StartError, chains, handout, keys, parent};
use crate::admin::Token;
use crate::admin::sessions::{self, Opened, Usual};
use crate::chain::Chains;
use crate::clock::{Clock, System, Timestamp};
use crate::config::{Config, Stamp};
use crate::custody::{self, NotOurs};
use crate::ledger::sessions::Draft;
use crate::ledger::{self, Ledger};
use crate::proxy::{Guests, Parent};
use crate::section::SectionError;
use crate::tls::{Authority, UpstreamTls};
use crate::wallet::{self, Wallet};

/// Everything that must be there before a part can be built.
pub(super) struct Ground {
    /// The configuration, and which file it was that was read.
    pub(super) file: (PathBuf, Option<Stamp>),
    pub(super) wallets: Vec<Arc<dyn Wallet>>,
    pub(super) ledger: Arc<dyn Ledger>,
    /// The state directory, where the ledger is elsewhere.
    pub(super) held: Option<ledger::Held>,
    pub(super) clock: Arc<System>,
    pub(super) authority: Arc<Authority>,
    pub(super) upstream_tls: UpstreamTls,
    pub(super) parent: Option<Parent>,
    pub(super) chains: Chains,
    pub(super) doors: Doors,
    pub(super) token: Token,
    pub(super) usual: Usual,
    pub(super) own_session: Option<Opened>,
    pub(super) guests: Guests,
}

impl Ground {
    pub(super) async fn lay(config: &Config, options: &Options) -> Result<Self, StartError> {
        guard(config)?;
        let remote = config.wallets.iter().any(|w| wallet::is_remote(&w.kind));
        let fetch = remote.then(|| chains::signers(config)).transpose()?;
        let open = |w: &crate::config::WalletEntry| wallet::open(&w.kind, w.opening(fetch.clone()));
        let wallets: Result<Vec<_>, _> = config.wallets.iter().map(open).collect();
        let wallets = wallets.map_err(StartError::Wallet)?;
        exposed(config);
        keys::check(&wallets).await?;
        let (held, ledger) = book(config)?;
        let clock = Arc::new(System::starting_at(Timestamp::default()));
        let authority = Arc::new(Authority::open_or_create(&config.tls.ca_dir)?);
        let upstream_tls = UpstreamTls::new(&config.tls, Some(&authority))?;
        let parent = parent::parent(&config.egress, &|name| std::env::var(name).ok())?;
        if let Some(Parent { host, port, .. }) = &parent {
            tracing::info!("connections go through the proxy at {host}:{port}");
        }
        for host in &config.tls.insecure_hosts {
            tracing::warn!(%host, "the certificate of this host is not verified (tls.insecure_hosts); nothing is paid there");
        }
        let chains = chains::open(config, &upstream_tls)?;
        if let Some(dir) = &options.handout {
            let written = handout::write(dir, authority.certificate_pem());
            written.map_err(|source| StartError::File {
                path: dir.clone(),
                source,
            })?;
        }
        let doors = Doors::open(&config.listen, &config.tls)?;
        let token = Token::read_or_create(&config.state_dir)?;
        let usual = Usual::new(&config.sessions, options.named.clone(), options.budget);
        let (own_session, own) = match &options.own_session {
            Some(wanted) => Some(sessions::draft(&*clock, &usual, wanted)?).unzip(),
            None if config.sessions.without_credentials && !options.successor => {
                (None, Some(default_session(&usual, &*clock)?))
            }
            None => (None, None),
        };
        let guests = Guests {
            default_session: own.as_ref().map(|draft| draft.session.id.clone()),
            own,
        };
        Ok(Self {
            file: (config.file.clone(), config.stamp),
            wallets,
            ledger,
            held,
            clock,
            authority,
            upstream_tls,
            chains,
            parent,
            doors,
            token,
            usual,
            own_session,
            guests,
        })
    }
}

/// Tells of secrets that are taken from the environment: files are meant to hold them.
fn exposed(config: &Config) {
    for wallet in &config.wallets {
        if let Some(SectionError { problem, .. }) = wallet::exposed(&wallet.kind, &wallet.section) {
            tracing::warn!(wallet = %wallet.name, "{problem}");
        }
    }
}

impl Ground {
    /// Who looks what the wallets hold, by the nodes of the configuration.
    pub(super) fn watchman(&self, config: &Config, watch: &Watch) -> Watchman {
        let marks = config.wallets.iter().map(|w| &w.low_balance[..]);
        let wallets = self.wallets.iter().zip(marks);
        Watchman::new(
            Holdings::new(wallets, config.policy.assets(), self.chains.clone()),
            Arc::clone(&watch.metrics),
            watch.sinks.clone(),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            config.limits.balance_interval,
        )
    }
}

/// The ledger, and the state directory where that is not held with it.
fn book(config: &Config) -> Result<(Option<ledger::Held>, Arc<dyn Ledger>), StartError> {
    let held = config.ledger.as_ref();
    let held = held.map(|_| ledger::hold(&config.state_dir)).transpose()?;
    Ok((held, config.open_ledger()?))
}

fn default_session(usual: &Usual, clock: &dyn Clock) -> Result<Draft, StartError> {
    let draft = Draft::of_default(&usual.named, usual.budget, usual.expires, clock);
    Ok(draft.map_err(sessions::SessionError::from)?)
}

/// Refuses to stand on what others may change: whoever can change the policy can spend the wallet, and
/// whoever can change what is trusted can pose as a merchant (threat A-01).
///
/// # Errors
/// The first file or folder that is not ours alone.
pub fn guard(config: &Config) -> Result<(), NotOurs> {
    custody::check(&config.file)?;
    custody::check(&config.state_dir)?;
    custody::check(&config.tls.ca_dir)?;
    let entrance = config.listen.tls.iter();
    let entrance = entrance.flat_map(|tls| [Some(&tls.cert_file), tls.client_ca.as_ref()]);
    let database = config.ledger.iter().flat_map(|l| &l.ca_file);
    let trusted = config.tls.extra_roots.iter().chain(entrance.flatten());
    for trusted in trusted.chain(database) {
        custody::check(trusted)?;
    }
    Ok(())
}
