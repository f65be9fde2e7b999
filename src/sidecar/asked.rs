//! What one pod gets: the injector's settings, and what the pod's annotations say otherwise.

use serde_json::{Map, Value};

use super::workload::{annotation, owner};
use super::{Denial, Form, Mode, PREFIX, Settings, text};
use crate::money::Usd;
use crate::payment::is_name;
use crate::section::nearest;
use crate::settings::Cidr;

/// Annotations that a pod may carry, without their prefix.
const KNOWN: &[&str] = &[
    "inject",
    "injected",
    "replaced",
    "grace",
    "group",
    "chosen",
    "mode",
    "agent",
    "session",
    "budget",
    "config",
    "wallet",
    "state-claim",
];

/// Labels that name what runs in a pod, the first that is there.
const LABELS: &[&str] = &["app.kubernetes.io/name", "app"];

/// Whose budget it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// This pod's: its uid, which is new with every pod and outlives its containers.
    Pod,
    /// Everybody's who names it.
    Named(String),
}

/// What one pod gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) image: String,
    pub(super) redirect_image: Option<String>,
    pub(super) resolvers: Vec<Cidr>,
    pub(super) config_map: String,
    pub(super) wallet_secret: String,
    /// Of pods that name none.
    pub(super) usual_wallet: String,
    pub(super) form: Form,
    pub(super) whose: Whose,
    pub(super) agent: Option<String>,
    /// Of the session. A request: the configuration's own budget is the ceiling.
    pub(super) budget: Option<Usd>,
    /// A PersistentVolumeClaim that outlives the pod.
    pub(super) state_claim: Option<String>,
}

impl Asked {
    /// Reads the annotations of a pod. `found` is how its agent got to the sidecar that it had, `owned_by` what
    /// its owner is called.
    ///
    /// # Errors
    /// On one that is unknown or cannot be read.
    pub(super) fn read(
        pod: &Value,
        settings: &Settings,
        found: Option<Mode>,
        owned_by: Option<&str>,
    ) -> Result<Self, Denial> {
        if let Some(Value::Object(annotations)) = pod.pointer("/metadata/annotations") {
            unknown(annotations)?;
        }
        let or =
            |key, usual: &String| annotation(pod, key).map_or_else(|| usual.clone(), str::to_owned);
        let mode = match annotation(pod, "mode") {
            None => found.unwrap_or(settings.mode),
            Some("explicit") => Mode::Explicit,
            Some("transparent") => Mode::Transparent,
            Some(_) => return Err(wrong("mode", "`explicit` or `transparent`")),
        };
        let redirect_image = match (mode, &settings.redirect_image) {
            (Mode::Explicit, _) => None,
            (Mode::Transparent, Some(image)) => Some(image.clone()),
            (Mode::Transparent, None) => {
                return Err(Denial::new(
                    "the transparent mode needs an image with the program `nft`: give the injector --redirect-image",
                ));
            }
        };
        let budget = annotation(pod, "budget").map(str::parse).transpose();
        Ok(Self {
            image: settings.image.clone(),
            redirect_image,
            resolvers: settings.resolvers.clone(),
            config_map: or("config", &settings.config_map),
            wallet_secret: or("wallet", &settings.wallet_secret),
            usual_wallet: settings.wallet_secret.clone(),
            form: settings.form,
            whose: whose(pod, owned_by)?,
            agent: agent(pod)?,
            budget: budget.map_err(|_| wrong("budget", "money, as \"0.50 USD\""))?,
            state_claim: annotation(pod, "state-claim").map(str::to_owned),
        })
    }
}

fn wrong(key: &str, expected: &str) -> Denial {
    Denial::new(format!("annotation {PREFIX}{key}: write {expected}"))
}

fn unknown(annotations: &Map<String, Value>) -> Result<(), Denial> {
    for key in annotations.keys() {
        let Some(key) = key.strip_prefix(PREFIX).filter(|key| !KNOWN.contains(key)) else {
            continue;
        };
        let near = nearest(key, KNOWN.iter().copied());
        let hint = near.map_or(String::new(), |near| {
            format!("; did you mean {PREFIX}{near}?")
        });
        return Err(Denial::new(format!(
            "there is no annotation {PREFIX}{}{hint}",
            key.escape_debug()
        )));
    }
    Ok(())
}

fn whose(pod: &Value, owned_by: Option<&str>) -> Result<Whose, Denial> {
    match annotation(pod, "session") {
        None | Some("pod") => Ok(Whose::Pod),
        Some("owner") => match owned_by.or_else(|| owner(pod)) {
            None => Err(unowned("nothing owns this pod")),
            Some("") => Err(unowned("its owner has no name yet (generateName)")),
            Some(owner) if is_name(owner) => Ok(Whose::Named(owner.to_owned())),
            Some(owner) => Err(unowned(&format!(
                "a session cannot have the name of its owner, {}",
                owner.escape_debug()
            ))),
        },
        Some(session) => named(session).map(Whose::Named),
    }
}

fn unowned(why: &str) -> Denial {
    Denial::new(format!(
        "annotation {PREFIX}session is `owner`, but {why}: name the session instead"
    ))
}

fn named(session: &str) -> Result<String, Denial> {
    match is_name(session) {
        true => Ok(session.to_owned()),
        false => Err(wrong(
            "session",
            "`pod`, `owner` or a name of 1 to 64 letters, digits, `-`, `_` or `.`",
        )),
    }
}

fn agent(pod: &Value) -> Result<Option<String>, Denial> {
    if let Some(agent) = annotation(pod, "agent") {
        return match is_name(agent) {
            true => Ok(Some(agent.to_owned())),
            false => Err(wrong("agent", "1 to 64 letters, digits, `-`, `_` or `.`")),
        };
    }
    let labels = pod.pointer("/metadata/labels");
    let label = LABELS.iter().find_map(|label| text(labels?, label));
    Ok(label.filter(|label| is_name(label)).map(str::to_owned))
}
