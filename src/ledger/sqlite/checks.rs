//! What is looked at before a ledger's file is used: that it is here, that it is the one that was made here, and
//! that its end is whole.

use crate::ledger::OpenError;
use crate::ledger::chain::Head;
use crate::ledger::place::{Marker, MarkerFile, Place};

use super::shared::Shared;
use super::store;
use super::tables::Tables;
use super::verify;

/// A ledger up to this long is verified before the first payment; a longer one beside it.
const VERIFY_AT_START_MAX: u64 = 20_000;

/// How often a reader looks at a marker that does not fit.
const TRIES: u32 = 5;

/// Everything that was checked before the threads start.
pub(super) struct Checked {
    pub(super) marker: MarkerFile,
    pub(super) tables: Tables,
    pub(super) shared: Shared,
    pub(super) verify_later: bool,
}

fn version(connection: &rusqlite::Connection) -> Result<(), OpenError> {
    match store::version(connection)? {
        store::VERSION => Ok(()),
        older @ 1..store::VERSION => Err(OpenError::Storage(format!(
            "ledger.db has version {older} of an older program; start the proxy once with this one, which brings the file up to date"
        ))),
        other => Err(OpenError::Storage(format!(
            "ledger.db has version {other}, this program knows version {}; use the program that made it, or a newer one",
            store::VERSION
        ))),
    }
}

/// A ledger that was made here and is not here any more took every budget with it.
pub(super) fn found_or_made(place: &Place) -> Result<(), OpenError> {
    match (place.has_ledger()?, place.has_marker()?) {
        (true, true) => return Ok(()),
        (true, false) => {}
        (false, true) => return Err(lost(place)),
        (false, false) => place.create()?,
    }
    let mut connection = store::connect(&place.ledger())?;
    // A first start that ended before its tables were there left a file without any, and promised nothing.
    if !store::is_bare(&connection)? {
        return Ok(());
    }
    let mut random = [0; 16];
    let no_randomness = |e: getrandom::Error| OpenError::Storage(e.to_string());
    getrandom::fill(&mut random).map_err(no_randomness)?;
    Ok(store::create(&mut connection, &hex::encode(random))?)
}

pub(super) fn check(place: &Place) -> Result<Checked, OpenError> {
    let path = place.ledger();
    let tables = {
        let mut connection = store::connect(&path)?;
        store::upgrade(&mut connection)?;
        version(&connection)?;
        Tables::open(&path)?
    };
    let connection = store::connect_reader(&path)?;
    let (id, head) = (store::id(&connection)?, tables.head());
    match place.read_marker() {
        Some(marker) => matches_marker(&connection, &id, head, &marker)?,
        None if place.has_marker()? => {
            tracing::warn!("the ledger's marker is unreadable; writing a new one")
        }
        None => {}
    }
    ends_well(&connection, &id, head)?;
    let verify_later = head.seq > VERIFY_AT_START_MAX;
    if !verify_later && let Some(problem) = verify::verify(&connection)?.problems.first() {
        return Err(OpenError::Damaged(problem.clone()));
    }
    Ok(Checked {
        marker: place.write_marker(&Marker { id, head })?,
        shared: Shared::load(&connection)?,
        tables,
        verify_later,
    })
}

fn lost(place: &Place) -> OpenError {
    OpenError::Damaged(format!(
        "{} is missing, but a ledger was made here before. Bring it back from a backup; without it every budget would start anew. To accept that, delete the file `installed` beside it",
        place.ledger().display()
    ))
}

/// What a reader checks, beside an owner who may be writing both files. The owner writes the marker after the
/// ledger, so it is read before: the ledger has what it says by then.
pub(super) fn check_beside(place: &Place) -> Result<(), OpenError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match compare(place) {
            // Read while it was being written over, half the old marker and half the new: only one that stays is wrong.
            Err(OpenError::Damaged(_)) if tries > 0 => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn compare(place: &Place) -> Result<(), OpenError> {
    let (made, marker) = (place.has_marker()?, place.read_marker());
    if !place.has_ledger()? {
        return Err(match made {
            true => lost(place),
            false => OpenError::Missing(place.ledger()),
        });
    }
    let connection = store::connect_reader(&place.ledger())?;
    if !made && store::is_bare(&connection)? {
        return Err(OpenError::Missing(place.ledger()));
    }
    version(&connection)?;
    let Some(marker) = marker else {
        return Ok(());
    };
    let id = store::id(&connection)?;
    matches_marker(&connection, &id, store::head(&connection)?, &marker)
}

/// The marker may be older than the ledger, never newer, and never of another one.
fn matches_marker(
    connection: &rusqlite::Connection,
    id: &str,
    head: Head,
    marker: &Marker,
) -> Result<(), OpenError> {
    if marker.id != id {
        return Err(OpenError::Damaged(
            "ledger.db is not the one that was made here; bring back the right one, or delete the file `installed` beside it to accept this one".into(),
        ));
    }
    let there = match marker.head.seq {
        0 => Some(Head::genesis(id).hash),
        seq => store::hash_at(connection, seq)?,
    };
    if there != Some(marker.head.hash) {
        return Err(OpenError::Damaged(format!(
            "ledger.db was rolled back or cut: record {} was written, and it ends at record {}. Bring back the newer file, or delete the file `installed` beside it to accept the loss",
            marker.head.seq, head.seq
        )));
    }
    Ok(())
}

/// The newest record is whole and follows the one before it.
fn ends_well(connection: &rusqlite::Connection, id: &str, head: Head) -> Result<(), OpenError> {
    let before = match head.seq {
        0 => return Ok(()),
        1 => Head::genesis(id),
        seq => Head {
            seq: seq - 1,
            hash: store::record_at(connection, seq - 1)?.map_or([0; 32], |r| r.hash),
        },
    };
    let next = store::record_at(connection, head.seq)?
        .map(|r| before.next(r.time, &r.entries, r.event.as_deref()));
    if next == Some(head) && store::record_at(connection, head.seq + 1)?.is_none() {
        return Ok(());
    }
    Err(OpenError::Damaged(format!(
        "record {} does not match its hash",
        head.seq
    )))
}
