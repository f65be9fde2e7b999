//! What would let an agent around the sidecar or at its files. The admission policy of
//! `deploy/k8s/guard` refuses the same, also for pods that somebody wrote by hand.

use serde_json::Value;

use super::asked::{Asked, Whose};
use super::private::Private;
use super::tree::{entries, name, text};
use super::{Denial, Owner, PREFIX, Settings, USER, parts, strip, workload};

/// Capabilities with which a container gets at another's files or network.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "NET_ADMIN",
    "NET_RAW",
    "SETUID",
    "SETGID",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_MODULE",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "BPF",
    "PERFMON",
    "CHECKPOINT_RESTORE",
];

/// Namespaces that a pod may share with its node, or its containers with each other.
const SHARED: &[(&str, &str)] = &[
    (
        "hostNetwork",
        "the redirection would be the node's, and the proxy port everybody's",
    ),
    (
        "hostPID",
        "every process of the node could look into the sidecar",
    ),
    ("hostIPC", "the pod's memory would be the node's"),
    (
        "shareProcessNamespace",
        "the agent could read the wallet through /proc",
    ),
];

/// Volumes that show a container its node, where the files of every pod lie, and the wallet's among them. Pod security
/// level `baseline` forbids the first; the redirection needs a namespace without that level.
const NODE: &[(&str, &str)] = &[
    ("hostPath", "a path of the node"),
    ("flexVolume", "what a program of the node mounts"),
];

/// Refuses what must not be, and gives what should not.
pub(super) fn check(pod: &Value, asked: &Asked) -> Result<Vec<String>, Denial> {
    let none = Value::Null;
    let spec = pod.get("spec").unwrap_or(&none);
    if entries(spec, "containers").is_empty() {
        return Err(Denial::new("this is no pod: it has no containers"));
    }
    for (key, why) in SHARED {
        if spec.get(key).is_some_and(|shared| *shared == true) {
            return Err(Denial::new(format!("spec.{key} is set: {why}")));
        }
    }
    if spec.pointer("/os/name").is_some_and(|os| os == "windows") {
        return Err(Denial::new("there is no Farepass for Windows pods"));
    }
    let private = Private::asked(spec, asked);
    let mut warnings = vec![];
    for key in ["initContainers", "containers"] {
        for container in entries(spec, key) {
            private.keep_from(container)?;
            node(spec, container)?;
            mounts(container)?;
            ports(container)?;
            privileges(spec, container)?;
            let why = may_be_root(spec, container);
            if asked.redirect_image.is_none() {
                warnings.extend(why);
            } else if let Some(why) = why {
                return Err(Denial::new(format!(
                    "{why}, so it could become the sidecar's user and go around the redirection"
                )));
            } else {
                led(spec, container)?;
            }
        }
    }
    Ok(warnings)
}

/// Says it where several pods would have one ledger in a file: whoever comes second ends at once, and a rolling
/// update would wait for it for ever. And where they would have one budget with a ledger each, which knows nothing
/// of the others. Whether the ledger is a file, its configuration says, which is not here.
pub(super) fn shares(pod: &Value, asked: &Asked, owner: Option<Owner<'_>>) -> Option<String> {
    if asked.state_claim.is_none() {
        return matches!(asked.whose, Whose::Named(_)).then(|| {
            format!(
                "{PREFIX}session: unless the ledger is PostgreSQL, each pod has this budget to itself, and anew"
            )
        });
    }
    let nodes = workload::is_of_each_node(pod).then_some(workload::NODES);
    let why = owner.and_then(|owner| owner.several).or(nodes)?;
    Some(format!(
        "{PREFIX}state-claim: {why}, and a ledger that is a file has room for one"
    ))
}

/// Refuses a debugging container that would get around the sidecar of a running pod.
pub(super) fn guests(pod: &Value, settings: &Settings) -> Result<(), Denial> {
    let none = Value::Null;
    let spec = pod.get("spec").unwrap_or(&none);
    let private = Private::held(pod, spec, settings);
    let redirected = strip::mode(pod).is_some();
    for container in entries(spec, "ephemeralContainers") {
        privileges(spec, container)?;
        if let Some(why) = may_be_root(spec, container) {
            return Err(Denial::new(why));
        }
        if redirected {
            led(spec, container)?;
        }
        private.keep_from(container)?;
        node(spec, container)?;
        if text(container, "targetContainerName") == Some(super::NAME) {
            return Err(Denial::new(format!(
                "container `{}` would see the processes of the sidecar",
                name(container)
            )));
        }
    }
    Ok(())
}

