//! The data volume: recognised by its id, formatted only when it is proven blank, mounted only when it is ours.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use drover_api::VolumeId;
use sha2::{Digest, Sha256};

use super::{
    command::{CommandError, finish, run},
    paths::{HINT, Paths, device},
};
use crate::{
    durable::{self, DurableError},
    state::{Minted, Mounted, Recorded, VolumeContent},
};

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("the volume could not be read or written: {0}")]
    Io(#[from] io::Error),
}

const LABEL: &str = "drover-data";
/// Kept free at the end of the device for the mark of a mkfs under way.
const RESERVED: u64 = 1 << 20;
/// What a blank volume shows at its beginning and end: nothing. EBS hands out volumes that read as zeros.
const LOOKED_AT: u64 = 1 << 20;
const MARK: &str = "drover: mkfs under way on ";
const MARK_BYTES: usize = 4096;
const COMMAND: Duration = Duration::from_secs(60);
/// mkfs with lazy tables writes little; a slow network disk still takes its time.
const MKFS: Duration = Duration::from_secs(600);

/// What is on the device, without touching it.
pub async fn look(id: &VolumeId) -> Result<VolumeContent, VolumeError> {
    let path = device(id.as_str());
    if !path.exists() {
        return Ok(VolumeContent::NoDevice);
    }
    // blkid exits with 2 where it knows no signature (blkid(8), "EXIT CODES").
    let probe = finish("blkid", &["-p".as_ref(), "-o".as_ref(), "export".as_ref(), path.as_os_str()], COMMAND).await?;
    let edges = blocking({
        let (path, id) = (path.clone(), id.clone());
        move || read_edges(&path, &id)
    })
    .await?;
    let value = |key: &str| probe.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(match (probe.code, &edges) {
        (_, Edges::Marked) => VolumeContent::HalfMade,
        (0, _)
            if value("TYPE") == Some("ext4")
                && value("UUID") == Some(&uuid_of(id))
                && value("LABEL") == Some(LABEL) =>
        {
            VolumeContent::Ours
        }
        (0, _) => VolumeContent::Foreign {
            found: format!(
                "{} {:?}, not formatted by us for {id}",
                value("TYPE").or(value("PTTYPE")).unwrap_or("a signature"),
                value("LABEL").unwrap_or_default()
            ),
        },
        (2, Edges::Zero) => VolumeContent::Blank,
        (2, _) => VolumeContent::Foreign { found: "data without a known signature".into() },
        (code, _) => VolumeContent::Foreign { found: format!("something ambiguous (blkid: {code})") },
    })
}

/// Makes the file system. While it is made the device says so at its very end, where mkfs does not write; a volume that
/// still says so was never mounted.
pub async fn format(id: &VolumeId) -> Result<(), VolumeError> {
    let path = device(id.as_str());
    let size = blocking({
        let (path, id) = (path.clone(), id.clone());
        move || write_mark(&path, Some(&id))
    })
    .await?;
    let blocks = format!("{}k", (size - RESERVED) / 1024);
    let (uuid, device) = (uuid_of(id), path.display().to_string());
    let lazy = "lazy_itable_init=1,lazy_journal_init=1";
    let arguments = ["-q", "-F", "-m", "1", "-L", LABEL, "-U", &uuid, "-E", lazy, &device, &blocks];
    run("mkfs.ext4", &arguments, MKFS).await?;
    blocking(move || write_mark(&path, None)).await?;
    Ok(())
}

/// Mounts and reads what is there.
pub async fn mount(paths: &Paths, id: &VolumeId, minted: Minted) -> Result<Mounted, VolumeError> {
    let (device, target) = (device(id.as_str()), paths.volume());
    std::fs::create_dir_all(&target)?;
    let known = read_hint(paths)?.filter(|hint| hint.volume == *id);
    let begins = known.as_ref().is_none_or(|hint| hint.begins);
    let left = known.and_then(|hint| hint.boot_id);
    let is_there = is_mounted(&target).await?;
    let anew = begins || !is_there;
    if anew {
        // An agent that is killed before the record is written anew leaves this to the next, which finds the volume mounted.
        write_hint(paths, &Hint { volume: id.clone(), boot_id: left.clone(), begins: true })?;
    }
    if !is_there {
        let options = ["-t".as_ref(), "ext4".as_ref(), "-o".as_ref(), "noatime".as_ref()];
        run("mount", &[&options[..], &[device.as_os_str(), target.as_os_str()]].concat(), COMMAND).await?;
    }
    blocking({
        let (paths, id) = (paths.clone(), id.clone());
        move || read_mounted(&paths, id, left, anew, minted)
    })
    .await
}

