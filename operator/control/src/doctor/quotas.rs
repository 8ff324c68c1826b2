//! Whether what is declared fits into the account's quotas, as Service Quotas tells them, and into the operator's own limit. EC2
//! says so only when it launches.

use std::collections::{BTreeMap, BTreeSet};

use drover_api::set::VolumeType;
use drover_cloud::{Class, CloudError, examine::QuotaCode, machines::InstanceType};
use futures::future::join_all;

use super::{Context, Examined, Finding, Section, remedy};

/// How much of a quota is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Need {
    /// What it is a quota of.
    of: String,
    code: QuotaCode,
    unit: Unit,
    /// vCPUs, or GiB.
    wanted: u64,
}

/// What a quota is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Vcpus,
    Tib,
}

/// What all machines together want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    machines: u64,
    /// Of them those whose vCPUs nobody told.
    uncounted: u64,
    standard_vcpus: u64,
    /// By instance type, of families that have quotas of their own.
    other_vcpus: BTreeMap<String, u64>,
    volumes_gib: BTreeMap<VolumeType, u64>,
}

/// "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", in vCPUs.
const STANDARD: QuotaCode = QuotaCode { service: "ec2", code: "L-1216C47A" };

pub(super) async fn quotas<C: Examined>(context: &Context<C>) -> Vec<Finding> {
    let declared = context.sections.iter().filter(|section| section.machines > 0);
    let names: BTreeSet<&String> = declared.flat_map(|section| section.instance_types.iter().flatten()).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    let known = context.cloud.instance_types(&names).await;
    let (wanted, mut not_compared) = wanted(&context.sections, &known);
    let needs = wanted.needs();
    let told = join_all(needs.iter().map(|need| context.cloud.quota(need.code))).await;
    let mut findings: Vec<Finding> =
        needs.iter().zip(&told).map(|(need, told)| judge(need, told, &context.region)).collect();
    findings.append(&mut not_compared);
    findings.extend(wanted.other_vcpus.iter().map(|(name, vcpus)| other_family(name, *vcpus)));
    findings.extend(context.machines_max.map(|max| limit(max, wanted.machines)));
    findings
}

/// What the sections want together, and a finding for each whose machines nobody can count.
fn wanted(sections: &[Section], known: &Result<Vec<InstanceType>, CloudError>) -> (Wanted, Vec<Finding>) {
    let (mut wanted, mut findings) = (Wanted::default(), Vec::new());
    let sizes = known.as_deref().unwrap_or_default();
    for section in sections {
        wanted.machines += u64::from(section.machines);
        for (volume_type, gib) in &section.volumes_gib {
            *wanted.volumes_gib.entry(*volume_type).or_default() += gib;
        }
        if section.machines == 0 {
            continue;
        }
        let names = section.instance_types.as_deref().unwrap_or_default();
        // The first is what is wanted; the others are for when there is none of it.
        let Some(first) = names.iter().find_map(|name| sizes.iter().find(|known| known.name == *name)) else {
            wanted.uncounted += u64::from(section.machines);
            findings.push(uncounted(section, known.as_ref().err()));
            continue;
        };
        let vcpus = u64::from(section.machines) * u64::from(first.vcpus);
        if is_standard(&first.name) {
            wanted.standard_vcpus += vcpus;
        } else {
            *wanted.other_vcpus.entry(first.name.clone()).or_default() += vcpus;
        }
    }
    (wanted, findings)
}

fn uncounted(section: &Section, error: Option<&CloudError>) -> Finding {
    let otherwise = format!("set right what is said above of {}", section.field("instanceTypes"));
    let (why, remedy) = match error {
        Some(error) => (error.failure(), remedy(error, &otherwise)),
        None => ("EC2 knows none of their instance types".to_owned(), otherwise),
    };
    let found = format!("not compared for {} machines: {why}", section.machines);
    Finding::warn(section.name("quota of vCPUs"), found, remedy)
}

/// Whether a type counts for the quota of Standard instances: by the letters before its generation. Im and Is are of the I
/// family; Hpc, Inf, Mac and others are families of their own (EC2 User Guide, "Amazon EC2 service quotas").
fn is_standard(instance_type: &str) -> bool {
    let letters = instance_type.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    ["a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"].contains(&letters)
}

