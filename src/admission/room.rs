//! Bytes that come and go, of all connections together: however many there are, they do not take the memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What everybody has without asking: an ordinary review, so that large ones keep nobody out.
const FREE: usize = 32 * 1024;

/// Room for what is larger.
pub(super) struct Room(Arc<Semaphore>);

/// Some bytes, and their room while they are there.
pub(super) struct Held {
    bytes: Vec<u8>,
    room: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

/// There is no room at the moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Room {
    /// For so many bytes at once.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// These, which is none to begin with.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(super) fn hold(&self, bytes: Vec<u8>) -> Result<Held, Full> {
        let mut held = Held {
            bytes,
            room: Arc::clone(&self.0),
            taken: None,
        };
        held.pay().map(|()| held)
    }
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// More of them.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(super) fn add(&mut self, more: &[u8]) -> Result<(), Full> {
        self.bytes.extend_from_slice(more);
        self.pay()
    }

    fn pay(&mut self) -> Result<(), Full> {
        let had = self
            .taken
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let more = self.bytes.len().saturating_sub(FREE).saturating_sub(had);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| Full)?;
        let more = Arc::clone(&self.room).try_acquire_many_owned(more);
        let more = more.map_err(|_| Full)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            taken @ None => *taken = Some(more),
        }
        Ok(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_takes_room_until_it_is_gone_and_what_is_small_none() {
        let room = Room::new(1000);
        let mut one = room.hold(vec![]).unwrap();
        one.add(&[0; FREE]).unwrap();
        one.add(&[0; 600]).unwrap();
        assert_eq!(one.len(), FREE + 600);
        let mut two = room.hold(vec![0; FREE + 400]).unwrap();
        assert_eq!(two.add(&[0]), Err(Full));
        assert!(room.hold(vec![0; FREE]).is_ok());
        drop(two);
        one.add(&[0; 400]).unwrap();
        assert!(room.hold(vec![0; FREE + 1]).is_err());
        drop(one);
        assert!(room.hold(vec![0; FREE + 1000]).is_ok());
    }
}
