//! The local authority, its end, and the certificates that upstreams are met with.

use time::{Duration, OffsetDateTime};

use super::finding::Finding;
use crate::config::Config;
use crate::tls::{Authority, TlsError, UpstreamTls, retired};

/// Agents need time to trust a new one.
const SOON: Duration = Duration::days(30);

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let dir = &config.tls.ca_dir;
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
    if !certificate.exists() && !key.exists() {
        let said = format!("{} is not there yet", certificate.display());
        return vec![Finding::wrong("ca", said, "farepass init")];
    }
    let authority = match Authority::open(&certificate, &key) {
        Ok(authority) => authority,
        Err(e @ TlsError::Exposed { .. }) => {
            let mend = format!("chmod 600 {}", key.display());
            return vec![Finding::wrong("ca", e, mend)];
        }
        Err(e @ TlsError::Expired { .. }) => {
            return vec![Finding::wrong("ca", e, "farepass ca rotate")];
        }
        Err(e) => {
            let mend = format!("ls -l {}", dir.display());
            return vec![Finding::wrong("ca", e, mend)];
        }
    };
    let (from, until) = (authority.not_before(), authority.not_after());
    let mut all = vec![valid(from, until, OffsetDateTime::now_utc())];
    match retired(dir) {
        Ok(old) if old.is_empty() => {}
        Ok(old) => all.push(Finding::unknown(
            "ca",
            format!(
                "{} older kept beside it, maybe still trusted by agents",
                old.len()
            ),
        )),
        Err(e) => all.push(Finding::unknown("ca", e)),
    }
    all.push(match UpstreamTls::new(&config.tls, Some(&authority)) {
        Ok(tls) => roots(tls.roots().len()),
        Err(e) => {
            let mend = format!("correct `tls:` in {}", config.file.display());
            Finding::wrong("upstream tls", e, mend)
        }
    });
    for host in &config.tls.insecure_hosts {
        let said = format!("{host} is not verified (tls.insecure_hosts), and never paid");
        all.push(Finding::unknown("upstream tls", said));
    }
    all
}

/// Without any, no merchant can be believed.
fn roots(number: usize) -> Finding {
    let said = format!("merchants are believed by {number} roots");
    match number {
        0 => Finding::wrong(
            "upstream tls",
            said,
            "install ca-certificates, or name a file in tls.extra_roots",
        ),
        _ => Finding::ok("upstream tls", said),
    }
}

/// One that was made while the clock was ahead is believed by no agent until it begins.
fn valid(from: OffsetDateTime, until: OffsetDateTime, now: OffsetDateTime) -> Finding {
    if from > now {
        let said = format!("not valid before {from}: the clock was ahead when it was made");
        return Finding::wrong("ca", said, "farepass ca rotate");
    }
    let said = format!("valid until {}", until.date());
    match until - now < SOON {
        true => Finding::wrong("ca", said, "farepass ca rotate"),
        false => Finding::ok("ca", said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_wrong_before_it_begins_and_soon_before_it_ends() {
        let from = OffsetDateTime::UNIX_EPOCH + Duration::days(10_000);
        let until = from + Duration::days(365);
        for (day, wrong) in [(-1, true), (0, false), (335, false), (336, true)] {
            let found = valid(from, until, from + Duration::days(day));
            assert_eq!(found.mend.is_some(), wrong, "{day}");
        }
    }
}
