//! What people and hardware do to machines, past every operator.

use std::sync::Arc;

use drover_api::{
    InstanceId,
    records::{Register, RegisterState},
    tags,
};
use drover_cloud::ec2::{
    Action, Caller, InstanceChange, InstanceStateName, Mode, ModifyInstanceAttribute, RebootInstances, StartInstances,
    StateReason, StopInstances, TerminateInstances, Volume,
};

use crate::{
    mysqld::{UserChange, What},
    world::{World, keys},
};

impl World {
    /// A person ends a machine in the console.
    pub fn terminate(&mut self, id: &InstanceId) {
        let changes = vec![InstanceChange::DisableApiTermination(false)];
        self.person(&ModifyInstanceAttribute { instance_id: id.to_string(), changes });
        self.person(&TerminateInstances { instance_ids: vec![id.to_string()], ..TerminateInstances::default() });
    }

    /// EC2 gives up every launch that is under way.
    pub fn give_up_pending(&mut self, code: &str) {
        self.fake.look(|world| {
            let now = world.now();
            let pending = world.ec2.instances().filter(|instance| instance.state == InstanceStateName::Pending);
            let pending: Vec<String> = pending.map(|instance| instance.instance_id.clone()).collect();
            for id in pending {
                let reason = StateReason { code: code.into(), message: format!("{code}: given up") };
                world.ec2.instance_failed(now, &id, reason);
            }
        });
    }

    /// A person has a machine's data volume end with it, which a launch does not.
    pub fn let_volume_go(&mut self, id: &InstanceId) {
        let device = self.fake.look(|world| {
            let mut attachments = world.ec2.volumes().filter(|volume| volume.tags.contains_key(tags::VOLUME));
            let at = |volume: &Volume| volume.attachment.clone().filter(|at| at.instance_id == id.as_str());
            attachments.find_map(at).expect("a data volume is attached").device
        });
        let changes = vec![InstanceChange::DeleteOnTermination(vec![(device, true)])];
        self.person(&ModifyInstanceAttribute { instance_id: id.to_string(), changes });
    }

    pub fn stop(&mut self, id: &InstanceId) {
        self.person(&StopInstances { instance_ids: vec![id.to_string()], ..StopInstances::default() });
    }

    /// Machines that are running, by EC2's word.
    pub fn running(&self) -> Vec<InstanceId> {
        let is_running = |id: &InstanceId| {
            let state = self.fake.look(|world| world.ec2.instance(id.as_str()).map(|instance| instance.state));
            state == Some(InstanceStateName::Running)
        };
        self.machines.keys().filter(|id| is_running(id)).cloned().collect()
    }

    /// Started again; one that was ended meanwhile, or is still stopping, cannot be.
    pub fn start_if_stopped(&mut self, id: &InstanceId) -> bool {
        let state = self.fake.look(|world| world.ec2.instance(id.as_str()).map(|instance| instance.state));
        let stopped = state == Some(InstanceStateName::Stopped);
        if stopped {
            self.person(&StartInstances { instance_ids: vec![id.to_string()] });
        }
        stopped
    }

    /// Whether its set goes on without what this machine's mysqld holds in memory: it does not lead an active epoch, or the set is
    /// a set of one; and one that may acknowledge is lost only while all the others are there in their registered lives. Of five
    /// that lose three at a time too few are left to acknowledge anything, for ever.
    pub fn may_lose(&self, id: &InstanceId) -> bool {
        let identity = &self.machines[id].identity;
        let records = keys().set(&identity.key).of(&identity.incarnation);
        let register: Option<Register> = self.object(&records.register());
        let Some(register) = register.filter(|register| register.state == RegisterState::Active) else { return true };
        if register.voters.len() == 1 || !identity.slot.is_member() {
            return true;
        }
        let mut others = register.voters.iter().filter(|voter| voter.slot != identity.slot);
        register.leader != identity.slot && register.joining.is_none() && others.all(|voter| self.is_there(voter))
    }

    /// A person drops an account by hand.
    pub fn drop_user(&mut self, id: &InstanceId, name: &str) {
        let before = self.data(id).and_then(|data| data.users.get(name).cloned());
        assert!(before.is_some(), "there is no {name} to drop");
        self.commit(id, What::User(Arc::new(UserChange { name: name.to_owned(), before, after: None })));
    }

    pub fn reboot(&mut self, id: &InstanceId) {
        self.person(&RebootInstances { instance_ids: vec![id.to_string()] });
    }

    /// People try again until they get through, so the cloud's faults are not for them.
    fn person<A: Action>(&mut self, action: &A) {
        let caller = Caller::Operator("person".into());
        let answer = self.fake.look(|world| {
            let now = world.now();
            let faults = std::mem::take(world.ec2.faults());
            let answer = world.ec2.call(now, &caller, Mode::Run, action);
            *world.ec2.faults() = faults;
            answer
        });
        if let Err(error) = answer {
            panic!("a person's {} fails: {error:?}", A::NAME);
        }
    }
}
