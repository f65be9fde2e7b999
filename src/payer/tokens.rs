//! Tokens that were paid for and are good for more than one request. In memory only, each in its own
//! session: a restart forgets them, and no log, file or answer has them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::sync::OwnedMutexGuard;

use super::Payer;
use super::about::Paid;
use super::record::News;
use super::settle::given;
use crate::budget::Entry;
use crate::clock::Timestamp;
use crate::event::SpendEvent;
use crate::payment::{Asked, Challenge, Payload, PaymentId, SessionId};
use crate::protocol;

/// Tokens that are kept, over all sessions. What is forgotten beyond that is bought again.
const TOKENS: usize = 4096;

/// Tokens of one session for one origin.
const PER_ORIGIN: usize = 32;

/// Places that one token is known to open.
const PLACES: usize = 256;

/// Origins where somebody buys, after which those that are done are cleared away.
const BUYING: usize = 4096;

/// Seconds that a token is kept at most. Merchants that say nothing forget tokens too.
const AGE_MAX: u64 = 86_400;

/// A token, ready to be sent. No `Debug`: whoever holds it may use it.
#[derive(Clone)]
pub struct Credential {
    /// Its header.
    pub name: HeaderName,
    /// Marked sensitive.
    pub value: HeaderValue,
    /// What it was bought with.
    pub id: PaymentId,
}

/// Who may use it, and where it is sent to: the origin that sold it, and no other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Scope {
    session: SessionId,
    /// A session that is renewed starts with nothing.
    created: Timestamp,
    secure: bool,
    host: Arc<str>,
    port: u16,
}

impl Scope {
    fn of(asked: &Asked) -> Self {
        Self {
            session: asked.session.id.clone(),
            created: asked.session.created,
            secure: asked.secure,
            host: Arc::clone(&asked.host),
            port: asked.port,
        }
    }
}

/// Method and path.
type Place = (Method, Arc<str>);

struct Token {
    credential: Credential,
    until: Timestamp,
    /// Where it was accepted; the place it was bought for first.
    opens: Vec<Place>,
    /// Was it refused elsewhere? Then it is bound to some places, and tried at no others.
    narrow: bool,
    /// Did it bring an answer, after the one that it was bought for?
    delivered: bool,
}

impl Token {
    fn opens(&self, asked: &Asked) -> bool {
        self.opens.iter().any(|place| is_at(place, asked))
    }
}

fn is_at((method, path): &Place, asked: &Asked) -> bool {
    *method == asked.method && *path == asked.path
}

/// One sale at a time for each scope.
type Sale = tokio::sync::Mutex<()>;

#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<HashMap<Scope, Vec<Token>>>,
    sales: Mutex<HashMap<Scope, Weak<Sale>>>,
}

/// Does this answer say that the credential is not taken? L402 says 401, and servers say 402 too.
#[must_use]
pub fn refuses(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::PAYMENT_REQUIRED
    )
}

impl Payer {
    /// Are there tokens at all? Most merchants sell none, so that this is all that most requests ask.
    #[must_use]
    pub fn holds_tokens(&self) -> bool {
        !self.tokens.kept().is_empty()
    }

    /// A token that is known to open this very place, if the policy still pays there. It must not be sent before
    /// [`Payer::is_open`] was asked.
    #[must_use]
    pub fn credential(&self, asked: &Asked) -> Option<Credential> {
        self.token(asked, |token| token.opens(asked))
    }

    /// May this session still use what it paid for?
    pub async fn is_open(&self, asked: &Asked) -> bool {
        self.still_open(asked).await.is_ok()
    }

    /// May it come to buying a token? Not where the policy takes none of those that are sold.
    #[must_use]
    pub fn may_buy_token(&self, asked: &Asked, challenge: &Challenge) -> bool {
        let policy = self.policy();
        let mut sold = challenge
            .requirements
            .iter()
            .filter(|r| protocol::is_token(r));
        sold.any(|r| policy.may_take(asked, r, &self.payers))
    }

