//! Everything that can be made to go wrong, in the words of the command line, and its undoing.

use std::{fmt, time::Duration};

use clap::{Subcommand, ValueEnum};
use drover_cloud::ec2::{Credentials, NoCapacity, Throttling};
use serde::{Deserialize, Serialize};

use crate::{
    clock::ServiceClock,
    cloud::{Cloud, StateError},
    host::{Host, HostError},
    keys::Keys,
    lost::{LostReplies, LostReply},
    query, quotas,
};

/// One fault. Setting it twice is setting it once.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
pub enum Fault {
    #[command(flatten)]
    Machine(MachineFault),
    /// Requests are throttled by the token buckets that EC2 documents.
    Throttle,
    /// Launches and starts in a zone, of one type or of all, get InsufficientInstanceCapacity.
    Capacity { zone: String, instance_type: Option<String> },
    /// The next calls of an action (of any that changes something, where none is named) are applied and not answered.
    LostReply {
        action: Option<String>,
        #[arg(long, default_value_t = 1)]
        times: u32,
    },
    /// What is new is missing from lists, and NotFound by id, for this many seconds.
    Visibility { seconds: u64 },
    /// What lists show of instances' tags is this many seconds behind.
    TagLag { seconds: u64 },
    /// A subnet has no free address left.
    FullSubnet { subnet: String },
    /// A zone is out: launches there and lists of everything fail, and nobody reaches its machines, nor they anybody. They run
    /// on, as behind a severed cable.
    ZoneOutage { zone: String },
    /// The operator's policy lacks a permission, named as IAM names it, such as ec2:RunInstances or iam:PassRole: EC2 answers
    /// UnauthorizedOperation, Service Quotas AccessDeniedException.
    Deny {
        #[arg(value_parser = permission)]
        permission: String,
    },
    /// The operator's credentials are revoked: AuthFailure from EC2, InvalidAccessKeyId from S3, UnrecognizedClientException from
    /// Service Quotas.
    Credentials,
    /// A quota of the account is this large, by its code, such as L-1216C47A (vCPUs of Standard instances, which launches keep to)
    /// or L-7A658B76 (TiB of gp3 volumes, which is told only).
    Quota {
        #[arg(value_parser = quotas::code)]
        code: String,
        value: u32,
    },
    /// The clock of the services is this many seconds ahead of everybody else's, or behind where negative: a request that is
    /// dated more than 15 minutes from it is refused, RequestExpired by EC2, RequestTimeTooSkewed by S3, InvalidSignatureException
    /// by Service Quotas.
    ClockSkew {
        #[arg(allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-SKEW_SECONDS_MAX..=SKEW_SECONDS_MAX))]
        seconds: i64,
    },
}

/// One that nothing asks for would be a fault that never shows.
fn permission(text: &str) -> Result<String, String> {
    let is_known = match text.split_once(':') {
        Some(("ec2", action)) => query::ACTIONS.contains(&action),
        Some((quotas::SERVICE, action)) => quotas::ACTIONS.contains(&action),
        _ => text == "iam:PassRole",
    };
    let known = "it is iam:PassRole, or ec2: or servicequotas: and an action that is known here";
    if is_known { Ok(text.to_owned()) } else { Err(known.to_owned()) }
}

/// A day: more than any clock is wrong that still has the right date.
const SKEW_SECONDS_MAX: i64 = 86_400;

impl fmt::Display for Fault {
    /// As it is set on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Machine(fault) => fault.fmt(f),
            Fault::Throttle => f.write_str("throttle"),
            Fault::Capacity { zone, instance_type: None } => write!(f, "capacity {zone}"),
            Fault::Capacity { zone, instance_type: Some(kind) } => write!(f, "capacity {zone} {kind}"),
            Fault::LostReply { action: None, times } => write!(f, "lost-reply --times {times}"),
            Fault::LostReply { action: Some(action), times } => write!(f, "lost-reply {action} --times {times}"),
            Fault::Visibility { seconds } => write!(f, "visibility {seconds}"),
            Fault::TagLag { seconds } => write!(f, "tag-lag {seconds}"),
            Fault::FullSubnet { subnet } => write!(f, "full-subnet {subnet}"),
            Fault::ZoneOutage { zone } => write!(f, "zone-outage {zone}"),
            Fault::Deny { permission } => write!(f, "deny {permission}"),
            Fault::Credentials => f.write_str("credentials"),
            Fault::Quota { code, value } => write!(f, "quota {code} {value}"),
            Fault::ClockSkew { seconds } => write!(f, "clock-skew {seconds}"),
        }
    }
}

impl fmt::Display for MachineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineFault::Kill { instance } => write!(f, "kill {instance}"),
            MachineFault::Freeze { instance } => write!(f, "freeze {instance}"),
            MachineFault::Cut { instance, way, peer } => {
                let way = way.to_possible_value().map_or_else(String::new, |way| way.get_name().to_owned());
                let peer = peer.as_ref().map_or_else(String::new, |peer| format!(" --peer {peer}"));
                write!(f, "cut {instance} {way}{peer}")
            }
            MachineFault::FillDisk { volume } => write!(f, "fill-disk {volume}"),
            MachineFault::StallDisk { volume } => write!(f, "stall-disk {volume}"),
        }
    }
}

