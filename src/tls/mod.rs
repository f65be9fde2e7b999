//! TLS on both sides: the local authority that agents trust, the leaves it signs, and the
//! verification of upstreams that nothing can switch off.

mod authority;
mod describe;
mod interceptor;
mod leaf;
mod truststore;
mod upstream;

pub use authority::{Authority, TlsError};
pub use describe::{Description, bundle, describe, pem, platform_roots, subject_hash};
pub use interceptor::{Interceptor, Refused};
pub use truststore::java_truststore;
pub use upstream::{UpstreamTls, VerifyFailure, verify_failure};
