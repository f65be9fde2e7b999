//! How many connections each address has open, so that no client takes the places of all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections by address. An address is forgotten with its last connection.
pub(super) struct Crowd {
    most: usize,
    here: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place; given back when it is dropped.
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// At most `most` connections an address.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            here: Mutex::default(),
        })
    }

    /// A place for one more connection from this address. IPv6 clients choose among the addresses of a
    /// whole /64, so these count as one.
    pub(super) fn sit(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => v4,
        };
        let mut here = self.lock();
        let count = here.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat {
            crowd: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut here = self.crowd.lock();
        if let Some(count) = here.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                here.remove(&self.address);
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
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = crowd.sit(at("10.0.0.1")).unwrap();
        let _second = crowd.sit(at("::ffff:10.0.0.1")).unwrap();
        assert!(crowd.sit(at("10.0.0.1")).is_none());
        let _other = crowd.sit(at("10.0.0.2")).unwrap();
        drop(first);
        let again = crowd.sit(at("10.0.0.1"));
        assert!(again.is_some());
        let _one = crowd.sit(at("2001:db8::1")).unwrap();
        let _two = crowd.sit(at("2001:db8::ffff:1")).unwrap();
        assert!(crowd.sit(at("2001:db8::2")).is_none());
        drop((again, _second, _other, _one, _two));
        assert!(crowd.lock().is_empty());
    }
}
