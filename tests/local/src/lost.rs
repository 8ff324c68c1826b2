//! LostReplies of the wire that the model of the account does not know: replies that are withheld.

use std::sync::{Arc, Mutex, PoisonError};

/// Which replies are withheld. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct LostReplies(Arc<Mutex<Vec<LostReply>>>);

/// The next `times` calls of `action` (any mutating action where it is `None`) are applied and not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostReply {
    pub action: Option<String>,
    pub times: u32,
}

impl LostReplies {
    /// Adds a fault.
    pub fn lose(&self, fault: LostReply) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Ends those of one action.
    pub fn clear(&self, action: Option<&str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|fault| fault.action.as_deref() != action);
    }

    /// Those that have not happened yet.
    pub fn pending(&self) -> Vec<LostReply> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the answer to this call is withheld; if so, the fault is used up by one.
    pub fn takes_reply(&self, action: &str) -> bool {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hits = |fault: &LostReply| match &fault.action {
            Some(wanted) => wanted == action,
            None => crate::calls::is_mutating(action),
        };
        let Some(index) = faults.iter().position(hits) else {
            return false;
        };
        faults[index].times -= 1;
        if faults[index].times == 0 {
            faults.remove(index);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_reply_hits_its_action_as_often_as_asked() {
        let faults = LostReplies::default();
        faults.lose(LostReply { action: Some("RunInstances".into()), times: 2 });
        let taken = ["DescribeInstances", "RunInstances", "CreateTags", "RunInstances", "RunInstances"]
            .map(|action| faults.takes_reply(action));
        assert_eq!(taken, [false, true, false, true, false]);
        faults.lose(LostReply { action: None, times: 1 });
        assert_eq!(
            ["DescribeInstances", "CreateTags", "CreateTags"].map(|a| faults.takes_reply(a)),
            [false, true, false]
        );
    }
}
