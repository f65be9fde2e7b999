//! Where in a manifest a pod is described.

use serde_json::Value;

use super::tree::text;
use super::{Denial, Form, PREFIX, is_opted_out};

/// Kinds that make pods, and where their template is. A missing API group is the core group.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "Pod", ""),
    ("", "ReplicationController", "/spec/template"),
    ("apps", "Deployment", "/spec/template"),
    ("apps", "StatefulSet", "/spec/template"),
    ("apps", "DaemonSet", "/spec/template"),
    ("apps", "ReplicaSet", "/spec/template"),
    ("batch", "Job", "/spec/template"),
    ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
];

/// Why [`Form::Container`] is nothing for a Job.
pub(super) const WAITS: &str = "a Job would wait for this kind of sidecar for ever: it needs the native form (Kubernetes 1.29)";

/// A pod that was refused, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}/{name}: {denial}")]
pub struct Refused {
    /// `Deployment`.
    pub kind: String,
    /// As its metadata says.
    pub name: String,
    /// Why.
    #[source]
    pub denial: Denial,
}

/// What is done to a pod or template, with the name of its owner.
type Change<'a> = dyn FnMut(&mut Value, Option<&str>) -> Result<(), Denial> + 'a;

/// Changes every pod of a document: of a workload, a pod, or a list of them. Everything else stays as it
/// is, except that a changed item of a `PodList` and its like says its kind. `change` is given the pod or
/// template and the name of its owner. Gives how many there were.
///
/// # Errors
/// The first refusal. The document is of no use then.
pub fn each_pod(
    document: &mut Value,
    form: Form,
    change: &mut Change<'_>,
) -> Result<usize, Refused> {
    let list = Listed::read(document);
    if let (Some(list), Some(Value::Array(items))) = (list, document.get_mut("items")) {
        return items
            .iter_mut()
            .map(|item| list.each_pod(item, form, change))
            .sum();
    }
    let kind = text(document, "kind").unwrap_or_default().to_owned();
    let version = text(document, "apiVersion").unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let known = KINDS.iter().find(|(g, k, _)| *g == group && *k == kind);
    let Some((group, kind, at)) = known else {
        return Ok(0);
    };
    let name = document.pointer("/metadata/name").and_then(Value::as_str);
    let name = name.unwrap_or_default().to_owned();
    let refused = |denial| Refused {
        kind: (*kind).to_owned(),
        name: name.clone(),
        denial,
    };
    let owner = (!at.is_empty()).then(|| name.clone());
    let Some(pod) = document.pointer_mut(at) else {
        let why = format!(
            "there is no pod template at {}",
            at.replace('/', ".").trim_start_matches('.')
        );
        return Err(refused(Denial::new(why)));
    };
    if *group == "batch" && form == Form::Container && !is_opted_out(pod) {
        return Err(refused(Denial::new(WAITS)));
    }
    change(pod, owner.as_deref()).map_err(refused)?;
    Ok(1)
}

/// What the items of a list are, which do not say it where the list does.
struct Listed {
    kind: String,
    version: Option<Value>,
}

impl Listed {
    /// `None`: this is no list.
    fn read(document: &Value) -> Option<Self> {
        let kind = text(document, "kind")?.strip_suffix("List")?.to_owned();
        let version = document.get("apiVersion").cloned();
        Some(Self { kind, version })
    }

    /// Of an item. One that is changed says what it is from then on.
    fn each_pod(
        &self,
        item: &mut Value,
        form: Form,
        change: &mut Change<'_>,
    ) -> Result<usize, Refused> {
        let told = text(item, "kind").is_some();
        if told && (self.kind.is_empty() || text(item, "apiVersion").is_some()) {
            return each_pod(item, form, change);
        }
        let mut named = item.clone();
        let Value::Object(members) = &mut named else {
            return Ok(0);
        };
        if !told && self.kind.is_empty() {
            let name = item.pointer("/metadata/name").and_then(Value::as_str);
            return Err(Refused {
                kind: "List".into(),
                name: name.unwrap_or_default().into(),
                denial: Denial::new("an item of the list says no kind"),
            });
        }
        if !told {
            members.insert("kind".into(), self.kind.as_str().into());
        }
        if let Some(version) = &self.version {
            let said = members.entry("apiVersion").or_insert(Value::Null);
            if said.is_null() {
                *said = version.clone();
            }
        }
        let found = each_pod(&mut named, form, change)?;
        if found > 0 {
            *item = named;
        }
        Ok(found)
    }
}

/// What made a pod.
fn controller(pod: &Value) -> Option<&Value> {
    let owners = pod.pointer("/metadata/ownerReferences")?.as_array()?;
    owners
        .iter()
        .find(|o| o.get("controller").is_some_and(|c| c == true))
}

/// Is the pod a Job's?
pub(super) fn is_of_job(pod: &Value) -> bool {
    controller(pod).is_some_and(|owner| {
        let version = text(owner, "apiVersion").unwrap_or_default();
        text(owner, "kind") == Some("Job") && version.starts_with("batch/")
    })
}

/// The name of what made a pod: its controller. A ReplicaSet of a Deployment is named after it, with a
/// hash of the template.
pub(super) fn owner(pod: &Value) -> Option<&str> {
    let name = text(controller(pod)?, "name")?;
    let hash = pod.pointer("/metadata/labels/pod-template-hash");
    let bare = hash
        .and_then(Value::as_str)
        .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    Some(bare.unwrap_or(name))
}

/// An annotation of ours.
pub(super) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod.pointer("/metadata/annotations")?
        .get(format!("{PREFIX}{key}"))?
        .as_str()
}
