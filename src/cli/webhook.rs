//! `farepass webhook`: the admission webhook that puts the sidecar into every new pod.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::inject::What;
use super::terminal::Talk;
use super::{Command, Exit, Failure, Terminal, setup};
use crate::admission::{Admission, PATH};
use crate::app;
use crate::section::manifest;
use crate::tls::{Authority, Serving};
use crate::wallet::secret_file;

/// Serve the Kubernetes admission webhook that injects the sidecar
///
/// A mutating webhook (admission.k8s.io/v1) over TLS at /inject, with /healthz and /readyz. It asks
/// nobody and keeps nothing. The certificate is one that somebody renews (--cert-file, read again when it
/// changes) or signed by an authority in --ca-dir, for the service's names, and renewed in memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  farepass webhook --setup --ca-dir ca | kubectl apply -f -
  farepass webhook --ca-dir /run/farepass/ca --image registry.example/farepass:0.1.0
  farepass webhook --cert-file /run/tls/tls.crt --key-file /run/tls/tls.key")]
pub(super) struct Webhook {
    /// Where API servers connect to
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8443")]
    listen: SocketAddr,
    /// A certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// An authority of its own: ca.pem and ca-key.pem
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "cert_file",
        required_unless_present = "cert_file"
    )]
    ca_dir: Option<PathBuf>,
    /// The Service that API servers find it by
    #[arg(long, value_name = "NAME", default_value = "farepass-injector")]
    service: String,
    /// Its namespace, where it touches nothing
    #[arg(
        long,
        value_name = "NAME",
        env = "POD_NAMESPACE",
        default_value = "farepass-system",
        hide_env_values = true
    )]
    namespace: String,
    /// Print the authority's Secret and the webhook's configuration, and end; makes the authority when
    /// there is none in --ca-dir
    #[arg(long, requires = "ca_dir")]
    setup: bool,
    /// With --setup: an authority that it replaces, which is trusted as well until the next --setup
    #[arg(long, value_name = "FILE", requires = "setup")]
    also_trust: Option<PathBuf>,
    #[command(flatten)]
    what: What,
}

impl Command for Webhook {
    const NAME: &'static str = "webhook";
    const TALK: Talk = Talk::Service;

    fn run(self, terminal: &mut Terminal) -> Result<Exit, Failure> {
        if let (true, Some(dir)) = (self.setup, &self.ca_dir) {
            let text = self.configuration(dir)?;
            terminal.out.write_all(text.as_bytes())?;
            return Ok(Exit::Done);
        }
        let serving = self.serving()?;
        let admission = Admission::new(self.what.into(), Some(self.namespace), serving);
        setup::runtime()?.block_on(serve(terminal, self.listen, Arc::new(admission)))
    }
}

impl Webhook {
    fn serving(&self) -> Result<Serving, Failure> {
        match (&self.cert_file, &self.key_file, &self.ca_dir) {
            (Some(chain), Some(key), _) => Ok(Serving::files(chain.clone(), key.clone())?),
            (_, _, Some(dir)) => {
                let authority = Authority::open(&dir.join("ca.pem"), &dir.join("ca-key.pem"))?;
                let base = format!("{}.{}.svc", self.service, self.namespace);
                let names = vec![base.as_str().into(), format!("{base}.cluster.local").into()];
                Ok(Serving::signed_by(Arc::new(authority), names)?)
            }
            _ => Err(Failure::new(
                Exit::Usage,
                "which certificate? give --cert-file with --key-file, or --ca-dir",
            )),
        }
    }

    /// The objects that only their owner can write, because of what is secret in them or made anew.
    fn configuration(&self, dir: &Path) -> Result<String, Failure> {
        let authority = Authority::open_or_create(dir)?;
        let ca = authority.certificate_pem();
        let mut trusted = ca.to_owned();
        if let Some(file) = &self.also_trust {
            let older = fs::read_to_string(file);
            trusted += &older
                .map_err(|e| Failure::new(Exit::Usage, format_args!("{}: {e}", file.display())))?;
        }
        let key = secret_file::read_text(&dir.join("ca-key.pem"))
            .map_err(|e| Failure::new(Exit::Usage, e))?;
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": format!("{}-ca", self.service), "namespace": self.namespace },
            "type": "Opaque",
            "data": { "ca.pem": STANDARD.encode(ca), "ca-key.pem": STANDARD.encode(key.as_bytes()) },
        });
        let webhook = self.webhook(&STANDARD.encode(trusted));
        Ok(format!(
            "{}---\n{}",
            manifest::yaml(&secret),
            manifest::yaml(&webhook)
        ))
    }

    fn webhook(&self, trusted: &str) -> Value {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": self.service },
            "webhooks": [{
                "name": "injector.farepass.dev",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                // An agent without its proxy would have no policy: rather no agent.
                "failurePolicy": "Fail",
                // Another webhook may add containers afterwards.
                "reinvocationPolicy": "IfNeeded",
                "timeoutSeconds": 5,
                "clientConfig": {
                    "caBundle": trusted,
                    "service": { "name": self.service, "namespace": self.namespace, "path": PATH, "port": 443 },
                },
                "namespaceSelector": { "matchExpressions": [
                    { "key": "farepass.dev/inject", "operator": "In", "values": ["enabled"] },
                    { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", self.namespace] },
                ] },
                "rules": [
                    { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced" },
                    { "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/ephemeralcontainers"], "scope": "Namespaced" },
                ],
            }],
        })
    }
}

/// How long it goes on after it was told to end: a cluster takes its address from the Service at the same
/// time, and each node in its own. A second signal ends it at once.
const WITHDRAWN: Duration = Duration::from_secs(5);

async fn serve(
    terminal: &Terminal,
    listen: SocketAddr,
    admission: Arc<Admission>,
) -> Result<Exit, Failure> {
    let failed = |e| Failure::new(Exit::Failed, format_args!("cannot listen on {listen}: {e}"));
    let listener = app::listen(listen).map_err(failed)?;
    let at = listener.local_addr().map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    terminal.say(format_args!("farepass: webhook on https://{at}{PATH}"));
    let (end, over) = watch::channel(false);
    let served = admission.serve(listener, over);
    tokio::pin!(served);
    let asked = async {
        tokio::select! {
            _ = interrupt.recv() => return,
            _ = terminate.recv() => {}
        }
        // Its address is still being withdrawn, and whoever has it must find somebody.
        tokio::select! {
            () = tokio::time::sleep(WITHDRAWN) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::select! {
        () = &mut served => return Err(Failure::new(Exit::Failed, "the webhook ended by itself; this is a bug")),
        () = asked => {}
    }
    end.send_replace(true);
    served.await;
    Ok(Exit::Done)
}
