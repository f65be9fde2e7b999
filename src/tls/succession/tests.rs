//! Rotations that are interrupted at every place, and what lies beside an authority.

use super::*;
use crate::tls::Authority;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        Authority::open_or_create(place.dir()).unwrap();
        place
    }

    fn dir(&self) -> &Path {
        self.0.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    fn new_files(&self) -> usize {
        let all = fs::read_dir(self.dir()).unwrap();
        let names = all.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".new")).count()
    }

    /// As a rotation leaves it that ends between its two renames: the old certificate beside the new key.
    /// Returns the new certificate.
    fn interrupt(&self) -> String {
        let kept = rotate(self.dir()).unwrap();
        let new = self.read("ca.pem");
        fs::rename(self.at("ca.pem"), self.at("ca.pem.new")).unwrap();
        fs::copy(&kept[0], self.at("ca.pem")).unwrap();
        new
    }
}

#[test]
fn what_an_interrupted_rotation_began_does_not_stop_the_next() {
    for left in [&["ca-key.pem.new"][..], &["ca-key.pem.new", "ca.pem.new"]] {
        let place = Place::new();
        let old = place.read("ca.pem");
        let other = Place::new();
        for name in left {
            let from = other.at(name.strip_suffix(".new").unwrap());
            fs::copy(from, place.at(name)).unwrap();
        }
        let kept = rotate(place.dir()).unwrap();
        assert_eq!(fs::read_to_string(&kept[0]).unwrap(), old);
        assert_ne!(place.read("ca.pem"), other.read("ca.pem"), "a fresh one");
        assert_eq!(place.new_files(), 0);
        Authority::open_or_create(place.dir()).unwrap();
    }
}

#[test]
fn a_rotation_between_its_two_renames_is_finished_by_the_next_start() {
    let place = Place::new();
    let new = place.interrupt();
    let opened = Authority::open_or_create(place.dir()).unwrap();
    assert_eq!(opened.certificate_pem(), new);
    assert_eq!((place.read("ca.pem"), place.new_files()), (new, 0));
}

#[test]
fn a_rotation_between_its_two_renames_is_finished_by_the_next_rotation() {
    let place = Place::new();
    let new = place.interrupt();
    let kept = rotate(place.dir()).unwrap();
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), new);
    assert!(is_pair(&kept[0], &kept[1]).unwrap(), "each with its key");
    assert_eq!(retired(place.dir()).unwrap().len(), 2);
    assert_eq!(place.new_files(), 0);
    Authority::open_or_create(place.dir()).unwrap();
}

#[test]
fn a_new_certificate_of_another_key_takes_no_place() {
    let (place, other) = (Place::new(), Place::new());
    let own = place.read("ca.pem");
    fs::copy(other.at("ca.pem"), place.at("ca.pem.new")).unwrap();
    let opened = Authority::open_or_create(place.dir()).unwrap();
    assert_eq!(opened.certificate_pem(), own);
    assert_eq!(place.new_files(), 1, "left to the next rotation");
}

#[test]
fn a_rotation_that_fails_leaves_nothing_new() {
    let place = Place::new();
    let own = place.read("ca.pem");
    fs::remove_file(place.at("ca-key.pem")).unwrap();
    assert!(rotate(place.dir()).is_err(), "there is no key to keep");
    assert_eq!((place.read("ca.pem"), place.new_files()), (own, 0));
}

#[test]
fn an_authority_of_the_operators_is_not_a_retired_one() {
    let place = Place::new();
    rotate(place.dir()).unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let corp = params.self_signed(&pair).unwrap().pem();
    fs::write(place.at("ca-corp.pem"), corp).unwrap();
    // A rotation that got no further than keeping the one in use.
    fs::hard_link(place.at("ca.pem"), place.at("ca-0123abcd.pem")).unwrap();
    let found = retired(place.dir()).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].0.ends_with("ca-corp.pem"), "{found:?}");
}
