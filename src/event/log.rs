//! The logs: spend events as JSON lines on stdout, everything else on stderr. Writing happens on
//! threads of its own, so no reader who stops reading can hold up or lose a payment.

use std::fs::File;
use std::io::{Error, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry;

use super::{Notice, Sink, SpendEvent, State};

mod background;
mod file;
pub(super) mod plain;

use background::{Background, LAST_LINES};
pub use file::EventFile;
pub(super) use plain::{json as ascii, text as visible};

/// The target of spend events. Nothing else has it.
pub const SPEND: &str = "farepass::spend";

/// Lines that may wait for a slow reader of each log.
const LINES_MAX: usize = 8192;

/// How everything that is not a spend event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where spend events go.
pub enum Destination {
    /// Nowhere: the command's own output is on stdout.
    None,
    /// Standard output.
    Stdout,
    /// Appended to a file, made with mode 0600.
    File(PathBuf),
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

/// What to log, and where.
pub struct Options {
    /// Directives as in `RUST_LOG`: `info`, `farepass=debug`.
    pub filter: String,
    /// Of the diagnostics.
    pub format: Format,
    /// Of the spend events.
    pub events: Destination,
    /// Of the diagnostics; standard error for programs.
    pub diagnostics: Box<dyn Write + Send>,
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter's directives.
    #[error(
        "the log filter {0:?} cannot be read; write for example \"info\" or \"farepass=debug\""
    )]
    Filter(String),
    /// The events' file, or a thread.
    #[error("the log cannot be opened: {0}")]
    Open(#[from] std::io::Error),
}

/// The logs of a process. Dropping it writes out what waits, for two seconds at most.
pub struct Logs {
    /// What `tracing` is to be set to.
    pub dispatch: Dispatch,
    /// Where spend events are put in.
    pub sink: Arc<Log>,
    diagnostics: Arc<Background>,
    queues: Vec<Arc<Background>>,
}

impl Logs {
    /// Says something among the diagnostics, as it is. Waits for no reader.
    pub fn say(&self, words: String) {
        self.diagnostics.put(words.into_bytes());
    }

    /// The same for whoever outlives this.
    pub fn voice(&self) -> impl Fn(String) + Send + Sync + 'static {
        let diagnostics = Arc::clone(&self.diagnostics);
        move |words| diagnostics.put(words.into_bytes())
    }
}

impl Drop for Logs {
    /// By hand: a `dispatch` that became the process's default is never dropped.
    fn drop(&mut self) {
        let late = Instant::now() + LAST_LINES;
        self.queues.iter().for_each(|queue| queue.close());
        self.queues.iter().for_each(|queue| queue.end(late));
    }
}

/// Standard output or error without the lock of the standard library: a thread that writes where nobody reads
/// would keep it, and hold up everybody else who wants to write or flush.
///
/// # Errors
/// When no more files may be open.
pub fn unlocked(standard: &impl AsFd) -> std::io::Result<File> {
    Ok(standard.as_fd().try_clone_to_owned()?.into())
}

/// Builds the two logs. The caller sets `dispatch` as the process's default.
///
/// # Errors
/// [`LogError`].
pub fn subscriber(options: Options) -> Result<Logs, LogError> {
    let bad_filter = || LogError::Filter(options.filter.clone());
    if !says_levels(&options.filter) {
        return Err(bad_filter());
    }
    let wanted = EnvFilter::builder()
        .parse(&options.filter)
        .map_err(|_| bad_filter())?;
    let events = match options.events {
        Destination::None => None,
        Destination::Stdout => {
            Some(Box::new(unlocked(&std::io::stdout())?) as Box<dyn Write + Send>)
        }
        Destination::File(path) => Some(Box::new(append(&path)?) as Box<dyn Write + Send>),
        Destination::Writer(writer) => Some(writer),
    };
    let events = events.map(|w| Background::start("spend-log", w, LINES_MAX));
    let events = events.transpose()?.map(Arc::new);
    let diagnostics = Arc::new(Background::start("log", options.diagnostics, LINES_MAX)?);
    let spend = events
        .clone()
        .map(|queue| SpendLines { queue }.with_filter(filter_fn(|about| about.target() == SPEND)));
    let diagnosed = filter_fn(diagnosed).and(wanted);
    let lines = Lines {
        queue: Arc::clone(&diagnostics),
        format: options.format,
    };
    let layer = fmt::layer().with_writer(lines).with_ansi(false);
    let layer = match options.format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    let subscriber = registry().with(spend).with(layer.with_filter(diagnosed));
    let queues = events.iter().chain([&diagnostics]).cloned().collect();
    Ok(Logs {
        dispatch: Dispatch::new(subscriber),
        sink: Arc::new(Log { events }),
        diagnostics,
        queues,
    })
}

