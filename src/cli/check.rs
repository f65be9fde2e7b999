//! `farepass check`: is the configuration well formed, and does it say what its tests say?

use std::io::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::{Command, Exit, Failure, Terminal};
use crate::config::{Config, ConfigError, find};
use crate::section::SectionError;
use crate::wallet;

/// Read the configuration, say what is wrong, and run its tests
///
/// Opens no wallet and changes nothing. Exit code 2 when the file is wrong or a test fails.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The configuration file, as with --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Found {
    file: String,
    ok: bool,
    errors: Vec<Line>,
    warnings: Vec<Line>,
    tests: Tests,
}

#[derive(Serialize)]
struct Tests {
    ran: usize,
    failed: Vec<Line>,
}

/// One error, as programs want it.
#[derive(Serialize)]
struct Line {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    path: String,
    problem: String,
    hint: Option<String>,
}

impl From<&SectionError> for Line {
    fn from(error: &SectionError) -> Self {
        let place = error.place.get();
        Self {
            file: error.file.clone(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            path: error.path.clone(),
            problem: error.problem.clone(),
            hint: error.hint.clone(),
        }
    }
}

impl Command for Check {
    const NAME: &'static str = "check";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let named = self.file.as_deref().or(terminal.globals.config.as_deref());
        let file = find(named).map_err(ConfigError::from)?;
        let mut warnings = vec![];
        let (errors, ran, failed) = match Config::load(Some(&file)) {
            Ok(config) => {
                let (ran, failed) = config.run_tests();
                let secrets = config.wallets.iter();
                let secrets = secrets.filter_map(|w| wallet::exposed(&w.kind, &w.section));
                warnings = config.warnings.iter().cloned().chain(secrets).collect();
                (vec![], ran, failed)
            }
            Err(ConfigError::Invalid(errors)) => (errors, 0, vec![]),
            Err(error @ (ConfigError::Missing(_) | ConfigError::Unreadable { .. })) => {
                return Err(error.into());
            }
        };
        let ok = errors.is_empty() && failed.is_empty();
        if self.json {
            terminal.json(&Found {
                file: file.display().to_string(),
                ok,
                errors: errors.iter().map(Line::from).collect(),
                warnings: warnings.iter().map(Line::from).collect(),
                tests: Tests {
                    ran,
                    failed: failed.iter().map(Line::from).collect(),
                },
            })?;
        } else {
            for error in errors.iter().chain(&failed) {
                writeln!(terminal.out, "{error}")?;
            }
            for warning in &warnings {
                writeln!(terminal.out, "warning: {warning}")?;
            }
            let tests = match (ran, failed.len()) {
                (0, _) => String::new(),
                (1, 0) => ", its test passes".into(),
                (ran, 0) => format!(", its {ran} tests pass"),
                (ran, failed) => format!(", but {failed} of {ran} tests failed"),
            };
            let verdict = match errors.len() {
                0 => format!("well formed{tests}"),
                1 => "1 error".into(),
                many => format!("{many} errors"),
            };
            writeln!(terminal.out, "{}: {verdict}", file.display())?;
        }
        Ok(if ok { Exit::Done } else { Exit::Usage })
    }
}
