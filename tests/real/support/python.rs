//! Pythons in environments of their own beside the stand's packages: one with requests, httpx and
//! aiohttp, one with what judges our pages, one with the official MCP client, one with SDKs of model providers.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Pinned, so that the folder can be named after them.
const PACKAGES: &[&str] = &[
    "requests==2.34.2",
    "httpx[http2]==0.28.1",
    "aiohttp==3.14.5",
];

/// A description of an interface, its schemas, the text of metrics and Kubernetes objects, as others read them.
const JUDGES: &[&str] = &[
    "schemathesis==4.32.5",
    "openapi-spec-validator==0.9.0",
    "jsonschema==4.26.0",
    "prometheus_client==0.26.0",
    "kubernetes-validate==1.37.0",
    "jsonpatch==1.48",
];

/// The official SDK of the Model Context Protocol.
const MCP: &[&str] = &["mcp==2.3.0"];

/// The official definitions of OTLP, and gRPC.
const COLLECTOR: &[&str] = &["opentelemetry-proto==1.45.2", "grpcio==1.85.3"];

/// SDKs of model providers, as agents use them.
const SDKS: &[&str] = &["openai==3.54.0", "langchain-openai==1.7.3"];

/// The interpreter with those SDKs.
pub(crate) fn sdks() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| make(SDKS, "openai, langchain_openai"));
    super::needs(made.as_ref().map_err(Clone::clone))
}

/// The interpreter that can be a collector of telemetry.
pub(crate) fn collector() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| make(COLLECTOR, "opentelemetry.proto, grpc"));
    super::needs(made.as_ref().map_err(Clone::clone))
}

/// The interpreter; the first caller makes the environment. `None` after saying SKIPPED.
pub(crate) fn python() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| make(PACKAGES, "requests, httpx, aiohttp"));
    super::needs(made.as_ref().map_err(Clone::clone))
}

/// The interpreter with the judges.
pub(crate) fn judges() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| {
        make(
            JUDGES,
            "openapi_spec_validator, prometheus_client, kubernetes_validate",
        )
    });
    super::needs(made.as_ref().map_err(Clone::clone))
}

/// The interpreter with the official MCP client.
pub(crate) fn mcp() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = PYTHON.get_or_init(|| make(MCP, "mcp"));
    super::needs(made.as_ref().map_err(Clone::clone))
}

/// What a judge says of a JSON document. `None` after saying SKIPPED.
pub(crate) fn judged(script: &str, document: &Value) -> Option<Value> {
    Some(said(judges()?, script, document))
}

/// What a script in that folder says of a JSON document.
pub(crate) fn said(python: &PathBuf, script: &str, document: &Value) -> Value {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/real/judges")
        .join(script);
    let mut command = Command::new(python);
    let child = command.arg(script).stdin(Stdio::piped());
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let text = document.to_string();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, text.as_bytes()).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// The folder that tools are kept in from run to run.
pub(crate) fn cache() -> Result<PathBuf, String> {
    Ok(match std::env::var_os("FAREPASS_STAND_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home = std::env::var_os("HOME").ok_or("there is no HOME for a cache")?;
            let own = PathBuf::from(home).join(".cache");
            std::env::var_os("XDG_CACHE_HOME")
                .map_or(own, PathBuf::from)
                .join("farepass/stand")
        }
    })
}

/// An interpreter with these packages, which can import these modules.
pub(crate) fn make(packages: &[&str], imports: &str) -> Result<PathBuf, String> {
    let cache = cache()?;
    let named = hex::encode(&super::sha256(packages.join(" ").as_bytes())[..6]);
    let home = cache.join(format!("python-{named}"));
    let python = home.join("bin/python");
    if home.join("installed").exists() && works(&python, imports) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(packages))?;
    std::fs::write(home.join("installed"), "").map_err(|e| e.to_string())?;
    Ok(python)
}

fn works(python: &PathBuf, imports: &str) -> bool {
    run(Command::new(python).args(["-c", &format!("import {imports}")])).is_ok()
}

fn run(command: &mut Command) -> Result<(), String> {
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("Python with venv is needed: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{command:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        )),
    }
}

#[test]
fn python_is_there() {
    if let Some(python) = python() {
        assert!(works(python, "requests, httpx, aiohttp"));
    }
}