/// A fault of one machine or volume; there is none without machines, but for `kill`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand, Serialize, Deserialize)]
pub enum MachineFault {
    /// The host under a machine dies: kill -9 to everything in it. The instance stays `running`, its status checks fail;
    /// StopInstances and StartInstances bring it back. Cannot be cleared.
    Kill { instance: String },
    /// A machine stands still: nothing in it runs, nothing in it ends.
    Freeze { instance: String },
    /// A machine's packets are dropped, those of established connections too. The metadata service still answers.
    Cut {
        instance: String,
        /// Which packets, seen from the machine.
        #[arg(value_enum, default_value_t = Way::Both)]
        way: Way,
        /// Only the traffic with this other machine.
        #[arg(long)]
        peer: Option<String>,
    },
    /// The file system of a data volume is full.
    FillDisk { volume: String },
    /// Writes to a data volume hang.
    StallDisk { volume: String },
}

/// A direction, seen from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Way {
    /// Nothing reaches it.
    In,
    /// Nothing that it sends arrives.
    Out,
    Both,
}

/// A fault that could not be set or cleared.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    #[error("there is no zone {0}")]
    NoSuchZone(String),
    #[error("there is no subnet {0}")]
    NoSuchSubnet(String),
    #[error("--times must be at least 1")]
    NoTimes,
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// The parts that faults are set in.
#[derive(Debug, Clone)]
pub struct Breaker {
    pub cloud: Cloud,
    pub lost: LostReplies,
    pub keys: Keys,
    pub clock: ServiceClock,
    pub host: Host,
}

impl Breaker {
    /// Brings keys and network in line with a state that was kept: credentials revoked before a restart stay revoked, and a zone
    /// that was out is.
    pub async fn restore(&self) -> Result<(), HostError> {
        let revoked = self.cloud.change(|ec2, _| ec2.faults().credentials == Credentials::Revoked)?;
        self.keys.set_operator_revoked(revoked);
        self.host.isolate().await
    }

    /// Sets a fault.
    pub async fn set(&self, fault: &Fault) -> Result<(), FaultError> {
        self.require_place(fault)?;
        match fault {
            Fault::LostReply { times: 0, .. } => Err(FaultError::NoTimes),
            Fault::LostReply { action, times } => {
                self.lost.lose(LostReply { action: action.clone(), times: *times });
                Ok(())
            }
            Fault::Throttle => self.change(|faults| faults.throttling = Throttling::Buckets),
            Fault::Capacity { zone, instance_type } => self.change(|faults| {
                let refusal = NoCapacity { zone: Some(zone.clone()), instance_type: instance_type.clone() };
                if !faults.no_capacity.contains(&refusal) {
                    faults.no_capacity.push(refusal);
                }
            }),
            Fault::Visibility { seconds } => {
                self.change(|faults| faults.visibility_lag = Duration::from_secs(*seconds))
            }
            Fault::TagLag { seconds } => self.change(|faults| faults.tag_lag = Duration::from_secs(*seconds)),
            Fault::FullSubnet { subnet } => self.change(|faults| {
                faults.full_subnets.insert(subnet.clone());
            }),
            Fault::ZoneOutage { zone } => {
                self.change(|faults| {
                    faults.zone_outages.insert(zone.clone());
                })?;
                Ok(self.host.isolate().await?)
            }
            Fault::Deny { permission } => self.change(|faults| {
                faults.denied.insert(permission.clone());
            }),
            Fault::Credentials => {
                self.keys.set_operator_revoked(true);
                self.change(|faults| faults.credentials = Credentials::Revoked)
            }
            Fault::Quota { code, value } => self.change(|faults| {
                faults.quotas.insert(code.clone(), *value);
            }),
            Fault::ClockSkew { seconds } => {
                self.clock.set_ahead(*seconds);
                Ok(())
            }
            Fault::Machine(fault) => Ok(self.host.set(fault).await?),
        }
    }

