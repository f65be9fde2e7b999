//! Which file is the configuration.

use std::env;
use std::path::{Path, PathBuf};

/// No file where one is looked for.
#[derive(Debug, thiserror::Error)]
#[error("there is no configuration; looked for {}", shown(.0))]
pub struct Missing(pub Vec<PathBuf>);

fn shown(places: &[PathBuf]) -> String {
    let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
    places.join(", ")
}

fn set(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|v| !v.is_empty());
    value.map(PathBuf::from)
}

/// The file that `$FAREPASS_CONFIG` names.
#[must_use]
pub fn named() -> Option<PathBuf> {
    set("FAREPASS_CONFIG")
}

/// The named file, else `$FAREPASS_CONFIG`, else `farepass.yaml` here, else in the user's
/// configuration folder. A file that was named is taken whether it is there or not.
///
/// # Errors
/// When none was named and none is there.
pub fn find(by: Option<&Path>) -> Result<PathBuf, Missing> {
    if let Some(file) = by.map(Path::to_path_buf).or_else(named) {
        return Ok(file);
    }
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")));
    let mut places = vec![PathBuf::from("farepass.yaml")];
    places.extend(folder.map(|f| f.join("farepass/farepass.yaml")));
    match places.iter().find(|p| p.exists()) {
        Some(file) => Ok(file.clone()),
        None => Err(Missing(places)),
    }
}
