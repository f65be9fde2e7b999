//! A second round of admission: what other plugins set in the sidecar since stays, and nothing that gains
//! anybody anything.

use serde_json::{Value, json};

use super::super::tree::entries;
use super::super::*;
use super::{done, env, injected, pod, settings};

const TOKEN: &str = "/var/run/secrets/eks.amazonaws.com/serviceaccount";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn tokens() -> [Value; 2] {
    let token = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } });
    let roots = json!({ "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } });
    let namespace = json!({ "downwardAPI": { "items": [{
        "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
    }] } });
    [
        json!({ "name": "aws-iam-token", "projected": { "sources": [token] } }),
        json!({ "name": "kube-api-access-x", "projected": { "sources": [token, roots, namespace] } }),
    ]
}

fn add(value: &mut Value, more: impl IntoIterator<Item = Value>) {
    if value.is_null() {
        *value = json!([]);
    }
    if let Value::Array(list) = value {
        list.extend(more);
    }
}

fn mount(volume: &str, at: &str) -> Value {
    json!({ "name": volume, "mountPath": at, "readOnly": true })
}

fn set(variable: &str, value: &str) -> Value {
    json!({ "name": variable, "value": value })
}

/// As AlwaysPullImages, LimitRanger, the plugin for service accounts and Amazon's webhooks leave a container.
fn changed(container: &mut Value) {
    container["imagePullPolicy"] = "Always".into();
    container["terminationMessagePath"] = "/dev/termination-log".into();
    container["terminationMessagePolicy"] = "File".into();
    container["resources"]["limits"]["cpu"] = "500m".into();
    container["resources"]["requests"]["ephemeral-storage"] = "1Gi".into();
    add(
        &mut container["volumeMounts"],
        [
            mount("kube-api-access-x", ACCOUNT),
            mount("aws-iam-token", TOKEN),
        ],
    );
    add(
        &mut container["env"],
        [
            set("AWS_STS_REGIONAL_ENDPOINTS", "regional"),
            set("AWS_DEFAULT_REGION", "eu-central-1"),
            set("AWS_REGION", "eu-central-1"),
            set(
                "AWS_ROLE_ARN",
                "arn:aws:iam::123456789012:role/path/payer@x",
            ),
            set("AWS_WEB_IDENTITY_TOKEN_FILE", &format!("{TOKEN}/token")),
            set(
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "http://169.254.170.23/v1/credentials",
            ),
            set(
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                &format!("{TOKEN}/token"),
            ),
        ],
    );
}

/// The sidecar of a pod that came back with this in it.
fn second(change: impl Fn(&mut Value)) -> Value {
    let mut pod = injected(&pod());
    add(&mut pod["spec"]["volumes"], tokens());
    change(&mut pod["spec"]["initContainers"][0]);
    injected(&pod)["spec"]["initContainers"][0].clone()
}

#[test]
fn what_other_plugins_set_in_the_sidecar_outlives_a_second_round() {
    for (mode, form, key) in [
        (Mode::Explicit, Form::Native, "initContainers"),
        (Mode::Transparent, Form::Native, "initContainers"),
        (Mode::Explicit, Form::Container, "containers"),
    ] {
        let settings = Settings {
            mode,
            form,
            ..settings()
        };
        let mut first = done(&pod(), &settings).pod;
        let mut bare = pod();
        for pod in [&mut first, &mut bare] {
            add(&mut pod["spec"]["volumes"], tokens());
        }
        let ours = |container: &&mut Value| [NAME, REDIRECT].contains(&name(container));
        let list = first["spec"][key].as_array_mut().unwrap();
        list.iter_mut().filter(ours).for_each(changed);
        let second = done(&first, &settings).pod;
        assert_eq!(second["spec"][key], first["spec"][key], "{mode:?} {form:?}");
        assert_eq!(done(&second, &settings).pod, second);
        assert_eq!(uninject(&second), bare, "{mode:?} {form:?}");
    }
}

#[test]
fn nothing_else_of_a_container_stays_that_somebody_may_have_forged() {
    let plain = second(|_| {});
    let forge = |key: &str, value: Value| {
        let sidecar = second(|sidecar| sidecar[key] = value.clone());
        assert_eq!(sidecar, plain, "{key}: {value}");
    };
    forge("image", json!("evil"));
    forge("command", json!(["sh"]));
    forge("args", json!(["serve", "--config", "x.yaml"]));
    forge("envFrom", json!([{ "secretRef": { "name": "x" } }]));
    forge(
        "lifecycle",
        json!({ "postStart": { "exec": { "command": ["x"] } } }),
    );
    forge("securityContext", json!({ "privileged": true }));
    forge("imagePullPolicy", json!("Never"));
    forge(
        "terminationMessagePath",
        json!("/etc/farepass/farepass.yaml"),
    );
    forge("terminationMessagePolicy", json!("x"));
    forge(
        "volumeDevices",
        json!([{ "name": "x", "devicePath": "/dev/x" }]),
    );
    for resources in [
        json!({ "limits": { "memory": "1Mi", "example.com/device": 1 } }),
        json!({ "requests": { "cpu": "9", "memory": {} }, "limits": { "cpu": [] } }),
        json!({ "claims": [{ "name": "x" }] }),
    ] {
        forge("resources", resources);
    }
    let elsewhere = |container: &mut Value| {
        container["name"] = NAME.into();
        container["imagePullPolicy"] = "Always".into();
    };
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ "farepass.dev/injected": "9.9.9" });
    add(&mut pod["spec"]["containers"], [json!({})]);
    elsewhere(&mut pod["spec"]["containers"][1]);
    let sidecar = &injected(&pod)["spec"]["initContainers"][0];
    assert_eq!(*sidecar, plain, "it stands in another list");
}

