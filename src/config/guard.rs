//! Who may reach the listeners: whoever reaches one without credentials spends the default session.

use std::net::SocketAddr;

use super::Config;
use crate::section::{Section, SectionError};
use crate::settings::Entrance;

/// What is wrong between `listen:` and `sessions:`, in the order of the keys.
pub(super) fn unguarded(listen: Option<Section>, config: &Config) -> Vec<SectionError> {
    let place = |key: &str| listen.as_ref().and_then(|l| l.peek(key));
    let proxy = place("proxy").and_then(|place| proxy(&place, config));
    let transparent = place("transparent").and_then(|place| transparent(&place, config));
    proxy.into_iter().chain(transparent).collect()
}

fn loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn proxy(place: &Section, config: &Config) -> Option<SectionError> {
    let listen = &config.listen;
    let by_certificate = listen
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_ca.is_some());
    if by_certificate || !config.sessions.without_credentials {
        return None;
    }
    let mut addresses = listen.proxy.iter().filter(|e| !e.is_local());
    let address = addresses.find_map(Entrance::address)?;
    let error = place.error(format!(
        "{address} is not a loopback address, and clients without credentials may spend the default session"
    ));
    Some(error.hint(
        "listen on 127.0.0.1, write `sessions: { default: none }`, or demand certificates (`listen.tls.client_ca`)",
    ))
}

/// Redirected clients do not know that there is a proxy, so they bring no credentials. Where they come
/// from is all that can tell them from strangers.
fn transparent(place: &Section, config: &Config) -> Option<SectionError> {
    let mut addresses = config.listen.transparent.iter().copied();
    if !config.listen.transparent.is_empty() && !config.sessions.without_credentials {
        let error = place
            .error("redirected connections bring no credentials, and need the session `default`");
        return Some(
            error.hint("leave `transparent` out, or write `sessions: { default: { budget: … } }`"),
        );
    }
    let outside = addresses.find(|a| !loopback(*a))?;
    if !config.listen.allow_from.is_empty() {
        return None;
    }
    let error = place.error(format!(
        "{outside} is not a loopback address, and whoever reaches it may spend the default session"
    ));
    Some(error.hint("say who may: `allow_from: [10.1.2.0/24]`"))
}