    /// Which tokens there are for what is asked, good or not.
    #[must_use]
    pub fn tokens(&self, asked: &Asked) -> Vec<PaymentId> {
        let kept = self.tokens.kept();
        let tokens = kept.get(&Scope::of(asked)).into_iter().flatten();
        tokens.map(|token| token.credential.id).collect()
    }

    /// A token that may be good for what is asked, instead of another payment. `tried`: those that need not be
    /// tried.
    pub async fn candidate(&self, asked: &Asked, tried: &[PaymentId]) -> Option<Credential> {
        let other = |token: &Token| !tried.contains(&token.credential.id);
        let exact = self.token(asked, |token| token.opens(asked) && other(token));
        let found = exact.or_else(|| self.token(asked, |token| !token.narrow && other(token)))?;
        self.is_open(asked).await.then_some(found)
    }

    /// The newest of them that fits.
    fn token(&self, asked: &Asked, fits: impl Fn(&Token) -> bool) -> Option<Credential> {
        let now = self.surely();
        let over = now >= asked.session.expires;
        let mut kept = self.tokens.kept();
        let tokens = kept.get_mut(&Scope::of(asked))?;
        tokens.retain(|token| now < token.until && !over);
        let found = tokens.iter().rev().find(|token| fits(token))?;
        let allowed = self.policy().pays(asked) && self.thawed(asked).is_ok();
        allowed.then(|| found.credential.clone())
    }

    /// What the merchant answered to a token, by the status alone. One that brought something where it was bought,
    /// or that did so elsewhere and is worn out now, was worth its money, even if the first answer was lost: its
    /// payload is not sent again.
    pub async fn used(&self, asked: &Asked, id: PaymentId, status: StatusCode) {
        if self.tokens.used(asked, id, status) && self.outstanding.forget_payment(id) {
            self.owes_nothing(id).await;
        }
    }

    /// Nobody waits for an answer to this payment any more.
    async fn owes_nothing(&self, id: PaymentId) {
        let _turn = self.reconciler.endings().answer(id, true).await;
        let _ = self.ledger.flush().await;
        let last = self.ledger.payment(id).await.ok().flatten();
        let Some(last) = last.filter(|event| event.owed) else {
            return;
        };
        let event = SpendEvent {
            time: self.clock.now(),
            owed: false,
            ..last
        };
        self.tell(vec![Entry::Note { id }], event, News::None).await;
        self.spread().await;
    }

    /// Keeps what was bought, unless the merchant refused it at once.
    pub(super) fn keep(
        &self,
        asked: &Asked,
        payload: &Payload,
        paid: &Paid,
        status: Option<StatusCode>,
    ) {
        let Some(until) = paid.reusable_until else {
            return;
        };
        if status.is_some_and(refuses) {
            return;
        }
        let now = self.clock.now();
        let token = Token {
            credential: Credential {
                name: payload.name.clone(),
                value: payload.value.clone(),
                id: paid.id,
            },
            until: until.min(now.after_secs(AGE_MAX)),
            opens: vec![(asked.method.clone(), Arc::clone(&asked.path))],
            narrow: false,
            delivered: false,
        };
        self.tokens.put(Scope::of(asked), token, now);
    }

    /// Waits until nobody else of this session buys a token of this origin: whoever waited may use theirs.
    pub async fn alone(&self, asked: &Asked) -> OwnedMutexGuard<()> {
        self.tokens.sale(Scope::of(asked)).lock_owned().await
    }
}

impl Tokens {
    fn kept(&self) -> MutexGuard<'_, HashMap<Scope, Vec<Token>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Did it bring what it was bought for, or is it worn out after it brought something?
    fn used(&self, asked: &Asked, id: PaymentId, status: StatusCode) -> bool {
        let mut kept = self.kept();
        let Some(tokens) = kept.get_mut(&Scope::of(asked)) else {
            return false;
        };
        let Some(at) = tokens.iter().position(|t| t.credential.id == id) else {
            return false;
        };
        let Some(token) = tokens.get_mut(at) else {
            return false;
        };
        token.delivered |= given(status);
        let bought = token.opens.first().is_some_and(|place| is_at(place, asked));
        match (refuses(status), token.opens(asked)) {
            // Worn out where it was good.
            (true, true) => return tokens.remove(at).delivered,
            (true, false) => token.narrow = true,
            (false, true) => {}
            (false, false) if token.opens.len() < PLACES => {
                token
                    .opens
                    .push((asked.method.clone(), Arc::clone(&asked.path)));
            }
            (false, false) => {}
        }
        bought && given(status)
    }

