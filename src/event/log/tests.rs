//! Lines that cannot be forged, and a writer that holds nobody up.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::payment::PaymentId;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Writes nothing before it is let.
struct Stuck(Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader is gone.
struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(filter: &str, format: Format, events: Destination, errors: &Kept) -> Options {
    Options {
        filter: filter.into(),
        format,
        events,
        diagnostics: Box::new(errors.clone()),
    }
}

/// Runs `work` under two fresh logs and returns what each holds at the end.
fn logged(filter: &str, format: Format, work: impl FnOnce(&Log)) -> (String, String) {
    let (events, errors) = (Kept::default(), Kept::default());
    let to = Destination::Writer(Box::new(events.clone()));
    let logs = subscriber(options(filter, format, to, &errors)).unwrap();
    tracing::dispatcher::with_default(&logs.dispatch, || work(&logs.sink));
    drop(logs);
    (events.text(), errors.text())
}

fn spend(state: State) -> SpendEvent {
    SpendEvent {
        id: PaymentId(7),
        state,
        host: "api.example.com".into(),
        ..SpendEvent::default()
    }
}

#[test]
fn a_spend_event_is_one_json_object_on_its_own_line() {
    let (events, errors) = logged("trace", Format::Text, |sink| {
        sink.observe(&spend(State::Settled));
        sink.observe(&spend(State::Denied));
    });
    let lines: Vec<serde_json::Value> = events
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["event"], "payment");
    assert_eq!(lines[0]["state"], "settled");
    assert_eq!(lines[0]["host"], "api.example.com");
    assert_eq!(lines[1]["event"], "denied");
    assert_eq!(errors, "", "spend events are in one log only");
}

#[test]
fn spend_events_are_logged_at_every_level() {
    let (events, _) = logged("off", Format::Text, |sink| {
        sink.observe(&spend(State::Settled));
    });
    assert_eq!(events.lines().count(), 1);
}

/// Line breaks, a terminal code, C1, a right-to-left override, a separator, an invisible character.
const NASTY: &str =
    "a\r\n{\"event\":\"payment\"}\u{1b}[31m\u{9b}2J\u{202e}\u{2028}\u{200b}\u{7f}é\u{1f600}";

#[test]
fn nothing_in_an_event_can_forge_a_line() {
    let mut event = spend(State::Settled);
    event.path = NASTY.into();
    event.agent = NASTY.into();
    let (events, _) = logged("info", Format::Text, |sink| sink.observe(&event));
    assert_eq!(events.lines().count(), 1, "{events}");
    let line = events.trim_end_matches('\n');
    assert!(line.bytes().all(|b| (0x20..0x7f).contains(&b)), "{line}");
    let read: SpendEvent = serde_json::from_str(line).unwrap();
    assert_eq!(read.path, plain::text(NASTY), "and nothing is lost");
    let hidden = [
        '\r', '\n', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{7f}',
    ];
    assert!(!read.path.contains(hidden) && read.path.contains("\\u{202e}"));
    assert!(
        read.path.ends_with("é\u{1f600}"),
        "what anybody can see stays"
    );
}

#[test]
fn nothing_in_a_message_can_forge_a_line() {
    for format in [Format::Text, Format::Json] {
        let (_, errors) = logged("info", format, |_| {
            tracing::info!(target: "farepass::test", field = %NASTY, "{NASTY}");
        });
        assert_eq!(errors.lines().count(), 1, "{errors}");
        let hidden = [
            '\r', '\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}', '\u{7f}',
        ];
        assert!(!errors.contains(hidden), "{errors:?}");
    }
}

#[test]
fn long_fields_are_cut() {
    let mut event = spend(State::Settled);
    event.path = "é".repeat(100_000);
    event.pay_to = "x".repeat(100_000);
    event.reason = Some("y".repeat(100_000));
    event.host = "h".repeat(100_000);
    assert!(line(&event).len() < 20_000, "{}", line(&event).len());
}

