//! The parent proxy that the operator named, or allowed the environment to name.

use core::net::Ipv6Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::StartError;
use crate::fetch::user_and_password;
use crate::proxy::Parent;
use crate::settings::{Egress, HostPattern, UpstreamProxy, normalise_host};
use crate::wallet::secret_file;

/// Opens what `egress.upstream_proxy` says. `given` looks a variable up.
pub(super) fn parent(
    egress: &Egress,
    given: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Parent>, StartError> {
    let through = match &egress.upstream_proxy {
        UpstreamProxy::None => return Ok(None),
        UpstreamProxy::Environment => return environment(egress, given),
        UpstreamProxy::Through(through) => through,
    };
    let credentials = match &through.credentials_file {
        None => None,
        Some(file) => {
            let secret = secret_file::read(file).map_err(|e| StartError::Parent(e.to_string()))?;
            let bare = secret.trim_ascii();
            if !bare.contains(&b':') {
                let shown = file.display();
                return Err(StartError::Parent(format!(
                    "{shown}: expected user:password"
                )));
            }
            Some(basic(bare)?)
        }
    };
    Ok(Some(Parent {
        host: through.host.clone(),
        port: through.port,
        credentials,
        no_proxy: through.no_proxy.clone(),
    }))
}

fn basic(credentials: &[u8]) -> Result<HeaderValue, StartError> {
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(credentials)));
    let unusable = |_| StartError::Parent("its credentials cannot be sent".into());
    let mut value = HeaderValue::from_str(&text).map_err(unusable)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Errors name the variable, never its value: there may be a password in it.
fn environment(
    egress: &Egress,
    given: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Parent>, StartError> {
    let first = |names: [&'static str; 2]| {
        let mut set = names
            .into_iter()
            .map(|name| (name, given(name).map(Zeroizing::new)));
        set.find_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?)))
    };
    let Some((name, url)) = first(["https_proxy", "HTTPS_PROXY"]) else {
        return Ok(None);
    };
    let wrong = |what: &str| StartError::Parent(format!("${name}: {what}"));
    let bare = match url.split_once("://") {
        Some(("http", bare)) => bare,
        Some(_) => return Err(wrong("only proxies at http:// are gone through")),
        None => &url,
    };
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let (user, place) = match bare.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, bare),
    };
    let parted = place.rsplit_once(':').and_then(|(host, port)| {
        let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
        Some((normalise_host(host).ok()?, port))
    });
    let (host, port) = parted.ok_or_else(|| wrong("expected http://host:port"))?;
    let credentials = match user {
        None => None,
        Some(user) => {
            let plain = user_and_password(user)
                .ok_or_else(|| wrong("its user information cannot be read"))?;
            Some(basic(&plain)?)
        }
    };
    let direct = first(["no_proxy", "NO_PROXY"]);
    let direct = direct.map_or_else(Vec::new, |(_, list)| exceptions(&list, &egress.ports));
    Ok(Some(Parent {
        host,
        port,
        credentials,
        no_proxy: direct,
    }))
}

/// `NO_PROXY` as most programs read it: a name stands for itself and what is below it, at every port
/// unless one is written. What cannot be read (ranges of addresses) is no exception: that goes through
/// the parent, which is never a way around a rule.
fn exceptions(list: &str, ports: &[u16]) -> Vec<HostPattern> {
    let mut all = vec![];
    for entry in list.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let bare = entry.strip_prefix("*.").unwrap_or(entry);
        let bare = bare.strip_prefix('.').unwrap_or(bare);
        let ported = bare.rsplit_once(':').is_some_and(|(host, port)| {
            let whole = !host.contains(':') || host.ends_with(']');
            whole && port.parse::<u16>().is_ok()
        });
        let bare = match bare.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => bare.to_owned(),
        };
        for form in [bare.clone(), format!("*.{bare}")] {
            let with = |port: &u16| format!("{form}:{port}").parse().ok();
            match ported {
                true => all.extend(form.parse::<HostPattern>()),
                false => all.extend(ports.iter().filter_map(with)),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &'static [(&str, &str)]) -> Result<Option<Parent>, StartError> {
        let egress = Egress {
            upstream_proxy: UpstreamProxy::Environment,
            ..Egress::default()
        };
        let given = |name: &str| {
            let found = pairs.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        parent(&egress, &given)
    }

    #[test]
    fn the_environment_is_read_as_other_programs_read_it() {
        assert!(of(&[("HTTP_PROXY", "http://other:1")]).unwrap().is_none());
        let found = of(&[
            (
                "HTTPS_PROXY",
                "http://us%40er:p%3Aw@proxy.corp.example:3128/",
            ),
            (
                "NO_PROXY",
                "localhost, .direct.example,one.example:8443,10.0.0.0/8,fd00::5,[fd00::6],[fd00::7]:8443",
            ),
        ]);
        let parent = found.unwrap().unwrap();
        assert_eq!(
            (parent.host.as_str(), parent.port),
            ("proxy.corp.example", 3128)
        );
        let credentials = parent.credentials.unwrap();
        assert!(credentials.is_sensitive());
        assert_eq!(
            credentials,
            format!("Basic {}", STANDARD.encode("us@er:p:w"))
        );
        let direct = |host: &str, port| parent.no_proxy.iter().any(|p| p.matches(host, port));
        for (host, port, expected) in [
            ("localhost", 443, true),
            ("direct.example", 443, true),
            ("a.direct.example", 80, true),
            ("indirect.example", 443, false),
            ("one.example", 8443, true),
            ("one.example", 443, false),
            ("10.1.2.3", 443, false),
            ("fd00::5", 443, true),
            ("fd00::6", 443, true),
            ("fd00::7", 8443, true),
            ("fd00::7", 443, false),
        ] {
            assert_eq!(direct(host, port), expected, "{host}:{port}");
        }
    }

    #[test]
    fn a_star_is_every_host_at_every_port() {
        let direct = exceptions("*", &[443, 8443]);
        let found = |port| direct.iter().any(|p| p.matches("any.example", port));
        assert!(found(443) && found(8443), "{direct:?}");
    }

    #[test]
    fn what_cannot_be_used_is_told_without_its_secret() {
        for url in [
            "socks5://u:hunter2@h:1",
            "http://u:hunter2@h",
            "http://u:hunter2@h:0",
        ] {
            let given = |name: &str| (name == "https_proxy").then(|| url.to_owned());
            let egress = Egress {
                upstream_proxy: UpstreamProxy::Environment,
                ..Egress::default()
            };
            let said = parent(&egress, &given).err().unwrap().to_string();
            assert!(said.contains("$https_proxy"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
