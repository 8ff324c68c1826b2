//! The machine images that the account owns, and the root file systems behind them.

use std::collections::BTreeMap;

use drover_cloud::ec2::{Architecture, Image, ImageSpec};

use crate::machine;

/// The tag that says what an image is for, and the one that says which release series of MySQL is in it, such as `9.7`.
pub const IMAGE_TAG: &str = "drover:image";
pub const VERSION_TAG: &str = "mysql-version";

/// The account's images by name. Without machines they have no root file systems.
#[derive(Debug, Clone)]
pub struct Images(BTreeMap<String, (ImageSpec, Option<machine::Image>)>);

impl Images {
    /// The images that were built.
    pub fn of_machines(built: machine::Images) -> Self {
        let machine::Images { base, without_mysqld, other_mysql } = built;
        let images = [("mysql", base), ("without-mysqld", without_mysqld), ("other-mysql", other_mysql)];
        Self(images.into_iter().map(|(kind, image)| entry(kind, image.mysql_version.clone(), Some(image))).collect())
    }

    /// The same images where nothing is booted: in name only.
    pub fn in_name_only() -> Self {
        let images = [("mysql", Some("9.7.0")), ("without-mysqld", None), ("other-mysql", Some("8.4.0"))];
        Self(images.into_iter().map(|(kind, version)| entry(kind, version.map(Into::into), None)).collect())
    }

    /// What is registered in the account.
    pub fn specs(&self) -> impl Iterator<Item = &ImageSpec> {
        self.0.values().map(|(spec, _)| spec)
    }

    /// The root file system of a registered image; `None` for one that this build does not have.
    pub fn find(&self, image: &Image) -> Option<machine::Image> {
        self.0.get(&image.name)?.1.clone()
    }
}

fn entry(
    kind: &str,
    version: Option<String>,
    image: Option<machine::Image>,
) -> (String, (ImageSpec, Option<machine::Image>)) {
    let name = match &version {
        Some(version) => format!("drover-{kind}-{version}"),
        None => format!("drover-{kind}"),
    };
    let mut tags = BTreeMap::from([(IMAGE_TAG.to_owned(), kind.to_owned())]);
    tags.extend(version.map(|version| (VERSION_TAG.to_owned(), series(&version))));
    let architecture = if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::X86_64 };
    let description = "made by drover-local".to_owned();
    let spec = ImageSpec { name: name.clone(), description, architecture, root_size_gib: 8, tags };
    (name, (spec, image))
}

/// `9.7` of `9.7.4`.
fn series(version: &str) -> String {
    version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}
