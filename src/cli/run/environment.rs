//! What a program must be told so that its HTTP client uses the proxy and trusts its authority.
//! Most clients read one or two of these variables; together they reach nearly all.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;

use super::folder::Files;
use crate::sidecar::variables;

/// Where the program comes in, for `doctor`, which knows no port that is lent to one program.
pub(in crate::cli) const LENT: &str = "FAREPASS_PROXY";

/// A variable and its value; `None` removes it.
pub(super) type Setting = (Cow<'static, str>, Option<OsString>);

/// The names of all variables of our own environment.
pub(super) fn names() -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter_map(|name| name.into_string().ok()).collect()
}

/// Every variable that differs for the program. `given` looks one up in our own environment: a few
/// are lists that others may have put something in. `names` are all that there are.
pub(super) fn environment(
    given: &dyn Fn(&str) -> Option<OsString>,
    names: &[String],
    (url, proxy): (&str, SocketAddr),
    files: &Files,
) -> Vec<Setting> {
    let mut all = proxies(url);
    all.extend(proxies_of_one(given, names, url));
    all.extend(roots(files));
    if given("NIX_SSL_CERT_FILE").is_some() {
        // Programs from nixpkgs prefer it to SSL_CERT_FILE.
        all.push((
            "NIX_SSL_CERT_FILE".into(),
            Some(files.bundle.clone().into()),
        ));
    }
    all.push((LENT.into(), Some(proxy.to_string().into())));
    all.push((variables::NODE.into(), Some("1".into())));
    all.push(("NODE_USE_SYSTEM_CA".into(), Some("1".into())));
    let preload = quoted("--require=", &files.preload);
    all.push((
        "NODE_OPTIONS".into(),
        Some(appended(given("NODE_OPTIONS"), preload)),
    ));
    let java = java(proxy, &files.truststore);
    all.push((
        "JAVA_TOOL_OPTIONS".into(),
        Some(appended(given("JAVA_TOOL_OPTIONS"), java)),
    ));
    // Before the colon: what is read already. Nothing stands for PHP's built-in folder.
    let mut php = given("PHP_INI_SCAN_DIR").unwrap_or_default();
    php.push(":");
    php.push(&files.php);
    all.push(("PHP_INI_SCAN_DIR".into(), Some(php)));
    all
}

fn proxies(url: &str) -> Vec<Setting> {
    let mut all: Vec<Setting> = variables::PROXY
        .iter()
        .map(|n| ((*n).into(), Some(url.into())))
        .collect();
    for name in variables::NO_PROXY {
        all.push(((*name).into(), Some(variables::DIRECT.into())));
    }
    // Some clients prefer it, and it may point elsewhere.
    for name in variables::ALL_PROXY {
        all.push(((*name).into(), None));
    }
    all
}

/// Settings of single programs that beat the variables, and may lead elsewhere.
fn proxies_of_one(
    given: &dyn Fn(&str) -> Option<OsString>,
    names: &[String],
    url: &str,
) -> Vec<Setting> {
    let gone = names.iter().filter(|name| variables::is_of_one(name));
    let mut all: Vec<Setting> = gone.map(|name| (name.clone().into(), None)).collect();
    // One of a list cannot be taken out.
    let text = |name: &str| given(name)?.into_string().ok();
    let git = variables::git_proxies(&text).into_iter();
    all.extend(git.map(|name| (name.into(), Some(url.into()))));
    all
}

fn roots(files: &Files) -> Vec<Setting> {
    let named = |names: &'static [&'static str], file: &Path| {
        let value = file.as_os_str().to_owned();
        names
            .iter()
            .map(move |n| ((*n).into(), Some(value.clone())))
            .collect::<Vec<_>>()
    };
    let mut all = named(variables::BUNDLE, &files.bundle);
    all.extend(named(variables::CA, &files.ca));
    all.push(("SSL_CERT_DIR".into(), Some(files.certs.clone().into())));
    all.push(("WGETRC".into(), Some(files.wgetrc.clone().into())));
    all
}

/// Java reads no proxy and no certificate variable, but takes system properties from this one.
fn java(proxy: SocketAddr, truststore: &Path) -> OsString {
    let (host, port) = (proxy.ip(), proxy.port());
    let mut all = OsString::from(format!(
        "-Dhttps.proxyHost={host} -Dhttps.proxyPort={port} -Dhttp.proxyHost={host} -Dhttp.proxyPort={port} \
         -Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1] "
    ));
    all.push(quoted("-Djavax.net.ssl.trustStore=", truststore));
    all.push(" -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit");
    all
}

/// One word of a list of options. Node and Java both take double quotes around a word with blanks.
fn quoted(option: &str, path: &Path) -> OsString {
    let blank = path.as_os_str().as_encoded_bytes().contains(&b' ');
    let mark = if blank { "\"" } else { "" };
    let parts: [&OsStr; 4] = [mark.as_ref(), option.as_ref(), path.as_ref(), mark.as_ref()];
    parts.into_iter().collect()
}

/// What others have put there stays, and comes first.
fn appended(given: Option<OsString>, ours: OsString) -> OsString {
    match given.filter(|g| !g.is_empty()) {
        Some(mut all) => {
            all.push(" ");
            all.push(ours);
            all
        }
        None => ours,
    }
}
