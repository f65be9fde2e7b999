//! The deployment files hold what their comments promise: read as YAML, judged field by field.
#![cfg(test)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_yaml::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn documents(path: &Path) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&read(path))
        .map(|d| Value::deserialize(d).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        .collect()
}

fn yaml_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            into.push(path);
        }
    }
}

/// The pod that the manifest makes.
fn pod() -> Value {
    let [set] = &documents(&deploy().join("k8s/base/agent.yaml"))[..] else {
        panic!("agent.yaml holds one document");
    };
    set["spec"]["template"]["spec"].clone()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_sequence().map_or(&[], Vec::as_slice)
}

fn named<'a>(items: &'a [Value], name: &str) -> &'a Value {
    let found = items.iter().find(|i| i["name"] == name);
    found.unwrap_or_else(|| panic!("nothing is named {name}"))
}

fn sidecar(pod: &Value) -> &Value {
    named(list(pod, "initContainers"), "farepass")
}

fn agent(pod: &Value) -> &Value {
    named(list(pod, "containers"), "agent")
}

fn containers(pod: &Value) -> Vec<&Value> {
    let all = ["initContainers", "containers", "ephemeralContainers"];
    all.iter().flat_map(|key| list(pod, key)).collect()
}

fn mounts(container: &Value) -> BTreeSet<&str> {
    let names = list(container, "volumeMounts").iter();
    names.filter_map(|m| m["name"].as_str()).collect()
}

fn mount<'a>(container: &'a Value, volume: &str) -> &'a Value {
    named(list(container, "volumeMounts"), volume)
}

fn env<'a>(container: &'a Value, name: &str) -> &'a str {
    let value = &named(list(container, "env"), name)["value"];
    value
        .as_str()
        .unwrap_or_else(|| panic!("{name} is no text"))
}

/// What the built-in PodSecurity admission objects to at level `restricted`.
fn objections(pod: &Value) -> Vec<String> {
    let mut found = vec![];
    for key in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
        if pod[key] == true {
            found.push(format!("{key} is set"));
        }
    }
    let kinds = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(pod, "volumes") {
        if !kinds.iter().any(|kind| !volume[*kind].is_null()) {
            found.push(format!(
                "volume {:?} is of a forbidden kind",
                volume["name"]
            ));
        }
    }
    for container in containers(pod) {
        let name = container["name"].as_str().unwrap_or("?");
        let own = &container["securityContext"];
        let add = list(&own["capabilities"], "add");
        let drops_all = list(&own["capabilities"], "drop")
            .iter()
            .any(|c| c == "ALL");
        let wrong = [
            (
                own["allowPrivilegeEscalation"] != false,
                "may gain privileges",
            ),
            (own["privileged"] == true, "is privileged"),
            (own["runAsNonRoot"] != true, "may run as root"),
            (
                own["runAsUser"].as_u64().is_none_or(|u| u == 0),
                "has no user of its own",
            ),
            (!drops_all || !add.is_empty(), "keeps capabilities"),
            (
                own["seccompProfile"]["type"] != "RuntimeDefault",
                "has no seccomp profile",
            ),
            (
                own["readOnlyRootFilesystem"] != true,
                "may write to its image",
            ),
            (
                list(container, "ports")
                    .iter()
                    .any(|p| !p["hostPort"].is_null()),
                "takes a host port",
            ),
        ];
        let wrong = wrong.iter().filter(|(is, _)| *is);
        found.extend(wrong.map(|(_, what)| format!("{name} {what}")));
    }
    found
}

#[test]
fn every_yaml_file_parses() {
    let mut files = vec![];
    yaml_files(&deploy(), &mut files);
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        assert!(!documents(&file).is_empty(), "{}", file.display());
    }
}

#[test]
fn kustomize_names_files_that_are_there() {
    let base = deploy().join("k8s/base");
    let kustomization = documents(&base.join("kustomization.yaml")).remove(0);
    let mut named: BTreeSet<String> = ["kustomization.yaml".into()].into();
    let generated = list(&kustomization["configMapGenerator"][0], "files");
    for file in list(&kustomization, "resources").iter().chain(generated) {
        named.insert(file.as_str().unwrap().into());
    }
    let there: BTreeSet<String> = std::fs::read_dir(&base)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, there);
}

