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

/// The named file, else `$FAREPASS_CONFIG`, else `farepass.yaml` here, else in the user's
/// configuration folder. A file that was named is taken whether it is there or not.
///
/// # Errors
/// When none was named and none is there.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Missing> {
    let set = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(file) = named
        .map(Path::to_path_buf)
        .or_else(|| set("FAREPASS_CONFIG"))
    {
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
