//! `farepass dispute`: the evidence file of one payment, for whoever must judge it. Reads only, also
//! beside a running proxy.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Command, Exit, Failure, Terminal, ledger, setup};

mod evidence;

use evidence::Evidence;

/// The evidence file of one payment
///
/// What was asked, what was signed (never the signature), what came back, and where each of its
/// records stands in the ledger's hash chain. No query strings, bodies or text of the merchant.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass dispute pay_019b2c4d | jq .signed    typed data (EIP-712), as it was signed
  farepass dispute pay_019b2c4d --out evidence.json")]
pub(super) struct Dispute {
    /// Its id, or the beginning of it
    payment: String,
    /// Into a new file with mode 0600, instead of stdout; never overwrites
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// As JSON, which it is in any case
    #[arg(long = "json")]
    _json: bool,
}

impl Command for Dispute {
    const NAME: &'static str = "dispute";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let config = setup::config(terminal)?;
        let book = setup::book(&config)?.ok_or_else(|| ledger::none(&config))?;
        let trail = setup::wait(async {
            let id = ledger::find(&*book, &self.payment).await?;
            Ok(book.trail(id).await?)
        })?;
        let evidence = Evidence::of(&trail).ok_or_else(|| {
            let problem = "that is a refusal: nothing was signed, so there is nothing to dispute";
            Failure::new(Exit::Failed, problem).hint("`farepass ledger show` says why")
        })?;
        let mut text = serde_json::to_string_pretty(&evidence).map_err(io::Error::from)?;
        text.push('\n');
        match &self.out {
            None => terminal.out.write_all(text.as_bytes())?,
            Some(file) => write_new(file, &text)?,
        }
        Ok(Exit::Done)
    }
}

fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: io::Error| {
        let why = match e.kind() {
            io::ErrorKind::AlreadyExists => "it exists already and is not overwritten".to_owned(),
            _ => e.to_string(),
        };
        Failure::new(Exit::Failed, format_args!("{}: {why}", file.display()))
    };
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut new = options.open(file).map_err(failed)?;
    new.write_all(text.as_bytes()).map_err(failed)?;
    new.sync_all().map_err(failed)
}
