//! What the switch does not let pass: rules by the port a packet comes from and the port it leaves by, so that a cut can be truly one way
//! and no address that a machine takes for itself gets around one. `forward` sees traffic between ports, `output` and `input` that of
//! the bridge itself; the host is behind a port of its own, so `forward` sees all of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use drover_api::InstanceId;

use super::names::port;
use super::spec::{Cut, Direction};

/// IPv4 and IPv6; ARP always passes, as EC2's network answers it even where security groups drop everything.
const IP: &str = "ether type { ip, ip6 }";

/// A cut drops everything, established connections too.
pub(super) fn cuts(cuts: &BTreeSet<Cut>) -> String {
    let mut rules = String::new();
    for cut in cuts {
        let own = port(&cut.machine);
        let from_peer = cut.peer.as_ref().map(|peer| format!("iifname \"{}\" ", port(peer))).unwrap_or_default();
        let to_peer = cut.peer.as_ref().map(|peer| format!("oifname \"{}\" ", port(peer))).unwrap_or_default();
        if cut.direction != Direction::Receive {
            writeln!(rules, "    iifname \"{own}\" {to_peer}{IP} drop").expect("a String takes every write");
        }
        if cut.direction != Direction::Send {
            writeln!(rules, "    oifname \"{own}\" {from_peer}{IP} drop").expect("a String takes every write");
        }
    }
    table("cuts", &rules)
}

/// What security groups keep apart opens no TCP connection, and hears nothing else. A connection that is open stays so: on EC2 it is
/// tracked, and a change of groups does not cut it.
pub(super) fn groups(apart: &BTreeSet<(InstanceId, InstanceId)>) -> String {
    let mut rules = String::new();
    for (from, to) in apart {
        let way = format!("iifname \"{}\" oifname \"{}\" {IP}", port(from), port(to));
        writeln!(
            rules,
            "    {way} meta l4proto tcp tcp flags & (syn | ack) == syn drop\n    {way} meta l4proto != tcp drop"
        )
        .expect("a String takes every write");
    }
    table("groups", &rules)
}

/// Replaces the table in one transaction.
fn table(name: &str, rules: &str) -> String {
    format!(
        "table bridge {name} {{}}\ndelete table bridge {name}\ntable bridge {name} {{\n  chain forward {{\n    type filter hook forward \
         priority 0; policy accept;\n{rules}  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str) -> InstanceId {
        InstanceId::new(id).unwrap()
    }

    fn drops(ruleset: &str) -> Vec<&str> {
        ruleset.lines().filter(|line| line.contains("drop")).map(str::trim).collect()
    }

    #[test]
    fn a_cut_names_the_port_and_the_direction_and_spares_arp() {
        let (a, b) = (instance("i-0a"), instance("i-0b"));
        let rules = |direction, peer: Option<&InstanceId>| {
            let text = cuts(&BTreeSet::from([Cut { machine: a.clone(), direction, peer: peer.cloned() }]));
            drops(&text).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let (pa, pb) = (port(&a), port(&b));
        assert_eq!(rules(Direction::Send, None), [format!("iifname \"{pa}\" ether type {{ ip, ip6 }} drop")]);
        assert_eq!(
            rules(Direction::Receive, Some(&b)),
            [format!("oifname \"{pa}\" iifname \"{pb}\" ether type {{ ip, ip6 }} drop")]
        );
        assert_eq!(rules(Direction::Both, None).len(), 2);
    }

    #[test]
    fn groups_keep_apart_one_way_and_leave_open_connections() {
        let (a, b) = (instance("i-0a"), instance("i-0b"));
        let text = groups(&BTreeSet::from([(a.clone(), b.clone())]));
        let way = format!("iifname \"{}\" oifname \"{}\" ether type {{ ip, ip6 }}", port(&a), port(&b));
        let tcp = format!("{way} meta l4proto tcp tcp flags & (syn | ack) == syn drop");
        assert_eq!(drops(&text), [tcp, format!("{way} meta l4proto != tcp drop")]);
    }
}
