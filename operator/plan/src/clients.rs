//! Databases and users of applications: what the leader is ordered to have, what is in the way of that, and who may connect.

use std::{collections::BTreeMap, fmt};

use drover_api::{
    ResourceKey,
    clients::{Clients, ClientsReport, DatabaseOrder, Grants, Password, SecretRef, UserOrder},
    conditions::{Condition, ConditionType},
    problems::Problem,
    records::Register,
    secrets::SetSecret,
    set::{Access, UserSpec},
    wire::{LeaderPhase, RunningRole},
};

use crate::{
    observed::{Observed, Seen},
    orders,
    report::UserReport,
    requests, set,
    view::{Out, View},
};

/// How a declared user connects. Not for status: it has the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    pub user: String,
    pub database: String,
    pub access: Access,
    pub password: String,
    /// The user is in MySQL as declared, with this password. False also while the leader is not heard.
    pub applied: bool,
}

/// How the users of each declared set connect, those aside whose password is awaited.
pub fn connections(observed: &Observed) -> BTreeMap<ResourceKey, Vec<Connection>> {
    let of_set = |key: &ResourceKey| {
        let view = set::kept(observed, key)?;
        let secret = view.records.secret.as_ref()?;
        let made = made(&view);
        let users = ordered(&view, secret).users.into_iter().map(|order| Connection {
            applied: made.is_some_and(|made| order.is_made(&made.users)),
            user: order.name,
            database: order.grants.database,
            access: order.grants.access,
            password: order.password,
        });
        Some((key.clone(), users.collect()))
    };
    observed.intents.keys().filter_map(of_set).collect()
}

/// What the leader is to have, and what is to be dropped. A user whose password is awaited is left out, and with that left as it
/// is.
pub fn ordered(view: &View<'_>, secret: &SetSecret) -> Clients {
    let Some(set) = view.set else { return Clients::default() };
    let databases = set.databases.iter().map(|(name, spec)| DatabaseOrder {
        name: name.clone(),
        character_set: spec.character_set.clone(),
        collation: spec.collation.clone(),
    });
    let users = set.users.iter().filter_map(|(name, spec)| {
        let password = password(view, secret, name, spec).ok()?;
        Some(UserOrder {
            name: name.clone(),
            grants: Grants { database: spec.database.clone(), access: spec.access },
            version: secret.client_version(name, &password),
            password: password.as_str().to_owned(),
        })
    });
    let (drop_users, drop_databases) = requests::drops(view);
    Clients { databases: databases.collect(), users: users.collect(), drop_users, drop_databases }
}

/// Says what is awaited.
pub fn tell(view: &View<'_>, out: &mut Out) {
    for Awaited { reason, message, .. } in awaited(view) {
        out.wait(None, &reason, message);
    }
}

/// Whether applications find what is declared for them; `None` where nothing is, or where it is not known.
pub fn condition(view: &View<'_>, register: &Register) -> Option<Condition> {
    let set = view.set?;
    let nothing = set.users.is_empty() && set.databases.is_empty();
    let is_read = set.password_refs().all(|reference| view.observed.passwords.contains_key(&reference));
    if nothing || !is_read {
        return None;
    }
    let is_declared = |of: &Of| match of {
        Of::User(name) => set.users.contains_key(name),
        Of::Database(name) => set.databases.contains_key(name),
    };
    let awaited: Vec<Awaited> = awaited(view).into_iter().filter(|awaited| is_declared(&awaited.of)).collect();
    if let Some(Awaited { reason, message, .. }) = awaited.first() {
        let more = match awaited.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        return Some(Condition::new(ConditionType::ClientsReady, false, reason, format!("{message}{more}")));
    }
    let made = made(view)?;
    if !made.databases_known || !orders::is_accepted(view, register, register.leader) {
        let message = "databases and users are being looked for, and made where they are not there";
        return Some(Condition::new(ConditionType::ClientsReady, false, BEING_MADE, message));
    }
    let message = "every declared database and user is in MySQL";
    Some(Condition::new(ConditionType::ClientsReady, true, "ClientsMade", message))
}

/// The reason of what is over by itself, in a moment.
pub const BEING_MADE: &str = "ClientsAwaited";

