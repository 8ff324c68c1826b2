//! What must survive: the agent's memory, on the data volume beside the data directory, so that it lives and dies with what
//! it speaks of. Written whole and atomically before anything that depends on it is answered or done.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    num::NonZeroU64,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use drover_api::{
    Epoch, GtidSet, Incarnation, Slot, VoterId,
    set::Durability,
    wire::{Orders, Promise, Voting},
};
use serde::{Deserialize, Serialize};

/// The record itself. It holds passwords (in `orders`): mode 0600, and never printed whole.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durable {
    pub incarnation: Incarnation,
    pub slot: Slot,
    pub voting: Voting,
    pub promised: Option<Promise>,
    /// The highest accepted order.
    pub orders: Option<Orders>,
    /// The highest fence of an operator that was heard, whether it ordered anything or not.
    #[serde(default)]
    pub fence: u64,
    /// How the data directory came to be, written before it is made.
    pub origin: Option<Origin>,
    /// Opened to writes in this epoch and not cleanly closed since: what it holds may be acknowledged nowhere else.
    pub dirty: Option<Epoch>,
    /// Opened to writes at least once: it holds transactions of its own, so it never simply follows another.
    pub led: bool,
    pub died: Option<Died>,
    /// systemd's invocation of the mysqld that was last started on this data.
    pub start: Option<String>,
    /// The last marker of ours that k voters acknowledged.
    pub marker: Option<(Epoch, u64)>,
    /// The source and credential that the channel was last pointed at, as a hash. `None`: what a copied data directory says
    /// about replication is the donor's, and there is no relay log of our own.
    pub wired: Option<String>,
    /// The token of the restart after which mysqld has begun, or is to begin.
    #[serde(default)]
    pub restarted: Option<String>,
    /// The accounts that were last made, as a hash.
    pub accounts: Option<String>,
    /// The credential of people that was last made, as a hash.
    pub admin: Option<String>,
    /// The host's boot that this was last written in.
    pub boot_id: String,
    /// The host went down after mysqld had ended in order and everything was flushed.
    pub clean: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    Initialised,
    Seeded,
}

/// A mysqld that ended while it led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Died {
    pub epoch: Epoch,
    pub how: String,
    /// What it was last seen to have executed: a lower bound.
    pub executed: Option<GtidSet>,
}

#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    #[error("the agent's record could not be read: {0}")]
    Read(#[source] io::Error),
    #[error("the agent's record could not be written: {0}")]
    Write(#[source] io::Error),
    #[error("the agent's record is of another build and not understood by this one: {0}")]
    Parse(#[source] serde_json::Error),
}

const FILE: &str = "state.json";

/// Reads the record in `directory`; `None` where there is none.
pub fn read(directory: &Path) -> Result<Option<Durable>, DurableError> {
    let mut file = match File::open(directory.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DurableError::Read(error)),
    };
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(DurableError::Read)?;
    serde_json::from_str(&text).map(Some).map_err(DurableError::Parse)
}

/// Replaces the record in `directory`: once this returns it survives a crash of the host, and a crash in the middle leaves
/// the one before.
pub fn write(directory: &Path, record: &Durable) -> Result<(), DurableError> {
    let json = serde_json::to_vec_pretty(record).map_err(|error| DurableError::Write(error.into()))?;
    write_file(directory, FILE, &json, 0o600).map_err(DurableError::Write)
}

/// Replaces one small file atomically and durably: temporary file, fsync, rename, fsync of the directory.
pub fn write_file(directory: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = directory.join(format!(".{name}.tmp"));
    // A left-over may be another's or have another mode.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

impl Durable {
    /// The record of a volume that was just made.
    pub fn fresh(
        incarnation: Incarnation,
        slot: Slot,
        voter_id: VoterId,
        server_uuid: String,
        boot_id: String,
    ) -> Self {
        Self {
            incarnation,
            slot,
            voting: Voting { voter_id, generation: 1, life: 1, server_uuid },
            promised: None,
            orders: None,
            fence: 0,
            origin: None,
            dirty: None,
            led: false,
            died: None,
            start: None,
            marker: None,
            wired: None,
            restarted: None,
            accounts: None,
            admin: None,
            boot_id,
            clean: false,
        }
    }

    /// A machine begins to use it in boot `boot_id`; `left` is the boot in which this very machine last used it, and `anew` says
    /// that its file system was not there just before, as after a disk that was taken away from a machine that runs. Where the
    /// host did not go down in order, received transactions that were not flushed may be missing; where the volume was not
    /// left here as it is found, it may be an older copy, and nothing on it can tell. Whoever votes here then is not who voted
    /// before. `step` is drawn at random, so that no two futures of one copy come to the same life.
    pub fn begin_boot(&mut self, boot_id: &str, left: Option<&str>, anew: bool, step: NonZeroU64) {
        if self.boot_id != boot_id || anew {
            let as_left = left == Some(self.boot_id.as_str());
            let strict =
                self.orders.as_ref().is_some_and(|orders| orders.wanted.mysql.durability == Durability::Strict);
            if !as_left || (!self.clean && !strict) {
                self.voting.life = self.voting.life.saturating_add(step.get());
            }
            boot_id.clone_into(&mut self.boot_id);
        }
        self.clean = false;
    }

    /// Data is about to be made. On a volume from which a server has run, other data was there before, with what it had
    /// acknowledged: whoever votes by the new is not who voted before.
    pub fn make_data(&mut self, origin: Origin) {
        if self.start.take().is_some() {
            self.voting.generation += 1;
            self.voting.life += 1;
        }
        self.origin = Some(origin);
        (self.wired, self.accounts, self.admin) = (None, None, None);
    }
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Durable({} {:?} promised {:?} orders {:?} dirty {:?} died {:?})",
            self.slot, self.voting, self.promised, self.orders, self.dirty, self.died
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn record() -> Durable {
        let incarnation = Incarnation::new("k3j9x2m4").expect("valid");
        let voter = VoterId::new("0123456789ab").expect("valid");
        Durable::fresh(incarnation, Slot::Member(0), voter, UUID.into(), "boot-1".into())
    }

    #[test]
    fn what_was_written_is_read_and_only_root_may() {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(read(directory.path()).expect("no file is no error").is_none());
        for life in [1, 2] {
            let mut record = record();
            record.voting.life = life;
            write(directory.path(), &record).expect("written");
            assert_eq!(read(directory.path()).expect("read"), Some(record));
        }
        let mode = std::fs::metadata(directory.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_write_that_was_cut_short_leaves_the_record_before() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), &record()).expect("written");
        std::fs::write(directory.path().join(".state.json.tmp"), b"{\"inc").expect("half a file");
        assert_eq!(read(directory.path()).expect("read"), Some(record()));
        let mut later = record();
        later.voting.life = 9;
        write(directory.path(), &later).expect("written over the left-over");
        assert_eq!(read(directory.path()).expect("read"), Some(later));
    }

    #[test]
    fn a_record_that_is_not_understood_is_an_error_and_not_an_empty_one() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(FILE), b"{}").expect("written");
        assert!(matches!(read(directory.path()), Err(DurableError::Parse(_))));
    }
}
