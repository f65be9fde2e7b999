//! `farepass inject`: a filter that puts the sidecar into Kubernetes manifests.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use serde_json::Value;

use super::{Command, Exit, Failure, Terminal};
use crate::section::manifest;
use crate::settings::Cidr;
use crate::sidecar::{self, Chosen, Form, Mode, Settings};

/// Put the sidecar into Kubernetes manifests
///
/// Reads YAML or JSON and writes it with Farepass beside the agent of every Pod, Deployment,
/// StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job and CronJob. Everything else passes
/// unchanged, with a warning where it makes pods; comments are lost. Injecting twice is injecting once. Nothing is written when one of them cannot be injected.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass inject deployment.yaml | kubectl apply -f -
  kubectl get deployment agent -o yaml | farepass inject --mode transparent | kubectl apply -f -
  farepass inject --uninject deployment.yaml

Annotations of the pod say otherwise for that pod: farepass.dev/mode, /agent, /session (pod, owner or a
name), /budget, /config, /wallet, /state-claim; farepass.dev/inject: disabled leaves it alone.")]
pub(super) struct Inject {
    /// Manifests; `-` or none: standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Take the sidecar out again
    #[arg(long)]
    uninject: bool,
    #[command(flatten)]
    what: What,
}

/// What goes into a pod. The same for the filter and the webhook.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct What {
    /// The image of Farepass
    #[arg(long, value_name = "IMAGE", default_value = concat!("farepass:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// An image with the program `nft`, for --mode transparent
    #[arg(long, value_name = "IMAGE")]
    redirect_image: Option<String>,
    /// A resolver on a public address, or a range of them, for --mode transparent; may be repeated
    #[arg(long, value_name = "RANGE")]
    resolver: Vec<Cidr>,
    /// The ConfigMap with farepass.yaml [default: farepass-config]
    #[arg(long, value_name = "NAME")]
    config_map: Option<String>,
    /// The Secret with what the wallets need [default: farepass-wallet]
    #[arg(long, value_name = "NAME")]
    wallet_secret: Option<String>,
    /// How agents get to it: explicit (proxy variables) or transparent (redirection; needs NET_ADMIN)
    /// [default: explicit]
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    mode: Option<ModeName>,
    /// native (an init container that is always restarted: Kubernetes 1.29) or container (older)
    #[arg(
        long,
        value_name = "FORM",
        default_value = "native",
        hide_possible_values = true
    )]
    form: FormName,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ModeName {
    Explicit,
    Transparent,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormName {
    Native,
    Container,
}

impl From<ModeName> for Mode {
    fn from(mode: ModeName) -> Self {
        match mode {
            ModeName::Explicit => Self::Explicit,
            ModeName::Transparent => Self::Transparent,
        }
    }
}

impl What {
    /// What was chosen here, and is not as it always is.
    fn chosen(&self) -> Chosen {
        Chosen {
            mode: self.mode.map(Mode::from),
            config_map: self.config_map.clone(),
            wallet_secret: self.wallet_secret.clone(),
        }
    }
}

impl From<What> for Settings {
    fn from(what: What) -> Self {
        Self {
            image: what.image,
            redirect_image: what.redirect_image,
            resolvers: what.resolver,
            config_map: what.config_map.unwrap_or_else(|| CONFIG_MAP.into()),
            wallet_secret: what.wallet_secret.unwrap_or_else(|| WALLET_SECRET.into()),
            mode: what.mode.map_or(Mode::Explicit, Mode::from),
            form: match what.form {
                FormName::Native => Form::Native,
                FormName::Container => Form::Container,
            },
        }
    }
}

const CONFIG_MAP: &str = "farepass-config";
const WALLET_SECRET: &str = "farepass-wallet";

/// More than a cluster's whole manifest, less than the memory.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

impl Command for Inject {
    const NAME: &'static str = "inject";

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        let chosen = self.what.chosen();
        let settings = Settings::from(self.what);
        let wanted = (!self.uninject).then_some((&settings, &chosen));
        let standard = [PathBuf::from("-")];
        let files = match self.files.as_slice() {
            [] => &standard[..],
            files => files,
        };
        let mut given = vec![];
        // One stream has one form. Who reads YAML reads JSON in it, and not the other way round.
        let mut as_json = true;
        for file in files {
            let (name, text) = read(file)?;
            as_json &= manifest::is_json(&text);
            let documents = manifest::documents(&name, &text);
            given.push((name, documents.map_err(|e| Failure::new(Exit::Usage, e))?));
        }
        let mut out = String::new();
        for (name, documents) in given {
            for mut document in documents {
                let changed = change(&mut document, wanted, terminal);
                changed.map_err(|e| Failure::new(Exit::Failed, format_args!("{name}: {e}")))?;
                if as_json {
                    out += &format!("{document:#}\n");
                    continue;
                }
                if !out.is_empty() {
                    out += "---\n";
                }
                out += &manifest::yaml(&document);
            }
        }
        terminal.out.write_all(out.as_bytes())?;
        Ok(Exit::Done)
    }
}

fn read(file: &PathBuf) -> Result<(String, String), Failure> {
    let (name, opened): (_, io::Result<Box<dyn io::Read>>) = match file.as_os_str() == "-" {
        true => ("standard input".to_owned(), Ok(Box::new(io::stdin()))),
        false => (
            file.display().to_string(),
            fs::File::open(file).map(|f| Box::new(f) as Box<dyn io::Read>),
        ),
    };
    let mut bytes = vec![];
    let read = opened.and_then(|source| source.take(BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|e| Failure::new(Exit::Failed, format_args!("{name}: cannot be read: {e}")))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Exit::Usage, format_args!("{name}: this is not UTF-8")))?;
    Ok((name, text))
}

/// Puts in what is wanted, or takes a sidecar out.
fn change(
    document: &mut Value,
    wanted: Option<(&Settings, &Chosen)>,
    terminal: &Terminal,
) -> Result<(), sidecar::Refused> {
    // A sidecar of any form is taken out.
    for stranger in wanted.map_or(vec![], |_| sidecar::strangers(document)) {
        terminal.say(format_args!(
            "farepass: {stranger} makes pods and is of a kind that `inject` does not know: nothing was put in (the webhook reaches its pods)"
        ));
    }
    let form = wanted.map_or(Form::Native, |(settings, _)| settings.form);
    sidecar::each_pod(document, form, &mut |pod, owner| {
        let opted_out = sidecar::is_opted_out(pod);
        let wanted = wanted.filter(|_| !opted_out);
        if wanted.is_some() {
            sidecar::refuse_by_hand(pod)?;
        }
        *pod = sidecar::uninject(pod);
        let Some((settings, chosen)) = wanted else {
            return Ok(());
        };
        chosen.note(pod)?;
        let injected = sidecar::inject(pod, settings, owner)?;
        *pod = injected.pod;
        for warning in injected.warnings {
            terminal.say(format_args!("farepass: {warning}"));
        }
        Ok(())
    })
    .map(drop)
}
