//! Listeners that cannot both be there.

use core::net::SocketAddr;

use crate::section::{Section, SectionError};

use super::{Entrance, Listen};

/// A listener as it was written; without a place it is the default.
struct Listener {
    at: Entrance,
    /// Does `[::]` stand for IPv4 as well?
    both: bool,
    admin: bool,
    place: Option<Section>,
}

/// The keys of `listen:` before they are taken.
pub(super) struct Places([Option<Section>; 3]);

impl Places {
    pub(super) fn of(listen: &Section) -> Self {
        Self(["proxy", "transparent", "admin"].map(|key| listen.peek(key)))
    }

    /// No two at one address. Of two the error is about the later one that is written.
    pub(super) fn apart(self, listen: &Listen) -> Result<(), SectionError> {
        let all = self.listeners(listen);
        for (number, later) in all.iter().enumerate() {
            let mut earlier = all.iter().take(number);
            let Some(earlier) = earlier.find(|earlier| earlier.clashes(later)) else {
                continue;
            };
            if let Some(place) = later.place.as_ref().or(earlier.place.as_ref()) {
                return Err(told(place, earlier, later));
            }
        }
        Ok(())
    }

    fn listeners(self, listen: &Listen) -> Vec<Listener> {
        let [proxy, transparent, admin] = self.0;
        let listener = |at: Entrance, both, admin, place| Listener {
            at,
            both,
            admin,
            place,
        };
        let mut all = vec![];
        for (number, at) in listen.proxy.iter().enumerate() {
            let place = item(proxy.as_ref(), number);
            all.push(listener(at.clone(), true, false, place));
        }
        for (number, at) in listen.transparent.iter().enumerate() {
            let place = item(transparent.as_ref(), number);
            all.push(listener(Entrance::Plain(*at), false, false, place));
        }
        all.push(listener(Entrance::Plain(listen.admin), true, true, admin));
        all
    }
}

/// The item of a list, or the one value that stands for it.
fn item(written: Option<&Section>, number: usize) -> Option<Section> {
    let written = written?;
    match written.clone().items() {
        Ok(items) => items.into_iter().nth(number),
        Err(_) => Some(written.clone()),
    }
}

fn told(place: &Section, earlier: &Listener, later: &Listener) -> SectionError {
    if earlier.admin || later.admin {
        let error = place.error("the admin surface and the proxy cannot share an address");
        return error.hint("agents reach the proxy's port; give `admin` another one");
    }
    let error = place.error("two listeners cannot share an address");
    error.hint("give each an address of its own")
}

impl Listener {
    fn clashes(&self, other: &Self) -> bool {
        match (self.at.address(), other.at.address()) {
            (Some(a), Some(b)) => {
                let same = a.port() == b.port() && a.port() != 0;
                same && (a.ip() == b.ip() || self.covers(b) || other.covers(a))
            }
            (None, None) => self.at == other.at,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Does it listen on all addresses, that one among them?
    fn covers(&self, address: SocketAddr) -> bool {
        self.at.address().is_some_and(|at| {
            let family = at.is_ipv4() == address.is_ipv4() || at.is_ipv6() && self.both;
            at.ip().is_unspecified() && family
        })
    }
}
