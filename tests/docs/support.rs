//! Documents as these tests read them, and a shell as a newcomer has it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One document, by its path below the root.
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block: the words behind the fence, and what is in it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) info: String,
    pub(crate) text: String,
    /// The number of the fence's line, from 1.
    pub(crate) line: usize,
}

impl Document {
    pub(crate) fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        Self {
            name: name.to_owned(),
            text,
        }
    }

    /// Its fenced blocks, in order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut found = vec![];
        let mut lines = self.text.lines().enumerate();
        while let Some((number, line)) = lines.next() {
            let Some(info) = line.trim_start().strip_prefix("```") else {
                continue;
            };
            let body = lines.by_ref().map(|(_, l)| l);
            let body = body.take_while(|l| !l.trim_start().starts_with("```"));
            found.push(Block {
                info: info.to_owned(),
                text: body.map(|l| format!("{l}\n")).collect(),
                line: number + 1,
            });
        }
        found
    }

    /// What is outside of fenced blocks.
    pub(crate) fn prose(&self) -> String {
        let mut fenced = false;
        let lines = self.text.lines().filter(|line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        });
        lines.map(|l| format!("{l}\n")).collect()
    }
}

/// The README, then everything in `docs`, by name.
pub(crate) fn documents() -> Vec<Document> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect();
    names.sort();
    assert!(names.len() >= 10, "{names:?}");
    let docs = names
        .iter()
        .map(|path| format!("docs/{}", path.file_name().unwrap().to_str().unwrap()));
    std::iter::once("README.md".to_owned())
        .chain(docs)
        .map(|name| Document::read(&name))
        .collect()
}

/// The rows below this heading, without their borders. One document has that table.
pub(crate) fn table(heading: &str) -> Vec<String> {
    let mut all = documents();
    all.push(Document::read("CONTRIBUTING.md"));
    let mark = format!("\n{heading}\n|---");
    let having: Vec<_> = all.iter().filter(|d| d.text.contains(&mark)).collect();
    let [document] = having[..] else {
        panic!("the table `{heading}` is in {} documents", having.len());
    };
    let (_, rest) = document.text.split_once(&mark).unwrap();
    let rows = rest.lines().skip(1).take_while(|l| l.starts_with('|'));
    rows.map(|l| l.trim_matches('|').trim().to_owned())
        .collect()
}

/// Runs one block as a newcomer would: in one folder after the other blocks, `farepass` on the path.
pub(crate) fn shell(folder: &Path, block: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_farepass")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-eu", "-c", block]).current_dir(folder);
    shell.env("PATH", format!("{}:{path}", binary.display()));
    shell.env("HOME", folder).env_remove("FAREPASS_CONFIG");
    shell.output().unwrap()
}

/// A folder in which `farepass init` was run, and a session was made.
pub(crate) fn newcomer() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = shell(folder.path(), "farepass init && farepass session create");
    assert!(made.status.success(), "{made:?}");
    folder
}

/// Why it failed, or nothing.
pub(crate) fn failure(output: &Output) -> Option<String> {
    let told = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned());
    (!output.status.success()).then(|| format!("{}\n{}", output.status, told.join("\n")))
}
