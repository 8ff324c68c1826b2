//! `drover iam-policy`: the documents that AWS is to be told, one at a time, made from what this very build does.

use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use drover_api::{Namespace, ResourceKey, ResourceName};
use drover_aws::{
    Party,
    policy::{self, Names, Policy, ServiceAccount, Trusted},
};

use crate::{
    out,
    settings::{Installation, Settings},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// Whose document: what the operator may do, what one set's machines may read, what everybody else is denied, or who may
    /// take a role on.
    #[arg(long = "for", value_enum)]
    whose: Whose,
    /// The account, twelve digits; any where it is left out.
    #[arg(long)]
    account: Option<String>,
    /// aws, aws-cn or aws-us-gov.
    #[arg(long, default_value = "aws")]
    partition: String,
    /// operator, deny: the name of a role in an instance profile, with its path where it has one; once for each.
    #[arg(long = "profile-role", value_name = "ROLE")]
    profile_roles: Vec<String>,
    /// operator: what `drover doctor` asks for beside it.
    #[arg(long, value_enum)]
    with: Vec<With>,
    /// machine: the set's name.
    #[arg(long)]
    name: Option<String>,
    /// machine: the set's namespace.
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// deny: the name of a role that is bound by none of it: the operator's, and those of people who mend machines; once for
    /// each.
    #[arg(long = "operator-role", value_name = "ROLE")]
    operator_roles: Vec<String>,
    /// trust: who takes the role on: a machine by its instance profile, or a Pod by Pod Identity or by its service account's
    /// token.
    #[arg(long, value_enum)]
    trusted: Option<By>,
    /// trust, irsa: the cluster's OIDC issuer, such as oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE.
    #[arg(long)]
    oidc_provider: Option<String>,
    /// trust, irsa and pod-identity: the operator's service account, NAMESPACE/NAME.
    #[arg(long)]
    service_account: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whose {
    Operator,
    Machine,
    Deny,
    Trust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum With {
    Doctor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Ec2,
    PodIdentity,
    Irsa,
}

/// The longest service control policy (AWS Organizations User Guide, "Quotas").
const SCP_CHARS_MAX: usize = 5_120;

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    out::println(document(&arguments)?)?;
    Ok(ExitCode::SUCCESS)
}

fn document(arguments: &Arguments) -> anyhow::Result<String> {
    refuse_mistakes(arguments)?;
    let max = if arguments.whose == Whose::Deny { SCP_CHARS_MAX } else { policy::POLICY_CHARS_MAX };
    let text = serde_json::to_string_pretty(&made(arguments)?)?;
    // AWS does not count white space.
    let chars = text.chars().filter(|c| !c.is_whitespace()).count();
    ensure!(chars <= max, "the policy would have {chars} characters, and AWS takes {max}: name fewer roles");
    Ok(text)
}

fn made(arguments: &Arguments) -> anyhow::Result<Policy> {
    match arguments.whose {
        Whose::Operator => {
            ensure!(
                !arguments.profile_roles.is_empty(),
                "no --profile-role: name each role in an instance profile that machines are launched with"
            );
            let parties: Vec<Party> = arguments.with.iter().map(|With::Doctor| Party::Doctor).collect();
            Ok(policy::operator(&names(arguments)?, &arguments.profile_roles, &parties))
        }
        Whose::Machine => {
            let name = arguments.name.as_deref().context("no --name: name the set whose machines have this profile")?;
            let (namespace, name) = (Namespace::new(arguments.namespace.as_str()), ResourceName::new(name));
            let key = ResourceKey { namespace: namespace.context("--namespace")?, name: name.context("--name")? };
            Ok(policy::machine(&names(arguments)?, &key))
        }
        Whose::Deny => {
            ensure!(
                !arguments.operator_roles.is_empty(),
                "no --operator-role: name the operator's role, or it would be denied its own machines"
            );
            ensure!(
                !arguments.profile_roles.is_empty(),
                "no --profile-role: name each role in an instance profile, or machines would be denied their own bundles"
            );
            Ok(policy::deny(&names(arguments)?, &arguments.operator_roles, &arguments.profile_roles))
        }
        Whose::Trust => Ok(policy::trust(&arguments.partition, &trusted(arguments)?)),
    }
}

fn names(arguments: &Arguments) -> anyhow::Result<Names> {
    let Settings { realm, bucket, prefix, region, .. } = arguments.installation.settings()?;
    let (partition, account) = (arguments.partition.clone(), arguments.account.clone());
    Ok(Names { partition, account, region, realm, bucket, prefix })
}

fn trusted(arguments: &Arguments) -> anyhow::Result<Trusted> {
    let service_account = arguments.service_account.as_deref().map(service_account).transpose()?;
    match arguments.trusted.context("no --trusted: ec2 for machines, pod-identity or irsa for an operator in a Pod")? {
        By::Ec2 => Ok(Trusted::Ec2),
        By::PodIdentity => Ok(Trusted::PodIdentity { account: arguments.account.clone(), service_account }),
        By::Irsa => {
            let provider = arguments.oidc_provider.as_deref().context(
                "no --oidc-provider: aws eks describe-cluster --name CLUSTER --query cluster.identity.oidc.issuer says it",
            )?;
            Ok(Trusted::Irsa {
                account: arguments.account.clone().context("no --account: the provider's ARN has its twelve digits")?,
                provider: provider.strip_prefix("https://").unwrap_or(provider).trim_end_matches('/').to_owned(),
                service_account: service_account.context("no --service-account: NAMESPACE/NAME of the operator's")?,
            })
        }
    }
}

fn service_account(text: &str) -> anyhow::Result<ServiceAccount> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && is_dns_name(namespace) && is_dns_name(name) => {
            Ok(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => bail!("--service-account {text:?} is not understood: write NAMESPACE/NAME"),
    }
}

fn is_dns_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
}

