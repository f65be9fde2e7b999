//! The variables that lead an agent's clients through the proxy and make them trust its authority.
//! Most clients read one or two of them; together they reach nearly all.

use serde_json::{Value, json};

use super::tree::{name, text};
use super::{Denial, parts};

/// Where the proxy is. Some clients read lower case only, some upper case only: wget and curl the
/// lower case of `http_proxy`, and Ruby nothing else.
pub const PROXY: &[&str] = &[
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "WSS_PROXY",
    "WS_PROXY",
];

/// What some clients read where they find none of those, or before. It is not set, and may not lead elsewhere.
pub const ALL_PROXY: &[&str] = &["ALL_PROXY", "all_proxy"];

/// Proxies of single programs, which believe these before all of those. Some are read in any case, and with
/// hyphens for underscores.
const OF_ONE: &[&str] = &[
    "npm_config_https_proxy",
    "npm_config_http_proxy",
    "npm_config_proxy",
    "npm_config_noproxy",
    "YARN_HTTPS_PROXY",
    "YARN_HTTP_PROXY",
    "CARGO_HTTP_PROXY",
    "PIP_PROXY",
    "grpc_proxy",
    "no_grpc_proxy",
    "CLOUDSDK_PROXY_ADDRESS",
    "CLOUDSDK_PROXY_PORT",
    "CLOUDSDK_PROXY_TYPE",
    "CLOUDSDK_PROXY_USERNAME",
    "CLOUDSDK_PROXY_PASSWORD",
];

/// Does this variable lead a single program elsewhere, or out?
#[must_use]
pub fn is_of_one(name: &str) -> bool {
    let name = name.replace('-', "_");
    OF_ONE.iter().any(|other| other.eq_ignore_ascii_case(&name))
}

/// Is this setting of git's a proxy? It beats all variables.
fn is_git_proxy(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.ends_with(".proxy") && (key.starts_with("http.") || key.starts_with("remote."))
}

/// Settings of git's in the environment that are a proxy, by the names of their values (`GIT_CONFIG_COUNT`).
#[must_use]
pub fn git_proxies(given: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let count = given("GIT_CONFIG_COUNT").and_then(|count| count.parse::<u16>().ok());
    let proxies = (0..count.unwrap_or_default()).filter(|number| {
        given(&format!("GIT_CONFIG_KEY_{number}")).is_some_and(|key| is_git_proxy(&key))
    });
    proxies
        .map(|number| format!("GIT_CONFIG_VALUE_{number}"))
        .collect()
}

/// What is reached directly.
pub const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];

/// Each entry is a way around the policy: this machine only.
pub const DIRECT: &str = "localhost,127.0.0.1,::1";

/// These replace the roots of a client: they get the platform's roots as well.
pub const BUNDLE: &[&str] = &[
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
];

/// These add to them.
pub const CA: &[&str] = &["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Node 22.21 and 24.5 or newer use the proxy only when told so.
pub const NODE: &str = "NODE_USE_ENV_PROXY";

/// Of all variables, in the order in which they are written.
fn ours() -> impl Iterator<Item = (&'static str, &'static str)> {
    let proxy = PROXY.iter().map(|name| (*name, parts::PROXY_URL));
    let bundle = BUNDLE.iter().map(|name| (*name, parts::BUNDLE));
    let ca = CA.iter().map(|name| (*name, parts::CA));
    proxy.chain(bundle).chain(ca).chain([(NODE, "1")])
}

/// Options that others may have put something into: ours come last.
fn appended() -> [(&'static str, &'static str, char); 4] {
    [
        (NO_PROXY[0], DIRECT, ','),
        (NO_PROXY[1], DIRECT, ','),
        ("NODE_OPTIONS", parts::NODE_OPTIONS, ' '),
        ("JAVA_TOOL_OPTIONS", parts::JAVA_OPTIONS, ' '),
    ]
}

/// What was in a list that the variables took the place of.
#[derive(Default)]
pub(super) struct Put {
    /// What the container's author should know.
    pub(super) warnings: Vec<String>,
    /// Entries that led elsewhere, whole.
    pub(super) replaced: Vec<Value>,
    /// What the container was to reach without a proxy.
    direct: Option<Value>,
}

impl Put {
    /// Another proxy, which the container was told to use, and what it was to reach without: as the
    /// sidecar's own variables.
    ///
    /// # Errors
    /// When one of them refers to other variables, which stay where they are: they could be any of the
    /// sidecar's own.
    pub(super) fn parent(&self, container: &str) -> Result<Vec<Value>, Denial> {
        let [upper, lower, ..] = PROXY else {
            return Ok(vec![]);
        };
        let https = last(&self.replaced, upper).or_else(|| last(&self.replaced, lower));
        let Some(https) = https else {
            return Ok(vec![]);
        };
        let mut parent = vec![];
        for (called, entry) in [(*upper, Some(https)), (NO_PROXY[0], self.direct.as_ref())] {
            let Some(entry) = entry else { continue };
            if text(entry, "value").is_some_and(refers) {
                return Err(Denial::new(format!(
                    "container `{container}`: {} goes to the sidecar, and what it refers to by $(…) does not: write it whole, or take all of it from a Secret",
                    name(entry)
                )));
            }
            let mut entry = entry.clone();
            entry["name"] = called.into();
            parent.push(entry);
        }
        Ok(parent)
    }

    /// What the container's author should know of the proxies that were replaced, when this much of them
    /// became the sidecar's own.
    pub(super) fn took(&self, container: &str, parent: &[Value]) -> Option<String> {
        let first = name(self.replaced.first()?);
        Some(match parent {
            [] => format!(
                "container `{container}` named another proxy, in {first}: Farepass takes its place, and does not go through it; one that it shall go through is named in {}",
                PROXY.first()?
            ),
            _ => format!(
                "container `{container}` named another proxy: Farepass takes its place, and goes through it with `egress.upstream_proxy: environment`"
            ),
        })
    }
}

/// Of several entries of one name the last counts.
fn last<'a>(env: &'a [Value], variable: &str) -> Option<&'a Value> {
    env.iter().rfind(|entry| name(entry) == variable)
}