fn judge(need: &Need, told: &Result<f64, CloudError>, region: &str) -> Finding {
    let Need { of, code: QuotaCode { service, code }, unit, wanted } = need;
    let name = format!("quota of {of}");
    match told {
        Ok(quota) if *wanted == 0 => {
            Finding::ok(name, format!("{}; nothing is declared that needs them", unit.quota(*quota)))
        }
        Ok(quota) => {
            let found = format!("{} are wanted, and the quota is {}", unit.wanted(*wanted), unit.quota(*quota));
            if unit.holds(*quota, *wanted) {
                return Finding::ok(name, format!("{found}; what else is there in the account counts too"));
            }
            let remedy = format!(
                "ask for as much, and for what else is there in the account: aws service-quotas request-service-quota-increase \
                 --region {region} --service-code {service} --quota-code {code} --desired-value {}",
                unit.least(*wanted)
            );
            Finding::fail(name, found, remedy)
        }
        Err(error) => not_told(name, &unit.wanted(*wanted), error),
    }
}

/// It may well be large enough: nothing but the doctor asks Service Quotas.
fn not_told(name: String, wanted: &str, error: &CloudError) -> Finding {
    let remedy = match (error.class, error.code.as_str()) {
        (Class::Denied, "AccessDeniedException") => format!(
            "allow these credentials servicequotas:{}: `drover iam-policy --for operator --with doctor` prints the policy",
            error.call
        ),
        _ => remedy(error, &format!("compare it with {PAGE}")),
    };
    Finding::warn(name, format!("not known, and {wanted} are wanted: {}", error.failure()), remedy)
}

fn other_family(instance_type: &str, vcpus: u64) -> Finding {
    let found = format!("not compared: {vcpus} vCPUs are wanted of a family that has a quota of its own");
    let remedy = format!("compare them with that of the family at {PAGE}");
    Finding::warn(format!("quota of vCPUs of {instance_type}"), found, remedy)
}

/// The operator's own: every machine of the realm counts for it.
fn limit(max: u32, wanted: u64) -> Finding {
    let name = "limits.maxMachines";
    if wanted == 0 {
        return Finding::ok(name, format!("{max} machines; nothing is declared that needs them"));
    }
    let found = format!("{wanted} machines are wanted, and the operator makes no more than {max}");
    if wanted <= u64::from(max) {
        return Finding::ok(name, format!("{found}; what else is there in the realm counts too"));
    }
    let remedy = format!("set limits.maxMachines in the configuration to {wanted} or more, or declare fewer machines");
    Finding::fail(name, found, remedy)
}

/// Where a person sees every quota and what is used of it.
const PAGE: &str = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas";

// === impl Wanted, Unit ===

impl Wanted {
    /// Standard instances first, which are asked for even where nothing is declared yet; but not where nobody knows whether they
    /// are wanted.
    fn needs(&self) -> Vec<Need> {
        let vcpus =
            Need { of: "Standard vCPUs".to_owned(), code: STANDARD, unit: Unit::Vcpus, wanted: self.standard_vcpus };
        let storage = self.volumes_gib.iter().map(|(volume_type, gib)| Need {
            of: format!("{} storage", volume_type.as_str()),
            code: QuotaCode { service: "ebs", code: storage(*volume_type) },
            unit: Unit::Tib,
            wanted: *gib,
        });
        let is_known = self.standard_vcpus > 0 || self.uncounted == 0;
        is_known.then_some(vcpus).into_iter().chain(storage).collect()
    }
}

/// "Storage for General Purpose SSD (gp3) volumes, in TiB", and its kin.
fn storage(volume_type: VolumeType) -> &'static str {
    match volume_type {
        VolumeType::Gp3 => "L-7A658B76",
        VolumeType::Gp2 => "L-D18FCD1D",
        VolumeType::Io1 => "L-FD252861",
        VolumeType::Io2 => "L-09BD8365",
    }
}

impl Unit {
    fn holds(self, quota: f64, wanted: u64) -> bool {
        // Both are far below 2^52, up to which these are whole.
        wanted as f64 <= quota * self.parts() as f64
    }

    /// The smallest quota that holds it.
    fn least(self, wanted: u64) -> u64 {
        wanted.div_ceil(self.parts())
    }

    /// In how many parts of it we count.
    fn parts(self) -> u64 {
        match self {
            Unit::Vcpus => 1,
            Unit::Tib => 1_024,
        }
    }

    fn wanted(self, wanted: u64) -> String {
        match self {
            Unit::Vcpus => format!("{wanted} vCPUs"),
            Unit::Tib => format!("{wanted} GiB"),
        }
    }

    fn quota(self, quota: f64) -> String {
        match self {
            Unit::Vcpus => format!("{quota} vCPUs"),
            Unit::Tib => format!("{quota} TiB"),
        }
    }
}

#[cfg(test)]
mod tests;
