//! `farepass ca`: the authority's certificate, never its key; who trusts it, and its successor.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::{Command, Exit, Failure, Terminal, setup};
use crate::tls::{self, Description};

mod stores;

use stores::{Certificate, Machine, Step, Store};

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
    /// Let this machine's programs trust it, in the stores that you name
    #[command(after_help = "\
Examples:
  farepass ca install --print               what it would do, as commands
  sudo farepass ca install                  the system's store
  farepass ca install --store nss,java      browsers of this user, and Java

`farepass ca uninstall` with the same options undoes it. Programs under `farepass run` need none of this.")]
    Install(Trust),
    /// Take it out of the stores again, with those that it replaced
    Uninstall {
        #[command(flatten)]
        trust: Trust,
        /// Only those that `ca rotate` replaced
        #[arg(long)]
        old: bool,
    },
    /// Make a new one, for the next start; the old one stays beside it
    Rotate {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Trust {
    /// Which stores: system, nss (Chrome, Firefox), java
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Store::System],
        hide_possible_values = true
    )]
    store: Vec<Store>,
    /// Java's: this trust store instead of its own
    #[arg(long, value_name = "FILE")]
    keystore: Option<PathBuf>,
    /// Only say what would be done, as commands
    #[arg(long)]
    print: bool,
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
        let dir = setup::config(terminal)?.tls.ca_dir;
        let path = dir.join("ca.pem");
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
            Action::Install(trust) => install(terminal, &trust, &path, &described)?,
            Action::Uninstall { trust, old } => {
                uninstall(terminal, &trust, old, &path, &described)?
            }
            Action::Rotate { json } => rotate(terminal, &dir, json)?,
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

/// Its name in stores: one that tells two of ours apart.
fn label(fingerprint: &str) -> String {
    format!("farepass-{}", fingerprint.get(..8).unwrap_or(fingerprint))
}

fn machine(trust: &Trust) -> Machine {
    Machine {
        home: std::env::var_os("HOME").map(Into::into),
        keystore: trust.keystore.clone(),
    }
}

fn install(
    terminal: &mut Terminal,
    trust: &Trust,
    path: &Path,
    described: &Description,
) -> Result<(), Failure> {
    let one = Certificate {
        file: whole(path),
        der: described.der.clone(),
        label: label(&described.fingerprint),
    };
    let machine = machine(trust);
    let mut steps = vec![];
    for store in &trust.store {
        steps.extend(machine.install(*store, &one)?);
    }
    if steps.is_empty() {
        terminal.say("farepass: these stores have it already");
    }
    take(terminal, &steps, trust.print)
}

fn uninstall(
    terminal: &mut Terminal,
    trust: &Trust,
    old: bool,
    path: &Path,
    described: &Description,
) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let retired = tls::retired(dir)?;
    let mut all: Vec<Certificate> = vec![];
    if !old {
        all.push(Certificate {
            file: whole(path),
            der: described.der.clone(),
            label: label(&described.fingerprint),
        });
    }
    for (file, der) in &retired {
        let known = tls::describe(&tls::pem(der));
        let fingerprint = known.map(|d| d.fingerprint).unwrap_or_default();
        all.push(Certificate {
            file: file.clone(),
            der: der.to_vec(),
            label: label(&fingerprint),
        });
    }
    let machine = machine(trust);
    let mut steps = vec![];
    for store in &trust.store {
        for one in &all {
            steps.extend(machine.uninstall(*store, one)?);
        }
    }
    take(terminal, &steps, trust.print)?;
    if steps.is_empty() {
        terminal.say("farepass: none of these stores has it");
    }
    for (file, _) in &retired {
        // A key is never deleted by us: whoever does it should have read its name.
        let key = file.with_file_name(file.file_name().map_or_else(String::new, |name| {
            name.to_string_lossy().replacen("ca-", "ca-key-", 1)
        }));
        terminal.say(format_args!(
            "hint: when no agent trusts it any more: rm {} {}",
            file.display(),
            key.display()
        ));
    }
    Ok(())
}

/// Says each step, and takes it unless it is only to be printed.
fn take(terminal: &mut Terminal, steps: &[Step], print: bool) -> Result<(), Failure> {
    for step in steps {
        writeln!(terminal.out, "{step}")?;
        if !print {
            step.take()?;
        }
    }
    Ok(())
}

fn rotate(terminal: &mut Terminal, dir: &Path, json: bool) -> Result<(), Failure> {
    let kept = tls::rotate(dir)?;
    let new = dir.join("ca.pem");
    if json {
        terminal.json(&json!({ "kept": kept, "new": new }))?;
    } else {
        for path in &kept {
            writeln!(terminal.out, "kept  {}", path.display())?;
        }
        writeln!(terminal.out, "new   {}", new.display())?;
    }
    terminal.say(
        "farepass: the new authority serves from the next start on; agents must trust it then:\n  \
         farepass ca install          where it was installed before\n  \
         farepass ca uninstall --old  when nobody needs the old one any more",
    );
    Ok(())
}

/// Programs that are told of a file may look from another folder.
fn whole(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.into())
}
