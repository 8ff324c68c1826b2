//! What is on a data volume, whoever it is attached to.

use drover_agent::{
    durable::Durable,
    state::{Minted, Mounted, Recorded, VolumeContent},
};
use drover_api::VolumeId;

use crate::mysqld::Data;

/// A data volume's content.
#[derive(Clone, Debug)]
pub struct Disk {
    pub content: VolumeContent,
    pub record: Option<Durable>,
    pub data: Option<Data>,
}

impl Disk {
    /// As EC2 makes it.
    pub fn blank() -> Self {
        Self { content: VolumeContent::Blank, record: None, data: None }
    }

    /// mkfs. A volume that anything of ours was ever on is never formatted again.
    pub fn format(&mut self, id: &VolumeId) {
        assert!(self.record.is_none() && self.data.is_none(), "{id} is formatted over data");
        assert!(
            matches!(self.content, VolumeContent::Blank | VolumeContent::HalfMade),
            "{id} is formatted over {:?}",
            self.content
        );
        self.content = VolumeContent::Ours;
    }

    /// As an agent finds it when it is mounted; `left` is what its machine remembers of it.
    pub fn mounted(&self, volume: &VolumeId, left: Option<String>, anew: bool, minted: Minted) -> Mounted {
        let record = match &self.record {
            Some(record) => Recorded::Record(Box::new(record.clone())),
            None => Recorded::Empty,
        };
        Mounted { volume: volume.clone(), record, data: self.data.is_some(), left, anew, minted }
    }
}
