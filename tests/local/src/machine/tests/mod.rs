//! Real machines, as root, each test in a directory and a range of its own.

mod lives;
mod networks;
mod sweeping;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drover_api::{InstanceId, VolumeId};
use tempfile::TempDir;
use tokio::sync::{OnceCell, mpsc};

use super::pace::Pace;
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// One instance of the hypervisor and what is needed to ask things of it.
struct World {
    host: Hypervisor,
    events: mpsc::Receiver<HostEvent>,
    metadata: Arc<TestMetadata>,
    images: Images,
    range: Subnet,
    dir: Home,
}

/// User data that leaves a trace of having run.
const USER_DATA: &str = "#!/bin/sh\necho first boot >>/root/user-data-ran\n";

struct TestMetadata {
    range: Subnet,
    /// Secondary addresses by machine.
    secondary: Mutex<BTreeMap<InstanceId, Vec<Ipv4Addr>>>,
}

impl TestMetadata {
    fn new(range: Subnet) -> Arc<TestMetadata> {
        Arc::new(TestMetadata { range, secondary: Mutex::default() })
    }
}

impl Metadata for TestMetadata {
    fn view(&self, instance: &InstanceId) -> Option<MetadataView> {
        Some(MetadataView {
            instance_id: instance.clone(),
            image_id: "ami-0test".into(),
            instance_type: "t3.small".into(),
            reservation_id: "r-0test".into(),
            account_id: "000000000000".into(),
            region: "us-east-1".into(),
            zone: "us-east-1b".into(),
            zone_id: "use1-az2".into(),
            private_ip: address(self.range, instance),
            secondary_ips: self.secondary.lock().unwrap().get(instance).cloned().unwrap_or_default(),
            mac: mac(instance),
            hostname: hostname(self.range, instance),
            interface_id: "eni-0test".into(),
            vpc_id: "vpc-0test".into(),
            vpc_cidr: self.range.to_string(),
            subnet_id: "subnet-0test".into(),
            subnet_cidr: self.range.to_string(),
            security_groups: vec![("sg-0test".into(), "default".into())],
            launched_at: "2026-01-01T00:00:00Z".into(),
            tags: Some(BTreeMap::from([("drover:slot".into(), "m0".into())])),
            user_data: Some(USER_DATA.into()),
            tokens_required: true,
            role: Some(RoleView {
                profile_arn: "arn:aws:iam::000000000000:instance-profile/machine".into(),
                profile_id: "AIPATEST".into(),
                role_name: "machine".into(),
                credentials: RoleCredentials {
                    access_key_id: "ASIATEST".into(),
                    secret_access_key: "secret".into(),
                    token: "session".into(),
                    last_updated: "2026-01-01T00:00:00Z".into(),
                    expiration: "2026-01-01T06:00:00Z".into(),
                },
            }),
        })
    }
}

fn number(instance: &InstanceId) -> u32 {
    instance.as_str().trim_start_matches("i-").parse().unwrap()
}

fn address(range: Subnet, instance: &InstanceId) -> Ipv4Addr {
    range.host(10 + number(instance))
}

fn mac(instance: &InstanceId) -> String {
    format!("02:00:00:00:00:{:02x}", number(instance))
}

fn hostname(range: Subnet, instance: &InstanceId) -> String {
    format!("ip-{}.ec2.internal", address(range, instance).to_string().replace('.', "-"))
}

fn instance(n: u32) -> InstanceId {
    InstanceId::new(format!("i-{n:02}")).unwrap()
}

fn volume(name: &str) -> VolumeId {
    VolumeId::new(format!("vol-{name}")).unwrap()
}

/// Built once for all tests and runs, in the place where `make machine-image` and `drover-local up` keep it.
#[expect(clippy::disallowed_methods, reason = "the edge of a test: the Makefile says where the image is kept")]
async fn images() -> Images {
    static IMAGES: OnceCell<Images> = OnceCell::const_new();
    let cache = std::env::var("DROVER_IMAGE_CACHE").unwrap_or_else(|_| "/var/cache/drover-local".into());
    IMAGES.get_or_init(async || Images::build(Path::new(&cache)).await.unwrap()).await.clone()
}

