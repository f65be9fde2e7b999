//! What others set in a sidecar that stands already. An API server asks a second time after other plugins
//! changed the pod (`reinvocationPolicy`), and those that only look then refuse it where their changes are gone.
//!
//! Whoever makes a pod may have written that container themselves. So this is a closed list, by value where
//! the value matters: nothing of it says what runs, whom it asks, or which file of the sidecar's is read or
//! covered. A limit that starves the sidecar starves its agent, and a role of theirs has another key than the
//! wallet's `address`.

use serde_json::{Value, json};

use super::private::sources;
use super::tree::{entries, name, object, text};
use super::{Denial, parts, tree};

/// Below it clusters mount their tokens, and we nothing.
const SECRETS: &str = "/var/run/secrets/";

/// What limits and requests are set for by a `LimitRange`. Devices come with files and variables of their own.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Any other path would cover a file of the sidecar's with an empty one.
const TERMINATION: &str = "/dev/termination-log";

/// The agent of EKS Pod Identity on the node. Anybody else would be told the token, and could give other keys:
/// the sidecar takes an endpoint on its own loopback for one, and there is the agent.
const POD_IDENTITY: [&str; 2] = [
    "http://169.254.170.23/v1/credentials",
    "http://[fd00:ec2::23]/v1/credentials",
];

/// Roots that clusters put beside a token.
const ROOTS: [&str; 2] = ["kube-root-ca.crt", "openshift-service-ca.crt"];

/// Gives a new container what may stay of the one of its name in the same list of the pod.
///
/// # Errors
/// When this is no container.
pub(super) fn keep(pod: &Value, key: &str, fresh: &mut Value) -> Result<(), Denial> {
    let Some(spec) = pod.get("spec") else {
        return Ok(());
    };
    let mut standing = entries(spec, key).iter();
    let Some(standing) = standing.find(|container| name(container) == name(fresh)) else {
        return Ok(());
    };
    plain(standing, fresh);
    resources(standing, fresh)?;
    let mounts = entries(standing, "volumeMounts").iter();
    let mounts: Vec<&Value> = mounts.filter(|mount| is_token(spec, mount)).collect();
    let variables = entries(standing, "env").iter();
    let variables: Vec<Value> = variables
        .filter_map(|entry| variable(entry, &mounts))
        .collect();
    if let Value::Object(fresh) = fresh {
        for (key, kept) in [
            ("volumeMounts", mounts.into_iter().cloned().collect()),
            ("env", variables),
        ] {
            if !kept.is_empty() {
                tree::list_mut(fresh, key)?.extend(kept);
            }
        }
    }
    Ok(())
}

/// What is a word of its own.
fn plain(standing: &Value, fresh: &mut Value) {
    let pulled = |policy: &str| match policy {
        "Always" => true,
        "IfNotPresent" => !moves(text(fresh, "image").unwrap_or_default()),
        // What a node has by the image's name, whoever put it there. No plugin sets it.
        _ => false,
    };
    let kept = [
        text(standing, "imagePullPolicy")
            .filter(|policy| pulled(policy))
            .map(|policy| ("imagePullPolicy", policy)),
        text(standing, "terminationMessagePath")
            .filter(|path| *path == TERMINATION)
            .map(|path| ("terminationMessagePath", path)),
        text(standing, "terminationMessagePolicy")
            .filter(|policy| ["File", "FallbackToLogsOnError"].contains(policy))
            .map(|policy| ("terminationMessagePolicy", policy)),
    ];
    for (key, value) in kept.into_iter().flatten() {
        fresh[key] = value.into();
    }
}

/// Would the API server let the node ask each time? Its tag is `latest`, or not there.
fn moves(image: &str) -> bool {
    let last = image.rsplit('/').next().unwrap_or_default();
    let tag = last.split_once(':').map(|(_, tag)| tag);
    !last.contains('@') && tag.is_none_or(|tag| tag == "latest")
}

