//! How many connections each client has open, so that no client takes the places of all others.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whom connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Guest {
    Address(IpAddr),
    /// Of a Unix socket.
    User(u32),
}

impl Guest {
    /// IPv6 clients choose among the addresses of a whole /64, and those of this machine among 127.0.0.0/8, so
    /// these count as one.
    pub(super) fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            IpAddr::V4(v4) if v4.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(user) => write!(f, "user {user}"),
        }
    }
}

/// Connections by client. One is forgotten with its last connection.
pub(super) struct Crowd {
    most: usize,
    here: Mutex<HashMap<Guest, usize>>,
}

/// One connection's place; given back when it is dropped.
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    guest: Guest,
}

impl Crowd {
    /// At most `most` connections a client.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            here: Mutex::default(),
        })
    }

    /// A place for one more connection of this client.
    pub(super) fn sit(self: &Arc<Self>, guest: Guest) -> Option<Seat> {
        let mut here = self.lock();
        let count = here.entry(guest).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat {
            crowd: Arc::clone(self),
            guest,
        })
    }

    /// Connections of all clients.
    pub(super) fn size(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Guest, usize>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut here = self.crowd.lock();
        if let Some(count) = here.get_mut(&self.guest) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                here.remove(&self.guest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let crowd = Crowd::new(2);
        let at = |text: &str| Guest::address(text.parse().unwrap());
        let first = crowd.sit(at("10.0.0.1")).unwrap();
        let _second = crowd.sit(at("::ffff:10.0.0.1")).unwrap();
        assert!(crowd.sit(at("10.0.0.1")).is_none());
        let _other = crowd.sit(at("10.0.0.2")).unwrap();
        assert_eq!(crowd.size(), 3);
        drop(first);
        let again = crowd.sit(at("10.0.0.1"));
        assert!(again.is_some());
        let _one = crowd.sit(at("2001:db8::1")).unwrap();
        let _two = crowd.sit(at("2001:db8::ffff:1")).unwrap();
        assert!(crowd.sit(at("2001:db8::2")).is_none());
        let here = (crowd.sit(at("127.0.0.1")), crowd.sit(at("127.9.9.9")));
        assert!(here.0.is_some() && here.1.is_some());
        assert!(crowd.sit(at("127.0.0.2")).is_none());
        let user = crowd.sit(Guest::User(7));
        assert!(user.is_some());
        drop((again, _second, _other, _one, _two, here, user));
        assert!(crowd.lock().is_empty());
    }
}