#[test]
fn the_pod_passes_restricted_pod_security() {
    let none: Vec<String> = vec![];
    assert_eq!(objections(&pod()), none);
    let namespace = documents(&deploy().join("k8s/base/namespace.yaml")).remove(0);
    let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(level, "restricted");
}

#[test]
fn pod_security_faults_are_seen() {
    type Fault = fn(&mut Value);
    let faults: &[Fault] = &[
        |p| p["hostNetwork"] = true.into(),
        |p| p["shareProcessNamespace"] = true.into(),
        |p| p["containers"][0]["securityContext"]["runAsUser"] = 0.into(),
        |p| p["containers"][0]["securityContext"]["capabilities"]["drop"] = Value::Null,
        |p| p["initContainers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into(),
        |p| p["initContainers"][0]["securityContext"]["readOnlyRootFilesystem"] = Value::Null,
        |p| p["initContainers"][0]["securityContext"]["seccompProfile"] = Value::Null,
        |p| p["volumes"][0] = serde_yaml::from_str("{name: host, hostPath: {path: /}}").unwrap(),
    ];
    for (i, fault) in faults.iter().enumerate() {
        let mut pod = pod();
        fault(&mut pod);
        assert_eq!(
            objections(&pod).len(),
            1,
            "fault {i}: {:?}",
            objections(&pod)
        );
    }
}

#[test]
fn the_sidecar_starts_first_and_stops_last() {
    let pod = pod();
    let first = &list(&pod, "initContainers")[0];
    assert_eq!(first["name"], "farepass");
    assert_eq!(first["restartPolicy"], "Always");
    for (probe, path) in [
        ("startupProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/healthz"),
    ] {
        let get = &first[probe]["httpGet"];
        assert_eq!(
            (&get["path"], &get["port"]),
            (&path.into(), &"health".into()),
            "{probe}"
        );
    }
    let config = documents(&deploy().join("k8s/base/farepass.yaml")).remove(0);
    let drain = config["limits"]["drain"].as_str().unwrap();
    let drain: u64 = drain.trim_end_matches('s').parse().unwrap();
    assert!(pod["terminationGracePeriodSeconds"].as_u64() > Some(drain));
    // The API server raises it as `inject` does; whoever has more keeps it.
    let policy = read(&deploy().join("k8s/policy/policy.yaml"));
    let raised = "path: \"/spec/terminationGracePeriodSeconds\", value: 75}";
    assert!(policy.contains(raised) && drain < 75);
    assert_eq!(pod["automountServiceAccountToken"], false);
}

#[test]
fn users_differ() {
    let pod = pod();
    let users: BTreeSet<_> = containers(&pod)
        .iter()
        .map(|c| c["securityContext"]["runAsUser"].as_u64().unwrap())
        .collect();
    assert_eq!(users.len(), containers(&pod).len());
    assert!(users.contains(&1337) && !users.contains(&0));
}

#[test]
fn wallet_ledger_and_policy_belong_to_the_sidecar_alone() {
    let pod = pod();
    assert_eq!(
        mounts(sidecar(&pod)),
        ["ca", "config", "state", "wallet"].into()
    );
    for container in containers(&pod).iter().filter(|c| c["name"] != "farepass") {
        let theirs = mounts(container);
        for ours in ["config", "state", "wallet"] {
            assert!(
                !theirs.contains(ours),
                "{:?} mounts {ours}",
                container["name"]
            );
        }
    }
    assert_eq!(mount(sidecar(&pod), "wallet")["readOnly"], true);
    let secret = &named(list(&pod, "volumes"), "wallet")["secret"];
    assert_eq!(secret["defaultMode"].as_u64(), Some(0o440));
    // 0600 files on the state volume stay 0600 when the pod comes back.
    assert_eq!(
        pod["securityContext"]["fsGroupChangePolicy"],
        "OnRootMismatch"
    );
    assert!(
        list(&pod, "volumes").iter().all(|v| v["name"] != "state"),
        "a claim, no emptyDir"
    );
}

#[test]
fn certificates_cross_over_one_way() {
    let pod = pod();
    let volume = named(list(&pod, "volumes"), "ca");
    assert_eq!(volume["emptyDir"]["medium"], "Memory");
    assert_eq!(mount(agent(&pod), "ca")["readOnly"], true);
    let dir = mount(agent(&pod), "ca")["mountPath"].as_str().unwrap();
    assert_eq!(mount(sidecar(&pod), "ca")["mountPath"], dir);
    let args = list(sidecar(&pod), "args");
    let flag = args.iter().position(|a| a == "--export-ca").unwrap();
    assert_eq!(args[flag + 1], dir);
}

#[test]
fn the_agent_knows_proxy_and_certificates() {
    let pod = pod();
    let agent = agent(&pod);
    let config = documents(&deploy().join("k8s/base/farepass.yaml")).remove(0);
    let proxy = format!("http://{}", config["listen"]["proxy"].as_str().unwrap());
    assert!(proxy.starts_with("http://127.0.0.1:"), "{proxy}");
    for name in [
        "HTTPS_PROXY",
        "https_proxy",
        "HTTP_PROXY",
        "http_proxy",
        "WSS_PROXY",
        "WS_PROXY",
    ] {
        assert_eq!(env(agent, name), proxy, "{name}");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(env(agent, name), "localhost,127.0.0.1,::1");
    }
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "AWS_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "npm_config_cafile",
        "CARGO_HTTP_CAINFO",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "HTTPLIB2_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ] {
        assert_eq!(env(agent, name), "/run/farepass/ca/bundle.pem", "{name}");
    }
    for name in ["NODE_EXTRA_CA_CERTS", "DENO_CERT"] {
        assert_eq!(env(agent, name), "/run/farepass/ca/ca.pem", "{name}");
    }
    assert_eq!(env(agent, "NODE_USE_ENV_PROXY"), "1");
}

