//! Deletions that were asked for and are not written down yet. They are this process's word only: whoever was refused, or does
//! not wait any more, has asked for nothing. One that stayed armed could end a set months later, when its manifest is moved.

use drover_api::{ResourceKey, records::IncarnationState};
use drover_cloud::{Machines, Objects, Volumes};
use tokio::sync::oneshot;

use crate::{agents::Agents, lock::Holding, operator::Operator};

/// A deletion that is not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRefused {
    #[error("{key} is still declared by a manifest: remove it there first, or it would come back at once")]
    Declared { key: ResourceKey },
    #[error("{key} may be declared by a manifest that is not understood: mend it first, or remove it: {problem}")]
    Unclear { key: ResourceKey, problem: String },
    #[error("there is no {key}: neither records nor machines carry that name")]
    Unknown { key: ResourceKey },
    #[error(
        "the bucket knows nothing of {key}, although machines or volumes carry its tags: restore the bucket, or end them by hand"
    )]
    Lost { key: ResourceKey },
    #[error("the records of {key} are not known yet: {why}")]
    Unread { key: ResourceKey, why: String },
}

/// People who wait until the end of a set is written down.
#[derive(Debug, Default)]
pub struct Deletions {
    waiting: Vec<(ResourceKey, Reply)>,
}

type Reply = oneshot::Sender<Result<(), String>>;

// === impl Deletions ===

impl Deletions {
    /// Takes a person's command.
    pub fn take<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        holding: &Holding,
        (key, reply): (ResourceKey, Reply),
    ) {
        if reply.is_closed() {
            return;
        }
        let begun = match holding {
            Holding::Us { .. } => operator.delete(&key).map_err(|refused| refused.to_string()),
            Holding::Other { holder, .. } => {
                Err(format!("this operator does not act: ask the one that does, {holder}"))
            }
            Holding::Unknown => Err("this operator does not hold the lock yet: try again".to_owned()),
        };
        match begun {
            Ok(()) => self.waiting.push((key, reply)),
            Err(refused) => tell(reply, Err(refused)),
        }
    }

    /// Tells those whose deletion is written down, and those who would wait in vain. What nobody waits for is taken back.
    pub fn answer<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        holding: &Holding,
    ) {
        let mut over = Vec::new();
        for (key, reply) in std::mem::take(&mut self.waiting) {
            let answer = if operator.ends(&key) {
                Some(Ok(()))
            } else if !matches!(holding, Holding::Us { .. }) {
                Some(Err("this operator lost the lock: ask the one that acts".to_owned()))
            } else if let Some(refused) = operator.stays(&key) {
                Some(Err(refused.to_string()))
            } else if !operator.deletions.contains(&key) {
                Some(Err("the deletion is not written down: ask again".to_owned()))
            } else {
                None
            };
            match answer {
                Some(answer) => tell(reply, answer),
                None if reply.is_closed() => {}
                None => {
                    self.waiting.push((key, reply));
                    continue;
                }
            }
            over.push(key);
        }
        for key in over.iter().filter(|key| self.waiting.iter().all(|(waiting, _)| waiting != *key)) {
            operator.deletions.remove(key);
        }
    }
}

// === impl Operator ===

impl<C: Machines + Volumes + Objects, A: Agents> Operator<C, A> {
    /// Asks for the end of a set that no manifest declares. It is durable once [`Operator::ends`] says so; until then it is
    /// forgotten when the set is declared again, or when this process does not act any more.
    pub fn delete(&mut self, key: &ResourceKey) -> Result<(), DeleteRefused> {
        if let Some(refused) = self.stays(key) {
            return Err(refused);
        }
        let key = key.clone();
        match self.memory.sets.get(&key) {
            None if self.memory.bucket.listed.is_none() || self.is_named(&key) => {
                Err(DeleteRefused::Unread { key, why: "they are being read".to_owned() })
            }
            None => Err(DeleteRefused::Unknown { key }),
            Some(Err(why)) => {
                let why = why.clone();
                Err(DeleteRefused::Unread { key, why })
            }
            Some(Ok(set)) if set.incarnation.is_none() && self.shown().any(|identity| identity.key == key) => {
                Err(DeleteRefused::Lost { key })
            }
            Some(Ok(set)) if set.incarnation.is_none() => Err(DeleteRefused::Unknown { key }),
            Some(Ok(_)) => {
                self.deletions.insert(key);
                Ok(())
            }
        }
    }

    /// Why a set must not be deleted, as far as manifests go: one declares it, or may do so.
    pub(crate) fn stays(&self, key: &ResourceKey) -> Option<DeleteRefused> {
        if self.intents.contains_key(key) {
            return Some(DeleteRefused::Declared { key: key.clone() });
        }
        let problem = self.problems.lines().into_iter().next()?;
        Some(DeleteRefused::Unclear { key: key.clone(), problem })
    }

    /// The set's end is written down (or reached): no crash forgets it.
    pub fn ends(&self, key: &ResourceKey) -> bool {
        let set = self.memory.sets.get(key).and_then(|read| read.as_ref().ok());
        let record = set.and_then(|set| set.incarnation.as_ref());
        record.is_some_and(|stored| stored.record.state != IncarnationState::Live)
    }

    pub(crate) fn deletions_made_durable(&mut self) {
        let mut asked = std::mem::take(&mut self.deletions);
        asked.retain(|key| !self.ends(key));
        self.deletions = asked;
    }

    fn is_named(&self, key: &ResourceKey) -> bool {
        self.memory.bucket.named.contains(key) || self.shown().any(|identity| identity.key == *key)
    }
}

fn tell(reply: Reply, answer: Result<(), String>) {
    if reply.send(answer).is_err() {
        tracing::debug!("whoever asked for a deletion does not wait for the answer any more");
    }
}