#[test]
fn libraries_say_little() {
    let (_, errors) = logged("trace", Format::Json, |_| {
        tracing::debug!(target: "h2::codec", "authorization: secret");
        tracing::info!(target: "hyper::proto", "a library");
        tracing::warn!(target: "h2::proto::ping_pong", "a frame");
        tracing::trace!(target: "farepass::proxy", "ours");
    });
    assert!(!errors.contains("secret"), "{errors}");
    assert!(!errors.contains("a frame"), "as many as a peer likes");
    assert!(
        errors.contains("a library") && errors.contains("ours"),
        "{errors}"
    );
    for line in errors.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_reader_who_stops_reading_holds_up_nobody() {
    let errors = Kept::default();
    let (go, wait): (Sender<()>, Receiver<()>) = channel();
    let to = Destination::Writer(Box::new(Stuck(wait)));
    let logs = subscriber(options("info", Format::Text, to, &errors)).unwrap();
    let started = Instant::now();
    tracing::dispatcher::with_default(&logs.dispatch, || {
        for _ in 0..LINES_MAX + 1000 {
            logs.sink.observe(&spend(State::Settled));
        }
    });
    assert!(started.elapsed() < Duration::from_secs(60));
    drop(go);
    drop(logs);
    assert!(
        errors.text().contains("could not be written"),
        "{}",
        errors.text()
    );
}

#[test]
fn a_broken_pipe_is_told() {
    let errors = Kept::default();
    let to = Destination::Writer(Box::new(Broken));
    let logs = subscriber(options("info", Format::Text, to, &errors)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    tracing::dispatcher::with_default(&logs.dispatch, || {
        let told = || {
            logs.sink
                .events
                .as_ref()
                .unwrap()
                .told
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        while told() == 0 && Instant::now() < deadline {
            logs.sink.observe(&spend(State::Settled));
        }
    });
    drop(logs);
    assert!(
        errors.text().contains("could not be written"),
        "{}",
        errors.text()
    );
}

/// A disk that is full in the middle of the first line, and has room again.
struct Full(Kept, u8);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 = self.1.saturating_add(1);
        match self.1 {
            1 => self.0.write(&bytes[..bytes.len().min(9)]),
            2 => Err(io::ErrorKind::StorageFull.into()),
            _ => self.0.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn half_a_line_spoils_none_after_it() {
    let (events, errors) = (Kept::default(), Kept::default());
    let to = Destination::Writer(Box::new(Full(events.clone(), 0)));
    let logs = subscriber(options("info", Format::Text, to, &errors)).unwrap();
    tracing::dispatcher::with_default(&logs.dispatch, || {
        logs.sink.observe(&spend(State::Reserved));
        let deadline = Instant::now() + Duration::from_secs(30);
        while events.text().len() < 9 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        logs.sink.observe(&spend(State::Settled));
    });
    drop(logs);
    let events = events.text();
    let lines: Vec<_> = events.lines().collect();
    assert_eq!(lines.len(), 2, "{events}");
    let whole: SpendEvent = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(whole.state, State::Settled);
}

#[test]
fn a_bad_filter_is_an_error() {
    let errors = Kept::default();
    let read = |filter| subscriber(options(filter, Format::Text, Destination::None, &errors));
    for silent in [
        "farepass=loud",
        "inf",
        "loud",
        "info=",
        "",
        " ",
        "info,",
        "warn,farepas",
    ] {
        let result = read(silent);
        assert!(matches!(result, Err(LogError::Filter(_))), "{silent:?}");
    }
    for filter in [
        "info",
        "WARN",
        "off",
        "warn,farepass=debug",
        "farepass[{agent=a}]=trace",
    ] {
        assert!(read(filter).is_ok(), "{filter:?}");
    }
}

#[test]
fn two_logs_that_nobody_reads_hold_up_the_end_no_longer_than_one() {
    let ((_go, events), (_going, errors)) = (channel(), channel());
    let logs = subscriber(Options {
        filter: "info".into(),
        format: Format::Text,
        events: Destination::Writer(Box::new(Stuck(events))),
        diagnostics: Box::new(Stuck(errors)),
    });
    let logs = logs.unwrap();
    let voice = logs.voice();
    tracing::dispatcher::with_default(&logs.dispatch, || {
        logs.sink.observe(&spend(State::Settled));
    });
    logs.say("well\n".into());
    voice("a bug\n".into());
    let ending = Instant::now();
    drop(logs);
    assert!(ending.elapsed() < LAST_LINES + LAST_LINES);
}

#[test]
fn what_is_said_is_written_as_it_is() {
    let errors = Kept::default();
    let logs = subscriber(options("off", Format::Json, Destination::None, &errors)).unwrap();
    logs.say("farepass: é\n".into());
    logs.voice()("farepass: a bug\n".into());
    drop(logs);
    assert_eq!(errors.text(), "farepass: é\nfarepass: a bug\n");
}