/// Does Kubernetes put other variables into it? Two dollar signs stand for one.
fn refers(value: &str) -> bool {
    value.replace("$$", "").contains("$(")
}

/// Adds them to a container's list.
pub(super) fn put(env: &mut Vec<Value>, container: &str) -> Put {
    let mut put = Put {
        direct: NO_PROXY.iter().find_map(|n| last(env, n)).cloned(),
        ..Put::default()
    };
    for (variable, value) in ours() {
        if last(env, variable).is_none() {
            env.push(json!({ "name": variable, "value": value }));
            continue;
        }
        if PROXY.contains(&variable) {
            put.replaced.extend(replace(env, variable));
        } else if others(env, variable, value).next().is_some() {
            put.warnings.push(format!(
                "container `{container}` sets {variable} itself: what reads it must be told to trust {}",
                parts::CA
            ));
        }
    }
    for variable in ALL_PROXY {
        put.replaced.extend(replace(env, variable));
    }
    for (variable, value, between) in appended() {
        match env.iter_mut().rfind(|entry| name(entry) == variable) {
            None => env.push(json!({ "name": variable, "value": value })),
            Some(entry) => match entry.get("value").and_then(Value::as_str) {
                Some("") => entry["value"] = value.into(),
                Some(given) => entry["value"] = format!("{given}{between}{value}").into(),
                None => put.warnings.push(format!(
                    "container `{container}` takes {variable} from elsewhere, so it was left as it is"
                )),
            },
        }
    }
    put
}

/// Entries of a variable with another value.
fn others<'a>(
    env: &'a mut [Value],
    variable: &'a str,
    value: &'a str,
) -> impl Iterator<Item = &'a mut Value> {
    env.iter_mut()
        .filter(move |entry| name(entry) == variable && text(entry, "value") != Some(value))
}

/// Leads every entry of a variable to the proxy. What they were.
fn replace(env: &mut [Value], variable: &str) -> Vec<Value> {
    let ours = json!({ "name": variable, "value": parts::PROXY_URL });
    others(env, variable, parts::PROXY_URL)
        .map(|there| std::mem::replace(there, ours.clone()))
        .collect()
}

/// Puts back what [`put`] took the place of.
pub(super) fn restore(env: &mut [Value], replaced: &[Value]) {
    for before in replaced {
        let ours = |entry: &&mut Value| {
            name(entry) == name(before) && entry.get("value").is_some_and(|v| v == parts::PROXY_URL)
        };
        if let Some(entry) = env.iter_mut().find(ours) {
            *entry = before.clone();
        }
    }
}

/// Takes them out again, and leaves what was there before.
pub(super) fn remove(env: &mut Vec<Value>) {
    env.retain(|entry| {
        let mut all = ours().chain(appended().map(|(name, value, _)| (name, value)));
        !all.any(|(ours, value)| {
            name(entry) == ours && entry.get("value").is_some_and(|v| v == value)
        })
    });
    for (variable, value, between) in appended() {
        let found = env.iter_mut().rfind(|entry| name(entry) == variable);
        let Some(entry) = found else { continue };
        let given = entry.get("value").and_then(Value::as_str);
        let before = given.and_then(|given| given.strip_suffix(value)?.strip_suffix(between));
        if let Some(before) = before.map(str::to_owned) {
            entry["value"] = before.into();
        }
    }
}