/// This machine has used the volume in the boot `boot_id`, which the record on it says by now. Where only one of the two could
/// be written, the volume is taken for one that was used elsewhere, which costs a voter its vote and nothing else.
pub fn remember(paths: &Paths, boot_id: &str) -> io::Result<()> {
    match read_hint(paths)? {
        Some(Hint { volume, boot_id: known, begins }) if begins || known.as_deref() != Some(boot_id) => {
            write_hint(paths, &Hint { volume, boot_id: Some(boot_id.to_owned()), begins: false })
        }
        Some(_) | None => Ok(()),
    }
}

pub async fn unmount(paths: &Paths) -> Result<(), VolumeError> {
    let target = paths.volume();
    if is_mounted(&target).await? {
        run("umount", &[target.as_os_str()], COMMAND).await?;
    }
    match std::fs::remove_file(paths.hint()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// What an earlier agent of this machine left: the volume that it mounted last, and what is on it if it still is mounted.
pub async fn look_around(paths: &Paths, minted: Minted) -> Result<(Option<VolumeId>, Option<Mounted>), VolumeError> {
    let Some(Hint { volume, boot_id, begins }) = read_hint(paths)? else { return Ok((None, None)) };
    if !is_mounted(&paths.volume()).await? {
        return Ok((Some(volume), None));
    }
    let (paths, id) = (paths.clone(), volume.clone());
    let mounted = blocking(move || read_mounted(&paths, id, boot_id, begins, minted)).await?;
    Ok((Some(volume), Some(mounted)))
}

/// Everything on the volume is on its disk when this returns.
pub async fn flush(paths: &Paths) -> Result<(), VolumeError> {
    run("sync", &["-f".as_ref(), paths.volume().as_os_str()], COMMAND).await?;
    Ok(())
}

/// The file system's UUID says which volume it was made for: one from a snapshot or another volume does not pass for it.
fn uuid_of(id: &VolumeId) -> String {
    let hash = hex::encode(&Sha256::digest(format!("drover data volume {id}"))[..16]);
    // Version 8: made by rules of our own (RFC 9562).
    format!("{}-{}-8{}-8{}-{}", &hash[..8], &hash[8..12], &hash[13..16], &hash[17..20], &hash[20..32])
}

enum Edges {
    Zero,
    Marked,
    Other,
}

fn read_edges(path: &Path, id: &VolumeId) -> Result<Edges, VolumeError> {
    let mut file = File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    let mut bytes = vec![0; usize::try_from(LOOKED_AT.min(size)).unwrap_or(usize::MAX)];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut bytes)?;
    let zero_head = bytes.iter().all(|byte| *byte == 0);
    file.seek(SeekFrom::Start(size - bytes.len() as u64))?;
    file.read_exact(&mut bytes)?;
    if bytes.ends_with(&mark(id)) {
        return Ok(Edges::Marked);
    }
    Ok(if zero_head && bytes.iter().all(|byte| *byte == 0) { Edges::Zero } else { Edges::Other })
}

fn mark(id: &VolumeId) -> Vec<u8> {
    let mut bytes = format!("{MARK}{id}\n").into_bytes();
    bytes.resize(MARK_BYTES, 0);
    bytes
}

/// Sets or clears the mark, durably. Answers the size of the device in bytes.
fn write_mark(path: &Path, id: Option<&VolumeId>) -> Result<u64, VolumeError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    if size < 64 * RESERVED {
        return Err(io::Error::other(format!("the device has only {size} bytes")).into());
    }
    file.seek(SeekFrom::Start(size - MARK_BYTES as u64))?;
    file.write_all(&id.map_or(vec![0; MARK_BYTES], mark))?;
    file.sync_all()?;
    Ok(size)
}

/// A line of the hint.
const BEGINS: &str = "begins";

/// What this machine remembers of the volume that it mounted last.
#[derive(Debug, PartialEq, Eq)]
struct Hint {
    volume: VolumeId,
    /// The latest in which a record was written to it.
    boot_id: Option<String>,
    /// It is being mounted, and no record was written to it since.
    begins: bool,
}

fn write_hint(paths: &Paths, hint: &Hint) -> io::Result<()> {
    let Hint { volume, boot_id, begins } = hint;
    let (left, begins) = (boot_id.as_deref().unwrap_or_default(), if *begins { BEGINS } else { "" });
    durable::write_file(&paths.home, HINT, format!("{volume}\n{left}\n{begins}\n").as_bytes(), 0o600)
}

fn read_hint(paths: &Paths) -> io::Result<Option<Hint>> {
    let text = match std::fs::read_to_string(paths.hint()) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut lines = text.lines();
    let volume = lines.next().and_then(|line| VolumeId::new(line).ok());
    let boot_id = lines.next().filter(|line| !line.is_empty()).map(str::to_owned);
    let begins = lines.next() == Some(BEGINS);
    Ok(volume.map(|volume| Hint { volume, boot_id, begins }))
}