#[test]
fn the_policy_is_the_example() {
    let copy = read(&deploy().join("k8s/base/farepass.yaml"));
    let example = read(&deploy().join("../config/sidecar.yaml"));
    assert_eq!(copy, example, "kustomize wants a copy below its own folder");
}

#[test]
fn paths_and_ports_of_policy_and_manifest_agree() {
    let pod = pod();
    let config = documents(&deploy().join("k8s/base/farepass.yaml")).remove(0);
    let found = Path::new(env(sidecar(&pod), "FAREPASS_CONFIG"));
    let mounted = mount(sidecar(&pod), "config")["mountPath"]
        .as_str()
        .unwrap();
    assert_eq!(found, Path::new(mounted).join("farepass.yaml"));
    let wallet = config["wallets"][0]["key_file"].as_str().unwrap();
    let mounted = mount(sidecar(&pod), "wallet")["mountPath"]
        .as_str()
        .unwrap();
    assert_eq!(Path::new(wallet).parent(), Some(Path::new(mounted)));
    let state = mount(sidecar(&pod), "state")["mountPath"].as_str().unwrap();
    for kept in [&config["state_dir"], &config["tls"]["ca_dir"]] {
        assert_eq!(
            Path::new(kept.as_str().unwrap()).parent(),
            Some(Path::new(state))
        );
    }
    let admin = config["listen"]["admin"].as_str().unwrap();
    let port = named(list(sidecar(&pod), "ports"), "health")["containerPort"]
        .as_u64()
        .unwrap();
    // Probes come by whichever family the cluster prefers.
    assert_eq!(admin, format!("[::]:{port}"));
}

/// The overlay `transparent`: its patch of the pod.
fn patch() -> Value {
    let [patch] = &documents(&deploy().join("k8s/transparent/pod.yaml"))[..] else {
        panic!("pod.yaml holds one document");
    };
    patch["spec"]["template"]["spec"].clone()
}

