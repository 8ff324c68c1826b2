//! Databases and users of applications, on a leader that is open. What is there is observed on the accounts themselves, so
//! whoever leads goes on where another leader was, and makes again what a person dropped. What is not ordered stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    Millis,
    clients::{Clients, ClientsReport, DatabaseOrder, UserOrder},
    problems::{Problem, Reason},
};

use super::{Observation, Outcome, State, Task, UserStep};

/// What this process knows of them beside what is observed. It begins anew with every mysqld.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// When a heartbeat was last acknowledged, by our own clock.
    pub(super) acknowledged: Option<Millis>,
    /// The databases that were looked for, and when.
    databases: Option<(Vec<DatabaseOrder>, Millis)>,
    made_databases: BTreeSet<String>,
    database_problems: BTreeMap<String, Problem>,
    /// What did not succeed, by user.
    user_problems: BTreeMap<String, Failed>,
    /// Databases that could not be dropped, and when that was.
    kept: BTreeMap<String, (Problem, Millis)>,
}

#[derive(Clone, Debug)]
struct Failed {
    step: UserStep,
    problem: Problem,
    at: Millis,
}

/// A heartbeat is written every second, and acknowledged within milliseconds where acknowledgements come.
const ACKNOWLEDGED: Duration = Duration::from_millis(2500);
/// A database that somebody dropped is missed within this time. Users are looked at with every observation.
const DATABASES_AGAIN: Duration = Duration::from_secs(60);
/// What failed is tried again after this: somebody may have removed an account that was in the way.
const AGAIN: Duration = Duration::from_secs(30);
/// How long an old password is taken beside its successor. A changed Secret is in a Pod's files within two minutes, and an
/// application that reads it when it starts is rolled over within the hour; whoever wants the old one gone at once changes the
/// password twice.
const OLD_PASSWORD: Duration = Duration::from_secs(3600);

impl Progress {
    /// New orders may have mended what was wrong.
    pub(super) fn try_again(&mut self) {
        self.databases = None;
        self.database_problems.clear();
        self.user_problems.clear();
        self.kept.clear();
    }

    pub(super) fn looked(
        &mut self,
        now: Millis,
        ordered: &[DatabaseOrder],
        made: BTreeSet<String>,
        failed: BTreeMap<String, String>,
    ) {
        self.made_databases = made;
        self.databases = Some((ordered.to_vec(), now));
        let problem = |message| Problem { reason: Reason::DatabaseFailed, message };
        self.database_problems = failed.into_iter().map(|(name, message)| (name, problem(message))).collect();
    }

    pub(super) fn dropped(&mut self, now: Millis, name: String, outcome: Outcome) {
        match outcome {
            Outcome::Kept(problem) => drop(self.kept.insert(name, (problem, now))),
            _ => {
                self.kept.remove(&name);
                self.made_databases.remove(&name);
            }
        }
    }

    pub(super) fn stepped(&mut self, now: Millis, step: &UserStep, outcome: Outcome) {
        self.user_problems.remove(step.name());
        if let Outcome::User(problem) = outcome {
            let failed = Failed { step: step.clone(), problem, at: now };
            self.user_problems.insert(step.name().to_owned(), failed);
        }
    }
}

impl State {
    /// The next thing to do about them. Nothing is begun while acknowledgements are missing: a statement about accounts that
    /// waits for one lets no connection in, those of acknowledgers included (measured).
    pub(super) fn next_client(&self, ordered: &Clients, seen: &Observation) -> Option<Task> {
        if !self.recently(self.clients.acknowledged, ACKNOWLEDGED) {
            return None;
        }
        let looked = self.clients.databases.as_ref().filter(|(of, _)| *of == ordered.databases).map(|(_, at)| *at);
        // Where there are none of ours, and none are ordered, nobody looks.
        let known = &self.clients.made_databases;
        let any = !ordered.is_empty() || !known.is_empty() || !seen.users.is_empty();
        if any && !self.recently(looked, DATABASES_AGAIN) {
            return Some(Task::Databases(ordered.databases.clone()));
        }
        let step = self.due(ordered, seen).into_iter().find(|step| !self.has_failed(step)).map(Task::User);
        step.or_else(|| self.next_drop(ordered))
    }