#[test]
fn what_a_node_has_by_a_moving_tag_is_not_taken_for_the_image() {
    for (image, stays) in [
        ("farepass:1", true),
        ("registry:5000/farepass:1", true),
        ("registry:5000/farepass@sha256:00", true),
        ("farepass", false),
        ("registry:5000/farepass", false),
        ("farepass:latest", false),
    ] {
        let settings = Settings {
            image: image.into(),
            ..settings()
        };
        let mut pod = done(&pod(), &settings).pod;
        pod["spec"]["initContainers"][0]["imagePullPolicy"] = "IfNotPresent".into();
        let sidecar = &done(&pod, &settings).pod["spec"]["initContainers"][0];
        assert_eq!(sidecar.get("imagePullPolicy").is_some(), stays, "{image}");
    }
}

#[test]
fn a_mount_stays_only_where_it_shows_a_token_to_be_read() {
    let with = |volume: Option<Value>, mount: Value| {
        let mut pod = injected(&pod());
        add(
            &mut pod["spec"]["volumes"],
            tokens().into_iter().chain(volume),
        );
        add(
            &mut pod["spec"]["initContainers"][0]["volumeMounts"],
            [mount],
        );
        entries(&injected(&pod)["spec"]["initContainers"][0], "volumeMounts").len()
    };
    let usual = entries(&second(|_| {}), "volumeMounts").len();
    assert_eq!(with(None, mount("aws-iam-token", TOKEN)), usual + 1);
    for at in [
        "/run/farepass/wallet",
        "/var/run/secrets",
        "/var/run/secrets/",
        "/var/run/secrets/../farepass/wallet",
        "/var/run/secrets/a/../../x",
        "/var/run/secrets//x",
        "/etc/ssl/certs",
    ] {
        assert_eq!(with(None, mount("aws-iam-token", at)), usual, "{at}");
    }
    for more in [
        json!({ "readOnly": false }),
        json!({ "subPath": "x" }),
        json!({ "subPathExpr": "$(X)" }),
        json!({ "mountPropagation": "Bidirectional" }),
    ] {
        let mut mount = mount("aws-iam-token", TOKEN);
        for (key, value) in more.as_object().unwrap() {
            mount[key] = value.clone();
        }
        assert_eq!(with(None, mount), usual, "{more}");
    }
    let token = json!({ "serviceAccountToken": { "path": "token" } });
    for volume in [
        json!({ "emptyDir": {} }),
        json!({ "secret": { "secretName": "x" } }),
        json!({ "hostPath": { "path": "/" } }),
        json!({ "projected": { "sources": [] } }),
        json!({ "projected": { "sources": [{ "configMap": { "name": "kube-root-ca.crt" } }] } }),
        json!({ "projected": { "sources": [token, { "secret": { "name": "x" } }] } }),
        json!({ "projected": { "sources": [token, { "configMap": { "name": "x" } }] } }),
        json!({ "projected": { "sources": [token, { "downwardAPI": { "items": [
            { "path": "x", "fieldRef": { "fieldPath": "metadata.annotations['x']" } },
        ] } }] } }),
    ] {
        let mut named = volume.clone();
        named["name"] = "forged".into();
        assert_eq!(with(Some(named), mount("forged", TOKEN)), usual, "{volume}");
    }
    // The pod's own volume of this name gives way to the wallet.
    let wallet = json!({ "name": "farepass-wallet", "projected": { "sources": [token] } });
    assert_eq!(with(Some(wallet), mount("farepass-wallet", TOKEN)), usual);
}

#[test]
fn a_variable_stays_only_where_it_leads_the_sidecar_nowhere_else() {
    let with = |entry: Value| {
        let variable = name(&entry).to_owned();
        let sidecar = second(|sidecar| {
            add(
                &mut sidecar["volumeMounts"],
                [mount("aws-iam-token", TOKEN)],
            );
            add(&mut sidecar["env"], [entry.clone()]);
        });
        env(&sidecar, &variable).map(str::to_owned)
    };
    let six = "http://[fd00:ec2::23]/v1/credentials";
    let uri = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    assert_eq!(with(set(uri, six)).as_deref(), Some(six));
    let file = format!("{TOKEN}/token");
    for (variable, value) in [
        (uri, "http://127.0.0.1:9/v1/credentials"),
        (uri, "https://evil.example/"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "x"),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "/run/farepass/wallet/wallet.key",
        ),
        (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "/run/farepass/wallet/wallet.key",
        ),
        (
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            &format!("{TOKEN}/../../../farepass/wallet/wallet.key"),
        ),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &format!("{TOKEN}x/token")),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &format!("{ACCOUNT}/token")),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", TOKEN),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/$(HTTPS_PROXY)"),
        ("AWS_ROLE_ARN", "role"),
        ("AWS_REGION", "evil.example/"),
        ("AWS_STS_REGIONAL_ENDPOINTS", "x"),
        ("AWS_ENDPOINT_URL", "https://evil.example"),
        ("AWS_ENDPOINT_URL_STS", "https://evil.example"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SHARED_CREDENTIALS_FILE", &file),
        ("AWS_PROFILE", "x"),
        ("HTTPS_PROXY", "http://evil.example"),
        ("FAREPASS_BUDGET", "9 USD"),
        ("LD_PRELOAD", &file),
    ] {
        assert_eq!(with(set(variable, value)), None, "{variable}={value}");
    }
    let from = json!({ "name": "AWS_REGION", "value": "x", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    assert_eq!(with(from), None);
}
