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

/// Who asks, of a review that cannot be read otherwise.
#[derive(Deserialize)]
struct Asker {
    request: Named,
}

#[derive(Deserialize)]
struct Named {
    uid: String,
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
    if weight(body) > WEIGHT_MAX {
        return unread(body, "this pod has more entries than Farepass reads");
    }
    let review: Review = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return unread(body, format!("this is no admission review: {error}")),
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

/// Most bytes that a review may take as a tree. A hundred containers with a hundred variables each take half of it.
const WEIGHT_MAX: usize = 24 * 1024 * 1024;

/// An object has room for eleven members from its first on.
const OBJECT: usize = 640;

/// An entry, and the room that is left free beside it.
const ENTRY: usize = 128;

/// What the tree of this text takes at most, found out before there is one: many small objects take a
/// hundred times their text.
fn weight(text: &[u8]) -> usize {
    let (mut quoted, mut escaped, mut weight) = (false, false, text.len());
    let next = text.iter().skip(1).chain([&b' ']);
    for (byte, next) in text.iter().zip(next) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            // What is empty takes no room. Most of `managedFields` is.
            b'{' if !quoted && *next == b'}' => {}
            b'{' if !quoted => weight = weight.saturating_add(OBJECT),
            b'[' | b',' if !quoted => weight = weight.saturating_add(ENTRY),
            _ => {}
        }
    }
    weight
}

/// A document with a uid at least gets an answer to it.
fn unread(body: &[u8], why: impl Into<String>) -> Answer {
    let asker = serde_json::from_slice::<Asker>(body).ok();
    let status = if asker.is_some() { 200 } else { 400 };
    let uid = asker.map(|asker| asker.request.uid).unwrap_or_default();
    refused(status, &uid, &Denial::new(why))
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
        ("UPDATE", Some("ephemeralcontainers")) => debug(request, settings),
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
fn debug(request: &Request, settings: &Settings) -> Answer {
    let none = Value::Null;
    let spec = request.object.get("spec").unwrap_or(&none);
    let has = entries(spec, "initContainers")
        .iter()
        .chain(entries(spec, "containers"));
    let added = entries(spec, "ephemeralContainers");
    if !has.into_iter().any(|c| name(c) == NAME) || added.is_empty() {
        return allowed(&request.uid, "left alone: no sidecar in this pod");
    }
    match super::checks::guests(&request.object, settings) {
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

fn patched(uid: &str, edits: &[super::Edit<'_>], warnings: &[String]) -> Answer {
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
