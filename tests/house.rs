//! The house keeps itself: floors and doors, purity, lengths, panics, and what no file may mention.
//! Every message says the fix.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A room, its floor, and whether it is pure: no I/O, environment, clock, randomness, async, floats.
const ROOMS: &[(&str, u8, bool)] = &[
    ("clock", 0, false),
    ("custody", 0, false),
    ("evm", 0, true),
    ("failpoint", 0, false),
    ("lightning", 0, true),
    ("money", 0, true),
    ("payment", 0, true),
    ("section", 0, true),
    ("settings", 0, true),
    ("signer", 0, true),
    ("solana", 0, true),
    ("budget", 1, true),
    ("policy", 1, true),
    ("protocol", 1, true),
    ("scheme", 1, true),
    ("sidecar", 1, true),
    ("bazaar", 2, false),
    ("chain", 2, false),
    ("event", 2, false),
    ("fetch", 2, false),
    ("ledger", 2, false),
    ("wallet", 2, false),
    ("payer", 3, false),
    ("proxy", 4, false),
    ("tls", 4, false),
    ("admin", 5, false),
    ("admission", 5, false),
    ("app", 5, false),
    ("cli", 5, false),
    ("config", 5, false),
    ("demo", 5, false),
];

/// The only ways between rooms on one floor, each with its reason.
const DOORS: &[(&str, &str, &str)] = &[
    ("money", "evm", "an asset has an address"),
    ("money", "solana", "an asset has a program"),
    ("lightning", "money", "an invoice is for a network"),
    ("payment", "clock", "a timestamp is a value"),
    ("payment", "evm", "typed data is written in its words"),
    ("payment", "lightning", "an invoice is what is paid"),
    ("payment", "money", "an amount is a value"),
    ("payment", "signer", "a statement comes with its seal"),
    ("payment", "solana", "a transfer is what is signed"),
    ("settings", "clock", "a window is a value"),
    ("settings", "money", "a price is a value"),
    ("settings", "section", "settings are read from one subtree"),
    ("signer", "evm", "an account is a key"),
    ("protocol", "scheme", "an envelope carries a scheme"),
    ("bazaar", "fetch", "a catalogue is asked over HTTP"),
    ("chain", "fetch", "a node is asked over HTTP"),
    ("ledger", "event", "an entry is stored with its event"),
    ("event", "fetch", "a webhook is a request"),
    ("wallet", "fetch", "a remote signer is asked over HTTP"),
    ("proxy", "tls", "a tunnel ends in a TLS server"),
    ("app", "admin", "assembly builds it"),
    ("app", "config", "assembly reads the file"),
    ("app", "demo", "assembly builds it"),
    ("admin", "config", "a reload reads the file again"),
    ("cli", "admin", "commands speak to a running proxy"),
    ("cli", "admission", "a command starts the webhook"),
    ("cli", "app", "a command starts the house"),
    ("cli", "config", "commands read the file"),
    ("cli", "demo", "a command starts the demo"),
    ("demo", "app", "the demo starts the house"),
    ("demo", "config", "the demo writes a file and reads it"),
];

/// Names that one room alone may use, so that what they stand for can be exchanged in one place.
const SOLE: &[(&str, &str, &str)] = &[
    (
        "serde_yaml",
        "section",
        "the file format is known to one room",
    ),
    (
        "rusqlite",
        "ledger",
        "the storage format is known to one room",
    ),
    (
        "tokio_postgres",
        "ledger",
        "the storage format is known to one room",
    ),
    (
        "SystemTime",
        "clock",
        "there is one reader of wall time; ask it for a Timestamp",
    ),
    ("rcgen", "tls", "certificates are made in one room"),
];

/// What a pure room never names.
const IMPURE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::io",
    "std::thread",
    "std::time",
    "tokio",
    "hyper",
    "rand",
    "getrandom",
    "SystemTime",
    "Instant",
    "f32",
    "f64",
    "println",
    "eprintln",
];

