//! What is put into a pod: the sidecar, the redirection, the volumes.

use serde_json::{Value, json};

use super::asked::{Asked, Whose};
use super::{Form, NAME, REDIRECT, USER};
use crate::settings::Cidr;

/// The proxy port of `listen.proxy`: on the pod's loopback, so that no other pod spends this wallet.
pub(super) const PROXY_URL: &str = "http://127.0.0.1:4020";
/// The port of `listen.admin`, for probes: the kubelet comes from outside of the pod.
const ADMIN: u16 = 4022;
/// Every port that an agent must leave alone: proxy, redirected connections, admin.
pub(super) const PORTS: [u64; 3] = [4020, 4021, 4022];

/// Where everything of ours is mounted.
pub(super) const MOUNTS: &str = "/run/farepass";
/// What crosses over to the agent.
pub(super) const CA_DIR: &str = "/run/farepass/ca";
/// The authority's certificate alone.
pub(super) const CA: &str = "/run/farepass/ca/ca.pem";
/// The platform's roots and the authority's certificate.
pub(super) const BUNDLE: &str = "/run/farepass/ca/bundle.pem";
/// For Node versions that ignore the proxy variables.
pub(super) const NODE_OPTIONS: &str = "--require=/run/farepass/ca/node-preload.cjs";
/// Java reads no variable for a proxy or for certificates.
pub(super) const JAVA_OPTIONS: &str = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=4020 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=4020 \
    -Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1] -Djavax.net.ssl.trustStore=/run/farepass/ca/truststore.p12 \
    -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit";

const CONFIG_VOLUME: &str = "farepass-config";
const WALLET_VOLUME: &str = "farepass-wallet";
const STATE_VOLUME: &str = "farepass-state";
const CA_VOLUME: &str = "farepass-ca";

/// Is a volume of this name ours?
pub(super) fn is_ours(volume: &str) -> bool {
    [CONFIG_VOLUME, WALLET_VOLUME, STATE_VOLUME, CA_VOLUME].contains(&volume)
}

/// Does a volume of ours hold what only the sidecar may read?
pub(super) fn is_secret(volume: &str) -> bool {
    is_ours(volume) && volume != CA_VOLUME
}

/// Certificates, which an agent may read and nothing else.
pub(super) fn agent_mount() -> Value {
    json!({ "name": CA_VOLUME, "mountPath": CA_DIR, "readOnly": true })
}

/// The volumes of the pod.
pub(super) fn volumes(asked: &Asked) -> Vec<Value> {
    let state = match &asked.state_claim {
        Some(claim) => json!({ "persistentVolumeClaim": { "claimName": claim } }),
        // Outlives the sidecar's restarts, and not the pod.
        None => json!({ "emptyDir": {} }),
    };
    let named = |name: &str, mut volume: Value| {
        volume["name"] = name.into();
        volume
    };
    vec![
        named(
            CONFIG_VOLUME,
            json!({ "configMap": { "name": asked.config_map } }),
        ),
        // 0440
        named(
            WALLET_VOLUME,
            json!({ "secret": { "secretName": asked.wallet_secret, "defaultMode": 0o440 } }),
        ),
        named(STATE_VOLUME, state),
        named(
            CA_VOLUME,
            json!({ "emptyDir": { "medium": "Memory", "sizeLimit": "4Mi" } }),
        ),
    ]
}

/// What must have ended before anything else starts.
pub(super) fn init_containers(asked: &Asked) -> Vec<Value> {
    let redirect = asked.redirect_image.as_ref().map(|image| {
        json!({
            "name": REDIRECT,
            "image": image,
            "command": ["nft", rules(&asked.resolvers)],
            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "32Mi" } },
            "securityContext": {
                // As another user the capability would not be effective.
                "runAsUser": 0,
                "runAsNonRoot": false,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"], "add": ["NET_ADMIN"] },
                "seccompProfile": { "type": "RuntimeDefault" },
            },
        })
    });
    redirect.into_iter().collect()
}

