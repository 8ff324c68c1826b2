//! The one door: whoever calls, whatever the action, a call is authorised, counted against its buckets, run and logged here.

use drover_api::Millis;

use super::{ApiError, Caller, Credentials, Ec2, LogEntry, Mode, Throttling, buckets::Lane};

/// One of EC2's actions: what it is called, which buckets it draws from, and what it does.
pub trait Action: sealed::Run {
    /// The Action parameter of the Query API.
    const NAME: &'static str;
    const MUTATING: bool;
}

pub(super) mod sealed {
    use crate::ec2::{ApiError, Ec2};

    /// What an action does; only this model implements it.
    pub trait Run {
        type Reply;

        fn run(&self, ec2: &mut Ec2) -> Result<Self::Reply, ApiError>;

        /// What a dry run is refused for besides the permission to call the action at all.
        fn try_out(&self, _ec2: &Ec2) -> Result<(), ApiError> {
            Ok(())
        }

        /// Instances that count against the resource bucket of Run, Start, Stop and Terminate.
        fn instances(&self) -> u32 {
            0
        }

        /// A Describe with a filter or pagination draws from the larger bucket.
        fn narrowed(&self) -> bool {
            true
        }
    }
}

/// Names the action of a request and says how it is counted.
macro_rules! action {
    ($type:ident, mutating) => {
        impl crate::ec2::calls::Action for crate::ec2::$type {
            const NAME: &'static str = stringify!($type);
            const MUTATING: bool = true;
        }
    };
    ($type:ident, describing) => {
        impl crate::ec2::calls::Action for crate::ec2::$type {
            const NAME: &'static str = stringify!($type);
            const MUTATING: bool = false;
        }
    };
}
pub(super) use action;

impl Ec2 {
    /// Makes one call. Everything that became due before `now` has happened when the action runs.
    pub fn call<A: Action>(
        &mut self,
        now: Millis,
        caller: &Caller,
        mode: Mode,
        action: &A,
    ) -> Result<A::Reply, ApiError> {
        self.settle(now);
        let told = self.outbox.len();
        let answer = self.answer(caller, mode, action);
        let mutating = A::MUTATING && mode == Mode::Run;
        self.log.push(LogEntry {
            at: self.now,
            caller: caller.clone(),
            action: A::NAME.into(),
            mutating,
            error: answer.as_ref().err().map(|error| error.code.clone()),
            // Whatever an action changes before it fails is the host's concern.
            changed: mutating && (answer.is_ok() || self.outbox.len() > told),
        });
        answer
    }

    /// Throttling comes first, as in AWS, where a refused call costs its caller a token too.
    fn answer<A: Action>(&mut self, caller: &Caller, mode: Mode, action: &A) -> Result<A::Reply, ApiError> {
        if self.faults.throttling == Throttling::Buckets {
            let lane = Lane { action: A::NAME, mutating: A::MUTATING, narrowed: action.narrowed() };
            self.buckets.take(self.now, lane, action.instances())?;
        }
        self.authorize(caller, A::NAME)?;
        match mode {
            Mode::Run => action.run(self),
            Mode::DryRun => {
                action.try_out(self)?;
                Err(ApiError::new("DryRunOperation", "Request would have succeeded, but DryRun flag is set."))
            }
        }
    }

    fn authorize(&self, caller: &Caller, action: &str) -> Result<(), ApiError> {
        let unauthorized = || {
            let message = format!("You are not authorized to perform this operation: ec2:{action}");
            Err(ApiError::new("UnauthorizedOperation", message))
        };
        self.require_permission(&format!("ec2:{action}"), "*")?;
        match (caller, self.faults.credentials) {
            (Caller::Machine(_), _) | (_, Credentials::Unauthorized) => unauthorized(),
            (_, Credentials::Revoked) => {
                Err(ApiError::new("AuthFailure", "AWS was not able to validate the provided access credentials"))
            }
            (Caller::Operator(_), Credentials::Valid) => Ok(()),
        }
    }
}
