//! Settings out of their subtrees of the file.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use http::StatusCode;

use crate::money::{Network, v1_network};
use crate::section::{Section, SectionError};

use super::clash::Places;
use super::identity;
use super::{
    ClientCertificate, Egress, Entrance, EntranceTls, HostPattern, Intercept, Listen, RefusalBody,
    Refusals, Sessions, Span, Tls, Unproven, UpstreamProxy, normalise_host,
};

/// The number that no user has.
const NOBODY: u32 = u32::MAX;

impl Listen {
    /// Reads `listen:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        let default = Self::default();
        let places = Places::of(&section);
        let keys = ["tls", "allow_users"].map(|key| section.peek(key));
        let tls = section.take("tls").filter(|tls| !tls.is_nothing());
        let tls = tls.map(|tls| EntranceTls::read(tls, base)).transpose()?;
        let proxy = section.or("proxy", default.proxy, |s| {
            entrances(s, base, tls.is_some())
        })?;
        let users = 0..=u64::from(NOBODY - 1);
        let user = |s: Section| {
            s.number(users.clone())
                .map(|u| u32::try_from(u).unwrap_or(NOBODY))
        };
        let allow_users = section.or("allow_users", vec![], |s| s.list(user))?;
        in_use(&proxy, tls.is_some(), !allow_users.is_empty(), keys)?;
        let transparent = section.or("transparent", vec![], addresses)?;
        let admin = section.or("admin", default.admin, address)?;
        let allow_from = section.or("allow_from", vec![], |s| s.list(Section::parse))?;
        section.finish()?;
        let listen = Self {
            proxy,
            tls,
            allow_users,
            transparent,
            admin,
            allow_from,
        };
        places.apart(&listen)?;
        Ok(listen)
    }
}

/// One entrance, or a list.
fn entrances(section: Section, base: &Path, tls: bool) -> Result<Vec<Entrance>, SectionError> {
    let place = section.clone();
    let one = |s: Section| {
        Entrance::read(s, base).map(|entrance| match entrance {
            Entrance::Plain(at) if tls => Entrance::Tls(at),
            other => other,
        })
    };
    let all = match section.clone().items() {
        Err(_) => vec![one(section)?],
        Ok(_) => section.list(one)?,
    };
    match all.is_empty() {
        true => Err(place.expected("at least one address or socket")),
        false => Ok(all),
    }
}

/// Keys that say something about entrances of which there is none.
fn in_use(
    proxy: &[Entrance],
    tls: bool,
    users: bool,
    keys: [Option<Section>; 2],
) -> Result<(), SectionError> {
    let [at_tls, at_users] = keys;
    let has = |unix: bool| {
        let mut all = proxy.iter();
        all.any(|entrance| entrance.address().is_none() == unix)
    };
    match (at_tls, at_users) {
        (Some(place), _) if tls && !has(false) => {
            Err(place.error("`proxy` has no address that this could be for"))
        }
        (_, Some(place)) if users && !has(true) => Err(place
            .error("`proxy` has no Unix socket that this could be for")
            .hint("for example `proxy: unix:/run/farepass/proxy.sock`")),
        _ => Ok(()),
    }
}

/// One address, or a list: IPv4 and IPv6 are two.
fn addresses(section: Section) -> Result<Vec<SocketAddr>, SectionError> {
    match section.clone().text() {
        Ok(_) => Ok(vec![address(section)?]),
        Err(_) => section.list(address),
    }
}

pub(super) fn address(section: Section) -> Result<SocketAddr, SectionError> {
    let text = section.clone().text().unwrap_or_default();
    text.parse().map_err(|_| {
        let error = section.expected("an address and a port, for example \"127.0.0.1:4020\"");
        match text.starts_with("localhost") || text.starts_with(':') {
            true => error.hint("write the address itself: 127.0.0.1, [::1], or 0.0.0.0 for all"),
            false => error,
        }
    })
}

/// A path, from the folder of the configuration file.
///
/// # Errors
/// When it is no text, or empty.
pub fn path(section: Section, base: &Path) -> Result<PathBuf, SectionError> {
    let text = section.clone().text()?;
    if text.is_empty() || text.contains('\0') {
        return Err(section.expected("a path"));
    }
    Ok(base.join(text))
}

/// A name that goes into accounts, events and headers: letters, digits, `-`, `_`, `.`.
///
/// # Errors
/// When it is something else.
pub fn name(section: Section) -> Result<String, SectionError> {
    let text = section.clone().text()?;
    match (1..=64).contains(&text.len()) && text.chars().all(of_name) {
        true => Ok(text),
        false => Err(section.expected("a name of 1 to 64 letters, digits, `-`, `_` or `.`")),
    }
}

/// May a name have this letter?
#[must_use]
pub fn of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')
}

/// A network by its CAIP-2 name.
///
/// # Errors
/// When it is something else; the old names of x402 version 1 are known well enough for a hint.
pub fn network(section: Section) -> Result<Network, SectionError> {
    let network = section.clone().parse();
    network.map_err(|error| {
        let old = section.text().ok().and_then(|name| v1_network(&name));
        match old {
            Some(network) => error.hint(format!("did you mean \"{network}\"?")),
            None => error,
        }
    })
}

const INTERCEPT: &[(&str, Intercept)] = &[("all", Intercept::All), ("payable", Intercept::Payable)];

