//! What belongs to the sidecar alone, and by which Secrets, claims and volumes another container would
//! get at it.

use serde_json::Value;

use super::asked::Asked;
use super::tree::{entries, name, text};
use super::workload::annotation;
use super::{Denial, NAME, Settings, parts};

/// Wallet, ledger, configuration, and whatever else the sidecar mounts.
pub(super) struct Private<'a> {
    secrets: Vec<&'a str>,
    claims: Vec<&'a str>,
    volumes: Vec<&'a str>,
    /// What crosses over to agents, who read it and write nothing.
    certificates: Vec<&'a str>,
}

impl<'a> Private<'a> {
    /// In a pod that is about to get its sidecar. The usual wallet is somebody's, whatever this pod's is.
    pub(super) fn asked(spec: &'a Value, asked: &'a Asked) -> Self {
        let private = Self {
            secrets: vec![&asked.usual_wallet, &asked.wallet_secret],
            claims: asked.state_claim.as_deref().into_iter().collect(),
            volumes: vec![],
            // Those of other containers are ours, and read-only.
            certificates: vec![],
        };
        private.found(spec)
    }

    /// In a pod that has one. What it mounts says more than names do: somebody may have written it by hand.
    pub(super) fn held(pod: &'a Value, spec: &'a Value, settings: &'a Settings) -> Self {
        let all = ["initContainers", "containers"].iter();
        let sidecars = all
            .flat_map(|key| entries(spec, key))
            .filter(|container| name(container) == NAME);
        let mounts = sidecars.flat_map(|sidecar| entries(sidecar, "volumeMounts"));
        let (certificates, mounted): (Vec<&Value>, Vec<&Value>) =
            mounts.partition(|mount| text(mount, "mountPath") == Some(parts::CA_DIR));
        let mounted: Vec<&str> = mounted.into_iter().map(name).collect();
        let own = entries(spec, "volumes").iter().filter(|volume| {
            parts::is_secret(name(volume)) || (mounted.contains(&name(volume)) && !is_token(volume))
        });
        let mut private = Self {
            secrets: vec![&settings.wallet_secret],
            claims: vec![],
            volumes: vec![],
            certificates: certificates.into_iter().map(name).collect(),
        };
        private.secrets.extend(annotation(pod, "wallet"));
        for volume in own {
            private.secrets.extend(secrets(volume));
            private.claims.extend(claim(volume));
            private.volumes.push(name(volume));
        }
        private.found(spec)
    }

    /// With the volumes that hold the same by another name.
    fn found(mut self, spec: &'a Value) -> Self {
        for volume in entries(spec, "volumes") {
            if secrets(volume).any(|secret| self.secrets.contains(&secret))
                || claim(volume).is_some_and(|claim| self.claims.contains(&claim))
            {
                self.volumes.push(name(volume));
            }
        }
        self
    }

    /// Refuses a container that has any of it, as files or as variables.
    pub(super) fn keep_from(&self, container: &Value) -> Result<(), Denial> {
        let of = name(container);
        let mut mounts = entries(container, "volumeMounts").iter().map(name);
        if let Some(volume) = mounts.find(|volume| self.volumes.contains(volume)) {
            return Err(Denial::new(format!(
                "container `{of}` mounts what is the sidecar's alone (volume `{volume}`)"
            )));
        }
        let mut mounts = entries(container, "volumeMounts").iter();
        let writes = |mount: &&Value| mount.get("readOnly").is_none_or(|only| *only != true);
        if let Some(mount) = mounts.find(|m| self.certificates.contains(&name(m)) && writes(m)) {
            return Err(Denial::new(format!(
                "container `{of}` could write where the sidecar writes its certificates (volume `{}`): mount it readOnly",
                name(mount)
            )));
        }
        let one = entries(container, "env").iter();
        let one = one.filter_map(|e| e.pointer("/valueFrom/secretKeyRef/name"));
        let all = entries(container, "envFrom").iter();
        let all = all.filter_map(|e| e.pointer("/secretRef/name"));
        let mut named = one.chain(all).filter_map(Value::as_str);
        if let Some(secret) = named.find(|secret| self.secrets.contains(secret)) {
            return Err(Denial::new(format!(
                "container `{of}` takes variables from the Secret `{secret}`, which is the sidecar's alone"
            )));
        }
        Ok(())
    }
}

/// What a volume is put together from.
pub(super) fn sources(volume: &Value) -> &[Value] {
    volume
        .get("projected")
        .map_or(&[], |projected| entries(projected, "sources"))
}

/// Where a volume names what it is of: a Secret, one that its driver is given, or what stands for some outside of
/// the cluster (`SecretProviderClass`), by a name of its own.
const SECRETS: [&str; 3] = [
    "/secret/secretName",
    "/csi/nodePublishSecretRef/name",
    "/csi/volumeAttributes/secretProviderClass",
];

/// The names of the Secrets in a volume.
fn secrets(volume: &Value) -> impl Iterator<Item = &str> {
    let one = SECRETS.iter().filter_map(|at| volume.pointer(at));
    let several = sources(volume).iter();
    let several = several.filter_map(|source| source.pointer("/secret/name"));
    one.chain(several).filter_map(Value::as_str)
}

fn claim(volume: &Value) -> Option<&str> {
    let claim = volume.pointer("/persistentVolumeClaim/claimName")?;
    claim.as_str()
}

/// What clusters put into every container of a pod: tokens of its account, and no Secret.
fn is_token(volume: &Value) -> bool {
    volume.get("projected").is_some_and(|p| !p.is_null()) && secrets(volume).next().is_none()
}
