//! What the filter's flags chose, written into the pod: whoever puts a sidecar in after it, as the webhook
//! does, has flags of its own.

use serde_json::{Map, Value};

use super::workload::annotation;
use super::{Denial, Mode, PREFIX, tree};

/// By annotation, what was written for the flags.
const KEY: &str = "chosen";

/// What flags chose for pods that do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// How agents get to the sidecar.
    pub mode: Option<Mode>,
    /// The ConfigMap with `farepass.yaml`.
    pub config_map: Option<String>,
    /// The Secret with what the wallets need.
    pub wallet_secret: Option<String>,
}

impl Chosen {
    /// Writes it into a pod, as annotations. One that the pod has itself stays.
    ///
    /// # Errors
    /// When this is no pod.
    pub fn note(&self, pod: &mut Value) -> Result<(), Denial> {
        let mode = self.mode.map(|mode| match mode {
            Mode::Explicit => "explicit",
            Mode::Transparent => "transparent",
        });
        let chosen: Map<String, Value> = [
            ("mode", mode),
            ("config", self.config_map.as_deref()),
            ("wallet", self.wallet_secret.as_deref()),
        ]
        .into_iter()
        .filter(|(key, _)| annotation(pod, key).is_none())
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into())))
        .collect();
        if chosen.is_empty() {
            return Ok(());
        }
        let annotations =
            tree::object(pod, "metadata").and_then(|m| tree::child(m, "annotations"))?;
        for (key, value) in &chosen {
            annotations.insert(format!("{PREFIX}{key}"), value.clone());
        }
        let chosen = Value::Object(chosen).to_string();
        annotations.insert(format!("{PREFIX}{KEY}"), chosen.into());
        Ok(())
    }
}

/// Takes out what [`Chosen::note`] wrote, unless somebody wrote something else since.
pub(super) fn forget(annotations: &mut Map<String, Value>) {
    let chosen = annotations.remove(&format!("{PREFIX}{KEY}"));
    let chosen = chosen.as_ref().and_then(Value::as_str);
    let chosen: Map<String, Value> = chosen
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    for (key, value) in chosen {
        let key = format!("{PREFIX}{key}");
        if annotations.get(&key) == Some(&value) {
            annotations.remove(&key);
        }
    }
}
