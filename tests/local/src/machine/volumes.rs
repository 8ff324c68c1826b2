//! Data volumes: sparse files behind loop devices, shown to a machine under the names that a Nitro machine would see.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use serde::Deserialize;
use tokio::sync::RwLock;

use super::command;
use super::names::{Names, device_link};
use super::pace::Pace;
use super::spec::{Error, Result};

/// A volume that is bound to a loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub volume: VolumeId,
    /// `/dev/loopN` of the host.
    pub host: PathBuf,
    pub minor: u32,
    /// Its node below the machine's /dev: `nvme1n1`.
    pub node: String,
}

#[derive(Debug)]
pub(super) struct Volumes {
    names: Names,
    limit: Duration,
    /// Which machine that runs has which volume, and as which device; no device while it is being bound.
    holders: Mutex<BTreeMap<VolumeId, (InstanceId, Option<u32>)>>,
    /// Held alone while the host itself has a volume bound that no machine runs with: a file behind two devices would be corrupted.
    host_alone: RwLock<()>,
}

/// Run inside a machine with node, minor and link: makes the device and the link that udev would make. An earlier run may have come half
/// the way.
pub(super) const SHOW: &str =
    "rm -f \"/dev/$1\"; mknod -m 660 \"/dev/$1\" b 7 \"$2\"; ln -sfn \"../../$1\" \"/dev/disk/by-id/$3\"";
/// The reverse.
pub(super) const HIDE: &str = "rm -f \"/dev/disk/by-id/$3\" \"/dev/$1\"";

impl Device {
    /// A line for the boot script.
    pub(super) fn line(&self) -> String {
        format!("{} {} {}\n", self.minor, self.node, device_link(&self.volume))
    }
}

impl Volumes {
    pub(super) fn new(names: Names, limit: Duration) -> Volumes {
        Volumes { names, limit, holders: Mutex::default(), host_alone: RwLock::default() }
    }

    /// A volume of zeros that takes no space until it is written. Creating it again changes nothing.
    pub(super) fn create(&self, volume: &VolumeId, bytes: u64) -> Result<()> {
        let path = self.names.volume_file(volume);
        let failed = |source| Error::Io { what: format!("cannot make {}", path.display()), source };
        match File::create_new(&path) {
            Ok(file) => file.set_len(bytes).map_err(failed),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    /// The machine that runs with it, and the minor number of its device.
    pub(super) fn held(&self, volume: &VolumeId) -> Option<(InstanceId, u32)> {
        self.holders().get(volume).and_then(|(holder, minor)| Some((holder.clone(), (*minor)?)))
    }

    fn holders(&self) -> MutexGuard<'_, BTreeMap<VolumeId, (InstanceId, Option<u32>)>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn delete(&self, volume: &VolumeId) -> Result<()> {
        if let Some((holder, _)) = self.holders().get(volume) {
            return Err(Error::VolumeInUse { volume: volume.clone(), by: holder.to_string() });
        }
        let path = self.names.volume_file(volume);
        fs::remove_file(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NoSuchVolume(volume.clone()),
            _ => Error::Io { what: format!("cannot delete {}", path.display()), source },
        })
    }

    /// Binds the volume to a loop device. One file behind two devices would be corrupted, so a device that is still letting go of it (its
    /// file system is being unmounted with the last machine) is waited for.
    pub(super) async fn bind(&self, volume: &VolumeId, node: &str, holder: &InstanceId) -> Result<Device> {
        let path = self.names.volume_file(volume);
        if !path.exists() {
            return Err(Error::NoSuchVolume(volume.clone()));
        }
        let _shared = self.host_alone.read().await;
        match self.holders().entry(volume.clone()) {
            Entry::Occupied(held) => {
                return Err(Error::VolumeInUse { volume: volume.clone(), by: held.get().0.to_string() });
            }
            Entry::Vacant(free) => drop(free.insert((holder.clone(), None))),
        }
        let bound = self.bind_file(volume, &path, node).await;
        match &bound {
            Ok(device) => self.holders().insert(volume.clone(), (holder.clone(), Some(device.minor))),
            Err(_) => self.holders().remove(volume),
        };
        bound
    }

