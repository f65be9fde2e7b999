//! How a command ends: its exit code, and what stderr says.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use super::table::plain;

/// How the process ends. The numbers are a contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
    /// 3: refused by policy.
    Refused,
    /// 4: outcome unknown, money may have moved.
    Unknown,
    /// 5: the ledger is damaged.
    Damaged,
    /// The exit code of the program that `run` ran.
    Child(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Unknown => 4,
            Exit::Damaged => 5,
            Exit::Child(code) => code,
        })
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    said: Said,
}

/// What is written, and where.
#[derive(Debug)]
enum Said {
    /// One line, and perhaps what to do about it.
    Problem {
        message: String,
        hint: Option<String>,
    },
    /// What the argument parser found, or the help page that was asked for.
    Usage(Box<clap::Error>),
    /// Nobody reads: the pipe is closed.
    Nothing,
}

impl Failure {
    /// One clear line, without a full stop.
    #[must_use]
    pub fn new(exit: Exit, message: impl Display) -> Self {
        Self {
            exit,
            said: Said::Problem {
                message: message.to_string(),
                hint: None,
            },
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Display) -> Self {
        if let Said::Problem { hint, .. } = &mut self.said {
            *hint = Some(text.to_string());
        }
        self
    }

    /// Wrong arguments, or a help page.
    pub(super) fn usage(error: clap::Error) -> Self {
        let exit = match error.use_stderr() {
            true => Exit::Usage,
            false => Exit::Done,
        };
        Self {
            exit,
            said: Said::Usage(Box::new(error)),
        }
    }

    /// Says it, once, and gives the exit code.
    pub(super) fn report(&self, err: &mut dyn Write) -> Exit {
        // Nothing can be done when stderr is closed.
        let _ = match &self.said {
            Said::Nothing => Ok(()),
            Said::Usage(error) if !error.use_stderr() => error.print(),
            Said::Usage(error) => write!(err, "{}", usage(error)),
            Said::Problem { message, hint } => {
                // Files and merchants are quoted in them, and a terminal reads them.
                writeln!(err, "farepass: {}", plain(message)).and_then(|()| match hint {
                    Some(hint) => writeln!(err, "hint: {}", plain(hint)),
                    None => Ok(()),
                })
            }
        };
        self.exit
    }
}

/// The parser's own words, under our name.
fn usage(error: &clap::Error) -> String {
    let text = error.render().to_string();
    match text.strip_prefix("error: ") {
        Some(rest) => format!("farepass: {rest}"),
        None => text,
    }
}

impl From<io::Error> for Failure {
    /// An error of the output. A closed pipe is no failure: the reader has what it wanted.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self {
                exit: Exit::Done,
                said: Said::Nothing,
            },
            _ => Self::new(Exit::Failed, format_args!("cannot write: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_moves_no_cursor_and_forges_no_line() {
        let nasty = "x\u{1b}[2J\r\nfarepass: all is well\u{202e}\u{9b}é";
        let failure = Failure::new(Exit::Failed, nasty).hint(nasty);
        let mut said = vec![];
        assert_eq!(failure.report(&mut said), Exit::Failed);
        let said = String::from_utf8(said).unwrap();
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(
            !said.contains(['\u{1b}', '\r', '\u{202e}', '\u{9b}']),
            "{said:?}"
        );
        assert!(said.starts_with("farepass: x\\u{1b}[2J"), "{said}");
    }
}