    fn sale(&self, scope: Scope) -> Arc<Sale> {
        let mut sales = self.sales.lock().unwrap_or_else(PoisonError::into_inner);
        if sales.len() >= BUYING {
            sales.retain(|_, sale| sale.strong_count() > 0);
        }
        let sale = sales.entry(scope).or_default();
        sale.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Sale::default());
            *sale = Arc::downgrade(&new);
            new
        })
    }

    fn put(&self, scope: Scope, token: Token, now: Timestamp) {
        let mut kept = self.kept();
        if kept.len() >= TOKENS || kept.values().map(Vec::len).sum::<usize>() >= TOKENS {
            kept.retain(|_, tokens| {
                tokens.retain(|t| now < t.until);
                !tokens.is_empty()
            });
        }
        if kept.values().map(Vec::len).sum::<usize>() >= TOKENS {
            tracing::warn!("more paid tokens than are kept: one that was paid for is forgotten");
            let oldest = |tokens: &Vec<Token>| tokens.first().map(|t| t.credential.id);
            let first = kept.iter().min_by_key(|(_, tokens)| oldest(tokens));
            if let Some(scope) = first.map(|(scope, _)| scope.clone())
                && let Some(tokens) = kept.get_mut(&scope)
            {
                tokens.remove(0);
                if tokens.is_empty() {
                    kept.remove(&scope);
                }
            }
        }
        let tokens = kept.entry(scope).or_default();
        tokens.retain(|t| t.credential.id != token.credential.id);
        if tokens.len() >= PER_ORIGIN {
            tokens.remove(0);
        }
        tokens.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(n: u16) -> Scope {
        Scope {
            session: SessionId("s".into()),
            created: Timestamp(0),
            secure: true,
            host: "api.example.com".into(),
            port: n,
        }
    }

    fn token(id: u128, until: u64) -> Token {
        Token {
            credential: Credential {
                name: http::header::AUTHORIZATION,
                value: HeaderValue::from_static("L402 a:b"),
                id: PaymentId(id),
            },
            until: Timestamp(until),
            opens: vec![],
            narrow: false,
            delivered: false,
        }
    }

    fn kept(tokens: &Tokens) -> usize {
        tokens.kept().values().map(Vec::len).sum()
    }

    #[test]
    fn what_is_kept_has_bounds() {
        let tokens = Tokens::default();
        for id in 0..100 {
            tokens.put(scope(1), token(id, 10), Timestamp(0));
        }
        assert_eq!(kept(&tokens), PER_ORIGIN);
        assert_eq!(
            tokens.kept()[&scope(1)][0].credential.id,
            PaymentId(100 - PER_ORIGIN as u128)
        );
        for id in 0..2 * TOKENS as u128 {
            let port = u16::try_from(id / 8).unwrap();
            tokens.put(scope(port), token(1000 + id, 20), Timestamp(0));
            assert!(kept(&tokens) <= TOKENS);
        }
        // The dead make room for the living.
        tokens.put(scope(9), token(1, 30), Timestamp(25));
        assert_eq!(kept(&tokens), 1);
    }

    #[tokio::test]
    async fn one_buys_at_a_time_and_scopes_do_not_wait_for_each_other() {
        let tokens = Tokens::default();
        let first = tokens.sale(scope(1)).lock_owned().await;
        assert!(tokens.sale(scope(1)).try_lock_owned().is_err());
        assert!(tokens.sale(scope(2)).try_lock_owned().is_ok());
        drop(first);
        assert!(tokens.sale(scope(1)).try_lock_owned().is_ok());
        for port in 0..u16::try_from(BUYING).unwrap() + 100 {
            let _done = tokens.sale(scope(port));
        }
        assert!(tokens.sales.lock().unwrap().len() <= BUYING + 1);
    }
}
