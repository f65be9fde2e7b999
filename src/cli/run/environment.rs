//! What a program must be told so that its HTTP client uses the proxy and trusts its authority.
//! Most clients read one or two of these variables; together they reach nearly all.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;

use super::folder::Files;
use crate::sidecar::variables;

/// Where the program comes in, for `doctor`, which knows no port that is lent to one program.
pub(in crate::cli) const LENT: &str = "FAREPASS_PROXY";

/// A variable and its value; `None` removes it.
pub(super) type Setting = (&'static str, Option<OsString>);

/// Every variable that differs for the program. `given` looks one up in our own environment: a few
/// are lists that others may have put something in.
pub(super) fn environment(
    given: &dyn Fn(&str) -> Option<OsString>,
    url: &str,
    proxy: SocketAddr,
    files: &Files,
) -> Vec<Setting> {
    let mut all = proxies(url);
    all.extend(roots(files));
    if given("NIX_SSL_CERT_FILE").is_some() {
        // Programs from nixpkgs prefer it to SSL_CERT_FILE.
        all.push(("NIX_SSL_CERT_FILE", Some(files.bundle.clone().into())));
    }
    all.push((LENT, Some(proxy.to_string().into())));
    all.push((variables::NODE, Some("1".into())));
    all.push(("NODE_USE_SYSTEM_CA", Some("1".into())));
    let preload = quoted("--require=", &files.preload);
    all.push((
        "NODE_OPTIONS",
        Some(appended(given("NODE_OPTIONS"), preload)),
    ));
    let java = java(proxy, &files.truststore);
    all.push((
        "JAVA_TOOL_OPTIONS",
        Some(appended(given("JAVA_TOOL_OPTIONS"), java)),
    ));
    // Before the colon: what is read already. Nothing stands for PHP's built-in folder.
    let mut php = given("PHP_INI_SCAN_DIR").unwrap_or_default();
    php.push(":");
    php.push(&files.php);
    all.push(("PHP_INI_SCAN_DIR", Some(php)));
    all
}

fn proxies(url: &str) -> Vec<Setting> {
    let mut all: Vec<Setting> = variables::PROXY
        .iter()
        .map(|n| (*n, Some(url.into())))
        .collect();
    for name in variables::NO_PROXY {
        all.push((name, Some(variables::DIRECT.into())));
    }
    // Some clients prefer it, and it may point elsewhere.
    for name in variables::ALL_PROXY {
        all.push((name, None));
    }
    all
}

fn roots(files: &Files) -> Vec<Setting> {
    let named = |names: &'static [&'static str], file: &Path| {
        let value = file.as_os_str().to_owned();
        names
            .iter()
            .map(move |n| (*n, Some(value.clone())))
            .collect::<Vec<_>>()
    };
    let mut all = named(variables::BUNDLE, &files.bundle);
    all.extend(named(variables::CA, &files.ca));
    all.push(("SSL_CERT_DIR", Some(files.certs.clone().into())));
    all.push(("WGETRC", Some(files.wgetrc.clone().into())));
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
