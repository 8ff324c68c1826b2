//! EC2's Query API from outside, by curl: what a person with another tool would see and do.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};

use crate::{Cloud, programs::finish};

/// Whose credentials a request is signed with.
#[derive(Clone)]
pub struct Role {
    access_key: String,
    secret_key: String,
    token: Option<String>,
}

/// An answer's text.
#[derive(Clone, Debug)]
pub struct Xml(String);

const CALL: Duration = Duration::from_secs(20);

impl Cloud {
    /// Makes a call: `ec2("RebootInstances", &[("InstanceId.1", id)])`.
    pub fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Xml> {
        let at = &self.endpoints;
        let mut config = format!("user = \"{}:{}\"\n", at.access_key, at.secret_key);
        for (name, value) in [("Action", action), ("Version", "2016-11-15")].iter().chain(parameters) {
            config += &format!("data-urlencode = \"{name}={value}\"\n");
        }
        let signing = format!("aws:amz:{}:ec2", at.region);
        let url = format!("{}/", at.ec2);
        let output = finish(&["curl", "-sS", "-K", "-", "--aws-sigv4", &signing, &url], CALL, &config)?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success() && !text.contains("<Errors>"),
            "{action}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Xml(text))
    }

    /// Every tag in the account, by resource id and key.
    pub fn tags(&self) -> anyhow::Result<BTreeMap<(String, String), String>> {
        let text = self.ec2("DescribeTags", &[])?;
        let items = text.items("tagSet").context("DescribeTags answers a tagSet")?;
        Ok(items.map(|item| ((item.text("resourceId"), item.text("key")), item.text("value"))).collect())
    }

    /// What a machine was given to run at its first boot: as it is sent, and in clear.
    pub fn user_data(&self, instance: &str) -> anyhow::Result<String> {
        let attribute = [("InstanceId", instance), ("Attribute", "userData")];
        let sent = self.ec2("DescribeInstanceAttribute", &attribute)?.text("value");
        let clear = finish(&["base64", "-d"], CALL, &sent)?;
        Ok(format!("{sent}\n{}", String::from_utf8(clear.stdout)?))
    }

    /// Launches a machine that is nobody's, with this user data.
    pub fn run_stranger(&self, user_data: &str) -> anyhow::Result<Xml> {
        let image = [("Filter.1.Name", "tag:drover:image"), ("Filter.1.Value.1", "mysql")];
        let image = self.ec2("DescribeImages", &image)?.text("imageId");
        let subnet = self.ec2("DescribeSubnets", &[])?.text("subnetId");
        let encoded = String::from_utf8(finish(&["base64", "-w", "0"], CALL, user_data)?.stdout)?;
        let asked = [
            ("ImageId", image.as_str()),
            ("InstanceType", "t3.micro"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", &subnet),
            ("UserData", &encoded),
        ];
        self.ec2("RunInstances", &asked)
    }

    /// Puts an object into the bucket, as a person would.
    pub fn put_object(&self, key: &str, body: &str) -> anyhow::Result<()> {
        let at = &self.endpoints;
        let config = format!(
            "user = \"{}:{}\"\nheader = \"x-amz-content-sha256: UNSIGNED-PAYLOAD\"\ndata-binary = \"{body}\"\n",
            at.access_key, at.secret_key
        );
        let (signing, url) = (format!("aws:amz:{}:s3", at.region), format!("{}/drover/{key}", at.s3));
        let command = ["curl", "-sSf", "-X", "PUT", "-K", "-", "--aws-sigv4", &signing, &url];
        let output = finish(&command, CALL, &config)?;
        ensure!(output.status.success(), "PUT {key}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Has the bucket versioned, as far as S3 beside drover-local goes.
    pub fn version_bucket(&self, status: &str) -> anyhow::Result<()> {
        let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        self.s3(&self.operator(), "PUT", "drover?versioning=", &body).map(drop)
    }

    /// What S3 answers to a request by somebody: HTTP's status.
    pub fn s3(&self, who: &Role, method: &str, target: &str, body: &str) -> anyhow::Result<String> {
        let Role { access_key, secret_key, token } = who;
        let mut config = format!("user = \"{access_key}:{secret_key}\"\n");
        if let Some(token) = token {
            config += &format!("header = \"x-amz-security-token: {token}\"\n");
        }
        if !body.is_empty() {
            config += &format!("data-binary = \"{body}\"\n");
        }
        let (signing, url) =
            (format!("aws:amz:{}:s3", self.endpoints.region), format!("{}/{target}", self.endpoints.s3));
        let unsigned = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
        let command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "-H", unsigned, "-K", "-"];
        let output = finish(&[&command[..], &["--aws-sigv4", &signing, &url]].concat(), CALL, &config)?;
        ensure!(output.status.success(), "{method} {target}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub fn operator(&self) -> Role {
        let at = &self.endpoints;
        Role { access_key: at.access_key.clone(), secret_key: at.secret_key.clone(), token: None }
    }

    /// A session of a machine's role.
    pub fn role(&self, instance: &str) -> anyhow::Result<Role> {
        let printed = self.ask(&["role-credentials", instance])?;
        let value = |name: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(&format!("export {name}='")));
            let value = line.and_then(|line| line.strip_suffix('\'')).map(str::to_owned);
            value.with_context(|| format!("no {name} in what role-credentials prints"))
        };
        Ok(Role {
            access_key: value("AWS_ACCESS_KEY_ID")?,
            secret_key: value("AWS_SECRET_ACCESS_KEY")?,
            token: Some(value("AWS_SESSION_TOKEN")?),
        })
    }

    /// Ends a machine as a person would, who takes its protection away first.
    pub fn end_machine(&self, instance: &str) -> anyhow::Result<()> {
        let id = ("InstanceId", instance);
        self.ec2("ModifyInstanceAttribute", &[id, ("DisableApiTermination.Value", "false")])?;
        self.ec2("TerminateInstances", &[("InstanceId.1", instance)]).map(drop)
    }

    /// The volumes that carry the realm's tag and are not root volumes, by id.
    pub fn data_volumes(&self) -> anyhow::Result<Vec<String>> {
        let filter = [("Filter.1.Name", "tag:drover:volume"), ("Filter.1.Value.1", "data")];
        let text = self.ec2("DescribeVolumes", &filter)?;
        let items = text.items("volumeSet").context("DescribeVolumes answers a volumeSet")?;
        Ok(items.map(|item| item.text("volumeId")).collect())
    }
}

impl std::fmt::Debug for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Role").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl Xml {
    /// The text of the first element of that name; empty where there is none.
    pub fn text(&self, name: &str) -> String {
        let found =
            self.0.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        found.map(|(text, _)| text.to_owned()).unwrap_or_default()
    }

    /// The items directly in the set of that name: `None` where there is no such set.
    pub fn items(&self, set: &str) -> Option<impl Iterator<Item = Xml> + use<>> {
        if self.0.contains(&format!("<{set}/>")) {
            return Some(Vec::new().into_iter());
        }
        let inner = self.0.split_once(&format!("<{set}>"))?.1.split_once(&format!("</{set}>"))?.0;
        let (mut items, mut depth, mut item) = (Vec::new(), 0_usize, String::new());
        for piece in inner.split_inclusive('>') {
            match piece.trim() {
                "<item>" => depth += 1,
                "</item>" => depth = depth.saturating_sub(1),
                _ => {}
            }
            item += piece;
            if depth == 0 && !item.trim().is_empty() {
                items.push(Xml(std::mem::take(&mut item)));
            }
        }
        Some(items.into_iter())
    }
}