/// What would make a document that AWS refuses, or one that means something else.
fn refuse_mistakes(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(account) = &arguments.account {
        let is_account = account.len() == 12 && account.chars().all(|c| c.is_ascii_digit());
        ensure!(is_account, "--account {account:?} is not an account: write its twelve digits");
    }
    let partition = &arguments.partition;
    let is_partition = partition == "aws" || partition.starts_with("aws-");
    let is_partition = is_partition && partition.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    ensure!(is_partition, "--partition {partition:?} is none: aws, aws-cn or aws-us-gov");
    for (flag, roles) in [("--profile-role", &arguments.profile_roles), ("--operator-role", &arguments.operator_roles)]
    {
        for role in roles {
            // IAM's own alphabet for names and paths (IAM API Reference, "CreateRole").
            let is_role = role.chars().all(|c| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c));
            let is_role = is_role && !role.is_empty() && !role.starts_with('/') && !role.ends_with('/');
            ensure!(
                is_role,
                "{flag} {role:?} is not the name of a role: write the name, with its path where it has one, not the ARN"
            );
        }
    }
    if let Some(provider) = &arguments.oidc_provider {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._/:".contains(c);
        ensure!(provider.chars().all(allowed), "--oidc-provider {provider:?} is not the address of an issuer");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    /// What a command line makes of this, or the mistake.
    fn told(line: &str) -> Result<serde_json::Value, String> {
        printed(&format!("--realm prod --bucket records {line}"))
    }

    fn printed(line: &str) -> Result<serde_json::Value, String> {
        let words = ["iam-policy"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let text = document(&line.arguments).map_err(|error| format!("{error:#}"))?;
        Ok(serde_json::from_str(&text).expect("JSON"))
    }

    #[test]
    fn every_document_is_printed_from_its_flags() {
        for (line, sids) in [
            ("--for machine --name orders", vec!["ReadOwnSet"]),
            ("--for trust --trusted ec2", vec!["Machines"]),
            ("--for trust --trusted pod-identity --service-account drover/drover", vec!["Pods"]),
            (
                "--for trust --trusted irsa --account 123456789012 --service-account drover/drover --oidc-provider https://o.example/id/X",
                vec!["ServiceAccount"],
            ),
            (
                "--for deny --operator-role drover --profile-role db",
                vec!["Tags", "AllTagsAtOnce", "Machines", "WriteObjects", "ReadObjects", "Bucket", "GiveRole"],
            ),
        ] {
            let document = told(line).expect("a document");
            let statements = document["Statement"].as_array().expect("statements").iter();
            let told: Vec<&str> = statements.map(|statement| statement["Sid"].as_str().expect("a Sid")).collect();
            assert_eq!(told, sids, "{line}");
        }
        let actions = |line: &str| told(line).expect("a document").to_string();
        for action in
            ["s3:GetBucketVersioning", "servicequotas:GetServiceQuota", "servicequotas:GetAWSDefaultServiceQuota"]
        {
            assert!(!actions("--for operator --profile-role db").contains(action), "{action}");
            assert!(actions("--for operator --profile-role db --with doctor").contains(action), "{action}");
        }
    }

    #[test]
    fn each_command_of_the_readme_prints_a_document() {
        let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crds/samples/drover.yaml");
        let lines = include_str!("../../../../README.md").lines();
        let commands: Vec<&str> = lines.filter_map(|line| line.strip_prefix("drover iam-policy ")).collect();
        let told: Vec<&str> = ["operator", "machine", "deny", "trust"].into();
        assert_eq!(commands.len(), told.len());
        for (line, whose) in commands.iter().zip(told) {
            let words = line.split(" > ").next().expect("a part").replace("drover.yaml", sample);
            assert!(words.contains(&format!("--for {whose}")), "{words}");
            let document = printed(&words).unwrap_or_else(|mistake| panic!("{words}: {mistake}"));
            assert_eq!(document["Version"], "2012-10-17");
        }
    }

    #[test]
    fn every_mistake_names_its_flag_and_says_what_to_do() {
        for (line, said) in [
            ("--for operator", "no --profile-role: name each role"),
            (
                "--for operator --profile-role arn:aws:iam::1:role/db",
                "--profile-role \"arn:aws:iam::1:role/db\" is not the name",
            ),
            (
                "--for operator --profile-role db --account 12",
                "--account \"12\" is not an account: write its twelve digits",
            ),
            ("--for operator --profile-role db --partition azure", "--partition \"azure\" is none: aws, aws-cn or"),
            ("--for operator --profile-role db --prefix x", "--prefix, or its environment variable: prefix \"x\""),
            ("--for machine", "no --name: name the set"),
            ("--for machine --name Orders", "--name: name \"Orders\" is not valid"),
            ("--for deny --profile-role db", "no --operator-role: name the operator's role"),
            ("--for deny --operator-role drover", "no --profile-role: name each role"),
            ("--for trust", "no --trusted: ec2 for machines"),
            ("--for trust --trusted irsa", "no --oidc-provider: aws eks describe-cluster"),
            ("--for trust --trusted irsa --oidc-provider o", "no --account: the provider's ARN"),
            (
                "--for trust --trusted irsa --oidc-provider o --account 123456789012",
                "no --service-account: NAMESPACE/NAME",
            ),
            (
                "--for trust --trusted pod-identity --service-account drover",
                "--service-account \"drover\" is not understood",
            ),
            ("--for anybody", "[possible values: operator, machine, deny, trust]"),
        ] {
            let mistake = told(line).expect_err("a mistake");
            assert!(mistake.contains(said), "{line}: {mistake}");
        }
    }

    #[test]
    fn a_policy_that_aws_would_not_take_is_refused() {
        let many: String = (0..200).map(|n| format!(" --profile-role a-role-with-a-rather-long-name-{n}")).collect();
        let mistake = told(&format!("--for operator{many}")).expect_err("too long");
        assert!(mistake.contains("AWS takes 6144: name fewer roles"), "{mistake}");
    }
}
