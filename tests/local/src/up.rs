//! `drover-local up`: everything started, until a signal; then everything ended.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use drover_cloud::ec2::{Account, BlockDevice, Cidr, Hosting, Instance, Timings};
use jiff::SignedDuration;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
};

use crate::{
    calls::Calls,
    clock::ServiceClock,
    cloud::{Cloud, StateError},
    control::{self, Ask, MachineLine, Told},
    fault::Breaker,
    home::{Endpoints, Home},
    host::{Host, HostError},
    images::Images,
    keys::Keys,
    lost::LostReplies,
    machine::{self, Hypervisor, Limits, Subnet},
    metadata::Identity,
    query, quotas,
    s3::{self, Objects, OpenError},
    serve::serve,
};

/// What `up` is asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The address of the endpoints. Without it: the machines' gateway, which the host reaches too; with --no-machines,
    /// 127.0.0.1.
    #[arg(long)]
    pub listen: Option<IpAddr>,
    /// The port of the EC2 endpoint, which answers Service Quotas too; 0 for any.
    #[arg(long, default_value_t = 7700)]
    pub ec2_port: u16,
    /// The port of the S3 endpoint; 0 for any.
    #[arg(long, default_value_t = 7701)]
    pub s3_port: u16,
    /// The machines' network, a /16 that the host routes nowhere else. Without it: the first free one of a short list. It is
    /// chosen with the account, which keeps it.
    #[arg(long, value_parser = network_of)]
    pub network: Option<Cidr>,
    /// The region's name; its zones are this and a, b and c.
    #[arg(long, default_value = "local-1")]
    pub region: String,
    /// The bucket that is there from the start.
    #[arg(long, default_value = "drover")]
    pub bucket: String,
    /// No machines are booted and no root is needed: instances change their states by themselves, after EC2's times.
    #[arg(long)]
    pub no_machines: bool,
    /// Divides the times that things take by themselves: 20 makes a boot of 15 s one of 0.75 s. A terminated instance is
    /// listed for its usual hour.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub speed: u32,
    /// Where the machine image is built once and kept.
    #[arg(long, default_value = "/var/cache/drover-local")]
    pub image_cache: PathBuf,
}

/// Where an account is founded when nobody says. Out of the way of what container engines and Kubernetes distributions take by
/// themselves: 10.42 and 10.43 (k3s), 10.96 to 10.111 (kubeadm), 10.128 to 10.131 (OpenShift), 10.244 (flannel), 172.16/12 (Docker).
const NETWORKS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 61, 0, 0),
    Ipv4Addr::new(10, 147, 0, 0),
    Ipv4Addr::new(10, 203, 0, 0),
    Ipv4Addr::new(10, 219, 0, 0),
];

