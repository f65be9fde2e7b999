//! The command line: one file per command, and one list of them.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, Args as _, ColorChoice, FromArgMatches};

mod approve;
mod bug;
mod ca;
mod check;
mod completions;
mod demo;
mod discover;
mod dispute;
mod doctor;
mod explain;
mod failure;
mod freeze;
mod guide;
mod init;
mod inject;
mod learn;
mod ledger;
mod man;
mod mcp;
mod merchant;
mod owner;
mod ready;
mod run;
mod schema;
mod serve;
mod session;
mod setup;
mod spend;
mod table;
mod terminal;
mod top;
mod wallet;
mod webhook;
mod working;

pub use failure::{Exit, Failure};
use terminal::Talk;
pub use terminal::Terminal;

/// What every command takes, before or after its own arguments.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// The configuration [else $FAREPASS_CONFIG, else ./farepass.yaml, else ~/.config/farepass/farepass.yaml]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<std::path::PathBuf>,
    /// What is logged on stderr: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", global = true)]
    pub log: Option<String>,
    /// How log lines look: text or json
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub log_format: LogFormat,
    /// No colours [also with $NO_COLOR]
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What a command does with its arguments.
trait Command: clap::Args {
    /// The word on the command line.
    const NAME: &'static str;

    /// What it writes besides its data.
    const TALK: Talk = Talk::Quiet;

    /// Does it. Data goes to `terminal.out`, everything else to stderr.
    ///
    /// # Errors
    /// A failure carries its exit code and a sentence for stderr.
    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure>;
}

/// A command without its types.
struct Entry {
    name: &'static str,
    talk: Talk,
    arguments: fn(clap::Command) -> clap::Command,
    run: fn(&ArgMatches, &mut Terminal) -> Result<Exit, Failure>,
}

const fn entry<C: Command>() -> Entry {
    Entry {
        name: C::NAME,
        talk: C::TALK,
        arguments: C::augment_args,
        run: |matches, terminal| {
            C::from_arg_matches(matches)
                .map_err(Failure::usage)?
                .run(terminal)
        },
    }
}

/// Every command, in the order of the help page.
const COMMANDS: &[Entry] = &[
    entry::<demo::Demo>(),
    entry::<run::Run>(),
    entry::<serve::Serve>(),
    entry::<init::Init>(),
    entry::<check::Check>(),
    entry::<explain::Explain>(),
    entry::<doctor::Doctor>(),
    entry::<ready::Ready>(),
    entry::<session::Session>(),
    entry::<wallet::Wallet>(),
    entry::<top::Top>(),
    entry::<spend::Spend>(),
    entry::<ledger::Ledger>(),
    entry::<dispute::Dispute>(),
    entry::<approve::Approve>(),
    entry::<approve::Deny>(),
    entry::<freeze::Freeze>(),
    entry::<freeze::Unfreeze>(),
    entry::<merchant::Merchant>(),
    entry::<discover::Discover>(),
    entry::<learn::Learn>(),
    entry::<ca::Ca>(),
    entry::<mcp::Mcp>(),
    entry::<inject::Inject>(),
    entry::<webhook::Webhook>(),
    entry::<schema::Schema>(),
    entry::<completions::Completions>(),
    entry::<man::Man>(),
];

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
  3  refused by policy
  4  outcome unknown: money may have moved
  5  the ledger is damaged
  `run` gives the exit code of its program; 128 + n when signal n ended it.

Start here:
  farepass demo     see it work: no wallet, no network, no configuration
  farepass init     a first configuration, certificate authority and wallet key";

/// The whole command line, for parsing, help, completions and manual pages.
fn command_line() -> clap::Command {
    let mut root = Globals::augment_args(clap::Command::new("farepass"))
        .about("A forward proxy that pays 402 Payment Required for AI agents, within your policy")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .disable_help_subcommand(true);
    for entry in COMMANDS {
        root = root.subcommand((entry.arguments)(clap::Command::new(entry.name)));
    }
    root
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    bug::tell(|line| {
        // Nothing can be done when stderr is closed.
        let _ = io::stderr().write_all(line.as_bytes());
    });
    let arguments = helped(std::env::args_os().collect());
    let plain = arguments
        .iter()
        .take_while(|a| *a != "--")
        .any(|a| a == "--no-color");
    let colours = match plain {
        true => ColorChoice::Never,
        false => ColorChoice::Auto,
    };
    let result = command_line()
        .color(colours)
        .try_get_matches_from(arguments)
        .map_err(Failure::usage)
        .and_then(|matches| dispatch(&matches));
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(&mut io::stderr()).into(),
    }
}

/// `farepass help COMMAND` is `farepass COMMAND --help`: the word that other programs know.
fn helped(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let at = command_at(&arguments);
    if arguments.get(at).is_some_and(|word| word == "help") {
        arguments.remove(at);
        arguments.push("--help".into());
    }
    arguments
}

/// Where the first word stands that is neither an option for every command nor the value of one.
fn command_at(arguments: &[OsString]) -> usize {
    let globals = Globals::augment_args(clap::Command::new("farepass"));
    let valued = |word: &str| {
        let mut options = globals.get_arguments();
        let named = word.strip_prefix("--");
        options.any(|o| o.get_long() == named && o.get_action().takes_values())
    };
    let mut at = 1_usize;
    while let Some(word) = arguments.get(at).and_then(|word| word.to_str()) {
        match word {
            "--" => break,
            _ if valued(word) => at = at.saturating_add(2),
            _ if word.starts_with('-') => at = at.saturating_add(1),
            _ => break,
        }
    }
    at
}

fn dispatch(matches: &ArgMatches) -> Result<Exit, Failure> {
    let globals = Globals::from_arg_matches(matches).map_err(Failure::usage)?;
    let named = matches.subcommand();
    let found = named.and_then(|(name, matches)| {
        let entry = COMMANDS.iter().find(|entry| entry.name == name)?;
        Some((entry, matches))
    });
    let Some((entry, matches)) = found else {
        return Err(Failure::new(Exit::Usage, "which command?").hint("farepass --help"));
    };
    let mut terminal = Terminal::new(globals, entry.talk)?;
    let done = (entry.run)(matches, &mut terminal);
    terminal.close(done)
}