/// Does each directive end in a level? The library takes any other word for the name of a module, and
/// then logs nothing else.
fn says_levels(filter: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    // Fields in braces may hold commas.
    let spans = filter.contains('[');
    let says = |directive: &str| match directive.rsplit_once('=') {
        Some((_, word)) => level(word),
        None => level(directive),
    };
    spans || filter.split(',').all(says)
}

/// Libraries write whole requests, with their headers, into their finer levels. Those are nobody's
/// business, at no level. That of HTTP/2 also warns of single frames: whoever sends them would fill the disk (threat D-08).
fn diagnosed(about: &Metadata<'_>) -> bool {
    let (target, level) = (about.target(), *about.level());
    let finest = match target.split("::").next() {
        Some("farepass") => Level::TRACE,
        Some("h2") => Level::ERROR,
        Some(_) | None => Level::INFO,
    };
    target != SPEND && level <= finest
}

/// Opens a file to append to, and makes it where it is not there. Waits for nobody: a pipe must have its reader.
fn append(path: &std::path::Path) -> std::io::Result<File> {
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
    let mut options = std::fs::OpenOptions::new();
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    options.create(true).append(true).mode(0o600);
    let opened = options.custom_flags(at_once).open(path);
    // A socket says the same.
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => Error::new(error.kind(), "a pipe that nobody reads, or no file"),
        Some(_) | None => error,
    })?;
    let kind = file.metadata()?.file_type();
    if !(kind.is_file() || kind.is_char_device() || kind.is_fifo()) {
        let said = "neither a file nor a pipe nor a character device";
        return Err(Error::new(ErrorKind::InvalidInput, said));
    }
    // From now on it waits: a reader may be slow.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// The sink that logs. It never blocks, and says when a line could not be kept.
pub struct Log {
    events: Option<Arc<Background>>,
}

/// One line of the spend log.
#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(flatten)]
    spend: &'a SpendEvent,
}

/// One JSON object in one line of plain ASCII.
#[must_use]
pub fn line(event: &SpendEvent) -> String {
    named(
        event,
        match event.state {
            State::Denied => "denied",
            State::Reserved | State::Unknown | State::Settled | State::Released => "payment",
        },
    )
}

fn named(event: &SpendEvent, name: &'static str) -> String {
    let capped = event.clone().capped();
    let line = Line {
        event: name,
        spend: &capped,
    };
    // Every field is a string, a number or a list of them: this cannot fail.
    let json = serde_json::to_string(&line).unwrap_or_default();
    plain::json(json)
}

impl Sink for Log {
    fn observe(&self, event: &SpendEvent) {
        tracing::info!(target: SPEND, record = %line(event));
        // Said here and not where it is noticed: a subscriber must not log.
        if let Some(lost) = self.events.as_ref().and_then(|e| e.newly_lost()) {
            tracing::error!(
                lost,
                "spend events could not be written to the log; the ledger has them"
            );
        }
    }

    fn flagged(&self, event: &SpendEvent) {
        if !event.flags.is_empty() {
            tracing::info!(target: SPEND, record = %named(event, "flagged"));
        }
    }

    fn notice(&self, notice: &Notice) {
        // Every field is a string or a number: this cannot fail.
        let json = serde_json::to_string(notice).unwrap_or_default();
        tracing::info!(target: SPEND, record = %plain::json(json));
    }
}

/// The layer that writes spend events, and nothing around them.
struct SpendLines {
    queue: Arc<Background>,
}

/// The one field of a spend event.
#[derive(Default)]
struct Record(Option<String>);

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "record" {
            self.0 = Some(format!("{value:?}\n"));
        }
    }
}

impl<S: Subscriber> Layer<S> for SpendLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record::default();
        event.record(&mut record);
        if let Some(line) = record.0 {
            self.queue.put(line.into_bytes());
        }
    }
}

/// Where the diagnostics layer writes: it hands over one whole line at a time.
struct Lines {
    queue: Arc<Background>,
    format: Format,
}

/// One line in the making.
struct OneLine<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine {
            lines: self,
            text: Vec::new(),
        }
    }
}

impl Write for OneLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for OneLine<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let text = text.trim_end_matches('\n');
        let mut line = match self.lines.format {
            Format::Text => plain::text(text),
            Format::Json => plain::json(text.to_owned()),
        };
        line.push('\n');
        self.lines.queue.put(line.into_bytes());
    }
}

#[cfg(test)]
mod tests;
