//! A pod with Farepass beside its agent: what is put into a manifest, what is refused, and how all of
//! it is taken out again. Values in, values out; nothing here reads a file or asks a cluster.
//!
//! Facts about pods are those of the Kubernetes API, `core/v1`.

use serde_json::{Map, Value};

use crate::settings::Cidr;

mod asked;
mod checks;
mod chosen;
mod grace;
mod group;
mod kept;
mod parts;
mod patch;
mod private;
mod review;
mod strip;
#[cfg(test)]
mod tests;
mod tree;
pub mod variables;
mod workload;

use asked::Asked;
pub use chosen::Chosen;
pub use patch::{Edit, patch};
pub use review::{Answer, answer};
pub use strip::{refuse_by_hand, uninject};
use tree::{entries_mut, list_mut, name, text};
pub use workload::{Owner, Refused, each_pod, strangers};

/// The user that the sidecar runs as, and nobody else in its pod. The Dockerfile and `deploy/k8s` use
/// the same.
pub const USER: u64 = 1337;

/// The sidecar's name in the pod.
pub const NAME: &str = "farepass";

/// The init container that leads the agent's connections to the sidecar.
pub const REDIRECT: &str = "farepass-redirect";

/// Before every annotation and label that is ours.
pub const PREFIX: &str = "farepass.dev/";

/// How an agent gets to the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the proxy variables, which a program may ignore. Fits the pod security level `restricted`.
    Explicit,
    /// By redirection in the pod's network, which it cannot. Needs `NET_ADMIN` in an init container.
    Transparent,
}

/// What kind of container the sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An init container that is always restarted (Kubernetes 1.29 or newer): starts first, ends last,
    /// and no Job waits for it.
    Native,
    /// The first of the containers, for older clusters. Init containers go without it, and a Job would
    /// never end.
    Container,
}

/// What is the same for every pod of an injector. Annotations of a pod may say otherwise where the
/// docs/kubernetes.md says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image of Farepass.
    pub image: String,
    /// An image with the program `nft`, for [`Mode::Transparent`].
    pub redirect_image: Option<String>,
    /// Resolvers on public addresses, for [`Mode::Transparent`]: private ones are always asked.
    pub resolvers: Vec<Cidr>,
    /// The ConfigMap with `farepass.yaml`.
    pub config_map: String,
    /// The Secret with what the wallets need.
    pub wallet_secret: String,
    /// How agents get to it, unless the pod says.
    pub mode: Mode,
    /// What kind of container it is.
    pub form: Form,
}

/// Why a pod gets no sidecar. One sentence, for whoever wrote the pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denial(String);

impl Denial {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A pod with its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod, or the template of one: `metadata` and `spec`.
    pub pod: Value,
    /// What whoever wrote it should know. One sentence each.
    pub warnings: Vec<String>,
}

/// Does the pod say that it wants no sidecar?
#[must_use]
pub fn is_opted_out(pod: &Value) -> bool {
    ["/metadata/annotations", "/metadata/labels"]
        .iter()
        .filter_map(|at| pod.pointer(at)?.get(format!("{PREFIX}inject")))
        .any(|value| value == "disabled" || value == "false")
}

