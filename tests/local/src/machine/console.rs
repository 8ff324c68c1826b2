//! A machine's console, kept as EC2 keeps it: the newest output, bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// At this size the file becomes `console.log.1` and a new one begins: two files of half a MiB hold some thirty boots.
const FILE_MAX: u64 = 512 * 1024;

/// Copies what the terminal prints to a file until the machine's side is closed.
pub(super) fn record(terminal: impl Read + Send + 'static, path: PathBuf, hostname: &str) -> io::Result<()> {
    let file = append(&path)?;
    let name = format!("console {hostname}");
    std::thread::Builder::new().name(name).spawn(move || {
        if let Err(error) = copy(terminal, file, &path) {
            tracing::warn!(console = %path.display(), %error, "the console is no longer recorded");
        }
    })?;
    Ok(())
}

fn copy(mut terminal: impl Read, mut file: File, path: &Path) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let length = match terminal.read(&mut buffer) {
            // Linux says EIO when the last holder of the other side is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        if length == 0 {
            return Ok(());
        }
        if file.metadata()?.len() >= FILE_MAX {
            fs::rename(path, path.with_extension("log.1"))?;
            file = append(path)?;
        }
        file.write_all(&buffer[..length])?;
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_output_is_kept_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (source, path) = (dir.path().join("source"), dir.path().join("console.log"));
        let lines: String = (0..200_000).map(|n| format!("line {n}\n")).collect();
        fs::write(&source, &lines).unwrap();
        copy(File::open(&source).unwrap(), append(&path).unwrap(), &path).unwrap();
        let (old, new) =
            (fs::read_to_string(dir.path().join("console.log.1")).unwrap(), fs::read_to_string(&path).unwrap());
        assert!(lines.ends_with(&format!("{old}{new}")) && new.ends_with("line 199999\n"));
        assert!(u64::try_from(old.len() + new.len()).unwrap() <= 2 * (FILE_MAX + 4096));
    }
}