#[test]
fn the_redirect_is_written_first_and_by_nobody_who_stays() {
    let patch = patch();
    let redirect = named(list(&patch, "initContainers"), "farepass-redirect");
    // It ends: the capability is gone before the agent starts.
    assert!(redirect["restartPolicy"].is_null());
    let rights = &redirect["securityContext"];
    assert_eq!(list(&rights["capabilities"], "drop"), ["ALL"]);
    assert_eq!(list(&rights["capabilities"], "add"), ["NET_ADMIN"]);
    assert_eq!(rights["readOnlyRootFilesystem"], true);
    assert_eq!(rights["allowPrivilegeEscalation"], false);
    assert_eq!(mounts(redirect), ["redirect"].into());
    assert_eq!(list(&patch, "initContainers").len(), 1);
    assert!(patch["containers"].is_null(), "the agent gains nothing");
    // Nor can it become the user that the rules let out.
    let pod = pod();
    let own = &agent(&pod)["securityContext"];
    assert!(!matches!(own["runAsUser"].as_u64(), None | Some(0 | 1337)));
    assert_eq!(own["allowPrivilegeEscalation"], false);
    let folder = deploy().join("k8s/transparent");
    let overlay = documents(&folder.join("kustomization.yaml")).remove(0);
    let generated = list(&overlay, "configMapGenerator").iter();
    let files = generated.flat_map(|g| list(g, "files"));
    let patches = list(&overlay, "patches").iter().map(|p| &p["path"]);
    let mut named: BTreeSet<String> = ["kustomization.yaml".into()].into();
    named.extend(files.chain(patches).map(|f| f.as_str().unwrap().to_owned()));
    let there = std::fs::read_dir(&folder).unwrap();
    let there = there.map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(named, there.collect());
}

#[test]
fn rules_policy_and_pod_agree_on_user_and_port() {
    let folder = deploy().join("k8s/transparent");
    let rules = read(&folder.join("redirect.nft"));
    let pod = pod();
    let user = sidecar(&pod)["securityContext"]["runAsUser"].as_u64();
    let exempt = format!("meta skuid {}", user.unwrap());
    assert_eq!(rules.matches(&exempt).count(), 2);
    assert_eq!(rules.matches("skuid").count(), 2, "nobody else is exempt");
    let config = documents(&folder.join("farepass.yaml")).remove(0);
    let listeners = list(&config["listen"], "transparent");
    assert_eq!(listeners, ["127.0.0.1:4021", "[::1]:4021"]);
    assert!(rules.contains("redirect to :4021"));
    // docs/agents.md shows the same rules.
    let shown = read(&deploy().join("../docs/agents.md"));
    let bare = rules.lines().filter(|l| !l.trim_start().starts_with('#'));
    let bare: Vec<_> = bare.collect();
    assert!(shown.contains(&bare.join("\n")), "{bare:?}");
    // Otherwise it is the base's policy.
    let base = read(&deploy().join("k8s/base/farepass.yaml"));
    let own = read(&folder.join("farepass.yaml"));
    let added: Vec<_> = own
        .lines()
        .filter(|l| !base.lines().any(|b| b == *l))
        .collect();
    assert_eq!(added.len(), 2, "{added:?}");
}

#[test]
fn port_53_leads_to_private_addresses_only() {
    let rules = read(&deploy().join("k8s/transparent/redirect.nft"));
    let dns = rules.lines().map(str::trim);
    let dns: Vec<_> = dns.filter(|l| l.contains("dport 53 accept")).collect();
    let [four, six] = &dns[..] else {
        panic!("one rule for each family: {dns:?}");
    };
    let set = |rule: &str, family: &str| {
        let rest = rule.strip_prefix(family).and_then(|r| r.split_once(" } "));
        let (set, _) = rest.unwrap_or_else(|| panic!("to anybody: {rule}"));
        set.split(", ").map(Value::from).collect::<Vec<_>>()
    };
    // The base's NetworkPolicy calls the same ones private.
    let network = documents(&deploy().join("k8s/base/network.yaml")).remove(0);
    let blocks = list(&network["spec"]["egress"][1], "to");
    for (rule, family, block) in [
        (four, "ip daddr { ", &blocks[0]),
        (six, "ip6 daddr { ", &blocks[1]),
    ] {
        assert_eq!(set(rule, family), list(&block["ipBlock"], "except"));
    }
}