fn read_mounted(
    paths: &Paths,
    id: VolumeId,
    left: Option<String>,
    anew: bool,
    minted: Minted,
) -> Result<Mounted, VolumeError> {
    let root = paths.volume();
    let record = match durable::read(&root) {
        Ok(Some(record)) => Recorded::Record(Box::new(record)),
        Ok(None) => match first_file(&root)? {
            None => Recorded::Empty,
            Some(name) => Recorded::Unreadable { found: format!("{}, and no record of ours", name.display()) },
        },
        Err(DurableError::Read(error)) => return Err(error.into()),
        Err(error) => Recorded::Unreadable { found: error.to_string() },
    };
    Ok(Mounted { volume: id, record, data: paths.data().is_dir(), left, anew, minted })
}

/// Anything that mkfs or a write of the record that was cut short did not leave.
fn first_file(root: &Path) -> io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(root)? {
        let name = entry?.file_name();
        if name != "lost+found" && name != ".state.json.tmp" {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

async fn is_mounted(target: &Path) -> Result<bool, VolumeError> {
    Ok(finish("mountpoint", &["-q".as_ref(), target.as_os_str()], COMMAND).await?.code == 0)
}

/// File work on a disk that may stall, off the threads that answer the operator.
pub(super) async fn blocking<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> VolumeId {
        VolumeId::new("vol-0a1b2c").expect("valid")
    }

    fn disk() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(64 * RESERVED).expect("sized");
        file
    }

    #[test]
    fn a_device_is_named_by_its_volume_id() {
        let path = device(id().as_str());
        assert_eq!(path.to_str(), Some("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0a1b2c"));
    }

    #[test]
    fn a_file_system_names_the_one_volume_that_it_was_made_for() {
        let other = VolumeId::new("vol-0a1b2d").expect("valid");
        let uuid = uuid_of(&id());
        assert_ne!(uuid, uuid_of(&other));
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
    }

    #[test]
    fn a_machine_remembers_the_latest_boot_in_which_it_used_its_volume() {
        let home = tempfile::tempdir().expect("a directory");
        let paths = Paths { home: home.path().into(), bin: home.path().into() };
        remember(&paths, "boot-1").expect("nothing to note");
        assert_eq!(read_hint(&paths).expect("no file is no error"), None);
        durable::write_file(home.path(), HINT, b"vol-0a1b2c\n", 0o600).expect("written");
        for boot in [None, Some("boot-1"), Some("boot-2")] {
            if let Some(boot) = boot {
                remember(&paths, boot).expect("noted");
            }
            let boot_id = boot.map(str::to_owned);
            assert_eq!(read_hint(&paths).expect("read"), Some(Hint { volume: id(), boot_id, begins: false }));
        }
    }

    /// What it remembers of the boot before is needed once more when a mount did not succeed.
    #[test]
    fn while_it_is_mounted_a_volume_is_not_as_it_was_left() {
        let home = tempfile::tempdir().expect("a directory");
        let paths = Paths { home: home.path().into(), bin: home.path().into() };
        let hint = |begins| Hint { volume: id(), boot_id: Some("boot-1".into()), begins };
        write_hint(&paths, &hint(true)).expect("noted");
        assert_eq!(read_hint(&paths).expect("read"), Some(hint(true)));
        remember(&paths, "boot-1").expect("noted");
        assert_eq!(read_hint(&paths).expect("read"), Some(hint(false)));
        write_hint(&paths, &Hint { boot_id: None, ..hint(true) }).expect("noted");
        assert_eq!(read_hint(&paths).expect("read"), Some(Hint { boot_id: None, ..hint(true) }));
    }

    #[test]
    fn only_nothing_at_both_edges_is_blank_and_the_mark_names_its_volume() {
        let disk = disk();
        assert!(matches!(read_edges(disk.path(), &id()), Ok(Edges::Zero)));
        write_mark(disk.path(), Some(&id())).expect("marked");
        assert!(matches!(read_edges(disk.path(), &id()), Ok(Edges::Marked)));
        let other = VolumeId::new("vol-0a1b2d").expect("valid");
        assert!(matches!(read_edges(disk.path(), &other), Ok(Edges::Other)));
        write_mark(disk.path(), None).expect("cleared");
        assert!(matches!(read_edges(disk.path(), &id()), Ok(Edges::Zero)));
        for at in [0, LOOKED_AT - 1, 64 * RESERVED - 1] {
            let disk = self::disk();
            let mut file = disk.as_file();
            file.seek(SeekFrom::Start(at)).expect("there");
            file.write_all(b"x").expect("written");
            assert!(matches!(read_edges(disk.path(), &id()), Ok(Edges::Other)), "byte {at}");
        }
    }
}