impl Tls {
    /// Reads `tls:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        let ca_dir = section.or("ca_dir", base.join("certs"), |s| path(s, base))?;
        let intercept = section.or("intercept", Intercept::All, |s| s.word(INTERCEPT))?;
        let hosts = |s: Section| s.list(not_every_host);
        let passthrough = section.or("passthrough", vec![], hosts)?;
        let paths = |s: Section| s.list(|item| path(item, base));
        let extra_roots = section.or("extra_roots", vec![], paths)?;
        let crls = section.or("crls", vec![], paths)?;
        let certificates = |s: Section| s.list(|item| ClientCertificate::read(item, base));
        let client_certificates = section.or("client_certificates", vec![], certificates)?;
        let exact = |s: Section| s.list(identity::exact_host);
        let insecure_hosts = section.or("insecure_hosts", vec![], exact)?;
        section.finish()?;
        Ok(Self {
            ca_dir,
            intercept,
            passthrough,
            extra_roots,
            crls,
            client_certificates,
            insecure_hosts,
        })
    }
}

fn not_every_host(item: Section) -> Result<HostPattern, SectionError> {
    let pattern: HostPattern = item.clone().parse()?;
    match pattern.is_any() {
        false => Ok(pattern),
        true => Err(item
            .error("every host would be tunnelled blind, so nothing could ever be paid")
            .hint("name the hosts, or use intercept: payable")),
    }
}

impl Egress {
    /// Reads `egress:`. Paths start at `base`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section, base: &Path) -> Result<Self, SectionError> {
        let default = Self::default();
        let ranges = |s: Section| s.list(Section::parse);
        let allow_private = section.or("allow_private", vec![], ranges)?;
        let port = |s: Section| s.number(1..=65_535).map(|p| u16::try_from(p).unwrap_or(0));
        let ports = section.or("ports", default.ports, |s| s.list(port))?;
        let resolve = section.or("resolve", BTreeMap::new(), resolve)?;
        let parent = |s: Section| UpstreamProxy::read(s, base);
        let upstream_proxy = section.or("upstream_proxy", default.upstream_proxy, parent)?;
        section.finish()?;
        Ok(Self {
            allow_private,
            ports,
            resolve,
            upstream_proxy,
        })
    }
}

/// `"api.example.com:443": "127.0.0.1:8443"`; without a port in the value, the port stays.
fn resolve(section: Section) -> Result<BTreeMap<(String, u16), SocketAddr>, SectionError> {
    let map = section.clone();
    let mut pins = BTreeMap::new();
    for (key, value) in section.entries()? {
        let name = key.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            Some((normalise_host(host).ok()?, port))
        });
        let Some((host, port)) = name else {
            let shown = key.escape_debug();
            let problem = format!("found \"{shown}\", expected a host and a port");
            let error = map.key_error(&key, problem);
            return Err(error.hint("for example \"api.example.com:443\": \"127.0.0.1:8443\""));
        };
        let text = value.clone().text()?;
        let whole = text.parse::<SocketAddr>();
        let address = whole.or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, port).into()));
        let address = address.map_err(|_| {
            value.expected("an address, with a port if it changes: \"127.0.0.1:8443\"")
        })?;
        if pins.insert((host, port), address).is_some() {
            return Err(map.key_error(&key, "this host and port is pinned twice"));
        }
    }
    Ok(pins)
}

const BODIES: &[(&str, RefusalBody)] = &[
    ("problem", RefusalBody::Problem),
    ("original", RefusalBody::Original),
];

impl Refusals {
    /// Reads `refusals:`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section) -> Result<Self, SectionError> {
        let status = |s: Section| match s.clone().number(0..=999) {
            Ok(402) => Ok(StatusCode::PAYMENT_REQUIRED),
            Ok(403) => Ok(StatusCode::FORBIDDEN),
            Ok(429) => Ok(StatusCode::TOO_MANY_REQUESTS),
            _ => Err(s.expected("402, 403 or 429")),
        };
        let default = Self::default();
        let status = section.or("status", default.status, status)?;
        let body = section.or("body", default.body, |s| s.word(BODIES))?;
        let numbers = section.or("numbers", default.numbers, Section::flag)?;
        section.finish()?;
        Ok(Self {
            status,
            body,
            numbers,
        })
    }
}

impl Sessions {
    /// Reads `sessions:`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(mut section: Section) -> Result<Self, SectionError> {
        let mut sessions = Self::default();
        if let Some(mut default) = section.take("default") {
            // Elsewhere null is none, and here nothing would be the usual session.
            if default.is_nothing() {
                let error = default.error("there is nothing below `default`");
                return Err(error.hint(
                    "write `default: none` for no session without credentials, or leave the key out for the usual one",
                ));
            }
            if default.clone().text().is_ok_and(|text| text == "none") {
                sessions.without_credentials = false;
            } else {
                sessions.budget = default.or("budget", sessions.budget, Section::parse)?;
                sessions.expires = default.or("expires", sessions.expires, positive)?;
                default.finish()?;
            }
        }
        section.finish()?;
        Ok(sessions)
    }
}

/// A length of time above zero.
pub(super) fn positive(section: Section) -> Result<core::time::Duration, SectionError> {
    let Span(length) = section.clone().parse()?;
    match length.is_zero() {
        false => Ok(length),
        true => Err(section.error("it is zero: nothing would ever be in time")),
    }
}

const UNPROVEN: &[(&str, Unproven)] = &[("count", Unproven::Count), ("release", Unproven::Release)];

impl Unproven {
    /// Reads `unproven:`.
    ///
    /// # Errors
    /// With the place of what cannot be read.
    pub fn read(section: Section) -> Result<Self, SectionError> {
        section.word(UNPROVEN)
    }
}