/// Why the cloud is not up.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("another drover-local is up in {0}")]
    Taken(PathBuf),
    #[error("{0} is not a directory of drover-local, which has an account.json in it; nothing was removed")]
    NotOurs(PathBuf),
    #[error(
        "the account in {dir} has the network {kept}, which it keeps: leave --network away, or end the account with `down`"
    )]
    OtherNetwork { dir: PathBuf, kept: Cidr },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Objects(#[from] OpenError),
    #[error(transparent)]
    Machines(#[from] machine::Error),
    #[error(transparent)]
    Host(#[from] HostError),
}

/// A cloud that is up.
#[derive(Debug)]
pub struct Up {
    pub endpoints: Endpoints,
    home: Home,
    hypervisor: Option<Hypervisor>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    _lock: nix::fcntl::Flock<std::fs::File>,
}

impl Up {
    /// Starts everything: sweeps what a crash left, opens the account, listens, and says so in the directory.
    pub async fn start(home: Home, options: &Options) -> Result<Self, UpError> {
        let lock = home.take().map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => UpError::Taken(home.dir().into()),
            _ => UpError::Io { what: format!("cannot use {}", home.dir().display()), source },
        })?;
        let at_home = |what: &str| {
            let what = format!("cannot {what} in {}", home.dir().display());
            move |source| UpError::Io { what, source }
        };
        home.withdraw().map_err(at_home("remove what a crash left"))?;
        let operator = home.operator_key().map_err(at_home("keep the operator's key"))?;
        let keys = Keys::new(&operator.access_key, &operator.secret_key);
        let images = if options.no_machines {
            Images::in_name_only()
        } else {
            tracing::info!(cache = %options.image_cache.display(), "looking for the machine image; the first build takes minutes");
            Images::of_machines(machine::Images::build(&options.image_cache).await?)
        };
        let (network, turn) = network(&home, options).await?;
        let cloud = Cloud::open(&home.state(), account(options, network), seed())?;
        let kept = cloud.look(|ec2, _| ec2.account().vpc_cidr);
        if options.network.is_some_and(|wanted| wanted != kept) {
            return Err(UpError::OtherNetwork { dir: home.dir().into(), kept });
        }
        cloud.change(|ec2, now| {
            for spec in images.specs() {
                ec2.register_image(now, spec.clone());
            }
        })?;
        let (hypervisor, events) = if options.no_machines {
            (None, None)
        } else {
            let network = Subnet { address: kept.base, prefix: kept.prefix };
            let config = machine::Config { dir: home.machines(), network, limits: Limits::default() };
            std::fs::create_dir_all(home.machines()).map_err(at_home("keep machines"))?;
            let identity = Identity { cloud: cloud.clone(), keys: keys.clone() };
            let (hypervisor, events) = Hypervisor::open(config, Arc::new(identity)).await?;
            (Some(hypervisor), Some(events))
        };
        drop(turn);
        let (stop, stopped) = watch::channel(false);
        let mut up = Self {
            endpoints: Endpoints {
                ec2: String::new(),
                s3: String::new(),
                region: cloud.look(|ec2, _| ec2.account().region.clone()),
                access_key: operator.access_key,
                secret_key: operator.secret_key,
                bucket: options.bucket.clone(),
                pid: std::process::id(),
            },
            home,
            hypervisor: hypervisor.clone(),
            stop,
            tasks: JoinSet::new(),
            _lock: lock,
        };
        let host = Host::new(cloud.clone(), keys.clone(), hypervisor, images);
        let resumed = host.resume()?;
        let serving = up.serve(options, stopped, cloud, keys, host.clone()).await;
        if let Err(error) = serving {
            up.end().await?;
            return Err(error);
        }
        up.tasks.spawn(host.run(resumed, events));
        Ok(up)
    }

    async fn serve(
        &mut self,
        options: &Options,
        stopped: watch::Receiver<bool>,
        cloud: Cloud,
        keys: Keys,
        host: Host,
    ) -> Result<(), UpError> {
        let gateway = self.hypervisor.as_ref().map(|hypervisor| IpAddr::V4(hypervisor.gateway()));
        let address = options.listen.or(gateway).unwrap_or(IpAddr::from([127, 0, 0, 1]));
        let (calls, lost, clock) = (Calls::default(), LostReplies::default(), ServiceClock::default());

        let (listener, url) = listen(address, options.ec2_port).await?;
        self.endpoints.ec2 = url;
        let ec2 = query::Endpoint {
            cloud: cloud.clone(),
            region: self.endpoints.region.clone(),
            keys: keys.clone(),
            clock: clock.clone(),
            calls: calls.clone(),
            lost: lost.clone(),
        };
        self.tasks.spawn(serve(listener, stopped.clone(), move |request, _| {
            let ec2 = ec2.clone();
            async move {
                if quotas::is_asked(&request) { quotas::answer(&ec2, request).await } else { ec2.answer(request).await }
            }
        }));

        let (listener, url) = listen(address, options.s3_port).await?;
        self.endpoints.s3 = url;
        let objects = Objects::open(&self.home.objects(), &options.bucket)?;
        let s3 = s3::Endpoint::new(objects, &options.bucket, keys.clone(), clock.clone(), calls.clone(), lost.clone());
        self.tasks.spawn(serve(listener, stopped, move |request, _| {
            let s3 = s3.clone();
            async move { s3.answer(request).await }
        }));

        let identity = Identity { cloud: cloud.clone(), keys: keys.clone() };
        let breaker = Breaker { cloud, lost, keys, clock, host };
        breaker.restore().await?;
        let at_home = |source| UpError::Io { what: format!("cannot listen in {}", self.home.dir().display()), source };
        let listener = UnixListener::bind(self.home.socket()).map_err(at_home)?;
        let answering =
            Answering { identity, calls, breaker, endpoints: self.endpoints.clone(), stop: self.stop.clone() };
        self.tasks.spawn(control::listen(listener, move |ask| {
            let answering = answering.clone();
            async move { answering.answer(ask).await }
        }));
        self.home.announce(&self.endpoints).map_err(at_home)
    }

    /// Waits until somebody asked by the socket that it ends.
    pub async fn ended(&self) {
        // An error means that the sender is gone, and this struct holds it.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    /// Ends everything. The account, its bucket and its volumes stay in the directory; machines end as in a power cut.
    pub async fn end(mut self) -> Result<(), UpError> {
        self.stop.send_replace(true);
        self.tasks.shutdown().await;
        if let Some(hypervisor) = &self.hypervisor {
            hypervisor.close().await?;
        }
        let what = || format!("cannot tidy up {}", self.home.dir().display());
        self.home.withdraw().map_err(|source| UpError::Io { what: what(), source })
    }
}

/// Sweeps everything: ends a running `up`, removes what a crash left, then the directory with the account in it. A directory
/// that is not drover-local's is refused: whoever calls this is root, and a slip of the hand would remove anything.
pub async fn down(home: &Home) -> Result<(), UpError> {
    let io = |source| UpError::Io { what: format!("cannot remove {}", home.dir().display()), source };
    if !home.dir().exists() {
        return Ok(());
    }
    if !home.is_ours().map_err(io)? {
        return Err(UpError::NotOurs(home.dir().into()));
    }
    let asked = tokio::time::timeout(ASK_TIMEOUT, control::ask(&home.socket(), &Ask::End)).await;
    let _lock = match asked {
        Ok(Ok(_)) => wait_for_lock(home).await?,
        // Nothing is up, or it hangs: only the first leaves the lock free.
        Ok(Err(_)) | Err(_) => home.take().map_err(|_| UpError::Taken(home.dir().into()))?,
    };
    sweep(home).await?;
    home.remove().map_err(io)
}

/// Removes what was made in the kernel; the account, its bucket and its volumes stay.
pub async fn sweep(home: &Home) -> Result<(), UpError> {
    if home.machines().exists() {
        let swept = machine::sweep(&home.machines()).await?;
        tracing::info!(?swept, "swept");
    }
    Ok(())
}

/// How long a command waits for the running cloud's answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long ending all machines may take.
const END_TIMEOUT: Duration = Duration::from_secs(120);

async fn wait_for_lock(home: &Home) -> Result<nix::fcntl::Flock<std::fs::File>, UpError> {
    let mut pause = tokio::time::interval(Duration::from_millis(50));
    let waited = tokio::time::timeout(END_TIMEOUT, async {
        loop {
            pause.tick().await;
            if let Ok(lock) = home.take() {
                return lock;
            }
        }
    });
    waited.await.map_err(|_elapsed| UpError::Taken(home.dir().into()))
}

async fn listen(address: IpAddr, port: u16) -> Result<(TcpListener, String), UpError> {
    let failed = |source| UpError::Io { what: format!("cannot listen on {address} port {port}"), source };
    let listener = TcpListener::bind((address, port)).await.map_err(failed)?;
    let url = format!("http://{}", listener.local_addr().map_err(failed)?);
    Ok((listener, url))
}

/// Of the ids that EC2 gives: no two clouds' are alike.
#[expect(clippy::disallowed_methods, reason = "the edge")]
fn seed() -> u64 {
    rand::random()
}

/// `--network`: subnets are cut from it as /24s, so it is a /16.
fn network_of(text: &str) -> Result<Cidr, String> {
    let cidr = Cidr::try_from(text.to_owned()).map_err(|error| error.to_string())?;
    if cidr.prefix == 16 { Ok(cidr) } else { Err(format!("{cidr} is not a /16")) }
}

/// The network of an account that is not there yet; one that is there has its own. With a turn where there was a choice.
async fn network(home: &Home, options: &Options) -> Result<(Cidr, Option<machine::Turn>), UpError> {
    if let Some(network) = options.network {
        return Ok((network, None));
    }
    if options.no_machines || home.state().exists() {
        return Ok((Cidr { base: NETWORKS[0], prefix: 16 }, None));
    }
    let (free, turn) = machine::first_free(&NETWORKS.map(|address| Subnet { address, prefix: 16 })).await?;
    Ok((Cidr { base: free.address, prefix: free.prefix }, Some(turn)))
}

fn account(options: &Options, network: Cidr) -> Account {
    let usual = Timings::default();
    let timings = Timings {
        boot: usual.boot / options.speed,
        graceful: usual.graceful / options.speed,
        at_once: usual.at_once / options.speed,
        volume: usual.volume / options.speed,
        attach: usual.attach / options.speed,
        // Nothing is mounted where there are no machines.
        detach_running: options.no_machines.then_some(usual.attach / options.speed),
        address_move: usual.address_move / options.speed,
        status_checks: usual.status_checks / options.speed,
        // How long something terminated can still be read of is not a time that anyone waits for.
        ..usual
    };
    Account {
        instance_profiles: vec!["drover-machine".into()],
        network_tags: [("drover:network".to_owned(), "machines".to_owned())].into(),
        machine_group: "drover-machine".into(),
        hosting: if options.no_machines { Hosting::Automatic } else { Hosting::Reported },
        timings,
        ..Account::new(&options.region).in_network(network)
    }
}

/// Answers what the other commands ask.
#[derive(Debug, Clone)]
struct Answering {
    identity: Identity,
    calls: Calls,
    breaker: Breaker,
    endpoints: Endpoints,
    stop: watch::Sender<bool>,
}

impl Answering {
    async fn answer(&self, ask: Ask) -> Told {
        let done = |result: Result<(), crate::fault::FaultError>| match result {
            Ok(()) => Told::Done,
            Err(error) => Told::Refused(error.to_string()),
        };
        match ask {
            Ask::Calls { since } => Told::Calls(self.calls.since(since)),
            Ask::Machines => Told::Machines(self.machines()),
            Ask::Endpoints => Told::Endpoints(self.endpoints.clone()),
            Ask::RoleCredentials { instance, seconds } => {
                let valid = seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
                match self.identity.role_credentials(&instance, valid) {
                    Ok(credentials) => Told::RoleCredentials(credentials),
                    Err(error) => Told::Refused(error.to_string()),
                }
            }
            Ask::Set(fault) => done(self.breaker.set(&fault).await),
            Ask::Clear(fault) => done(self.breaker.clear(&fault).await),
            Ask::ClearAll => done(self.breaker.clear_all().await),
            Ask::Faults => match self.breaker.list().await {
                Ok(faults) => Told::Faults(faults),
                Err(error) => Told::Refused(error.to_string()),
            },
            Ask::End => {
                self.stop.send_replace(true);
                Told::Done
            }
        }
    }

    fn machines(&self) -> Vec<MachineLine> {
        self.identity.cloud.look(|ec2, _| {
            let data = |instance: &Instance| {
                let is_data = |device: &&BlockDevice| device.device_name != instance.root_device_name;
                instance.block_devices.iter().filter(is_data).map(|device| device.volume_id.clone()).collect()
            };
            let line = |instance: &Instance| MachineLine {
                id: instance.instance_id.clone(),
                name: instance.tags.get("Name").cloned().unwrap_or_default(),
                state: instance.state.to_string(),
                zone: instance.zone.clone(),
                address: instance.private_ip_address.clone(),
                volumes: data(instance),
                host_lost: instance.host_lost,
            };
            ec2.instances().map(line).collect()
        })
    }
}

#[cfg(test)]
mod tests;
