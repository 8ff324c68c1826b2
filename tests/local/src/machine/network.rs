//! The machines' network: one bridge, a namespace for each machine, one cable between them, and cuts.
//!
//! The bridge has a namespace of its own, the switch. No firewall of the host (a container engine's, for example) sees the traffic there,
//! nothing is forwarded by the host, and cuts and security groups are rules of nftables' bridge family in that namespace (`rules`).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::net::Ipv4Addr;
use std::time::Duration;

use drover_api::InstanceId;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;

use super::command;
use super::names::{INTERFACE, Names, port};
use super::rules;
use super::spec::{Cut, Error, Limits, MachineSpec, Result, Subnet};

/// Where the metadata service answers, inside each machine: on its loopback interface, so that no cut reaches it.
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[derive(Debug)]
pub(super) struct Network {
    names: Names,
    range: Subnet,
    limit: Duration,
}

impl Network {
    pub(super) fn new(names: Names, range: Subnet, limit: Duration) -> Network {
        Network { names, range, limit }
    }

    /// The host's own address in the network: its first.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.range.host(1)
    }

    /// Makes the switch and the host's cable into it. Refuses a range that the host already routes elsewhere.
    pub(super) async fn open(&self) -> Result<()> {
        refuse_collision(&self.range, &routes(self.limit).await?)?;
        let (switch, link) = (self.names.switch(), self.names.host_link());
        command::run(&["ip", "netns", "add", &switch], self.limit).await?;
        let inside = format!(
            "link set lo up\nlink add bridge type bridge stp_state 0 forward_delay 0\nlink set bridge up\n\
             link add host type veth peer name {link} netns {own}\nlink set host master bridge up\n",
            own = std::process::id(),
        );
        command::run_with(&["ip", "-n", &switch, "-batch", "-"], &inside, self.limit).await?;
        let outside = format!("addr add {}/{} dev {link}\nlink set {link} up\n", self.gateway(), self.range.prefix);
        command::run_with(&["ip", "-batch", "-"], &outside, self.limit).await?;
        Ok(())
    }

    /// Makes the machine's namespace with its addresses. The whole network is on its link, so that zones need no router.
    pub(super) async fn plug(&self, spec: &MachineSpec, secondary: &BTreeSet<Ipv4Addr>) -> Result<()> {
        let namespace = self.names.namespace(&spec.id);
        command::run(&["ip", "netns", "add", &namespace], self.limit).await?;
        let port = port(&spec.id);
        let cable = format!(
            "link add {port} type veth peer name {INTERFACE} address {} netns {namespace}\nlink set {port} master bridge up\n",
            spec.mac
        );
        command::run_with(&["ip", "-n", &self.names.switch(), "-batch", "-"], &cable, self.limit).await?;
        let mut inside = format!(
            "link set lo up\naddr add {METADATA}/32 dev lo\naddr add {ip}/{prefix} dev {INTERFACE}\nlink set {INTERFACE} up\n\
             route replace {range} dev {INTERFACE} src {ip}\n",
            ip = spec.private_ip,
            prefix = spec.subnet.prefix,
            range = self.range,
        );
        for address in secondary {
            writeln!(inside, "addr add {address}/32 dev {INTERFACE}").expect("a String takes every write");
        }
        command::run_with(&["ip", "-n", &namespace, "-batch", "-"], &inside, self.limit).await?;
        Ok(())
    }

    /// Takes the machine's namespace away; what is not there is no error.
    pub(super) async fn unplug(&self, instance: &InstanceId) -> Result<()> {
        let namespace = self.names.namespace(instance);
        // The namespace outlives its name while a socket is open in it, its cable would too.
        let switch = self.names.switch();
        command::output(&["ip", "-n", &switch, "link", "del", &port(instance)], "", self.limit).await?;
        if std::path::Path::new("/run/netns").join(&namespace).exists() {
            command::run(&["ip", "netns", "del", &namespace], self.limit).await?;
        }
        Ok(())
    }

    /// Gives a secondary address to a machine that runs, which may have it already.
    pub(super) async fn give(&self, instance: &InstanceId, address: Ipv4Addr, others: &[InstanceId]) -> Result<()> {
        let (address_32, namespace) = (format!("{address}/32"), self.names.namespace(instance));
        command::run(&["ip", "-n", &namespace, "addr", "replace", &address_32, "dev", INTERFACE], self.limit).await?;
        self.forget(instance, address, others).await
    }

    /// Takes it from a machine that runs, which may have lost it already.
    pub(super) async fn take(&self, instance: &InstanceId, address: Ipv4Addr, others: &[InstanceId]) -> Result<()> {
        let (address_32, namespace) = (format!("{address}/32"), self.names.namespace(instance));
        let taken =
            command::run(&["ip", "-n", &namespace, "addr", "del", &address_32, "dev", INTERFACE], self.limit).await;
        match taken {
            Err(Error::Command { stderr, .. }) if stderr.contains("Address not found") => {}
            Err(Error::Command { stderr, .. }) if stderr.contains("Cannot assign requested address") => {}
            other => drop(other?),
        }
        self.forget(instance, address, others).await
    }

    /// Makes the neighbours forget where an address was.
    async fn forget(&self, instance: &InstanceId, address: Ipv4Addr, others: &[InstanceId]) -> Result<()> {
        let address = address.to_string();
        for other in others.iter().filter(|other| *other != instance) {
            let namespace = self.names.namespace(other);
            command::run(&["ip", "-n", &namespace, "neigh", "flush", "to", &address], self.limit).await?;
        }
        command::run(&["ip", "neigh", "flush", "to", &address, "dev", &self.names.host_link()], self.limit).await?;
        Ok(())
    }

    /// Makes the cuts in force exactly these, in one transaction.
    pub(super) async fn cut(&self, cuts: &BTreeSet<Cut>) -> Result<()> {
        self.enforce(&rules::cuts(cuts)).await
    }

    /// Makes these pairs, from and to, and no others those that security groups keep apart, in one transaction.
    pub(super) async fn keep_apart(&self, pairs: &BTreeSet<(InstanceId, InstanceId)>) -> Result<()> {
        self.enforce(&rules::groups(pairs)).await
    }

    async fn enforce(&self, ruleset: &str) -> Result<()> {
        let namespace = format!("--net=/run/netns/{}", self.names.switch());
        let missing = |error| match error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => missing_nft(),
            Error::Command { stderr, .. } if stderr.contains("failed to execute nft") => missing_nft(),
            error => error,
        };
        let nft = ["nsenter", &namespace, "nft", "-f", "-"];
        command::run_with(&nft, ruleset, self.limit).await.map_err(missing)?;
        Ok(())
    }
}

