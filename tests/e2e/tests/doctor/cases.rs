//! One thing after the other that is not as it should be, and what the doctor is to say of it.

use std::net::TcpListener;

use super::Environment;

const CLOCK: &str = "      do: set this machine's clock right, for example with `timedatectl set-ntp true`";
const UNKNOWN: &str = "      do: AWS does not know these credentials here: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the \
                       profile, and the Region";
const NETWORK: &str = "      do: check the network, and the endpoint where AWS_ENDPOINT_URL or one of its kind is set";

/// What is otherwise than in a whole installation, and what the doctor says of it.
pub struct Case {
    pub what: &'static str,
    /// In the configuration's text: what is replaced by what.
    pub config: Option<(&'static str, &'static str)>,
    pub environment: Box<dyn Fn(&mut Environment)>,
    pub fault: Option<&'static str>,
    /// Whole lines, those to do below those that they belong to.
    pub said: &'static [&'static str],
    pub code: i32,
}

fn case(what: &'static str, said: &'static [&'static str]) -> Case {
    Case { what, config: None, environment: Box::new(|_| ()), fault: None, said, code: 1 }
}

fn configured(what: &'static str, from: &'static str, to: &'static str, said: &'static [&'static str]) -> Case {
    Case { config: Some((from, to)), ..case(what, said) }
}

fn with(what: &'static str, change: impl Fn(&mut Environment) + 'static, said: &'static [&'static str]) -> Case {
    Case { environment: Box::new(change), ..case(what, said) }
}

impl Case {
    /// Nothing fails of it.
    fn harmless(self) -> Self {
        Self { code: 0, ..self }
    }
}

fn broken(fault: &'static str, said: &'static [&'static str]) -> Case {
    Case { fault: Some(fault), ..case(fault, said) }
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub fn cases() -> anyhow::Result<Vec<Case>> {
    // It lives as long as its case: the kernel takes connections, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    Ok(vec![
        with(
            "a bucket that does not exist",
            |env| {
                env.insert("DROVER_BUCKET", "records".into());
            },
            &[
                "FAIL  bucket: there is no bucket records",
                "      do: make it: aws s3api create-bucket --bucket records --region local-1 --create-bucket-configuration \
                 LocationConstraint=local-1; or name another with --bucket or `bucket:`",
                "ok    launch in local-1a of defaults: t3.small with the profile drover-machine would be allowed",
            ],
        ),
        configured(
            "no image has the tags",
            "\"drover:image\": mysql",
            "\"drover:image\": nothing",
            &[
                "FAIL  image of defaults: no available image has the tags drover:image=nothing",
                "      do: aws ec2 create-tags --resources AMI-ID --tags Key=drover:image,Value=nothing; or select others in \
                 defaults.machine.image in the configuration",
            ],
        ),
        configured(
            "an image that is not there",
            "image: {tags: {\"drover:image\": mysql}, owners: [self]}",
            "image: {id: ami-0123456789abcdef0}",
            &["      do: name an image of this Region in defaults.machine.image in the configuration"],
        ),
        configured(
            "a type that the Region does not know",
            "[t3.small]",
            "[t9.huge]",
            &["FAIL  instance types of defaults: EC2 knows none of the instance types t9.huge in this Region"],
        ),
        configured(
            "a type of another architecture",
            "[t3.small]",
            "[t4g.small]",
            &[
                "FAIL  instance types of defaults: none of the instance types t4g.small is x86_64, as the image is",
                "      do: name others in defaults.machine.instanceTypes in the configuration: aws ec2 describe-instance-types \
                 --filters Name=processor-info.supported-architecture,Values=x86_64 --query InstanceTypes[].InstanceType",
            ],
        ),
        Case {
            code: 0,
            ..configured(
                "one type of two is unknown",
                "[t3.small]",
                "[t9.huge, t3.small]",
                &[
                    "warn  instance types of defaults: t3.small (2 vCPUs, 2048 MiB); never taken, for the Region or the image: t9.huge",
                    "      do: take t9.huge out of defaults.machine.instanceTypes in the configuration",
                ],
            )
        },
        configured(
            "no subnet has the tags",
            "subnets: {tags: {\"drover:network\": machines}}",
            "subnets: {tags: {tier: database}}",
            &[
                "FAIL  subnets of defaults: no subnet has the tags tier=database",
                "      do: aws ec2 create-tags --resources SUBNET-ID --tags Key=tier,Value=database; or select others in \
                 defaults.machine.subnets in the configuration",
            ],
        ),
        configured(
            "no security group has the tags",
            "securityGroups: {tags: {\"drover:network\": machines}}",
            "securityGroups: {tags: {tier: database}}",
            &[
                "FAIL  security groups of defaults: no security group has the tags tier=database",
                "      do: aws ec2 create-tags --resources SG-ID --tags Key=tier,Value=database; or select others in \
                 defaults.machine.securityGroups in the configuration",
            ],
        ),
        configured(
            "a security group that is not there",
            "securityGroups: {tags: {\"drover:network\": machines}}",
            "securityGroups: {ids: [sg-0123456789abcdef0]}",
            &["      do: name security groups of this Region in defaults.machine.securityGroups in the configuration"],
        ),
        configured(
            "an instance profile that is not there",
            "instanceProfile: drover-machine",
            "instanceProfile: nobody",
            &[
                "FAIL  launch in local-1a of defaults: there is no instance profile nobody",
                "FAIL  launch in local-1c of defaults: there is no instance profile nobody",
                "      do: make the profile and put a role into it (aws iam create-instance-profile --instance-profile-name nobody; \
                 aws iam add-role-to-instance-profile --instance-profile-name nobody --role-name ROLE), or name another in \
                 defaults.machine.instanceProfile in the configuration",
            ],
        ),
        Case {
            code: 0,
            ..configured(
                "a profile that each manifest has to name",
                "    instanceProfile: drover-machine\n",
                "",
                &[
                    "warn  instanceProfile of defaults: written nowhere, so no launch was tried",
                    "      do: set defaults.machine.instanceProfile in the configuration, or look at the manifests, which then have \
                     to say it: drover doctor --manifests DIR",
                ],
            )
        },
        broken("clock-skew 1200", &["FAIL  clock: this machine's is 1* s behind AWS's", CLOCK]),
        broken("clock-skew -1200", &["FAIL  clock: this machine's is 1* s ahead of AWS's", CLOCK]),
        Case { code: 0, ..broken("clock-skew 100", &["warn  clock: this machine's is * s behind AWS's", CLOCK]) },
        with(
            "no credentials",
            |env| {
                env.remove("AWS_ACCESS_KEY_ID");
            },
            &[
                "      do: give AWS credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role",
            ],
        ),
        with(
            "another secret",
            |env| {
                env.insert("AWS_SECRET_ACCESS_KEY", "wrong".into());
            },
            &[UNKNOWN],
        ),
        broken("credentials", &[UNKNOWN]),
        with(
            "no Region",
            |env| {
                env.remove("AWS_REGION");
            },
            &["      do: set AWS_REGION, --region, or a profile that has one"],
        ),
        with(
            "nobody listens at S3's endpoint",
            |env| {
                env.insert("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1".into());
            },
            &[
                "warn  clock: not measured, for nothing answered",
                NETWORK,
                "ok    launch in local-1a of defaults: t3.small with the profile drover-machine would be allowed",
            ],
        ),
        with(
            "EC2's endpoint does not answer",
            move |env| {
                let address = silent.local_addr().expect("it is bound");
                env.insert("AWS_ENDPOINT_URL_EC2", format!("http://{address}"));
            },
            &["ok    conditional writes: If-Match and If-None-Match are honoured", NETWORK],
        ),
        broken(
            "deny iam:PassRole",
            &[
                "FAIL  launch in local-1a of defaults: not allowed: iam:PassRole on arn:aws:iam::123456789012:role/drover-machine",
                "      do: allow these credentials iam:PassRole on arn:aws:iam::123456789012:role/drover-machine: `drover \
                 iam-policy --for operator` prints the policy",
            ],
        ),
        broken(
            "deny ec2:RunInstances",
            &[
                "FAIL  launch in local-1b of defaults: not allowed: ec2:RunInstances on *",
                "      do: allow these credentials ec2:RunInstances on *: `drover iam-policy --for operator` prints the policy",
            ],
        ),
        broken(
            "deny ec2:CreateTags",
            &[
                "FAIL  launch in local-1b of defaults: not allowed: ec2:CreateTags on arn:aws:ec2:local-1:123456789012:instance/*",
            ],
        ),
        broken("deny ec2:DescribeSubnets", &["      do: allow these credentials DescribeSubnets in their policy"]),
        broken(
            "zone-outage local-1b",
            &[
                "ok    launch in local-1a of defaults: t3.small with the profile drover-machine would be allowed",
                "      do: run `drover doctor` again: AWS may be in trouble (https://health.aws.amazon.com)",
            ],
        ),
        with(
            "nobody listens at Service Quotas' endpoint",
            |env| {
                env.insert("AWS_ENDPOINT_URL_SERVICE_QUOTAS", "http://127.0.0.1:1".into());
            },
            &[
                "warn  quota of Standard vCPUs: not known, and 0 vCPUs are wanted: GetServiceQuota failed: Connection: *",
                "warn  quota of gp3 storage: not known, and 0 GiB are wanted: GetServiceQuota failed: Connection: *",
                NETWORK,
            ],
        )
        .harmless(),
        broken(
            "deny servicequotas:GetServiceQuota",
            &[
                "warn  quota of Standard vCPUs: not known, and 0 vCPUs are wanted: GetServiceQuota failed: AccessDeniedException: *",
                "      do: allow these credentials servicequotas:GetServiceQuota: `drover iam-policy --for operator --with doctor` \
                 prints the policy",
            ],
        )
        .harmless(),
        // Of this one the account has a value of its own, of gp3 it has not.
        broken(
            "deny servicequotas:GetAWSDefaultServiceQuota",
            &[
                "ok    quota of Standard vCPUs: 1000000 vCPUs; nothing is declared that needs them",
                "warn  quota of gp3 storage: not known, and 0 GiB are wanted: GetAWSDefaultServiceQuota failed: \
                 AccessDeniedException: *",
                "      do: allow these credentials servicequotas:GetAWSDefaultServiceQuota: `drover iam-policy --for operator \
                 --with doctor` prints the policy",
            ],
        )
        .harmless(),
        // A dry run does not tell, and no quota either.
        Case {
            code: 0,
            ..broken(
                "capacity local-1a",
                &["ok    launch in local-1a of defaults: t3.small with the profile drover-machine would be allowed"],
            )
        },
    ])
}