const FUNCTION_LINES_MAX: usize = 60;
const FILE_LINES_MAX: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `dir`, sorted, without what tools and runs leave behind.
fn files(dir: &Path) -> Vec<PathBuf> {
    const LEFT: &[&str] = &["target", ".git", "node_modules", ".farepass", "mutants.out"];
    let mut found = vec![];
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if LEFT.contains(&name.as_str()) {
            continue;
        }
        match path.is_dir() {
            true => found.append(&mut files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn named(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

/// Where a source file stands: its room, and how many `super` lead to the crate's root.
fn place(path: &Path) -> (String, usize) {
    let inside = path
        .strip_prefix(root().join("src"))
        .unwrap()
        .with_extension("");
    let mut parts: Vec<_> = inside
        .iter()
        .map(|p| p.to_string_lossy().into_owned())
        .collect();
    if parts.len() > 1 && parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    (parts[0].clone(), parts.len())
}

fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|a| {
        let text = quote(&a.meta);
        text == "test" || text.ends_with(":: test") || text == "cfg (test)"
    })
}

fn quote(meta: &syn::Meta) -> String {
    match meta {
        syn::Meta::Path(p) => p
            .segments
            .iter()
            .map(|s| s.ident.to_string())
            .collect::<Vec<_>>()
            .join(" :: "),
        syn::Meta::List(l) => format!("{} ({})", l.path.segments.last().unwrap().ident, l.tokens),
        syn::Meta::NameValue(_) => String::new(),
    }
}

/// What one source file does, its `#[cfg(test)]` parts left out.
#[derive(Default)]
struct Shape {
    /// Every path it names, `use` or inline: `crate::money::Usd`, `std::fs`.
    paths: BTreeSet<String>,
    /// Modules that are there in tests only.
    test_modules: Vec<String>,
    problems: Vec<String>,
    functions: usize,
    longest: usize,
    asynchronous: bool,
    depth: usize,
}

impl Shape {
    fn of(file: &syn::File, depth: usize) -> Self {
        let mut shape = Self {
            depth,
            ..Self::default()
        };
        shape.visit_file(file);
        shape
    }

    fn function(&mut self, sig: &syn::Signature, block: &syn::Block) {
        let (first, last) = (block.span().start().line, block.span().end().line);
        let lines = last - first;
        self.functions += 1;
        self.longest = self.longest.max(lines);
        self.asynchronous |= sig.asyncness.is_some();
        if lines > FUNCTION_LINES_MAX {
            let name = &sig.ident;
            self.problems.push(format!(
                "{first}: `{name}` is {lines} lines long, at most {FUNCTION_LINES_MAX}: give one of its steps a name"
            ));
        }
    }

    fn path(&mut self, path: String, line: usize) {
        let supers = path.split("::").take_while(|s| *s == "super").count();
        if supers >= self.depth {
            self.problems.push(format!(
                "{line}: `{path}` leaves the room by the back door: write `crate::room::…`"
            ));
        }
        self.paths.insert(path);
    }

    /// Macro arguments are not parsed: take every run of `a::b::c` and every `.unwrap()` out of them.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut run, mut colons, mut dot) = (String::new(), 0, false);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let line = ident.span().start().line;
                    if dot && is_panic(&ident.to_string()) {
                        self.problems.push(panics(&ident.to_string(), line));
                    }
                    self.asynchronous |= dot && ident == "await";
                    match colons {
                        2 => run = format!("{run}::{ident}"),
                        _ => run = ident.to_string(),
                    }
                    self.path(run.clone(), line);
                    (colons, dot) = (0, false);
                }
                TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
                TokenTree::Punct(p) => (colons, dot) = (0, p.as_char() == '.'),
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    (colons, dot) = (0, false);
                }
                TokenTree::Literal(_) => (colons, dot) = (0, false),
            }
        }
    }
}

