//! Admission reviews (`admission.k8s.io/v1`): what the API server asks, and what it is told.

use serde::Deserialize;
use serde_json::{Value, json};

use super::tree::{entries, name};
use super::{Denial, NAME, Settings, inject, is_opted_out, patch};

const VERSION: &str = "admission.k8s.io/v1";

/// Namespaces of the cluster itself, which are never touched whatever the configuration says.
const SYSTEM: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

/// An answer: the status line of HTTP, and the review with its response.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// 200, or 400 for what is no review at all.
    pub status: u16,
    /// The document.
    pub body: Value,
    /// For the log: what came of it, in words of this program.
    pub outcome: String,
}

impl Answer {
    /// Whose review it answers.
    #[must_use]
    pub fn uid(&self) -> &str {
        let uid = self.body.pointer("/response/uid");
        uid.and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Review {
    #[serde(rename = "apiVersion")]
    version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: Kind,
    #[serde(default)]
    sub_resource: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    operation: String,
    #[serde(default)]
    object: Value,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// Judges a review. `own` is the namespace of this webhook, which it leaves alone: its pods could not
/// start without it.
#[must_use]
pub fn answer(body: &[u8], settings: &Settings, own: Option<&str>) -> Answer {
    let review: Review = match serde_json::from_slice(body) {
        Ok(review) => review,
        // A document with a uid at least gets an answer to it.
        Err(error) => {
            let uid = serde_json::from_slice::<Value>(body).ok();
            let uid = uid.and_then(|r| r.pointer("/request/uid")?.as_str().map(str::to_owned));
            let status = if uid.is_some() { 200 } else { 400 };
            let denial = Denial::new(format!("this is no admission review: {error}"));
            return refused(status, uid.as_deref().unwrap_or_default(), &denial);
        }
    };
    let Some(request) = review.request else {
        return refused(400, "", &Denial::new("the admission review has no request"));
    };
    if review.version != VERSION || review.kind != "AdmissionReview" {
        let said = format!("{} {}", review.version, review.kind);
        let denial = format!(
            "Farepass answers {VERSION} AdmissionReview, not {}",
            said.escape_debug()
        );
        return refused(200, &request.uid, &Denial::new(denial));
    }
    judge(&request, settings, own)
}

fn judge(request: &Request, settings: &Settings, own: Option<&str>) -> Answer {
    let namespace = request.namespace.as_deref().unwrap_or_default();
    if SYSTEM.contains(&namespace) || own == Some(namespace) {
        return allowed(
            &request.uid,
            "left alone: a namespace of the cluster or of Farepass",
        );
    }
    let is_pod = request.kind.group.is_empty() && request.kind.kind == "Pod";
    match (request.operation.as_str(), request.sub_resource.as_deref()) {
        ("CREATE", None | Some("")) if is_pod => create(request, settings),
        ("UPDATE", Some("ephemeralcontainers")) => debug(request),
        _ => allowed(&request.uid, "left alone: nothing that makes a pod"),
    }
}

fn create(request: &Request, settings: &Settings) -> Answer {
    if is_opted_out(&request.object) {
        return allowed(&request.uid, "left alone: the pod wants no sidecar");
    }
    match inject(&request.object, settings, None) {
        Ok(injected) => {
            let edits = patch(&request.object, &injected.pod);
            if edits.is_empty() {
                return allowed(&request.uid, "has its sidecar already");
            }
            patched(&request.uid, &edits, &injected.warnings)
        }
        Err(denial) => refused(200, &request.uid, &denial),
    }
}

/// `kubectl debug` puts a container into a running pod, and into its network.
fn debug(request: &Request) -> Answer {
    let none = Value::Null;
    let spec = request.object.get("spec").unwrap_or(&none);
    let has = entries(spec, "initContainers")
        .iter()
        .chain(entries(spec, "containers"));
    let added = entries(spec, "ephemeralContainers");
    if !has.into_iter().any(|c| name(c) == NAME) || added.is_empty() {
        return allowed(&request.uid, "left alone: no sidecar in this pod");
    }
    match super::checks::guests(spec) {
        Ok(()) => allowed(&request.uid, "the debugging container may be there"),
        Err(denial) => refused(200, &request.uid, &denial),
    }
}

fn allowed(uid: &str, outcome: &str) -> Answer {
    respond(200, json!({ "uid": uid, "allowed": true }), outcome.into())
}

fn refused(status: u16, uid: &str, denial: &Denial) -> Answer {
    let message = format!("farepass: {denial}");
    let response = json!({
        "uid": uid,
        "allowed": false,
        "status": { "message": message, "reason": "Forbidden", "code": if status == 200 { 403 } else { status } },
    });
    respond(status, response, format!("refused: {denial}"))
}

/// What kubectl prints of a warning; longer ones are cut off there.
const WARNING_MAX: usize = 120;

fn patched(uid: &str, edits: &[super::Edit], warnings: &[String]) -> Answer {
    use base64::Engine as _;
    let Ok(text) = serde_json::to_vec(edits) else {
        return refused(200, uid, &Denial::new("the patch cannot be written"));
    };
    let mut response = json!({
        "uid": uid,
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": base64::engine::general_purpose::STANDARD.encode(text),
    });
    if !warnings.is_empty() {
        let short = |w: &String| {
            format!("farepass: {w}")
                .chars()
                .take(WARNING_MAX)
                .collect::<String>()
        };
        response["warnings"] = warnings.iter().map(short).collect();
    }
    respond(200, response, "gets a sidecar".into())
}

fn respond(status: u16, response: Value, outcome: String) -> Answer {
    Answer {
        status,
        body: json!({ "apiVersion": VERSION, "kind": "AdmissionReview", "response": response }),
        outcome,
    }
}