/// Limits and requests for what we say nothing about.
fn resources(standing: &Value, fresh: &mut Value) -> Result<(), Denial> {
    for part in ["requests", "limits"] {
        let given = standing.pointer(&format!("/resources/{part}"));
        for resource in RESOURCES {
            let Some(amount) = given.and_then(|given| given.get(resource)) else {
                continue;
            };
            if amount.is_string() || amount.is_number() {
                let ours = object(fresh, "resources").and_then(|r| tree::child(r, part))?;
                ours.entry(resource).or_insert_with(|| amount.clone());
            }
        }
    }
    Ok(())
}

/// Does a mount show a token of the pod's account, where clusters do, and no more than that?
fn is_token(spec: &Value, mount: &Value) -> bool {
    let Value::Object(members) = mount else {
        return false;
    };
    let known = ["name", "mountPath", "readOnly"];
    let path = text(mount, "mountPath").unwrap_or_default();
    let mut volumes = entries(spec, "volumes").iter();
    members.keys().all(|key| known.contains(&key.as_str()))
        && mount.get("readOnly").is_some_and(|only| *only == true)
        && path.strip_prefix(SECRETS).is_some_and(is_below)
        // By a name of ours it would be a volume of ours.
        && !parts::is_ours(name(mount))
        && volumes.any(|volume| name(volume) == name(mount) && holds_tokens(volume))
}

/// Names of folders and files that lead down, and nowhere else.
fn is_below(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let mut names = path.split('/');
    names.all(|name| !matches!(name, "" | "." | "..") && name.bytes().all(plain))
}

/// Tokens, and what clusters put beside them. Nothing that whoever makes the pod has written.
fn holds_tokens(volume: &Value) -> bool {
    let sources = sources(volume);
    let is = |source: &Value| {
        let members = source.as_object().into_iter().flatten();
        let mut members = members.filter(|(_, what)| !what.is_null());
        let (Some((kind, what)), None) = (members.next(), members.next()) else {
            return false;
        };
        match kind.as_str() {
            "serviceAccountToken" => true,
            "configMap" => ROOTS.contains(&name(what)),
            "downwardAPI" => entries(what, "items").iter().all(|item| {
                let field = item.pointer("/fieldRef/fieldPath");
                field.is_some_and(|field| field == "metadata.namespace")
            }),
            _ => false,
        }
    };
    let mut tokens = sources.iter().filter_map(|s| s.get("serviceAccountToken"));
    tokens.any(|token| !token.is_null()) && sources.iter().all(is)
}

/// A variable by which Amazon's clients find the pod's own role, if it says nothing else. `tokens` are the
/// mounts that stay: no other file is sent to anybody.
fn variable(entry: &Value, tokens: &[&Value]) -> Option<Value> {
    let value = text(entry, "value")?;
    let only = |more: &[u8]| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
        (1..=2_048).contains(&value.len()) && value.bytes().all(plain)
    };
    let in_token = || {
        let mut folders = tokens.iter().filter_map(|mount| text(mount, "mountPath"));
        folders.any(|folder| {
            let file = value.strip_prefix(folder);
            let file = file.and_then(|file| file.strip_prefix('/'));
            file.is_some_and(is_below)
        })
    };
    let fine = match name(entry) {
        "AWS_ROLE_ARN" => value.starts_with("arn:") && only(b":/+=,.@_-"),
        "AWS_WEB_IDENTITY_TOKEN_FILE" | "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" => in_token(),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => POD_IDENTITY.contains(&value),
        "AWS_REGION" | "AWS_DEFAULT_REGION" => only(b"-"),
        "AWS_STS_REGIONAL_ENDPOINTS" => ["regional", "legacy"].contains(&value),
        _ => false,
    };
    let taken = entry.get("valueFrom").is_some_and(|from| !from.is_null());
    (fine && !taken).then(|| json!({ "name": name(entry), "value": value }))
}
