//! Who trusts the authority: the system, and the files that variables point to.

use std::path::Path;

use super::finding::Finding;
use super::variables::RUN;
use crate::config::Config;
use crate::tls;

/// Each takes the place of the system's roots in the programs that read it, or adds to them.
const FILES: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
];

pub(super) fn look(config: &Config, given: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let pem = std::fs::read_to_string(config.tls.ca_dir.join("ca.pem")).unwrap_or_default();
    let Some(own) = tls::describe(&pem) else {
        return vec![];
    };
    let mut all = vec![];
    for name in FILES {
        let Some(file) = given(name) else { continue };
        if holds(Path::new(&file), &own.der) {
            all.push(Finding::ok(
                "trust",
                format!("the file in ${name} has the authority"),
            ));
        } else {
            let said =
                format!("{file} in ${name} lacks the authority, so its readers refuse the proxy");
            all.push(Finding::wrong("trust", said, RUN));
        }
    }
    if all.is_empty() {
        // `$SSL_CERT_FILE` is unset, so these are the system's.
        all.push(match tls::platform_roots().contains(&own.der) {
            true => Finding::ok("trust", "the system's store has the authority"),
            false => Finding::wrong(
                "trust",
                "neither the system's store nor a variable has the authority",
                format!("sudo farepass ca install    or {RUN}"),
            ),
        });
    }
    all
}

fn holds(file: &Path, der: &[u8]) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let each = text.split_inclusive("-----END CERTIFICATE-----");
    let mut known = each.filter_map(tls::describe);
    known.any(|one| one.der == der)
}
