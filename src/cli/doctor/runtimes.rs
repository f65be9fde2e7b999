//! Every runtime on this machine, asked to fetch one page that only the proxy can answer: whoever gets
//! its answer goes through the proxy and trusts its authority.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::finding::Finding;
use super::variables::RUN;
use crate::config::Config;
use crate::settings::Intercept;

/// No such name, by RFC 6761: the proxy says so itself, inside the tunnel, with status 502 or 403.
const URL: &str = "https://doctor.farepass.invalid/";

const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime, how it is asked, and what tells that it got the proxy's own answer.
struct Runtime {
    name: &'static str,
    command: &'static [&'static str],
    /// The text given to it as a last argument, where it takes a script.
    script: &'static str,
}

const PYTHON: &str = "python3";

/// Each prints `status NNN`, or fails with its own words.
const RUNTIMES: &[Runtime] = &[
    Runtime {
        name: "curl",
        command: &[
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "status %{http_code}",
        ],
        script: "",
    },
    Runtime {
        name: "wget",
        command: &["wget", "-nv", "-t", "1", "-T", "20", "-O", "/dev/null"],
        script: "",
    },
    Runtime {
        name: "git",
        command: &["git", "-c", "credential.helper=", "ls-remote"],
        script: "",
    },
    Runtime {
        name: "Python urllib",
        command: &[PYTHON, "-c"],
        script: "import sys, urllib.request, urllib.error
try: urllib.request.urlopen(sys.argv[1], timeout=20)
except urllib.error.HTTPError as e: print('status', e.code)",
    },
    Runtime {
        name: "Python requests",
        command: &[PYTHON, "-c"],
        script: "import sys
try: import requests
except ImportError: sys.exit('not installed')
print('status', requests.get(sys.argv[1], timeout=20).status_code)",
    },
    Runtime {
        name: "Python httpx",
        command: &[PYTHON, "-c"],
        script: "import sys
try: import httpx
except ImportError: sys.exit('not installed')
print('status', httpx.get(sys.argv[1], timeout=20).status_code)",
    },
    Runtime {
        name: "Node fetch",
        command: &["node", "-e"],
        script: "fetch(process.argv[1]).then(a => console.log('status', a.status), e => { console.error(String(e.cause || e)); process.exit(1) })",
    },
    Runtime {
        name: "Java",
        command: &["java", "-XshowSettings:none", "-version"],
        script: "",
    },
    Runtime {
        name: "Go",
        command: &["go", "version"],
        script: "",
    },
];

pub(super) async fn look(config: &Config, given: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    if given("HTTPS_PROXY")
        .or_else(|| given("https_proxy"))
        .is_none()
    {
        let said = format!("not tried: no proxy is set here; {RUN} sets one");
        return vec![Finding::unknown("runtimes", said)];
    }
    if config.tls.intercept == Intercept::Payable {
        let said = "not tried: with `intercept: payable` unpaid hosts are not opened";
        return vec![Finding::unknown("runtimes", said)];
    }
    let mut tried = tokio::task::JoinSet::new();
    for (number, runtime) in RUNTIMES.iter().enumerate() {
        tried.spawn(async move { (number, runtime.ask().await) });
    }
    let mut all = vec![];
    while let Some(done) = tried.join_next().await {
        if let Ok((number, Some(finding))) = done {
            all.push((number, finding));
        }
    }
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, finding)| finding).collect()
}

impl Runtime {
    /// Nothing when it is not installed.
    async fn ask(&self) -> Option<Finding> {
        let (program, arguments) = self.command.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments);
        match self.name {
            // Read by the runtime when it starts; a page of it would need a compiler.
            "Java" => return java(command).await,
            "Go" => return go(command).await,
            _ if self.script.is_empty() => command.arg(URL),
            _ => command.args([self.script, URL]),
        };
        command.env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
        let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await;
        let Ok(output) = output else {
            return Some(Finding::wrong(self.name, "no answer in time", RUN));
        };
        // Not installed.
        let output = output.ok()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if said.contains("not installed") {
            return None;
        }
        let answered = [
            "status 502",
            "status 403",
            "error: 502",
            "error: 403",
            "ERROR 502",
            "ERROR 403",
        ];
        if answered.iter().any(|words| said.contains(words)) {
            return Some(Finding::ok(
                self.name,
                "goes through the proxy and trusts it",
            ));
        }
        Some(self.explain(&said))
    }

    fn explain(&self, said: &str) -> Finding {
        let lower = said.to_lowercase();
        let word = |words: &[&str]| words.iter().any(|w| lower.contains(w));
        let line = said.lines().rev().find(|l| !l.trim().is_empty());
        let line = crate::cli::table::plain(line.unwrap_or("it said nothing").trim());
        if word(&["certificate", "ssl", "self-signed", "unknown ca", "issuer"]) {
            return Finding::wrong(
                self.name,
                format!("does not trust the authority: {line}"),
                RUN,
            );
        }
        if word(&[
            "resolve",
            "enotfound",
            "eai_again",
            "name or service",
            "getaddrinfo",
        ]) {
            return Finding::wrong(self.name, format!("goes around the proxy: {line}"), RUN);
        }
        Finding::wrong(self.name, format!("does not get through: {line}"), RUN)
    }
}

/// It tells on stderr which options it picked up.
async fn java(mut command: Command) -> Option<Finding> {
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).output()).await;
    let output = output.ok()?.ok()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let set = said.contains("https.proxyHost") && said.contains("javax.net.ssl.trustStore");
    Some(match set {
        true => Finding::ok(
            "Java",
            "has a proxy and a trust store in $JAVA_TOOL_OPTIONS",
        ),
        false => Finding::wrong(
            "Java",
            "reads neither $HTTPS_PROXY nor a certificate variable",
            RUN,
        ),
    })
}

/// Nothing to run without a project: it reads the same variables as curl.
async fn go(mut command: Command) -> Option<Finding> {
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).output()).await;
    output.ok()?.ok()?;
    let said = "not tried; reads $HTTPS_PROXY and $SSL_CERT_FILE, which are judged above";
    Some(Finding::unknown("Go", said))
}
