//! TLS on both sides: the local authority that agents trust, the leaves it signs, and the
//! verification of upstreams that nothing can switch off.

mod authority;
mod interceptor;
mod leaf;
mod upstream;

pub use authority::{Authority, TlsError};
pub use interceptor::{Interceptor, Refused};
pub use upstream::{UpstreamTls, VerifyFailure, verify_failure};
