//! The threat model, and the tests that show each promise: every number has one, and every one is there.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

#[path = "threats/table.rs"]
mod table;

use table::TABLE;

/// How a promise is kept.
pub(crate) enum Kept {
    /// By code: each of these tests fails without it. `path.rs::function`, or a case of
    /// `tests/adversarial` as `file.json#ID`.
    Shown(&'static [&'static str]),
    /// By who installs it: a chapter of a document says so, and these tests hold the rest.
    Told {
        chapter: &'static str,
        words: &'static str,
        tests: &'static [&'static str],
    },
}

/// One threat: its number, our promise in one line, and how it is kept.
pub(crate) type Threat = (&'static str, &'static str, Kept);

/// How many numbers each family has. Closed: a new threat is a reviewed line here and one in the table.
const FAMILIES: &[(&str, u32)] = &[
    ("I", 12),
    ("X", 23),
    ("M", 19),
    ("T", 17),
    ("H", 15),
    ("S", 8),
    ("D", 10),
    ("A", 11),
    ("L", 8),
];

fn id(family: &str, n: u32) -> String {
    match family {
        "I" => format!("I{n}"),
        _ => format!("{family}-{n:02}"),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Kept {
    fn tests(&self) -> &'static [&'static str] {
        match self {
            Self::Shown(tests) | Self::Told { tests, .. } => tests,
        }
    }
}

/// The tests of one file: those that run, and those that are ignored.
#[derive(Default)]
struct Tests {
    run: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

impl Tests {
    fn of(text: &str) -> syn::Result<Self> {
        let mut tests = Self::default();
        tests.visit_file(&syn::parse_file(text)?);
        Ok(tests)
    }

    fn found(&mut self, name: String, words: &[String]) {
        // A test that a platform leaves out is none on this one only; one that is ignored is none at all.
        let is_test = words.iter().any(|w| w == "test" || w.ends_with("::test"));
        match (is_test, words.iter().any(|w| w == "ignore")) {
            (true, false) => self.run.insert(name),
            (true, true) => self.ignored.insert(name),
            (false, _) => false,
        };
    }

    /// Functions in a macro's braces: `proptest!` is written like ordinary tests.
    fn in_macro(&mut self, tokens: TokenStream) {
        let (mut words, mut function) = (vec![], false);
        for token in tokens {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                    let text: String = group.stream().to_string();
                    words.push(text.replace(' ', ""));
                }
                TokenTree::Ident(word) if function => {
                    self.found(word.to_string(), &words);
                    (words, function) = (vec![], false);
                }
                TokenTree::Ident(word) => function = word == "fn",
                TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'a> Visit<'a> for Tests {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        let word = |a: &syn::Attribute| {
            let segments = a.path().segments.iter().map(|s| s.ident.to_string());
            segments.collect::<Vec<_>>().join("::")
        };
        let words: Vec<_> = item.attrs.iter().map(word).collect();
        self.found(item.sig.ident.to_string(), &words);
        visit::visit_item_fn(self, item);
    }

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        self.in_macro(item.tokens.clone());
    }
}

/// The cases of a file with their threats, line by line: some of their texts are no text to a strict reader.
fn cases(text: &str) -> Vec<(String, Vec<String>)> {
    let value = |line: &str, key: &str| {
        let rest = line.trim().strip_prefix(key)?.trim_end_matches(',');
        serde_json::from_str::<serde_json::Value>(rest).ok()
    };
    let (mut all, mut id) = (vec![], None);
    for line in text.lines() {
        if let Some(found) = value(line, "\"id\":") {
            id = found.as_str().map(str::to_owned);
        }
        if let (Some(threats), Some(case)) = (value(line, "\"threats\":"), &id) {
            let threats = threats.as_array().unwrap().iter();
            let threats = threats.map(|t| t.as_str().unwrap().to_owned());
            all.push((case.clone(), threats.collect()));
            id = None;
        }
    }
    let ids = text
        .lines()
        .filter(|l| l.trim().starts_with("\"id\":"))
        .count();
    assert_eq!(all.len(), ids, "a case has an id, and threats below it");
    all
}

/// What is wrong with one reference, if anything.
fn missing(reference: &str, id: &str, read: &mut BTreeMap<String, Tests>) -> Option<String> {
    if let Some((file, case)) = reference.split_once('#') {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            return Some(format!("there is no {file}"));
        };
        return match cases(&text).iter().find(|(name, _)| name == case) {
            None => Some(format!("{file} has no case {case}")),
            Some((_, threats)) => {
                let named = threats.iter().any(|t| t == id);
                (!named).then(|| format!("{reference} is not about {id}: see its `threats`"))
            }
        };
    }
    let Some((file, function)) = reference.split_once("::") else {
        return Some(format!(
            "{reference} is neither file::function nor file#case"
        ));
    };
    if !read.contains_key(file) {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            return Some(format!("there is no {file}"));
        };
        let tests = Tests::of(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        read.insert(file.to_owned(), tests);
    }
    let tests = &read[file];
    match (
        tests.run.contains(function),
        tests.ignored.contains(function),
    ) {
        (true, _) => None,
        (false, true) => Some(format!("{reference} is ignored")),
        (false, false) => Some(format!("{file} has no test {function}")),
    }
}

#[test]
fn every_threat_has_its_line_once() {
    let all: Vec<String> = FAMILIES
        .iter()
        .flat_map(|(family, most)| (1..=*most).map(|n| id(family, n)))
        .collect();
    let lines: Vec<&str> = TABLE.iter().map(|t| t.0).collect();
    assert_eq!(lines, all, "in order, none left out, none twice");
    for (id, promise, _) in TABLE {
        let words = promise.split(' ').count();
        assert!((4..40).contains(&words), "{id}: one line of words");
    }
}

#[test]
fn every_promise_has_tests_that_run() {
    let (mut report, mut read) = (String::new(), BTreeMap::new());
    for (id, promise, kept) in TABLE {
        let tests = kept.tests();
        if tests.is_empty() {
            let _ = writeln!(report, "{id}: a hole: nothing shows that {promise}");
        }
        let once: BTreeSet<_> = tests.iter().collect();
        if once.len() != tests.len() {
            let _ = writeln!(report, "{id}: names a test twice");
        }
        for reference in tests {
            if let Some(problem) = missing(reference, id, &mut read) {
                let _ = writeln!(report, "{id}: {problem}");
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn what_is_left_to_others_is_told() {
    for (id, _, kept) in TABLE {
        let (chapter, words) = match kept {
            Kept::Told { chapter, words, .. } => (*chapter, *words),
            Kept::Shown(_) => continue,
        };
        let (file, heading) = chapter.split_once('#').unwrap();
        let text = fs::read_to_string(root().join(file)).unwrap();
        let chapter = text.split("\n## ").skip(1).find(|c| {
            let first = c.lines().next();
            first == Some(heading)
        });
        let chapter = chapter.unwrap_or_else(|| panic!("{id}: {file} has no chapter {heading}"));
        let flat = chapter.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains(words),
            "{id}: {file}, {heading}: no {words:?}"
        );
    }
}

#[test]
fn every_adversarial_case_is_about_a_threat() {
    let known: BTreeSet<&str> = TABLE.iter().map(|t| t.0).collect();
    for entry in fs::read_dir(root().join("tests/adversarial")).unwrap() {
        let path = entry.unwrap().path();
        for (case, threats) in cases(&fs::read_to_string(&path).unwrap()) {
            assert!(!threats.is_empty(), "{case}: of no threat");
            for threat in threats {
                assert!(known.contains(&*threat), "{case}: {threat}");
            }
        }
    }
}

/// What holds a secret, or is one. Each is looked for, so that a new name is a reviewed line.
const SECRETS: &[(&str, &str)] = &[
    ("src/admin/token.rs", "Token"),
    ("src/chain/rpc.rs", "Endpoint"),
    ("src/event/otel/courier.rs", "Destination"),
    ("src/event/webhook.rs", "Secret"),
    ("src/payment.rs", "Payload"),
    ("src/payment/instruction.rs", "Signature"),
    ("src/wallet/solana_key.rs", "SolanaKey"),
    ("src/wallet/key.rs", "Key"),
];

/// Types that say by their name that what they hold is secret.
const SECRET_WORDS: &[&str] = &[
    "SecretString",
    "SecretBox",
    "SecretKey",
    "Zeroizing",
    "hmac :: Key",
];

/// The types of a file that hold secrets or can be printed.
#[derive(Default)]
struct Types {
    all: BTreeSet<String>,
    secret: BTreeSet<String>,
    printed: BTreeSet<String>,
}

impl Types {
    fn item(&mut self, name: &syn::Ident, attrs: &[syn::Attribute], fields: &syn::Fields) {
        self.all.insert(name.to_string());
        for attr in attrs.iter().filter(|a| a.path().is_ident("derive")) {
            let syn::Meta::List(list) = &attr.meta else {
                continue;
            };
            let words = list.tokens.to_string();
            if ["Debug", "Serialize", "Display"]
                .iter()
                .any(|w| words.contains(w))
            {
                self.printed.insert(name.to_string());
            }
        }
        for field in fields {
            let words = type_words(&field.ty);
            if SECRET_WORDS.iter().any(|w| words.contains(w)) {
                self.secret.insert(name.to_string());
            }
        }
    }
}

/// The names in a type, in order: `Vec<SecretBox<[u8]>>` is `Vec SecretBox u8`.
fn type_words(ty: &syn::Type) -> String {
    struct Words(String);
    impl<'a> Visit<'a> for Words {
        fn visit_path(&mut self, path: &'a syn::Path) {
            let names: Vec<_> = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.0 += &format!("{} ", names.join(" :: "));
            visit::visit_path(self, path);
        }
    }
    let mut words = Words(String::new());
    words.visit_type(ty);
    words.0
}

impl<'a> Visit<'a> for Types {
    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.item(&item.ident, &item.attrs, &item.fields);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        for variant in &item.variants {
            self.item(&item.ident, &item.attrs, &variant.fields);
        }
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        let Some((_, path, _)) = &item.trait_ else {
            return;
        };
        let name = path.segments.last().unwrap().ident.to_string();
        if ["Debug", "Serialize", "Display"].contains(&&*name) {
            let of = type_words(&item.self_ty);
            self.printed
                .insert(of.split(' ').next().unwrap().to_owned());
        }
    }
}

#[test]
fn secrets_cannot_be_printed() {
    let mut folders = vec![root().join("src")];
    let (mut holders, mut seen) = (0, BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|e| e != "rs") {
                continue;
            }
            let file = path.strip_prefix(root()).unwrap().display().to_string();
            let mut types = Types::default();
            types.visit_file(&syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
            for (_, name) in SECRETS.iter().filter(|(f, _)| *f == file) {
                assert!(types.all.contains(*name), "{file}: {name} moved; follow it");
                types.secret.insert((*name).to_owned());
                seen.insert((file.clone(), *name));
            }
            holders += types.secret.len();
            let told: Vec<_> = types.secret.intersection(&types.printed).collect();
            assert!(
                told.is_empty(),
                "{file}: {told:?} can be printed: no Debug, Display or Serialize"
            );
        }
    }
    assert_eq!(seen.len(), SECRETS.len(), "each file is there");
    assert!(
        holders > SECRETS.len(),
        "{holders}: those with telling fields are found"
    );
}

#[test]
fn tests_are_seen_as_what_they_are() {
    let text = "
        #[test] fn a() {}
        #[tokio::test(flavor = \"multi_thread\")] async fn b() {}
        #[test] #[ignore = \"slow\"] fn c() {}
        fn d() {}
        mod inner { #[test] fn e() {} }
        proptest! { #![proptest_config(x())] #[test] fn f(x in 0..1) { fn g() {} } fn h(x in 0..1) {} }
        // #[test] fn i() {}
    ";
    let tests = Tests::of(text).unwrap();
    let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<String>();
    assert_eq!(
        (names(&tests.run), names(&tests.ignored)),
        ("abef".into(), "c".into())
    );
}