/// What keeps a database or a user from being as it should.
struct Awaited {
    of: Of,
    reason: String,
    message: String,
}

enum Of {
    User(String),
    Database(String),
}

/// Of what is declared, and of what is not any more and is to be dropped.
fn awaited(view: &View<'_>) -> Vec<Awaited> {
    let (Some(set), Some(secret)) = (view.set, view.records.secret.as_ref()) else { return Vec::new() };
    let passwords = set.users.iter().filter_map(|(name, spec)| {
        let why = password(view, secret, name, spec).err()?;
        let (of, message) = (Of::User(name.clone()), format!("the password of user {name}: {why}"));
        Some(Awaited { of, reason: "PasswordAwaited".to_owned(), message })
    });
    let mut awaited: Vec<Awaited> = passwords.collect();
    let Some(made) = made(view) else { return awaited };
    let of_user = |(name, problem): (&String, &Problem)| Awaited {
        of: Of::User(name.clone()),
        reason: problem.reason.to_string(),
        message: format!("user {name}: {}", problem.message),
    };
    let of_database = |(name, problem): (&String, &Problem)| Awaited {
        of: Of::Database(name.clone()),
        reason: problem.reason.to_string(),
        message: format!("database {name}: {}", problem.message),
    };
    awaited.extend(made.user_problems.iter().map(of_user));
    awaited.extend(made.database_problems.iter().map(of_database));
    let is_awaited = |order: &&UserOrder| !order.is_made(&made.users) && !made.user_problems.contains_key(&order.name);
    awaited.extend(ordered(view, secret).users.iter().filter(is_awaited).map(|order| Awaited {
        of: Of::User(order.name.clone()),
        reason: BEING_MADE.to_owned(),
        message: format!("user {} is being made or changed in MySQL", order.name),
    }));
    awaited
}

/// Declared users and how far each is; and users and databases in MySQL that an agent of ours made and nobody declares any more.
pub fn reports(view: &View<'_>) -> (Vec<UserReport>, Vec<String>, Vec<String>) {
    let Some(set) = view.set else { return Default::default() };
    let made = made(view);
    let orders = view.records.secret.as_ref().map(|secret| ordered(view, secret)).unwrap_or_default();
    let is_ready = |name: &String| {
        let order = orders.users.iter().find(|order| order.name == *name);
        order.zip(made).is_some_and(|(order, made)| order.is_made(&made.users))
    };
    let users = set.users.iter().map(|(name, spec)| UserReport {
        name: name.clone(),
        database: spec.database.clone(),
        access: spec.access,
        ready: is_ready(name),
    });
    let kept_users = made.iter().flat_map(|made| made.users.keys()).filter(|name| !set.users.contains_key(*name));
    let databases = made.iter().flat_map(|made| &made.databases);
    let kept_databases = databases.filter(|name| !set.databases.contains_key(*name));
    (users.collect(), kept_users.cloned().collect(), kept_databases.cloned().collect())
}

fn password(view: &View<'_>, secret: &SetSecret, name: &str, spec: &UserSpec) -> Result<Password, String> {
    let Some(key) = &spec.password_secret_ref else {
        return Ok(secret.client_password(name, spec.rotation.unwrap_or(0)));
    };
    let reference = SecretRef::of(&view.key.namespace, key);
    match view.observed.passwords.get(&reference) {
        Some(Seen::Known(password)) => Ok(password.clone()),
        Some(Seen::Unknown { why }) => Err(why.clone()),
        None => Err(format!("{reference} has not been read yet")),
    }
}

/// What the agent of the open leader says of them, while it answers.
pub fn made<'a>(view: &View<'a>) -> Option<&'a ClientsReport> {
    let running = view.running(view.register()?.leader)?;
    match &running.role {
        RunningRole::Leader { phase: LeaderPhase::Open, clients, .. } => Some(clients),
        RunningRole::Leader { .. } | RunningRole::Closed | RunningRole::Replica { .. } => None,
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, database, access, applied, .. } = self;
        write!(f, "Connection({user} {access} {database} applied={applied}, password hidden)")
    }
}
