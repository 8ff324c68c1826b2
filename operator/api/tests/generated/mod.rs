//! Files of the repository that are generated from this crate.

use std::{fs, path::PathBuf};

/// Where the repository lies.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file of the repository, by its path there.
pub fn read(file: &str) -> String {
    let path = repository().join(file);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display())).expect("a file of the repository")
}

/// Holds a committed file to what is generated; with `UPDATE_CRDS=1` writes it first.
#[expect(clippy::disallowed_methods, reason = "a test is its own edge: the variable asks it to write the file")]
pub fn must_be(file: &str, generated: &str) {
    let path = repository().join(file);
    if std::env::var("UPDATE_CRDS").is_ok_and(|value| value == "1") {
        fs::create_dir_all(path.parent().expect("a directory")).expect("the file's directory");
        fs::write(&path, generated).expect("written");
    }
    assert!(read(file) == generated, "{file} is not what operator/api generates; run: make crds");
}
