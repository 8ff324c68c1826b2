//! Who may take a role on: the trust policy of the operator's role, and of the roles in instance profiles.

use std::collections::BTreeMap;

use super::{Effect, Policy, Statement, ec2_services};

/// Who takes the role on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// A machine, by its instance profile: every set's, or the operator's own.
    Ec2,
    /// A Pod by EKS Pod Identity (EKS User Guide, "Create IAM role with trust policy required by EKS Pod Identity").
    PodIdentity { account: Option<String>, service_account: Option<ServiceAccount> },
    /// A Pod by the token of its service account (EKS User Guide, "IAM roles for service accounts").
    Irsa {
        account: String,
        /// The issuer without its scheme: `oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE`.
        provider: String,
        service_account: ServiceAccount,
    },
}

/// Of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    pub namespace: String,
    pub name: String,
}

/// A document as `aws iam create-role --assume-role-policy-document` takes it.
pub fn trust(partition: &str, trusted: &Trusted) -> Policy {
    let by = |kind: &'static str, who: String| Some(BTreeMap::from([(kind, who)]));
    let allow = |sid: &str| Statement::new(sid, Effect::Allow);
    let statement = match trusted {
        Trusted::Ec2 => {
            let service = ec2_services(partition).last().map(|name| (*name).to_owned()).unwrap_or_default();
            Statement { principal: by("Service", service), ..allow("Machines").actions(["sts:AssumeRole"]) }
        }
        Trusted::PodIdentity { account, service_account } => {
            let mut statement = allow("Pods").actions(["sts:AssumeRole", "sts:TagSession"]);
            if let Some(account) = account {
                statement = statement.when("StringEquals", "aws:SourceAccount", [account.as_str()]);
            }
            if let Some(ServiceAccount { namespace, name }) = service_account {
                statement = statement
                    .when("StringEquals", "aws:RequestTag/kubernetes-namespace", [namespace.as_str()])
                    .when("StringEquals", "aws:RequestTag/kubernetes-service-account", [name.as_str()]);
            }
            Statement { principal: by("Service", "pods.eks.amazonaws.com".to_owned()), ..statement }
        }
        Trusted::Irsa { account, provider, service_account: ServiceAccount { namespace, name } } => {
            let principal = by("Federated", format!("arn:{partition}:iam::{account}:oidc-provider/{provider}"));
            let statement = allow("ServiceAccount")
                .actions(["sts:AssumeRoleWithWebIdentity"])
                .when("StringEquals", format!("{provider}:aud"), ["sts.amazonaws.com"])
                .when("StringEquals", format!("{provider}:sub"), [format!("system:serviceaccount:{namespace}:{name}")]);
            Statement { principal, ..statement }
        }
    };
    Policy::of(vec![statement])
}