/// What the agent connects to arrives at the sidecar, and nobody but the sidecar leaves the pod: no
/// other port, no QUIC. Names are resolved by the cluster, on private addresses and those given.
/// `deploy/k8s/transparent` says the same with the reasons.
fn rules(resolvers: &[Cidr]) -> String {
    // A rule for each, since a set takes no ranges that overlap.
    let public = resolvers.iter().map(|range| {
        let range = range.to_string();
        let family = if range.contains(':') { "ip6" } else { "ip" };
        format!("{family} daddr {range} meta l4proto {{ tcp, udp }} th dport 53 accept; ")
    });
    let public: String = public.collect();
    format!(
        "table inet farepass {{ \
         chain led {{ type nat hook output priority -100; policy accept; \
         meta skuid {USER} return; fib daddr type local return; tcp dport {{ 80, 443 }} redirect to :4021; }}; \
         chain locked {{ type filter hook output priority 0; policy drop; \
         fib daddr type local accept; meta skuid {USER} accept; \
         ip daddr {{ 10.0.0.0/8, 100.64.0.0/10, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 }} \
         meta l4proto {{ tcp, udp }} th dport 53 accept; \
         ip6 daddr {{ fc00::/7, fe80::/10 }} meta l4proto {{ tcp, udp }} th dport 53 accept; {public}\
         ct state established,related accept; \
         icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept; \
         meta l4proto tcp reject with tcp reset; reject; }}; }}"
    )
}

/// The sidecar.
pub(super) fn sidecar(asked: &Asked, parent: Vec<Value>) -> Value {
    let probe = |path: &str, seconds: u64| json!({ "httpGet": { "path": path, "port": ADMIN }, "periodSeconds": seconds });
    let mut sidecar = json!({
        "name": NAME,
        "image": asked.image,
        "args": ["serve", "--export-ca", CA_DIR],
        "env": environment(asked, parent),
        "workingDir": "/var/lib/farepass",
        "ports": [{ "name": "farepass-admin", "containerPort": ADMIN, "protocol": "TCP" }],
        // May it pay? Is it alive? A broken ledger is no reason to restart.
        "readinessProbe": probe("/readyz", 10),
        "livenessProbe": probe("/healthz", 10),
        "resources": { "requests": { "cpu": "10m", "memory": "32Mi" }, "limits": { "memory": "128Mi" } },
        "securityContext": {
            "runAsUser": USER,
            "runAsGroup": USER,
            "runAsNonRoot": true,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            { "name": CONFIG_VOLUME, "mountPath": "/etc/farepass", "readOnly": true },
            { "name": WALLET_VOLUME, "mountPath": "/run/farepass/wallet", "readOnly": true },
            { "name": STATE_VOLUME, "mountPath": "/var/lib/farepass" },
            { "name": CA_VOLUME, "mountPath": CA_DIR },
        ],
    });
    match asked.form {
        Form::Native => {
            sidecar["restartPolicy"] = "Always".into();
            // Fails for a minute: the agent never starts, and nothing goes around the policy. Who forwards is
            // enough: a ledger that is away holds up no agent that pays nothing.
            sidecar["startupProbe"] = probe("/healthz", 1);
            sidecar["startupProbe"]["failureThreshold"] = 60.into();
        }
        // The kubelet starts the next container when this command is done.
        Form::Container => {
            sidecar["lifecycle"] = json!({ "postStart": { "exec": {
                "command": ["/farepass", "ready", "--alive", "--wait", "60s"],
            } } });
        }
    }
    sidecar
}

fn environment(asked: &Asked, parent: Vec<Value>) -> Vec<Value> {
    let plain = |name: &str, value: &str| json!({ "name": name, "value": value });
    let mut env = vec![
        plain("FAREPASS_CONFIG", "/etc/farepass/farepass.yaml"),
        match &asked.whose {
            Whose::Named(session) => plain("FAREPASS_SESSION", session),
            Whose::Pod => json!({
                "name": "FAREPASS_SESSION",
                "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.uid" } },
            }),
        },
    ];
    env.extend(
        asked
            .agent
            .iter()
            .map(|agent| plain("FAREPASS_AGENT", agent)),
    );
    env.extend(
        asked
            .budget
            .map(|budget| plain("FAREPASS_BUDGET", &budget.to_string())),
    );
    env.extend(parent);
    env
}