/// Puts the sidecar into a pod or a pod template. `owner` is what makes the pod, if known
/// from elsewhere. A pod that has a sidecar gets today's in its place: injecting twice is injecting once. What
/// [`Chosen::note`] wrote stays, and so does a redirection, unless the pod's own `mode` says otherwise. Of the
/// sidecar that it had stays what other plugins of a cluster set, as far as nobody gains by writing it.
///
/// # Errors
/// When the pod would let its agent get around the sidecar or at its files, has one that was written by hand, or is
/// none.
pub fn inject(
    pod: &Value,
    settings: &Settings,
    owner: Option<Owner<'_>>,
) -> Result<Injected, Denial> {
    refuse_by_hand(pod)?;
    let (standing, found) = (pod, strip::mode(pod));
    let mut pod = strip::strip(standing);
    if settings.form == Form::Container && workload::is_of_job(&pod) {
        return Err(Denial::new(workload::WAITS));
    }
    let asked = Asked::read(&pod, settings, found, owner.map(|owner| owner.name))?;
    let mut warnings = checks::check(&pod, &asked)?;
    warnings.extend(checks::shares(&pod, &asked, owner));
    let spec = tree::object(&mut pod, "spec")?;
    let before = governed(spec, settings.form, &mut warnings)?;
    let mut init = parts::init_containers(&asked);
    for redirect in &mut init {
        kept::keep(standing, "initContainers", redirect)?;
    }
    let key = match settings.form {
        Form::Native => "initContainers",
        Form::Container => "containers",
    };
    let mut sidecar = parts::sidecar(&asked, before.parent);
    kept::keep(standing, key, &mut sidecar)?;
    let group = group::grant(spec, asked.state_claim.as_deref())?;
    let grace = grace::raise(spec);
    list_mut(spec, "volumes")?.extend(parts::volumes(&asked));
    // The redirection is before the sidecar.
    front(list_mut(spec, key)?, vec![sidecar]);
    front(list_mut(spec, "initContainers")?, init);
    if entries_mut(spec, "initContainers").is_empty() {
        spec.remove("initContainers");
    }
    let annotations =
        tree::object(&mut pod, "metadata").and_then(|m| tree::child(m, "annotations"))?;
    let replaced = (!before.replaced.is_empty()).then_some(Value::Object(before.replaced));
    for (key, value) in [
        ("replaced", replaced.map(|replaced| replaced.to_string())),
        ("grace", grace),
        ("group", group),
        ("injected", Some(env!("CARGO_PKG_VERSION").to_owned())),
    ] {
        if let Some(value) = value {
            annotations.insert(format!("{PREFIX}{key}"), value.into());
        }
    }
    Ok(Injected { pod, warnings })
}

/// What containers were told before, about another proxy.
#[derive(Default)]
struct Before {
    /// The variables that named it and what is reached without it.
    parent: Vec<Value>,
    /// By container, the entries whose place was taken.
    replaced: Map<String, Value>,
}

impl Before {
    /// Takes what one container was told to what others were.
    fn join(&mut self, parent: Vec<Value>) -> Result<(), Denial> {
        for entry in parent {
            match self.parent.iter().find(|e| name(e) == name(&entry)) {
                Some(one) if *one != entry => {
                    return Err(Denial::new(format!(
                        "containers of this pod name different proxies ({}): one can be Farepass's own",
                        name(&entry)
                    )));
                }
                Some(_) => {}
                None => self.parent.push(entry),
            }
        }
        Ok(())
    }
}

/// Every other container gets the certificates and the variables. Init containers run beside a native
/// sidecar only: the other form starts after them.
fn governed(
    spec: &mut Map<String, Value>,
    form: Form,
    warnings: &mut Vec<String>,
) -> Result<Before, Denial> {
    let keys: &[&str] = match form {
        Form::Native => &["initContainers", "containers"],
        Form::Container => &["containers"],
    };
    let mut before = Before::default();
    for key in keys {
        for container in entries_mut(spec, key) {
            let of = name(container).to_owned();
            let Value::Object(container) = container else {
                return Err(Denial::new(format!(
                    "spec.{key} has an entry that is no container"
                )));
            };
            list_mut(container, "volumeMounts")?.push(parts::agent_mount());
            let put = variables::put(list_mut(container, "env")?, &of);
            let parent = put.parent(&of)?;
            warnings.extend(put.took(&of, &parent));
            before.join(parent)?;
            if !put.replaced.is_empty() {
                before.replaced.insert(of, put.replaced.into());
            }
            warnings.extend(put.warnings);
        }
    }
    Ok(before)
}

fn front(list: &mut Vec<Value>, first: Vec<Value>) {
    list.splice(0..0, first);
}
