//! Records in less than half of their room. Their texts say the same words again and again, so that both of a record
//! are kept as one LZ4 block that is made against these words. The chain covers the texts, not the block.

use std::ops::Deref;

use rusqlite::Row;

use crate::event::SpendEvent;
use crate::ledger::Post;
use crate::ledger::sealed::Sealed;

use super::store::Fault;

/// What records are made against. Never changed: another list is another form.
const WORDS: &[u8] = include_bytes!("packed.words");
/// First byte of a block that was made so. Two lengths follow, of both texts together and of the first.
const FORM: u8 = 1;
const HEAD: usize = 9;
/// LZ4 makes at most so many bytes of one. What claims more is damaged, and must not fill the memory.
const MOST_OF_ONE: usize = 255;

/// A post with all that can be computed before it is its turn, its texts packed too.
pub(super) struct Packed {
    sealed: Sealed,
    pub(super) block: Vec<u8>,
}

impl Packed {
    pub(super) fn new(post: Post) -> Result<Self, serde_json::Error> {
        let sealed = Sealed::new(post)?;
        Ok(Self {
            block: pack(&sealed.entries_json, sealed.event_json.as_deref()),
            sealed,
        })
    }
}

impl Deref for Packed {
    type Target = Sealed;

    fn deref(&self) -> &Sealed {
        &self.sealed
    }
}

fn pack(entries: &str, event: Option<&str>) -> Vec<u8> {
    let texts = [entries, event.unwrap_or_default()].concat();
    let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let block = lz4_flex::block::compress_with_dict(texts.as_bytes(), WORDS);
    [&[FORM][..], &length(&texts), &length(entries), &block].concat()
}

/// Both texts. A record without an event has no second one.
fn unpack(packed: &[u8]) -> Result<(String, Option<String>), Fault> {
    let damaged = || Fault::Value("packed");
    let (head, block) = packed.split_at_checked(HEAD).ok_or_else(damaged)?;
    let &[FORM, a, b, c, d, e, f, g, h] = head else {
        return Err(damaged());
    };
    let length = |bytes| usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| damaged());
    let (all, first) = (length([a, b, c, d])?, length([e, f, g, h])?);
    if all > block.len().saturating_mul(MOST_OF_ONE) {
        return Err(damaged());
    }
    let texts = lz4_flex::block::decompress_with_dict(block, all, WORDS).map_err(|_| damaged())?;
    let mut entries = String::from_utf8(texts).map_err(|_| damaged())?;
    if entries.len() != all || !entries.is_char_boundary(first) {
        return Err(damaged());
    }
    let event = entries.split_off(first);
    Ok((entries, (!event.is_empty()).then_some(event)))
}

/// Columns of [`texts`], in order, of the record that a query calls `r`.
pub(super) const TEXTS: &str = "r.packed, r.entries, r.event";

/// A record's entries and event, from column `first` on. Where they are packed the columns of text are empty,
/// and the second one is NULL as ever for a record that has no event.
pub(super) fn texts(row: &Row<'_>, first: usize) -> Result<(String, Option<String>), Fault> {
    let plain: (String, Option<String>) = (row.get(first + 1)?, row.get(first + 2)?);
    let Some(packed) = row
        .get_ref(first)?
        .as_blob_or_null()
        .map_err(rusqlite::Error::from)?
    else {
        // Of a file before version 6.
        return Ok(plain);
    };
    let (entries, event) = unpack(packed)?;
    match plain == (String::new(), event.as_ref().map(|_| String::new())) {
        true => Ok((entries, event)),
        false => Err(Fault::Value("packed")),
    }
}

/// The event of a record that has one, from column `first` of [`TEXTS`] on.
pub(super) fn event(row: &Row<'_>, first: usize) -> Result<SpendEvent, Fault> {
    let event = texts(row, first)?.1.ok_or(Fault::Value("event"))?;
    Ok(serde_json::from_str(&event)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reservation, as it is kept.
    fn example() -> (&'static str, &'static str) {
        let example = include_str!("packed.example").trim_end();
        example.split_once('\n').unwrap()
    }

    #[test]
    fn texts_come_back_and_take_little_room() {
        let (entries, event) = example();
        for event in [None, Some("{}"), Some(event), Some("\u{fc}")] {
            let packed = pack(entries, event);
            let same = (entries.into(), event.map(str::to_owned));
            assert_eq!(unpack(&packed).unwrap(), same);
        }
        let plain = entries.len() + event.len();
        let packed = pack(entries, Some(event)).len();
        assert!(packed * 2 < plain, "{packed} of {plain} bytes");
    }

    /// Other words would make every ledger unreadable.
    #[test]
    fn a_block_of_the_first_program_is_read() {
        let packed = hex::decode(include_str!("packed.hex").trim_end()).unwrap();
        let (entries, event) = unpack(&packed).unwrap();
        assert_eq!((&*entries, event.as_deref().unwrap()), example());
    }

    #[test]
    fn whatever_is_not_a_block_is_refused() {
        let good = pack(example().0, Some("{}"));
        assert!(unpack(&[]).is_err());
        for cut in 0..good.len() {
            assert!(unpack(&good[..cut]).is_err(), "cut at {cut}");
        }
        let plain = unpack(&good).unwrap();
        for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            // What reads differently does not match its hash; this must only not end the process.
            if let Ok(other) = unpack(&bad) {
                assert!(other.0.len() <= 255 * good.len(), "{at} {bit}");
                assert!(at > HEAD || other != plain, "{at} {bit}");
            }
        }
        let mut vast = good;
        vast[1] = 0xff;
        assert!(unpack(&vast).is_err(), "four gigabytes");
    }
}
