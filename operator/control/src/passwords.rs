//! Passwords from files: `DIR/NAMESPACE/NAME/KEY`, as a Secret looks that is mounted. Only what a declared user names is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use drover_api::clients::{Password, SecretRef};
use drover_plan::observed::{Intent, Seen};

/// What is known of each password.
pub type Passwords = BTreeMap<SecretRef, Seen<Password>>;

/// A password has at most 128 characters and a line end: what is longer is some other file.
const FILE_BYTES_MAX: u64 = 4096;
/// Files on a disk are read in milliseconds; those of a network whose server is gone, never.
const READ_MAX: Duration = Duration::from_secs(10);

/// The passwords that users of these sets name. Each that cannot be had says why, and what to do.
pub async fn read<'a>(directory: Option<&Path>, intents: impl IntoIterator<Item = &'a Intent>) -> Passwords {
    let sets = intents.into_iter().filter_map(|intent| intent.set.as_ref().ok());
    let wanted: BTreeSet<SecretRef> = sets.flat_map(|set| set.password_refs()).collect();
    if wanted.is_empty() {
        return Passwords::new();
    }
    let Some(directory) = directory.map(Path::to_owned) else {
        let why = |wanted: &SecretRef| {
            let why = format!("name the directory that has the file {wanted} with --secrets or DROVER_SECRETS");
            Seen::Unknown { why }
        };
        return wanted.into_iter().map(|wanted| (wanted.clone(), why(&wanted))).collect();
    };
    let (root, asked) = (directory.clone(), wanted.clone());
    let reading = tokio::task::spawn_blocking(move || {
        asked.into_iter().map(|wanted| (wanted.clone(), one(&root, &wanted))).collect::<Passwords>()
    });
    let late = match tokio::time::timeout(READ_MAX, reading).await {
        Ok(Ok(read)) => return read,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not read within {} s", READ_MAX.as_secs()),
    };
    let why = format!("{} cannot be read: {late}", directory.display());
    wanted.into_iter().map(|wanted| (wanted, Seen::Unknown { why: why.clone() })).collect()
}

fn one(directory: &Path, wanted: &SecretRef) -> Seen<Password> {
    let path = directory.join(wanted.namespace.as_str()).join(&wanted.name).join(&wanted.key);
    let told = |why: String| Seen::Unknown { why: format!("{}: {why}", path.display()) };
    match content(&path) {
        Ok(bytes) => match Password::of_bytes(&bytes) {
            Ok(password) => Seen::Known(password),
            Err(why) => told(format!("{why}: write another password into it")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            told("there is no such file: write the password into it".into())
        }
        Err(error) => told(format!("it cannot be read: {error}")),
    }
}

fn content(path: &PathBuf) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_password_is_read_from_its_file_or_the_file_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().expect("a directory");
        let secret = directory.path().join("default/shop");
        fs::create_dir_all(&secret).expect("made");
        fs::write(secret.join("good"), "correct horse\n").expect("written");
        fs::write(secret.join("short"), "x\n").expect("written");
        fs::write(secret.join("long"), "x".repeat(5000)).expect("written");
        fs::create_dir(secret.join("directory")).expect("made");
        let read = |key: &str| {
            let namespace = "default".parse().expect("valid");
            one(directory.path(), &SecretRef { namespace, name: "shop".into(), key: key.into() })
        };
        assert_eq!(read("good"), Seen::Known(Password::new("correct horse").expect("valid")));
        for (key, said) in [
            ("short", "it has 1 characters, and must have 8 to 128: write another password into it"),
            ("long", "it cannot be read: it has more than 4096 bytes"),
            ("directory", "it cannot be read: it is no file"),
            ("missing", "there is no such file: write the password into it"),
        ] {
            let why = format!("{}: {said}", secret.join(key).display());
            assert_eq!(read(key), Seen::Unknown { why }, "{key}");
        }
    }
}