fn is_panic(method: &str) -> bool {
    matches!(method, "unwrap" | "expect" | "unwrap_err" | "expect_err")
}

fn panics(method: &str, line: usize) -> String {
    format!("{line}: `.{method}()` may panic: return an error, or take another branch")
}

impl<'ast> Visit<'ast> for Shape {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attrs = match item {
            syn::Item::Mod(i) => &i.attrs,
            syn::Item::Fn(i) => &i.attrs,
            syn::Item::Impl(i) => &i.attrs,
            syn::Item::Use(i) => &i.attrs,
            syn::Item::Struct(i) => &i.attrs,
            syn::Item::Const(i) => &i.attrs,
            syn::Item::Static(i) => &i.attrs,
            _ => return visit::visit_item(self, item),
        };
        match item {
            syn::Item::Mod(m) if is_test(attrs) => self.test_modules.push(m.ident.to_string()),
            _ if is_test(attrs) => {}
            _ => visit::visit_item(self, item),
        }
    }
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.depth += 1;
        visit::visit_item_mod(self, item);
        self.depth -= 1;
    }
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }
    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }
    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.asynchronous |= item.sig.asyncness.is_some();
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let line = item.span().start().line;
        let mut uses = vec![];
        flat(&item.tree, "", &mut uses);
        uses.into_iter().for_each(|path| self.path(path, line));
    }
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.path(parts.join("::"), path.span().start().line);
        visit::visit_path(self, path);
    }
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if is_panic(&call.method.to_string()) {
            let line = call.method.span().start().line;
            self.problems.push(panics(&call.method.to_string(), line));
        }
        visit::visit_expr_method_call(self, call);
    }
    fn visit_expr_await(&mut self, expr: &'ast syn::ExprAwait) {
        self.asynchronous = true;
        visit::visit_expr_await(self, expr);
    }
    fn visit_expr_async(&mut self, expr: &'ast syn::ExprAsync) {
        self.asynchronous = true;
        visit::visit_expr_async(self, expr);
    }
    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.tokens(mac.tokens.clone());
    }
}

fn flat(tree: &syn::UseTree, at: &str, out: &mut Vec<String>) {
    let join = |ident: &syn::Ident| match at {
        "" => ident.to_string(),
        _ => format!("{at}::{ident}"),
    };
    match tree {
        syn::UseTree::Path(p) => flat(&p.tree, &join(&p.ident), out),
        syn::UseTree::Group(g) => g.items.iter().for_each(|tree| flat(tree, at, out)),
        syn::UseTree::Name(n) => out.push(join(&n.ident)),
        syn::UseTree::Rename(n) => out.push(join(&n.ident)),
        syn::UseTree::Glob(_) => out.push(at.to_string()),
    }
}

/// `std::fs` in `std::fs::read`, `f64` in `f64::from`, but not `rand` in `strand`.
fn mentions(path: &str, name: &str) -> bool {
    format!("::{path}::").contains(&format!("::{name}::"))
}

fn floor(room: &str) -> Option<(u8, bool)> {
    ROOMS
        .iter()
        .find(|(name, ..)| *name == room)
        .map(|(_, floor, pure)| (*floor, *pure))
}

