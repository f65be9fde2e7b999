//! `farepass schema`: what an editor needs to complete and check the configuration file.

use std::io::Write as _;

use super::{Command, Exit, Failure, Terminal};
use crate::config::SCHEMA;

/// JSON Schema of the configuration file, on stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Editors with the YAML language server complete and check a file whose first line is
  # yaml-language-server: $schema=farepass.schema.json

`farepass check` sees more: prices, networks and names that do not fit together.

Examples:
  farepass schema > farepass.schema.json")]
pub(super) struct Schema {
    /// As JSON, which it is in any case
    #[arg(long = "json")]
    _json: bool,
}

impl Command for Schema {
    const NAME: &'static str = "schema";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        terminal.out.write_all(SCHEMA.as_bytes())?;
        Ok(Exit::Done)
    }
}
