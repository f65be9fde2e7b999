//! Signing in where this session's wallet has paid before, instead of paying again. Moves no money, and
//! holds none; whatever goes wrong, the request is paid for as ever.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use tokio::time::timeout;

use super::Payer;
use super::about::About;
use super::prepay::Route;
use crate::clock::Timestamp;
use crate::event::Notice;
use crate::evm::{Address, Login};
use crate::money::Network;
use crate::payment::{Asked, Challenge, Payload, PaymentId};
use crate::policy::Mode;
use crate::protocol;

/// Places that were paid for, over all sessions. What is forgotten is paid for again.
const PLACES: usize = 4096;

/// Seconds that a place is remembered. Merchants forget too.
const AGE_MAX: u64 = 86_400;

/// A payment that a merchant may remember.
#[derive(Clone)]
struct Bought {
    id: PaymentId,
    network: Network,
    until: Timestamp,
    /// Of the logins here: none was tried, the last was taken, or none ever was.
    taken: Option<bool>,
}

/// Where payments were made by rules that let the wallet sign in.
#[derive(Default)]
pub(super) struct Logins(Mutex<HashMap<Route, Bought>>);

impl Logins {
    fn lock(&self) -> MutexGuard<'_, HashMap<Route, Bought>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, place: Route, bought: Bought, now: Timestamp) {
        let mut all = self.lock();
        if all.len() >= PLACES && !all.contains_key(&place) {
            all.retain(|_, b| now < b.until);
        }
        // A merchant that takes no logins is not asked with every payment.
        let vain = all
            .get(&place)
            .is_some_and(|b| b.taken == Some(false) && now < b.until);
        if !vain && (all.len() < PLACES || all.contains_key(&place)) {
            all.insert(place, bought);
        }
    }

    fn answered(&self, place: &Route, taken: bool) {
        let mut all = self.lock();
        match all.get_mut(place) {
            Some(bought) if taken || bought.taken.is_none() => bought.taken = Some(taken),
            Some(_) => drop(all.remove(place)),
            None => {}
        }
    }
}

/// A login that is signed, and the payment that it refers to.
pub struct SignedIn {
    /// The header to send.
    pub header: Payload,
    /// What was paid for this place.
    pub id: PaymentId,
    address: String,
    network: Network,
}

impl Payer {
    /// A login for what this session has paid for, where the rule and the challenge have it. `None`: pay.
    pub async fn sign_in(&self, asked: &Asked, challenge: &Challenge) -> Option<SignedIn> {
        let policy = self.policy();
        let now = self.clock.wall();
        let place = Route::of(asked, &asked.path)?;
        let bought = self.logins.lock().get(&place).cloned()?;
        let over = bought.taken == Some(false)
            || self.surely() >= bought.until
            || now >= asked.session.expires;
        let allowed = policy.mode() == Mode::Enforce && policy.signs_in(asked);
        if over || !allowed || self.is_draining() || self.thawed(asked).is_err() {
            return None;
        }
        let signer =
            |w: &&std::sync::Arc<dyn crate::wallet::Wallet>| w.address(&bought.network).is_some();
        let wallet = self.wallets.iter().find(signer)?;
        let address: Address = wallet.address(&bought.network)?.parse().ok()?;
        let login = match protocol::login(challenge, asked, (&bought.network, address), now) {
            Ok(login) => login?,
            Err(problem) => {
                tracing::warn!(host = %asked.host, reason = %problem.reason, "no login is signed: {}", problem.detail);
                return None;
            }
        };
        if !self.is_open(asked).await {
            return None;
        }
        let header = self.signed(wallet.as_ref(), &login).await?;
        Some(SignedIn {
            header,
            id: bought.id,
            address: address.to_string(),
            network: bought.network,
        })
    }

    async fn signed(&self, wallet: &dyn crate::wallet::Wallet, login: &Login) -> Option<Payload> {
        let signed = timeout(wallet.patience(), wallet.sign_in(login))
            .await
            .ok()?;
        match signed {
            Ok(signature) => protocol::login_header(login, &signature).ok(),
            Err(problem) => {
                tracing::warn!(wallet = wallet.name(), %problem, "the wallet signs no login");
                None
            }
        }
    }

    /// What became of a login. After one that was not taken the next waits for another payment; a merchant
    /// that never took one is not asked again.
    pub fn signed_in(&self, asked: &Asked, login: &SignedIn, status: StatusCode) {
        let accepted = status != StatusCode::PAYMENT_REQUIRED && status != StatusCode::UNAUTHORIZED;
        if let Some(place) = Route::of(asked, &asked.path) {
            self.logins.answered(&place, accepted);
        }
        self.notice(&Notice::SignedIn {
            time: self.clock.now(),
            session: asked.session.id.clone(),
            agent: asked.session.agent.to_string(),
            host: asked.host.to_string(),
            path: asked.path.to_string(),
            network: login.network.to_string(),
            address: login.address.clone(),
            payment: login.id,
            accepted,
        });
    }

    /// Remembers what was paid for, where the rule lets the wallet sign in afterwards.
    pub(super) fn bought(&self, asked: &Asked, about: &About, confirmed: bool) {
        if !confirmed || !self.policy().signs_in(asked) {
            return;
        }
        let (place, network) = (Route::of(asked, &asked.path), about.network().parse());
        let (Some(place), Ok(network)) = (place, network) else {
            return;
        };
        let now = self.clock.now();
        let bought = Bought {
            id: about.id(),
            network,
            until: now.after_secs(AGE_MAX),
            taken: None,
        };
        self.logins.put(place, bought, now);
    }
}