    /// Undoes a fault; one that is not set is undone already.
    pub async fn clear(&self, fault: &Fault) -> Result<(), FaultError> {
        match fault {
            Fault::LostReply { action, .. } => {
                self.lost.clear(action.as_deref());
                Ok(())
            }
            Fault::Throttle => self.change(|faults| faults.throttling = Throttling::Off),
            Fault::Capacity { zone, instance_type } => self.change(|faults| {
                let refusal = NoCapacity { zone: Some(zone.clone()), instance_type: instance_type.clone() };
                faults.no_capacity.retain(|set| *set != refusal);
            }),
            Fault::Visibility { .. } => self.change(|faults| faults.visibility_lag = Duration::ZERO),
            Fault::TagLag { .. } => self.change(|faults| faults.tag_lag = Duration::ZERO),
            Fault::FullSubnet { subnet } => self.change(|faults| {
                faults.full_subnets.remove(subnet);
            }),
            Fault::ZoneOutage { zone } => {
                self.change(|faults| {
                    faults.zone_outages.remove(zone);
                })?;
                Ok(self.host.isolate().await?)
            }
            Fault::Deny { permission } => self.change(|faults| {
                faults.denied.remove(permission);
            }),
            Fault::Credentials => {
                self.keys.set_operator_revoked(false);
                self.change(|faults| faults.credentials = Credentials::Valid)
            }
            Fault::Quota { code, .. } => self.change(|faults| {
                faults.quotas.remove(code);
            }),
            Fault::ClockSkew { .. } => {
                self.clock.set_ahead(0);
                Ok(())
            }
            Fault::Machine(fault) => Ok(self.host.clear(fault).await?),
        }
    }

    /// Undoes every fault that is set, the last first: a full disk of a frozen machine cannot be emptied. One that cannot be
    /// undone does not keep the others; the first such error is returned.
    pub async fn clear_all(&self) -> Result<(), FaultError> {
        let mut result = Ok(());
        for fault in self.list().await?.iter().rev() {
            result = result.and(self.clear(fault).await);
        }
        result
    }

    /// The faults that are set now.
    pub async fn list(&self) -> Result<Vec<Fault>, FaultError> {
        let mut list: Vec<Fault> = self.host.faults().await.into_iter().map(Fault::Machine).collect();
        let lost = self.lost.pending().into_iter();
        list.extend(lost.map(|LostReply { action, times }| Fault::LostReply { action, times }));
        let faults = self.cloud.change(|ec2, _| ec2.faults().clone())?;
        if faults.throttling == Throttling::Buckets {
            list.push(Fault::Throttle);
        }
        for NoCapacity { zone, instance_type } in faults.no_capacity {
            list.push(Fault::Capacity { zone: zone.unwrap_or_default(), instance_type });
        }
        if !faults.visibility_lag.is_zero() {
            list.push(Fault::Visibility { seconds: faults.visibility_lag.as_secs() });
        }
        if !faults.tag_lag.is_zero() {
            list.push(Fault::TagLag { seconds: faults.tag_lag.as_secs() });
        }
        list.extend(faults.full_subnets.into_iter().map(|subnet| Fault::FullSubnet { subnet }));
        list.extend(faults.zone_outages.into_iter().map(|zone| Fault::ZoneOutage { zone }));
        list.extend(faults.denied.into_iter().map(|permission| Fault::Deny { permission }));
        if faults.credentials == Credentials::Revoked {
            list.push(Fault::Credentials);
        }
        list.extend(faults.quotas.into_iter().map(|(code, value)| Fault::Quota { code, value }));
        if self.clock.ahead() != 0 {
            list.push(Fault::ClockSkew { seconds: self.clock.ahead() });
        }
        Ok(list)
    }

    fn require_place(&self, fault: &Fault) -> Result<(), FaultError> {
        self.cloud.look(|ec2, _| match fault {
            Fault::Capacity { zone, .. } | Fault::ZoneOutage { zone }
                if !ec2.subnets().iter().any(|subnet| subnet.zone == *zone) =>
            {
                Err(FaultError::NoSuchZone(zone.clone()))
            }
            Fault::FullSubnet { subnet } if !ec2.subnets().iter().any(|it| it.subnet_id == *subnet) => {
                Err(FaultError::NoSuchSubnet(subnet.clone()))
            }
            _ => Ok(()),
        })
    }

    fn change(&self, change: impl FnOnce(&mut drover_cloud::ec2::Faults)) -> Result<(), FaultError> {
        Ok(self.cloud.change(|ec2, _| change(ec2.faults()))?)
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, Subcommand};

    use super::*;

    #[test]
    fn a_fault_prints_as_it_is_set() {
        for line in [
            "kill i-1",
            "freeze i-1",
            "cut i-1 both",
            "cut i-1 in --peer i-2",
            "fill-disk vol-1",
            "stall-disk vol-1",
            "throttle",
            "capacity local-1a",
            "capacity local-1a t3.small",
            "lost-reply --times 1",
            "lost-reply RunInstances --times 2",
            "visibility 60",
            "tag-lag 60",
            "full-subnet subnet-1",
            "zone-outage local-1a",
            "deny iam:PassRole",
            "deny ec2:RunInstances",
            "deny servicequotas:GetServiceQuota",
            "credentials",
            "quota L-7A658B76 0",
            "clock-skew 1200",
            "clock-skew -1200",
        ] {
            let command = Fault::augment_subcommands(clap::Command::new("fault").no_binary_name(true));
            let matches = command.try_get_matches_from(line.split(' ')).unwrap();
            assert_eq!(Fault::from_arg_matches(&matches).unwrap().to_string(), line);
        }
    }
}
