//! `farepass ca`: the authority's certificate, never its key.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::{Command, Exit, Failure, Terminal, setup};
use crate::tls::{self, Description};

/// The local certificate authority that agents trust
#[derive(Debug, clap::Args)]
pub(super) struct Ca {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Subject, fingerprint, validity and file of the certificate
    Show {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The certificate on stdout; never the key
    #[command(after_help = "\
Examples:
  farepass ca export > ca.pem
  farepass ca export --format der > ca.crt")]
    Export {
        /// How it is written
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Pem,
    Der,
}

impl Command for Ca {
    const NAME: &'static str = "ca";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let path = setup::config(terminal)?.tls.ca_dir.join("ca.pem");
        let pem = fs::read_to_string(&path).map_err(|e| {
            Failure::new(Exit::Failed, format_args!("{}: {e}", path.display()))
                .hint("`farepass init` and the first start make the authority")
        })?;
        let described = tls::describe(&pem).ok_or_else(|| {
            let problem = format_args!("{}: not a PEM certificate", path.display()).to_string();
            Failure::new(Exit::Usage, problem)
        })?;
        match self.action {
            Action::Show { json } => show(terminal, &path, &described, json)?,
            Action::Export { format } => match format {
                Format::Pem => write!(terminal.out, "{}", tls::pem(&described.der))?,
                Format::Der => terminal.out.write_all(&described.der)?,
            },
        }
        Ok(Exit::Done)
    }
}

fn show(
    terminal: &mut Terminal,
    path: &PathBuf,
    described: &Description,
    json: bool,
) -> Result<(), Failure> {
    let date = |at: time::OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
    let (from, to) = (date(described.not_before), date(described.not_after));
    if json {
        return terminal.json(&json!({
            "subject": described.subject,
            "fingerprint": described.fingerprint,
            "spki": described.key_fingerprint,
            "not_before": from,
            "not_after": to,
            "path": path,
        }));
    }
    let out = &mut terminal.out;
    writeln!(out, "subject      {}", described.subject)?;
    writeln!(out, "fingerprint  sha256 {}", described.fingerprint)?;
    writeln!(out, "public key   sha256/{}", described.key_fingerprint)?;
    writeln!(out, "valid        {from} to {to}")?;
    writeln!(out, "file         {}", path.display())?;
    Ok(())
}
