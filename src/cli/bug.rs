//! A panic is a bug of ours. It is told in one line, with its place, and quotes nothing that could
//! have been in memory (threat L-05).

use std::any::Any;
use std::panic;

/// From now on panics are told so, by `say`. Where a proxy runs that waits for no reader: the thread may hold a
/// payment.
pub(super) fn tell(say: impl Fn(String) + Send + Sync + 'static) {
    panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map_or_else(String::new, |l| format!(" at {l}"));
        let said = words(info.payload());
        say(format!(
            "farepass: a bug{place}: {said}; what is open is in the ledger, and counts\n"
        ));
    }));
}

/// A message that stands in the program's text. One that was put together may hold anything.
fn words(payload: &(dyn Any + Send)) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("the details are withheld")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(work: impl FnOnce() + panic::UnwindSafe) -> &'static str {
        words(&*panic::catch_unwind(work).unwrap_err())
    }

    #[test]
    fn only_what_was_written_by_us_is_quoted() {
        let secret = String::from("0x5ec2e7");
        assert_eq!(told(|| panic!("a lock was lost")), "a lock was lost");
        assert_eq!(
            told(move || panic!("key {secret}")),
            "the details are withheld"
        );
        let parsed = || {
            assert_eq!(
                "0x5ec2e7".parse::<u8>().map_err(|e| e.to_string()).unwrap(),
                1
            )
        };
        assert_eq!(told(parsed), "the details are withheld");
    }
}
