//! Where a command writes, and what every command was told.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use super::{Exit, Failure, Globals, LogFormat};

/// Standard output for data, standard error for everything else, and the arguments common to all commands.
pub struct Terminal {
    /// Data. Buffered; flushed when the command ends.
    pub out: BufWriter<Stdout>,
    /// What every command was told.
    pub globals: Globals,
    colours: bool,
}

impl Terminal {
    /// Starts logging as the arguments say.
    ///
    /// # Errors
    /// When `--log` cannot be read.
    pub(super) fn new(globals: Globals) -> Result<Self, Failure> {
        let unset = |name| std::env::var_os(name).is_none_or(|v| v.is_empty());
        let colours = !globals.no_color && unset("NO_COLOR");
        log(&globals, colours && io::stderr().is_terminal())?;
        Ok(Self {
            out: BufWriter::new(io::stdout()),
            globals,
            colours: colours && io::stdout().is_terminal(),
        })
    }

    /// May data be coloured?
    #[must_use]
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// One line of data as JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(writeln!(self.out)?)
    }

    /// A line for the person at the terminal, on stderr.
    pub fn say(&self, line: impl std::fmt::Display) {
        // Nothing can be done when stderr is closed.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// Hands over what is still buffered.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }
}

fn log(globals: &Globals, colours: bool) -> Result<(), Failure> {
    use tracing_subscriber::EnvFilter;
    let level = globals.log.as_deref().unwrap_or("warn");
    let filter = EnvFilter::try_new(level).map_err(|_| {
        Failure::new(Exit::Usage, format_args!("--log: `{level}` is no level"))
            .hint("error, warn, info, debug or trace")
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours);
    let started = match globals.log_format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|e| Failure::new(Exit::Failed, format_args!("cannot log: {e}")))
}
