//! A Python with requests, httpx and aiohttp, in an environment of its own beside the stand's packages.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Pinned, so that the folder can be named after them.
const PACKAGES: &[&str] = &[
    "requests==2.34.2",
    "httpx[http2]==0.28.1",
    "aiohttp==3.14.5",
];

/// The interpreter; the first caller makes the environment. `None` after saying SKIPPED.
pub(crate) fn python() -> Option<&'static PathBuf> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    super::needs(PYTHON.get_or_init(make).as_ref().map_err(Clone::clone))
}

fn make() -> Result<PathBuf, String> {
    let cache = match std::env::var_os("FAREPASS_STAND_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let home = std::env::var_os("HOME").ok_or("there is no HOME for a cache")?;
            let own = PathBuf::from(home).join(".cache");
            std::env::var_os("XDG_CACHE_HOME")
                .map_or(own, PathBuf::from)
                .join("farepass/stand")
        }
    };
    let named = hex::encode(&super::sha256(PACKAGES.join(" ").as_bytes())[..6]);
    let home = cache.join(format!("python-{named}"));
    let python = home.join("bin/python");
    if home.join("installed").exists() && works(&python) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet"])
        .args(PACKAGES))?;
    std::fs::write(home.join("installed"), "").map_err(|e| e.to_string())?;
    Ok(python)
}

fn works(python: &PathBuf) -> bool {
    run(Command::new(python).args(["-c", "import requests, httpx, aiohttp"])).is_ok()
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
        assert!(works(python));
    }
}