/// What is wrong with the paths that a room names.
fn neighbours(here: &str, shape: &Shape) -> Vec<String> {
    let mut problems = vec![];
    let Some((level, pure)) = floor(here) else {
        return vec![format!(
            "`{here}` is no room: give it a floor in ROOMS of tests/house.rs, or move the file into one"
        )];
    };
    for path in &shape.paths {
        let mut parts = path.split("::");
        let there = match (parts.next(), parts.next()) {
            (Some("crate"), Some(there)) if there != here => Some(there),
            (Some("farepass"), _) => {
                problems.push(format!("`{path}`: inside the house write `crate::…`"));
                None
            }
            _ => None,
        };
        if let Some(there) = there.filter(|there| floor(there).is_some()) {
            let below = floor(there).is_some_and(|(f, _)| f < level);
            let door = DOORS
                .iter()
                .any(|(from, to, _)| (*from, *to) == (here, there));
            if !below && !door {
                problems.push(format!(
                    "`{here}` (floor {level}) may not use `{path}`: pass the value in as an argument, move the code down, or add a door with its reason to DOORS"
                ));
            }
        }
        for (name, sole, why) in SOLE.iter().filter(|(_, sole, _)| *sole != here) {
            if mentions(path, name) {
                problems.push(format!("`{path}` is for the room `{sole}` alone: {why}"));
            }
        }
        for name in IMPURE.iter().filter(|name| pure && mentions(path, name)) {
            problems.push(format!(
                "`{path}`: a pure room never names `{name}`: take the value as an argument"
            ));
        }
    }
    if pure && shape.asynchronous {
        problems.push("a pure room does not wait: no `async`, no `.await`".into());
    }
    problems
}

#[test]
fn rooms_keep_to_their_floors() {
    let mut report = String::new();
    let (mut shapes, mut tests) = (vec![], BTreeSet::new());
    for path in files(&root().join("src"))
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", named(&path)));
        let (room, depth) = place(&path);
        let shape = Shape::of(&file, depth);
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let below = match stem.as_str() {
            "mod" | "lib" | "main" => path.parent().unwrap().to_path_buf(),
            _ => path.with_extension(""),
        };
        for module in &shape.test_modules {
            tests.insert(below.join(module).with_extension("rs"));
            tests.insert(below.join(module).join("mod.rs"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            let _ = writeln!(
                report,
                "{}: {lines} lines, at most {FILE_LINES_MAX}: move one idea (or the tests) to a file beside it",
                named(&path)
            );
        }
        if !file.attrs.iter().any(|a| a.path().is_ident("doc")) {
            let _ = writeln!(
                report,
                "{}:1: begin with `//! ` and one sentence: what this file is for",
                named(&path)
            );
        }
        shapes.push((path, room, shape));
    }
    let (mut functions, mut longest) = (0, 0);
    for (path, room, shape) in shapes.iter().filter(|(path, ..)| !tests.contains(path)) {
        let mut problems = shape.problems.clone();
        match room.as_str() {
            "lib" | "main" => {}
            _ => problems.append(&mut neighbours(room, shape)),
        }
        for problem in problems {
            let _ = writeln!(report, "{}:{problem}", named(path));
        }
        functions += shape.functions;
        longest = longest.max(shape.longest);
    }
    println!(
        "{} files, {functions} functions, the longest {longest} lines",
        shapes.len()
    );
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_room_has_one_line_in_lib() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for line in lib.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        let room = line.trim_end_matches(';');
        assert!(
            floor(room).is_some(),
            "src/lib.rs: `{room}` is on no floor: add it to ROOMS of tests/house.rs"
        );
    }
    for (from, to, _) in DOORS {
        let (a, b) = (floor(from), floor(to));
        assert!(
            a.is_some() && a.map(|f| f.0) == b.map(|f| f.0),
            "DOORS: {from}→{to} is not between two rooms on one floor"
        );
    }
}

/// Folders of one machine. Written in two halves, so that this file does not name them itself.
const MACHINE: &[(&str, &str)] = &[
    ("/wo", "rk/"),
    ("/ro", "ot/"),
    ("/tm", "p/"),
    ("/ho", "me/"),
    ("../sha", "red"),
];

