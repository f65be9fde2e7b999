//! Two sets beside each other: which is asked with, and when one of them goes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A pair of files; halves of different sets do not fit together, but that only a provider knows.
struct Scene {
    dir: tempfile::TempDir,
    credentials: Credentials<String, 2>,
}

fn write(dir: &Path, name: &str, text: &str) {
    // A new file each time, so that the change is seen however fast it comes.
    let path = dir.join(format!("{name}.new"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(path, dir.join(name)).unwrap();
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            write(dir.path(), name, "a");
            at(Section::file("f", "").unwrap(), dir.path().join(name))
        };
        let files = [file("id"), file("secret")];
        let read = |[id, secret]: &Texts<2>| match secret.as_str() {
            "broken" => Err((1, "not whole")),
            secret => Ok(format!("{}{secret}", **id)),
        };
        let credentials = Credentials::open(files, read).unwrap();
        Self { dir, credentials }
    }

    fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }

    /// One request to a provider that takes these: what it was asked with.
    fn ask(&self, takes: &[&str]) -> (Vec<String>, bool) {
        let (mut asked, mut tried) = (vec![], vec![]);
        loop {
            let picked = self.credentials.now();
            asked.push(picked.clone());
            if takes.contains(&picked.as_str()) {
                self.credentials.accepted(picked.used());
                return (asked, true);
            }
            tried.push(picked.used());
            if !self.credentials.refused(picked.used(), &tried) {
                return (asked, false);
            }
        }
    }

    /// The clock goes on until new ones are tried again.
    fn wait(&self) {
        let mut kept = self.credentials.kept.lock().unwrap();
        kept.doubted = kept.doubted.and_then(|at| at.checked_sub(DOUBT));
    }

    /// The clock goes on until what failed is looked at again.
    fn wait_to_look(&self) {
        let mut kept = self.credentials.kept.lock().unwrap();
        let earlier = |(at, why): (Instant, String)| Some((at.checked_sub(AGAIN)?, why));
        kept.failed = kept.failed.take().and_then(earlier);
    }
}

fn asked(words: &[&str], well: bool) -> (Vec<String>, bool) {
    (words.iter().map(|w| (*w).to_owned()).collect(), well)
}

#[test]
fn the_old_serve_until_the_new_are_accepted() {
    let scene = Scene::new();
    assert_eq!(scene.ask(&["aa"]), asked(&["aa"], true));
    scene.write("id", "b");
    assert_eq!(
        scene.ask(&["aa"]),
        asked(&["ba", "aa"], true),
        "half of a change"
    );
    assert_eq!(
        scene.ask(&["aa"]),
        asked(&["aa"], true),
        "and left alone for a while"
    );
    scene.write("secret", "b");
    assert_eq!(
        scene.ask(&["aa"]),
        asked(&["bb", "aa"], true),
        "not yet known there"
    );
    scene.wait();
    assert_eq!(
        scene.ask(&["aa"]),
        asked(&["bb", "aa"], true),
        "now and then"
    );
    // The provider forgets the old ones while the new are left alone.
    assert_eq!(scene.ask(&["bb"]), asked(&["aa", "bb"], true));
    assert_eq!(scene.ask(&["bb"]), asked(&["bb"], true));
    // From here on there is one set, and nothing else to try.
    assert_eq!(scene.ask(&["aa"]), asked(&["bb"], false));
}

#[test]
fn who_asked_with_the_old_asks_again_with_the_new() {
    let scene = Scene::new();
    let old = scene.credentials.now();
    scene.credentials.accepted(old.used());
    scene.write("id", "b");
    scene.write("secret", "b");
    assert_eq!(scene.ask(&["bb"]), asked(&["bb"], true));
    assert!(scene.credentials.refused(old.used(), &[old.used()]));
    assert_eq!(*scene.credentials.now(), "bb");
}

/// What kept the files from being read may end without a change of the files.
#[test]
fn a_failed_look_is_repeated_until_the_change_is_taken() {
    let scene = Scene::new();
    assert_eq!(scene.ask(&["aa"]), asked(&["aa"], true));
    let open = |mode| fs::set_permissions(scene.dir.path(), fs::Permissions::from_mode(mode));
    open(0o707).unwrap();
    scene.write("id", "b");
    scene.write("secret", "b");
    assert_eq!(*scene.credentials.now(), "aa");
    open(0o700).unwrap();
    assert_eq!(*scene.credentials.now(), "aa", "not with each payment");
    scene.wait_to_look();
    assert_eq!(*scene.credentials.now(), "bb");
    assert_eq!(scene.ask(&["bb"]), asked(&["bb"], true));
}

#[test]
fn what_is_broken_or_half_pushes_nothing_out() {
    let scene = Scene::new();
    assert_eq!(scene.ask(&["aa"]), asked(&["aa"], true));
    scene.write("secret", "broken");
    assert_eq!(scene.ask(&["aa"]), asked(&["aa"], true));
    for (id, secret) in [("b", "a"), ("b", "c"), ("d", "c"), ("d", "d")] {
        scene.write("id", id);
        scene.write("secret", secret);
        let new = format!("{id}{secret}");
        assert_eq!(scene.ask(&["aa"]), asked(&[&new, "aa"], true));
    }
    assert_eq!(
        scene.ask(&[]),
        asked(&["aa", "dd"], false),
        "both are tried, and that is all"
    );
    scene.wait();
    assert_eq!(scene.ask(&["dd"]), asked(&["dd"], true));
}