fn config(dir: &Path, range: Subnet) -> Config {
    Config { dir: dir.to_owned(), network: range, limits: Limits::default() }
}

/// A range that no other test of this process has, and that the host routes nowhere: another run may be under way, or have crashed.
async fn free_range() -> Subnet {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    for _ in 0..=u8::MAX {
        let range = Subnet { address: Ipv4Addr::new(10, 213, NEXT.fetch_add(1, Ordering::SeqCst), 0), prefix: 24 };
        if first_free(&[range]).await.is_ok() {
            return range;
        }
    }
    panic!("all of 10.213.0.0/16 is taken");
}

fn spec(images: &Images, range: Subnet, n: u32) -> MachineSpec {
    let id = instance(n);
    MachineSpec {
        image: images.base.clone(),
        private_ip: address(range, &id),
        subnet: range,
        mac: mac(&id),
        hostname: hostname(range, &id),
        memory_max: None,
        metadata_hop_limit: 1,
        volumes: Vec::new(),
        id,
    }
}

impl World {
    async fn new() -> World {
        let dir = Home::new();
        World::open(config(dir.path(), free_range().await), dir).await
    }

    async fn open(config: Config, dir: Home) -> World {
        let (range, metadata) = (config.network, TestMetadata::new(config.network));
        let (host, events) = Hypervisor::open(config, metadata.clone()).await.unwrap();
        World { host, events, metadata, images: images().await, range, dir }
    }

    fn spec(&self, n: u32) -> MachineSpec {
        spec(&self.images, self.range, n)
    }

    async fn boot(&self, n: u32) -> InstanceId {
        self.host.boot(&self.spec(n)).await.unwrap();
        instance(n)
    }

    /// Standard output of a shell command inside that must succeed.
    async fn sh(&self, id: &InstanceId, script: &str) -> String {
        let done = self.host.exec(id, &["sh", "-euc", script], PATIENCE).await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status, Some(0), "{script}: {out}{err}");
        out.trim().to_owned()
    }

    async fn succeeds(&self, id: &InstanceId, script: &str) -> bool {
        self.host.exec(id, &["sh", "-euc", script], PATIENCE).await.unwrap().status == Some(0)
    }

    async fn until(&self, id: &InstanceId, script: &str) {
        let mut pace = Pace::new(PATIENCE);
        while !self.succeeds(id, script).await {
            if let Err(late) = pace.wait(|| script.to_owned()).await {
                let console = std::fs::read_to_string(self.host.console(id)).unwrap_or_default();
                let log = self.host.exec(id, &["tail", "-n", "40", "/var/log/cloud-init.log"], PATIENCE).await.unwrap();
                panic!("{late}\n{console}\n{}", String::from_utf8_lossy(&log.stdout));
            }
        }
    }

    async fn event(&mut self) -> HostEvent {
        tokio::time::timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event in time")
            .expect("the hypervisor lives")
    }

    async fn close(self) {
        self.host.close().await.unwrap();
        let again = self.host.close().await.unwrap();
        assert_eq!(again, Swept::default(), "closing twice removes nothing more");
    }
}

/// A directory that is swept when its test fails: one that ends well has closed its world itself. Declared after what lives in it.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let dir = self.path().to_owned();
            let swept =
                std::thread::spawn(move || tokio::runtime::Runtime::new().unwrap().block_on(sweep_soon(&dir))).join();
            eprintln!("swept after the failure: {swept:?}");
        }
    }
}

/// A host that was just killed may hold its directory for a moment more.
async fn sweep_soon(dir: &Path) -> Result<Swept> {
    let mut pace = Pace::new(PATIENCE);
    loop {
        match sweep(dir).await {
            Err(Error::Unfit(_)) if pace.wait(|| "the directory".into()).await.is_ok() => {}
            done => return done,
        }
    }
}