    /// Runs a script of the host's with the volume's file system in its working directory, mounted for this script alone: for what is to be
    /// done to a volume that no machine has mounted.
    pub(super) async fn on_host(&self, volume: &VolumeId, script: &str, arguments: &[&str]) -> Result<()> {
        let _alone = self.host_alone.write().await;
        let path = self.names.volume_file(volume);
        let (host, bound) = match self.held(volume) {
            Some((_, minor)) => (PathBuf::from(format!("/dev/loop{minor}")), None),
            None if !path.exists() => return Err(Error::NoSuchVolume(volume.clone())),
            None => {
                let device = self.bind_file(volume, &path, "").await?;
                (device.host.clone(), Some(device))
            }
        };
        // The mount point is any directory: it is covered only in the script's own namespace.
        let (place, device) = (self.names.volumes_dir(), text(&host)?);
        let script = format!("mount \"$1\" \"$2\"; cd \"$2\"; shift 2; {script}");
        let mut argv = vec!["unshare", "--mount", "--propagation", "private", "sh", "-euc", &script, "volume"];
        argv.extend([device, text(&place)?]);
        argv.extend(arguments);
        let done = command::run(&argv, self.limit).await;
        if let Some(device) = bound {
            self.unbind(&device).await?;
        }
        done.map(drop)
    }

    async fn bind_file(&self, volume: &VolumeId, path: &Path, node: &str) -> Result<Device> {
        self.wait_unbound(path).await?;
        let file = text(path)?;
        let host = command::run(&["losetup", "--find", "--show", file], self.limit).await.map_err(no_device)?;
        let host = PathBuf::from(host.trim());
        let minor = minor(&host)?;
        Ok(Device { volume: volume.clone(), host, minor, node: node.to_owned() })
    }

    /// Lets the loop device go and waits until the kernel has: from then on what was written is in the file.
    pub(super) async fn unbind(&self, device: &Device) -> Result<()> {
        let path = self.names.volume_file(&device.volume);
        if bound(&path, self.limit).await?.contains(&device.host) {
            command::run(&["losetup", "--detach", text(&device.host)?], self.limit).await?;
        }
        self.wait_unbound(&path).await?;
        self.holders().remove(&device.volume);
        Ok(())
    }

    async fn wait_unbound(&self, path: &Path) -> Result<()> {
        let mut pace = Pace::new(self.limit);
        while !bound(path, self.limit).await?.is_empty() {
            pace.wait(|| format!("releasing the loop device of {}", path.display())).await?;
        }
        Ok(())
    }
}

/// A mounted file system, or another exclusive user, holds the device.
pub(super) fn busy(device: &Device) -> Result<bool> {
    match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&device.host) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(true),
        Err(source) => Err(Error::Io { what: format!("cannot open {}", device.host.display()), source }),
    }
}

#[derive(Deserialize)]
struct Listing {
    loopdevices: Vec<Loop>,
}

#[derive(Deserialize)]
struct Loop {
    name: PathBuf,
    #[serde(rename = "back-file")]
    file: Option<String>,
}

/// Loop devices whose file is `path`.
async fn bound(path: &Path, limit: Duration) -> Result<Vec<PathBuf>> {
    loops(limit, |file| file == path).await
}

/// Loop devices whose file is anywhere below `dir`, deleted ones too.
pub(super) async fn bound_below(dir: &Path, limit: Duration) -> Result<Vec<PathBuf>> {
    loops(limit, |file| file.starts_with(dir)).await
}

async fn loops(limit: Duration, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let text = command::run(&["losetup", "--list", "--json", "--output", "NAME,BACK-FILE"], limit).await?;
    // Without any loop device losetup prints nothing at all.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let listing: Listing = serde_json::from_str(&text)
        .map_err(|error| Error::Io { what: "cannot read the list of loop devices".into(), source: error.into() })?;
    let matches = listing.loopdevices.into_iter().filter(|entry| {
        entry.file.as_deref().is_some_and(|file| wanted(Path::new(file.strip_suffix(" (deleted)").unwrap_or(file))))
    });
    Ok(matches.map(|entry| entry.name).collect())
}

pub(super) fn minor(host: &Path) -> Result<u32> {
    let number =
        host.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("loop")?.parse().ok());
    number.ok_or_else(|| Error::Io {
        what: format!("losetup named {} as the device", host.display()),
        source: io::Error::from(io::ErrorKind::InvalidData),
    })
}

fn no_device(error: Error) -> Error {
    match error {
        Error::Command { stderr, .. } if stderr.contains("cannot find an unused loop device") => {
            Error::Capacity(format!("no loop device is free for another volume ({stderr})"))
        }
        error => error,
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Unfit(format!("the path {} is not UTF-8", path.display())))
}
