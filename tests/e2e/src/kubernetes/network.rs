//! The cable between this host and a node: nothing else of the host's network is changed, and it goes with the node.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::Context;

use crate::programs::run;

/// The two ends of a node's cable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cable {
    pub host: Ipv4Addr,
    pub node: Ipv4Addr,
}

/// 198.18.0.0/15, for tests between networks (RFC 2544): nobody has real machines there.
const RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Of /30s in it.
const CABLES: u32 = 1 << 15;
const PREFIX: u8 = 30;
const COMMAND: Duration = Duration::from_secs(10);

impl Cable {
    /// One that this host does not use yet. It is looked for from a place that the tag gives, so that two tests that look at once do
    /// not find the same.
    pub(super) fn choose(tag: &str) -> anyhow::Result<Self> {
        let first = u32::from_str_radix(tag, 16)?;
        for next in 0..CABLES {
            let base = u32::from(RANGE) + ((first.wrapping_add(next)) % CABLES) * 4;
            let range = format!("{}/{PREFIX}", Ipv4Addr::from(base));
            let used = run(&["ip", "-4", "route", "show", "table", "all", "root", &range], COMMAND)?;
            if used.trim().is_empty() {
                return Ok(Self { host: Ipv4Addr::from(base + 1), node: Ipv4Addr::from(base + 2) });
            }
        }
        anyhow::bail!("every address of {RANGE}/15 is in use on this host")
    }

    /// Lays it from this host to the network namespace of a process, where it is `eth0`.
    pub(super) fn lay(&self, tag: &str, process: u32) -> anyhow::Result<()> {
        let (link, process) = (link(tag), process.to_string());
        let (host, node) = (format!("{}/{PREFIX}", self.host), format!("{}/{PREFIX}", self.node));
        let peer = ["peer", "name", "eth0", "netns", &process];
        run(&[&["ip", "link", "add", &link, "type", "veth"], peer.as_slice()].concat(), COMMAND)?;
        run(&["ip", "addr", "add", &host, "dev", &link], COMMAND)?;
        run(&["ip", "link", "set", &link, "up"], COMMAND)?;
        configure(process.as_str(), "eth0", &node)?;
        let inside = ["nsenter", "--net", "--target", &process, "ip", "route", "add", "default", "via"];
        run(&[inside.as_slice(), &[&self.host.to_string()]].concat(), COMMAND).map(drop)
    }
}

/// This host's end of a node's cable.
pub(super) fn link(tag: &str) -> String {
    format!("drk{tag}")
}

/// A port of drover-local's switch for the node: in the machines' network as one of them, so that no packet crosses this host. Answers
/// the node's address there, of a part of the network that has no subnet.
pub(super) fn plug(tag: &str, process: u32, switch: &str, gateway: Ipv4Addr) -> anyhow::Result<Ipv4Addr> {
    let [a, b, ..] = gateway.octets();
    let last = u8::from_str_radix(&tag[..2], 16)?.clamp(1, 254);
    let (address, port, process) = (Ipv4Addr::new(a, b, 255, last), format!("k{tag}"), process.to_string());
    let peer = ["peer", "name", "cloud", "netns", &process];
    run(&[&["ip", "-n", switch, "link", "add", &port, "type", "veth"], peer.as_slice()].concat(), COMMAND)
        .context("the cloud has machines, and so a network")?;
    run(&["ip", "-n", switch, "link", "set", &port, "master", "bridge", "up"], COMMAND)?;
    configure(&process, "cloud", &format!("{address}/16"))?;
    Ok(address)
}

fn configure(process: &str, link: &str, address: &str) -> anyhow::Result<()> {
    let inside = ["nsenter", "--net", "--target", process, "ip"];
    run(&[inside.as_slice(), &["addr", "add", address, "dev", link]].concat(), COMMAND)?;
    run(&[inside.as_slice(), &["link", "set", link, "up"]].concat(), COMMAND).map(drop)
}
