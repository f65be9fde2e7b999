//! curl as a stranger would use it: only the proxy and the CA are set.

use std::process::{Command, Stdio};

use super::http::{self, Answer};

/// A curl that knows the proxy and the CA from its environment and nothing else.
pub(crate) fn curl(proxy: &str, ca: &std::path::Path) -> Command {
    let mut curl = Command::new("curl");
    curl.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HTTPS_PROXY", proxy)
        .env("http_proxy", proxy)
        .env("CURL_CA_BUNDLE", ca)
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--suppress-connect-headers",
            "--no-buffer",
        ])
        .args(["--max-time", "60"])
        .stdin(Stdio::null());
    curl
}

/// Runs it; the answer, or what curl said.
pub(crate) fn fetch(mut curl: Command) -> Result<Answer, String> {
    let out = curl
        .output()
        .map_err(|e| format!("curl does not start: {e}"))?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    let mut from = out.stdout.as_slice();
    loop {
        let head = http::read_head(&mut from)
            .map_err(|e| e.to_string())?
            .ok_or("no head")?;
        let status = head
            .first
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or("no status")?;
        if (100..200).contains(&status) {
            continue;
        }
        // curl has taken the framing off already.
        let fields: Vec<_> = head.fields;
        let plain = http::Head {
            first: String::new(),
            fields: vec![],
        };
        let body = http::read_body(&plain, &mut from, true).map_err(|e| e.to_string())?;
        return Ok(Answer {
            status,
            fields,
            body,
        });
    }
}