/// A policy that selects a pod closes it to everybody whom no policy names.
#[test]
fn metrics_open_what_the_base_closes_and_close_nothing() {
    let all = documents(&deploy().join("k8s/monitor/monitor.yaml"));
    let opened = all.iter().find(|d| d["kind"] == "NetworkPolicy").unwrap();
    let base = documents(&deploy().join("k8s/base/network.yaml")).remove(0);
    assert_eq!(opened["spec"]["podSelector"], base["spec"]["podSelector"]);
    assert!(!opened["spec"]["podSelector"]["matchLabels"].is_null());
}

/// Some API servers admit a class of the system outside of kube-system only where a quota names it.
#[test]
fn the_injectors_priority_has_a_quota() {
    let all = documents(&deploy().join("k8s/injector/injector.yaml"));
    let of = |kind: &str| all.iter().find(|d| d["kind"] == kind).unwrap();
    let injector = &of("Deployment")["spec"];
    let quota = &of("ResourceQuota")["spec"];
    let [scope] = list(&quota["scopeSelector"], "matchExpressions") else {
        panic!("one scope: {quota:?}");
    };
    assert_eq!(scope["scopeName"], "PriorityClass");
    let class = injector["template"]["spec"]["priorityClassName"].clone();
    assert_eq!(list(scope, "values"), [class]);
    let pods: u64 = quota["hard"]["pods"].as_str().unwrap().parse().unwrap();
    // In a rollout there is one more, beside those that still end.
    assert!(pods > 2 * injector["replicas"].as_u64().unwrap());
}

/// The base's pod, without a volume of its own and with the way to the database.
#[test]
fn the_fleet_is_the_base_with_one_ledger() {
    let folder = deploy().join("k8s/fleet");
    let [deployment] = &documents(&folder.join("agent.yaml"))[..] else {
        panic!("agent.yaml holds one document");
    };
    assert_eq!(deployment["kind"], "Deployment");
    let mut fleet = deployment["spec"]["template"]["spec"].clone();
    let none: Vec<String> = vec![];
    assert_eq!(objections(&fleet), none);
    let config = documents(&folder.join("farepass.yaml")).remove(0);
    let postgres = &config["ledger"]["postgres"];
    let secret = named(list(&fleet, "volumes"), "database")["secret"].clone();
    assert_eq!(secret["defaultMode"], 0o440, "secret_file takes no more");
    let kustomization = read(&folder.join("kustomization.yaml"));
    let mounted = mount(sidecar(&fleet), "database")["mountPath"].clone();
    for file in ["url_file", "ca_file"] {
        let path = Path::new(postgres[file].as_str().unwrap());
        assert_eq!(path.parent(), mounted.as_str().map(Path::new));
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(
            kustomization.contains(&format!("--from-file={name}")),
            "{name}"
        );
    }
    let agents = list(agent(&fleet), "volumeMounts");
    assert!(agents.iter().all(|m| m["name"] != "database"));
    let without = |list: &mut Value, names: &[&str]| {
        let list = list.as_sequence_mut().unwrap();
        list.retain(|item| names.iter().all(|name| item["name"] != *name));
    };
    without(&mut fleet["volumes"], &["database", "state"]);
    without(
        &mut fleet["initContainers"][0]["volumeMounts"],
        &["database"],
    );
    assert_eq!(fleet, pod(), "otherwise it is the base's");
    let base = read(&deploy().join("k8s/base/farepass.yaml"));
    let own = read(&folder.join("farepass.yaml"));
    let plain = |l: &&str| !l.trim_start().starts_with('#');
    let added = own.lines().filter(|l| !base.lines().any(|b| b == *l));
    let added: Vec<_> = added.filter(plain).collect();
    assert_eq!(added.len(), 4, "{added:?}");
}