    /// Of databases that are to be dropped; after the users, so that nobody who is dropped makes anything in it again.
    fn next_drop(&self, ordered: &Clients) -> Option<Task> {
        if !self.is_asked() {
            return None;
        }
        let has_failed = |name: &String| self.recently(self.clients.kept.get(name).map(|(_, at)| *at), AGAIN);
        let mut due = self.clients.made_databases.intersection(&ordered.drop_databases);
        due.find(|name| !has_failed(name)).cloned().map(Task::DropDatabase)
    }

    /// What is to be done about users, in order.
    fn due(&self, ordered: &Clients, seen: &Observation) -> Vec<UserStep> {
        let next = ordered.users.iter().filter_map(|order| next_step(order, seen));
        let drops = seen.users.keys().filter(|name| self.is_asked() && ordered.drop_users.contains(*name));
        let drops = drops.map(|name| UserStep::Drop { name: name.clone() });
        next.chain(drops).chain(self.discards(seen)).collect()
    }

    /// Old passwords whose time is over, also of users that are not ordered any more.
    fn discards(&self, seen: &Observation) -> Vec<UserStep> {
        let now = self.wall(self.now);
        let over = seen.users.iter().filter(|(_, user)| user.takes_old && now.since(user.mark.changed) >= OLD_PASSWORD);
        over.map(|(name, _)| UserStep::Discard { name: name.clone() }).collect()
    }

    /// This very step. What is there may have changed since, so that another is due: an account may have been handed over.
    fn has_failed(&self, step: &UserStep) -> bool {
        let failed = self.clients.user_problems.get(step.name()).filter(|failed| failed.step == *step);
        self.recently(failed.map(|failed| failed.at), AGAIN)
    }

    fn recently(&self, at: Option<Millis>, within: Duration) -> bool {
        at.is_some_and(|at| self.now.since(at) < within)
    }

    /// A step that failed is told of while it is due: one that was given up may have ended well meanwhile.
    pub(super) fn clients_report(&self, ordered: &Clients, seen: &Observation) -> ClientsReport {
        let Progress { user_problems, database_problems, made_databases, kept, .. } = &self.clients;
        let due = if user_problems.is_empty() { Vec::new() } else { self.due(ordered, seen) };
        let failed = user_problems.iter().filter(|(_, failed)| due.contains(&failed.step));
        ClientsReport {
            users: seen.users.iter().map(|(name, user)| (name.clone(), user.mark.clone())).collect(),
            user_problems: failed.map(|(name, failed)| (name.clone(), failed.problem.clone())).collect(),
            databases: made_databases.clone(),
            databases_known: self.clients.databases.is_some(),
            database_problems: kept
                .iter()
                .filter(|(name, _)| ordered.drop_databases.contains(*name))
                .map(|(name, (problem, _))| (name.clone(), problem.clone()))
                .chain(database_problems.clone())
                .collect(),
        }
    }
}

fn next_step(order: &UserOrder, seen: &Observation) -> Option<UserStep> {
    let Some(user) = seen.users.get(&order.name) else {
        return Some(UserStep::Make(order.clone()));
    };
    if user.mark.version != order.version {
        return Some(UserStep::Rotate(order.clone()));
    }
    (user.mark.grants.as_ref() != Some(&order.grants)).then(|| UserStep::Grant(order.clone()))
}

impl UserStep {
    pub(super) fn name(&self) -> &str {
        match self {
            UserStep::Make(order) | UserStep::Rotate(order) | UserStep::Grant(order) => &order.name,
            UserStep::Discard { name } | UserStep::Drop { name } => name,
        }
    }
}
