//! What a program must be told so that its HTTP client uses the proxy and trusts its authority.
//! Most clients read one or two of these variables; together they reach nearly all.

use std::borrow::Cow;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
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
    let preload = for_node("--require=", &files.preload);
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
    all.push(for_java("-Djavax.net.ssl.trustStore=", truststore));
    all.push(" -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit");
    all
}

/// One word of Node's list of options: what has blanks stands in double quotes, and in those a backslash takes
/// what follows as it is.
fn for_node(option: &str, path: &Path) -> OsString {
    let path = path.as_os_str().as_bytes();
    if !path.contains(&b' ') && !path.contains(&b'"') {
        return OsString::from_vec([option.as_bytes(), path].concat());
    }
    let mut word = [b"\"", option.as_bytes()].concat();
    for byte in path {
        if matches!(byte, b'"' | b'\\') {
            word.push(b'\\');
        }
        word.push(*byte);
    }
    word.push(b'"');
    OsString::from_vec(word)
}

/// One word of Java's list of options: it ends at a blank that is not between two quotes of one kind, and nothing
/// else is special, so a quote stands between two of the other kind.
fn for_java(option: &str, path: &Path) -> OsString {
    let word = [option.as_bytes(), path.as_os_str().as_bytes()].concat();
    let special = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | 0x0b);
    if !word.iter().any(special) {
        return OsString::from_vec(word);
    }
    let pieces = word.chunk_by(|one, next| (*one == b'"') == (*next == b'"'));
    let quoted = pieces.flat_map(|piece| {
        let mark: &[u8] = if piece.starts_with(b"\"") {
            b"'"
        } else {
            b"\""
        };
        [mark, piece, mark].concat()
    });
    OsString::from_vec(quoted.collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Words as the runtimes read them; `run` under such a folder is in the tests of the program.
    #[test]
    fn a_path_with_blanks_or_quotes_is_one_word() {
        for (path, node, java) in [
            ("/t/a", "-x=/t/a", "-x=/t/a"),
            ("/t/a\\b", "-x=/t/a\\b", "-x=/t/a\\b"),
            ("/t/a b", "\"-x=/t/a b\"", "\"-x=/t/a b\""),
            ("/t/a b\\c", "\"-x=/t/a b\\\\c\"", "\"-x=/t/a b\\c\""),
            ("/t/it's", "-x=/t/it's", "\"-x=/t/it's\""),
            ("/t/5\"", "\"-x=/t/5\\\"\"", "\"-x=/t/5\"'\"'"),
            ("/t/'\"'", "\"-x=/t/'\\\"'\"", "\"-x=/t/'\"'\"'\"'\""),
        ] {
            let read = |word: OsString| word.into_string().unwrap();
            assert_eq!(read(for_node("-x=", path.as_ref())), node, "Node: {path}");
            assert_eq!(read(for_java("-x=", path.as_ref())), java, "Java: {path}");
        }
    }
}
