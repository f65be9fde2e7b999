//! Where a command writes, and what every command was told.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::Arc;

use super::{Exit, Failure, Globals, LogFormat, bug};
use crate::event::log::{self, Destination, Format, LogError, Logs, Options};

/// Standard output for data, standard error for everything else, and the arguments common to all commands.
pub struct Terminal {
    /// Data. Buffered; flushed when the command ends.
    pub out: BufWriter<Stdout>,
    /// What every command was told.
    pub globals: Globals,
    colours: bool,
    talk: Talk,
    logs: Logs,
}

/// What a command writes besides its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Talk {
    /// Its data is on stdout, warnings are on stderr.
    Quiet,
    /// Spend events are its data, and stderr tells what goes on. Nothing that it does waits for who reads them.
    Service,
}

impl Terminal {
    /// Starts logging as the arguments say.
    ///
    /// # Errors
    /// When `--log` cannot be read.
    pub(super) fn new(globals: Globals, talk: Talk) -> Result<Self, Failure> {
        let (usual, events) = match talk {
            Talk::Quiet => ("warn", Destination::None),
            Talk::Service => ("info", Destination::Stdout),
        };
        let options = Options {
            filter: globals.log.clone().unwrap_or_else(|| usual.into()),
            format: match globals.log_format {
                LogFormat::Text => Format::Text,
                LogFormat::Json => Format::Json,
            },
            events,
            diagnostics: Box::new(log::unlocked(&io::stderr())?),
        };
        let logs = log::subscriber(options).map_err(|e| match e {
            LogError::Filter(_) => Failure::new(Exit::Usage, format_args!("--log: {e}")),
            LogError::Open(_) => Failure::new(Exit::Failed, e),
        })?;
        tracing::dispatcher::set_global_default(logs.dispatch.clone())
            .map_err(|e| Failure::new(Exit::Failed, e))?;
        bug::tell(logs.voice());
        let plain = globals.no_color || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Ok(Self {
            out: BufWriter::new(io::stdout()),
            globals,
            colours: !plain && io::stdout().is_terminal(),
            talk,
            logs,
        })
    }

    /// May data be coloured?
    #[must_use]
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// The spend log, for whoever makes spend events.
    #[must_use]
    pub fn spend_log(&self) -> Arc<log::Log> {
        Arc::clone(&self.logs.sink)
    }

    /// One line of data as JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(writeln!(self.out)?)
    }

    /// A JSON list, one item a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json_list(&mut self, items: &[impl serde::Serialize]) -> Result<(), Failure> {
        let mut before = "[";
        for item in items {
            writeln!(self.out, "{before}")?;
            serde_json::to_writer(&mut self.out, item).map_err(io::Error::from)?;
            before = ",";
        }
        let end = if items.is_empty() { "[]" } else { "\n]" };
        Ok(writeln!(self.out, "{end}")?)
    }

    /// A line for the person at the terminal, on stderr.
    pub fn say(&self, line: impl std::fmt::Display) {
        match self.talk {
            Talk::Service => self.logs.say(format!("{line}\n")),
            // Nothing can be done when stderr is closed.
            Talk::Quiet => drop(writeln!(io::stderr(), "{line}")),
        }
    }

    /// Hands over what is still buffered. What a service failed by is said here: nobody may read it, and the process
    /// ends all the same.
    ///
    /// # Errors
    /// What is still to be said.
    pub(super) fn close(mut self, done: Result<Exit, Failure>) -> Result<Exit, Failure> {
        let done = done.and_then(|exit| {
            self.out.flush()?;
            Ok(exit)
        });
        match (self.talk, done) {
            (Talk::Service, Err(failure)) => {
                let mut words = vec![];
                let exit = failure.report(&mut words);
                self.logs.say(String::from_utf8_lossy(&words).into_owned());
                Ok(exit)
            }
            (Talk::Service | Talk::Quiet, done) => done,
        }
    }
}
