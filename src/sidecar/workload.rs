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
    /// As its metadata says, or how its name will begin.
    pub name: String,
    /// Why.
    #[source]
    pub denial: Denial,
}

/// What makes a pod, as its document says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// As `farepass.dev/session: owner` names the session. Empty where an API server has yet to make one up.
    pub name: &'a str,
    /// How several of its pods come to run at once, if they do.
    pub several: Option<&'static str>,
}

/// What is done to a pod or template, with its owner.
type Change<'a> = dyn FnMut(&mut Value, Option<Owner<'_>>) -> Result<(), Denial> + 'a;

/// Changes every pod of a document: of a workload, a pod, or a list of them. Everything else stays as it
/// is, except that a changed item of a `PodList` and its like says its kind. `change` is given the pod or
/// template and its owner. Gives how many there were.
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
    let called = |key: &str| text(document.get("metadata")?, key).map(str::to_owned);
    let (name, stem) = (called("name"), called("generateName"));
    let refused = |denial| Refused {
        kind: (*kind).to_owned(),
        name: name.clone().or(stem.clone()).unwrap_or_default(),
        denial,
    };
    let several = several(kind, document);
    let owner = (!at.is_empty()).then(|| Owner {
        name: match (name.as_deref().unwrap_or_default(), *kind) {
            (name, "Job") => timeless(name),
            (name, _) => name,
        },
        several,
    });
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
    change(pod, owner).map_err(refused)?;
    Ok(1)
}

/// What makes pods and is of no kind that is known here, as `Rollout/name`: [`each_pod`] leaves it as it is.
#[must_use]
pub fn strangers(document: &Value) -> Vec<String> {
    strangers_among(document, "")
}

fn strangers_among(document: &Value, told: &str) -> Vec<String> {
    let kind = text(document, "kind").unwrap_or(told);
    let items = document.get("items").and_then(Value::as_array);
    if let (Some(kind), Some(items)) = (kind.strip_suffix("List"), items) {
        let among = items.iter().flat_map(|item| strangers_among(item, kind));
        return among.collect();
    }
    let group = text(document, "apiVersion")
        .map(|version| version.split_once('/').map_or("", |(group, _)| group));
    let is = |g: &str, k: &str| k == kind && group.is_none_or(|group| group == g);
    if KINDS.iter().any(|(g, k, _)| is(g, k)) || !runs_containers(document) {
        return vec![];
    }
    let name = document.pointer("/metadata/name").and_then(Value::as_str);
    vec![format!("{kind}/{}", name.unwrap_or_default())]
}

/// Is there a list of containers with images anywhere in it, that did not opt out?
fn runs_containers(value: &Value) -> bool {
    let members: Vec<&Value> = match value {
        Value::Object(members) => members.values().collect(),
        Value::Array(items) => items.iter().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
    };
    let mut here = value
        .get("containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    !is_opted_out(value)
        && (here.any(|container| text(container, "image").is_some())
            || members.into_iter().any(runs_containers))
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
    controller(pod).is_some_and(|owner| is(owner, "batch/", "Job"))
}

/// Is it a DaemonSet's? Of no other owner does a pod say that there are several of it.
pub(super) fn is_of_each_node(pod: &Value) -> bool {
    controller(pod).is_some_and(|owner| is(owner, "apps/", "DaemonSet"))
}

fn is(owner: &Value, group: &str, kind: &str) -> bool {
    let version = text(owner, "apiVersion").unwrap_or_default();
    text(owner, "kind") == Some(kind) && version.starts_with(group)
}

/// The name of what made a pod: its controller. A ReplicaSet of a Deployment is named after it, with a
/// hash of the template, and a Job of a CronJob with a time.
pub(super) fn owner(pod: &Value) -> Option<&str> {
    let name = text(controller(pod)?, "name")?;
    if is_of_job(pod) {
        return Some(timeless(name));
    }
    let hash = pod.pointer("/metadata/labels/pod-template-hash");
    let bare = hash
        .and_then(Value::as_str)
        .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    Some(bare.unwrap_or(name))
}

/// A CronJob names its Jobs after itself and the minute since 1970, which has eight digits. A pod does not say
/// whether its Job is a CronJob's: one that somebody called so is taken for it, and has one budget with others of
/// its stem. That is the tighter way to be wrong.
fn timeless(job: &str) -> &str {
    let is_time = |time: &str| time.len() >= 8 && time.bytes().all(|b| b.is_ascii_digit());
    match job.rsplit_once('-') {
        Some((stem, time)) if !stem.is_empty() && is_time(time) => stem,
        _ => job,
    }
}

/// A DaemonSet's.
pub(super) const NODES: &str = "a DaemonSet has a pod on each node";

/// How several pods of a workload come to run at once, if they do.
fn several(kind: &str, document: &Value) -> Option<&'static str> {
    let spec = document.get("spec")?;
    let text = |at| spec.pointer(at).and_then(Value::as_str);
    let many = |at| spec.pointer(at).and_then(Value::as_u64) > Some(1);
    match kind {
        "DaemonSet" => Some(NODES),
        "Job" if many("/parallelism") => Some("parallelism is more than 1"),
        "CronJob" if many("/jobTemplate/spec/parallelism") => Some("parallelism is more than 1"),
        "CronJob" if matches!(text("/concurrencyPolicy"), None | Some("Allow")) => {
            Some("without concurrencyPolicy: Forbid a run may begin before the last ends")
        }
        "Job" | "CronJob" | "Pod" => None,
        _ if many("/replicas") => Some("there are several replicas"),
        "Deployment" if text("/strategy/type") != Some("Recreate") => {
            Some("without strategy Recreate a pod starts before the last ends")
        }
        _ => None,
    }
}

/// An annotation of ours.
pub(super) fn annotation<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod.pointer("/metadata/annotations")?
        .get(format!("{PREFIX}{key}"))?
        .as_str()
}
