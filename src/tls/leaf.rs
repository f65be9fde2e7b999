//! Leaves: one certificate per intercepted name, signed by the local authority, cached.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use super::authority::{Authority, TlsError, serial};

/// A leaf outlives no policy decision for long (threat T-04: at most 7 days).
const LIFETIME: Duration = Duration::days(7);

/// A cached leaf is replaced while it has at least this long to live, for connections that stay open.
const RENEW_BEFORE: Duration = Duration::days(1);

/// Clocks of agents may be a little behind (threat T-04: at most one hour).
const BACKDATED: Duration = Duration::minutes(55);

/// Signs leaves for names, and remembers them.
pub(super) struct Leaves {
    authority: Arc<Authority>,
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    cache: Mutex<Cache>,
    found: AtomicU64,
    made: AtomicU64,
}

/// By name.
type Cache = LruCache<Arc<str>, Minted>;

/// A leaf and when it is good.
struct Minted {
    leaf: Arc<CertifiedKey>,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Minted {
    /// One that was made while the clock was ahead begins in the future once that is corrected, and is believed by
    /// nobody until then.
    fn fresh(&self, now: OffsetDateTime) -> bool {
        self.from <= now && self.until - RENEW_BEFORE > now
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaves")
    }
}

impl Leaves {
    /// With a fresh key of its own, never the authority's (threat T-05), kept in memory only.
    /// Up to `most` leaves are kept; a host that was forgotten costs 14 µs when it returns.
    pub(super) fn new(authority: Arc<Authority>, most: usize) -> Result<Self, TlsError> {
        let crypto = |e: &dyn std::fmt::Display| TlsError::Crypto(e.to_string());
        let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
        let key = KeyPair::generate().map_err(|e| crypto(&e))?;
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der);
        Ok(Self {
            authority,
            key,
            signer: signer.map_err(|e| crypto(&e))?,
            cache: Mutex::new(LruCache::new(most)),
            found: AtomicU64::new(0),
            made: AtomicU64::new(0),
        })
    }

    /// The leaf for exactly this name: cached, or minted inline (14 µs, cheaper than a task switch).
    pub(super) fn leaf(&self, host: &Arc<str>) -> Result<Arc<CertifiedKey>, TlsError> {
        self.leaf_at(host, OffsetDateTime::now_utc())
    }

    fn leaf_at(&self, host: &Arc<str>, now: OffsetDateTime) -> Result<Arc<CertifiedKey>, TlsError> {
        if let Some(minted) = self.lock().get(host)
            && minted.fresh(now)
        {
            self.found.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::clone(&minted.leaf));
        }
        self.made.fetch_add(1, Ordering::Relaxed);
        let (from, until) = (
            now - BACKDATED,
            (now + LIFETIME).min(self.authority.not_after()),
        );
        let leaf = Arc::new(self.mint(host, from, until)?);
        let minted = Minted {
            leaf: Arc::clone(&leaf),
            from,
            until,
        };
        self.lock().put(Arc::clone(host), minted);
        Ok(leaf)
    }

    /// How many were found in the cache, and made.
    pub(super) fn wanted(&self) -> (u64, u64) {
        let (found, made) = (&self.found, &self.made);
        (found.load(Ordering::Relaxed), made.load(Ordering::Relaxed))
    }

    /// Leaves in the cache.
    pub(super) fn cached(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Cache> {
        // A panic elsewhere leaves a cache, not an invariant: keep serving.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mint(
        &self,
        host: &str,
        from: OffsetDateTime,
        until: OffsetDateTime,
    ) -> Result<CertifiedKey, TlsError> {
        let crypto = |e: rcgen::Error| TlsError::Crypto(e.to_string());
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.try_into().map_err(crypto)?),
        };
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, "Farepass intercepted");
        let mut params = CertificateParams::default();
        params.serial_number = Some(serial()?);
        params.distinguished_name = subject;
        params.subject_alt_names = vec![name];
        params.not_before = from;
        params.not_after = until;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let signed = params
            .signed_by(&self.key, self.authority.issuer())
            .map_err(crypto)?;
        Ok(CertifiedKey::new(
            vec![signed.der().clone()],
            Arc::clone(&self.signer),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_that_was_made_while_the_clock_was_ahead_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open_or_create(dir.path()).unwrap();
        let leaves = Leaves::new(Arc::new(authority), 4).unwrap();
        let host: Arc<str> = "api.example.com".into();
        let now = OffsetDateTime::now_utc();
        let leaf = |at| leaves.leaf_at(&host, at).unwrap();
        let ahead = leaf(now + Duration::hours(2));
        let a_little = leaf(now + Duration::hours(2) - BACKDATED);
        assert!(Arc::ptr_eq(&ahead, &a_little), "it is good by then");
        let corrected = leaf(now);
        assert!(!Arc::ptr_eq(&ahead, &corrected));
        assert!(Arc::ptr_eq(&corrected, &leaf(now + Duration::minutes(1))));
        assert_eq!(leaves.wanted(), (2, 2));
    }
}
