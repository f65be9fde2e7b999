//! TLS on both sides: the local authority that agents trust, the leaves it signs, and the
//! verification of upstreams, which nothing switches off but a host's own line in the file.

mod authority;
mod crypto;
mod describe;
mod entrance;
mod insecure;
mod interceptor;
mod leaf;
mod peek;
mod serving;
mod succession;
mod trust;
mod truststore;
mod upstream;
mod verdict;

pub use authority::{Authority, TlsError};
pub use describe::{Description, bundle, describe, pem, platform_roots, subject_hash};
pub use entrance::entrance;
pub use interceptor::{Interceptor, Refused};
pub use peek::{HELLO_MAX, Hello, Peek, peek};
pub use serving::Serving;
pub use succession::{retired, rotate};
pub use trust::Trust;
pub use truststore::java_truststore;
pub use upstream::UpstreamTls;
pub use verdict::{VerifyFailure, no_common_protocol, verify_failure};