/// Refuses what shows the node, however little of it: what else is linked from there, nobody sees here. A volume that
/// nobody mounts shows nothing.
fn node(spec: &Value, container: &Value) -> Result<(), Denial> {
    for mount in entries(container, "volumeMounts") {
        let mut volumes = entries(spec, "volumes").iter();
        let Some(volume) = volumes.find(|volume| name(volume) == name(mount)) else {
            continue;
        };
        let is = |kind: &str| volume.get(kind).is_some_and(|source| !source.is_null());
        if let Some((kind, what)) = NODE.iter().find(|(kind, _)| is(kind)) {
            return Err(Denial::new(format!(
                "container `{}` mounts volume `{}`, {what} ({kind}): there it could find the wallet",
                name(container),
                name(mount)
            )));
        }
    }
    Ok(())
}

/// Refuses what would lie over the certificates.
fn mounts(container: &Value) -> Result<(), Denial> {
    let mut paths = entries(container, "volumeMounts")
        .iter()
        .filter_map(|mount| text(mount, "mountPath"));
    let over = paths
        .find(|path| *path == parts::MOUNTS || path.starts_with(&format!("{}/", parts::MOUNTS)));
    match over {
        Some(path) => Err(Denial::new(format!(
            "container `{}` mounts something at {path}, where the certificates go",
            name(container)
        ))),
        None => Ok(()),
    }
}

fn ports(container: &Value) -> Result<(), Denial> {
    let taken = entries(container, "ports")
        .iter()
        .filter_map(|port| port.get("containerPort")?.as_u64())
        .find(|port| parts::PORTS.contains(port));
    match taken {
        Some(port) => Err(Denial::new(format!(
            "container `{}` uses port {port}, which is the sidecar's",
            name(container)
        ))),
        None => Ok(()),
    }
}

/// A container's setting, else the pod's. `null` is what is not there, as the API server reads it.
fn setting<'a>(spec: &'a Value, container: &'a Value, key: &str) -> Option<&'a Value> {
    let of = |value: &'a Value| {
        let set = value.get("securityContext")?.get(key);
        set.filter(|set| !set.is_null())
    };
    of(container).or_else(|| of(spec))
}

fn privileges(spec: &Value, container: &Value) -> Result<(), Denial> {
    let of = name(container);
    if setting(spec, container, "runAsUser").is_some_and(|user| *user == USER) {
        return Err(Denial::new(format!(
            "container `{of}` runs as user {USER}, which is the sidecar's alone"
        )));
    }
    let own = container.get("securityContext").unwrap_or(&Value::Null);
    if own.get("privileged").is_some_and(|p| *p == true) {
        return Err(Denial::new(format!(
            "container `{of}` is privileged: nothing in its pod would be safe from it"
        )));
    }
    let added = own
        .get("capabilities")
        .map_or(&[][..], |c| entries(c, "add"));
    // Container runtimes read them in any case.
    let bad = added.iter().filter_map(Value::as_str).find(|c| {
        let upper = c.to_ascii_uppercase();
        CAPABILITIES.contains(&upper.strip_prefix("CAP_").unwrap_or(&upper))
    });
    match bad {
        Some(capability) => Err(Denial::new(format!(
            "container `{of}` has the capability {}, with which it gets around the sidecar",
            capability.escape_debug()
        ))),
        None => Ok(()),
    }
}

/// Refuses who could be the sidecar's user behind a redirection, which lets that one out: by the user that
/// an image names, or by a set-uid program in it.
fn led(spec: &Value, container: &Value) -> Result<(), Denial> {
    let of = name(container);
    let user = setting(spec, container, "runAsUser").and_then(Value::as_u64);
    if user.is_none() {
        return Err(Denial::new(format!(
            "container `{of}` has no securityContext.runAsUser, so its image could name the sidecar's user and go around the redirection"
        )));
    }
    let gains = container.pointer("/securityContext/allowPrivilegeEscalation");
    if gains.is_none_or(|gains| *gains != false) {
        return Err(Denial::new(format!(
            "container `{of}` lacks securityContext.allowPrivilegeEscalation: false, so it could become the sidecar's user and go around the redirection"
        )));
    }
    Ok(())
}

/// May it run as root, or become another user? The sentence says so.
fn may_be_root(spec: &Value, container: &Value) -> Option<String> {
    let user = setting(spec, container, "runAsUser").and_then(Value::as_u64);
    let refuses = setting(spec, container, "runAsNonRoot").is_some_and(|n| *n == true);
    let none = Value::Null;
    let own = container
        .pointer("/securityContext/capabilities")
        .unwrap_or(&none);
    let drops = entries(own, "drop").iter().any(|c| c == "ALL");
    let of = name(container);
    if user == Some(0) || (user.is_none() && !refuses) {
        return Some(format!(
            "container `{of}` may run as root: give it runAsNonRoot and a user of its own"
        ));
    }
    (!drops).then(|| format!("container `{of}` keeps the usual capabilities: drop ALL"))
}