/// While it is held, no other process chooses a range: what is chosen shows in the host's routes only once the network is made.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is let go when it is dropped")] Flock<File>);

/// One for the host.
const TURN: &str = "/run/drover-local.lock";
/// Whoever is before this one makes a network, which takes a second.
const TURN_WAIT: Duration = Duration::from_secs(60);

/// The first of these ranges that the host routes nowhere yet, and no one else chooses until the turn is dropped.
///
/// Errors: [`Error::Unfit`] that names the last one's collision, or that others have had their turn for a minute.
pub async fn first_free(ranges: &[Subnet]) -> Result<(Subnet, Turn)> {
    let failed = |source| Error::Io { what: format!("cannot lock {TURN}"), source };
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(TURN).map_err(failed)?;
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let locked = async {
        loop {
            pause.tick().await;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => return Ok(Turn(held)),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    };
    let late = |_| Error::Unfit(format!("another drover-local has held {TURN} for {TURN_WAIT:?}"));
    let turn = tokio::time::timeout(TURN_WAIT, locked).await.map_err(late)??;
    let range = first_without_collision(ranges, &routes(Limits::default().command).await?)?;
    Ok((range, turn))
}

fn first_without_collision(ranges: &[Subnet], routes: &str) -> Result<Subnet> {
    let mut outcome = Err(Error::Unfit("there is no range to choose from".into()));
    for range in ranges {
        outcome = refuse_collision(range, routes).map(|()| *range);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// JSON.
async fn routes(limit: Duration) -> Result<String> {
    command::run(&["ip", "-j", "-4", "route", "show", "table", "all"], limit).await
}

fn missing_nft() -> Error {
    Error::Unfit("cutting the network and keeping security groups apart need nft (apt-get install nftables)".into())
}

#[derive(Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: String,
}

/// `routes`: the JSON of `ip -j route`.
fn refuse_collision(range: &Subnet, routes: &str) -> Result<()> {
    let routes: Vec<Route> = serde_json::from_str(routes)
        .map_err(|error| Error::Io { what: "cannot read the host's routes".into(), source: error.into() })?;
    for route in routes {
        let (address, prefix) = route.dst.split_once('/').unwrap_or((&route.dst, "32"));
        // `default` and other words are no networks; a shorter prefix than 8 is a default route in parts.
        let (Ok(address), Ok(prefix)) = (address.parse(), prefix.parse::<u8>()) else { continue };
        if prefix >= 8 && range.overlaps(&Subnet { address, prefix }) {
            return Err(Error::Unfit(format!(
                "the machines' network {range} collides with the host's route to {} by {}; name another with `up --network` \
                 (an account keeps its network: `down` ends it)",
                route.dst, route.dev
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_the_host_routes_elsewhere_is_refused_by_name() {
        let range = Subnet { address: Ipv4Addr::new(10, 77, 0, 0), prefix: 16 };
        let free =
            r#"[{"dst":"default","dev":"eth0"},{"dst":"0.0.0.0/1","dev":"tun0"},{"dst":"10.78.0.0/16","dev":"x"}]"#;
        refuse_collision(&range, free).unwrap();
        for taken in ["10.77.16.0/20", "10.0.0.0/8", "10.77.3.4"] {
            let routes = format!(r#"[{{"dst":"{taken}","dev":"tun0"}}]"#);
            let error = refuse_collision(&range, &routes).unwrap_err().to_string();
            assert!(error.contains(taken) && error.contains("tun0"), "{error}");
        }
    }

    #[test]
    fn the_first_range_is_chosen_that_the_host_does_not_route() {
        let [a, b, c] = [1, 2, 3].map(|n| Subnet { address: Ipv4Addr::new(10, n, 0, 0), prefix: 16 });
        let routes = r#"[{"dst":"10.1.7.0/24","dev":"x"},{"dst":"10.3.0.1","dev":"y"}]"#;
        assert_eq!(first_without_collision(&[a, b, c], routes).unwrap(), b);
        let error = first_without_collision(&[a, c], routes).unwrap_err().to_string();
        assert!(error.contains("10.3.0.1") && error.contains("--network"), "{error}");
    }
}