#[test]
fn no_file_names_one_machine() {
    let mut report = String::new();
    let skip = ["lock", "png", "gz", "wasm", "snap.new"];
    for path in files(root()) {
        let name = named(&path);
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        if skip.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            for machine in MACHINE.iter().map(|(a, b)| format!("{a}{b}")) {
                if stands_alone(line, &machine) {
                    let _ = writeln!(
                        report,
                        "{name}:{}: `{machine}…` exists on one machine only: use a relative path, an argument or a temporary directory",
                        number + 1
                    );
                }
            }
        }
        if name.ends_with("package-lock.json") && text.contains("\"resolved\"") {
            let _ = writeln!(
                report,
                "{name}: names a registry: delete the `resolved` fields, `npm ci` does without"
            );
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// Begins a path (`"/x/y"`, not `a/x/y`) and goes on with a lower-case name.
fn stands_alone(line: &str, machine: &str) -> bool {
    line.match_indices(machine).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + machine.len()..].chars().next();
        let begins = !before.is_some_and(|c| c.is_alphanumeric() || "_-./}".contains(c));
        begins && (machine.starts_with('.') || after.is_some_and(|c| c.is_ascii_lowercase()))
    })
}

/// The checks themselves, on small houses that are out of order.
mod faults {
    use super::*;

    fn problems(room: &str, text: &str) -> String {
        let shape = Shape::of(&syn::parse_file(text).unwrap(), 1);
        let mut all = shape.problems.clone();
        all.append(&mut neighbours(room, &shape));
        all.join("\n")
    }

    #[test]
    fn are_seen() {
        for (room, text, want) in [
            (
                "money",
                "use crate::policy::decide;",
                "may not use `crate::policy::decide`",
            ),
            ("wallet", "fn f() { crate::ledger::open() }", "may not use"),
            ("money", "use super::policy::decide;", "back door"),
            (
                "money",
                "mod m { fn f() { super::super::policy::decide() } }",
                "back door",
            ),
            ("attic", "", "is no room"),
            ("budget", "use std::{fs, fmt};", "never names `std::fs`"),
            ("budget", "fn f() -> f64 { 1.0 }", "never names `f64`"),
            (
                "budget",
                "fn f() { let x = format!(\"{}\", f64::from(1)); }",
                "never names `f64`",
            ),
            ("budget", "async fn f() {}", "does not wait"),
            ("budget", "fn f() { vec![g().await]; }", "does not wait"),
            (
                "ledger",
                "use std::time::SystemTime;",
                "for the room `clock` alone",
            ),
            (
                "policy",
                "use serde_yaml::Value;",
                "for the room `section` alone",
            ),
            ("wallet", "fn f() { g().unwrap(); }", "may panic"),
            (
                "wallet",
                "fn f() { println(format!(\"{}\", g().expect(\"x\"))); }",
                "may panic",
            ),
            ("proxy", "use farepass::money::Usd;", "write `crate::…`"),
        ] {
            let found = problems(room, text);
            assert!(found.contains(want), "{room}: {text}\nfound: {found:?}");
        }
        let long = format!("fn f() {{\n{}}}", "g();\n".repeat(61));
        assert!(problems("wallet", &long).contains("62 lines long"));
    }

    #[test]
    fn are_not_imagined() {
        for (room, text) in [
            (
                "policy",
                "use crate::money::Usd; use self::terms; fn f() { let strand = 1; }",
            ),
            ("app", "use crate::config::read;"),
            ("clock", "use std::time::SystemTime;"),
            (
                "budget",
                "#[cfg(test)] mod tests { use std::fs; fn f() { g().unwrap(); } }",
            ),
            (
                "budget",
                "#[cfg(test)] mod props; /// f64, tokio and .unwrap() in a comment\nfn f() {}",
            ),
            ("budget", "#[test] fn f() { g().unwrap(); }"),
        ] {
            assert_eq!(problems(room, text), "", "{room}: {text}");
        }
        let machine = MACHINE[0].0.to_owned() + MACHINE[0].1;
        assert!(stands_alone(&format!("cd {machine}main"), &machine));
        assert!(!stands_alone(
            &format!("https://example.com{machine}x"),
            &machine
        ));
        assert!(!stands_alone(&format!("mounted at {machine}"), &machine));
    }
}
