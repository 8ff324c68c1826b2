//! The states that a set can be in, brought about one after the other, and how Argo CD judges each.

use anyhow::{Context, ensure};
use drover_e2e::{History, Operator, heading, within};

use super::{Place, SHOP, SOON};

impl Place<'_> {
    /// While another operator acts, and while it cannot look, this one says so. Answers the one that is to act.
    pub fn awaits_the_realm(&self, start: impl FnOnce() -> anyhow::Result<Operator>) -> anyhow::Result<Operator> {
        heading("what is not looked at yet, and what is another operator's, is in progress");
        self.judged("shop", "Progressing", "the operator has not looked at it yet")?;
        let other = Operator::start(self.cloud, "other", &[])?;
        within(SOON, "the other operator holds the realm", || Ok(other.status()?.lock.ours.then_some(())))?;
        let operator = start()?;
        self.judged("shop", "Progressing", "as long as another operator holds the realm")?;
        heading("as long as it cannot be looked at it is not known how it is");
        self.cloud.fault("deny ec2:DescribeInstances")?;
        other.stop()?;
        self.condition(&[SHOP], "Ready", "FleetUnknown")?;
        self.judged("shop", "Progressing", "DescribeInstances")?;
        self.cloud.mend("deny ec2:DescribeInstances")?;
        Ok(operator)
    }

    /// A change that only new machines will have, and one that cannot be made now.
    pub fn works_and_is_ready(&self) -> anyhow::Result<()> {
        heading("what is ready is healthy while a change waits for new machines, and in progress while work goes on");
        self.patch(r#"{"spec":{"mysql":{"settings":{"max_connections":"321"}}}}"#)?;
        self.condition(&[SHOP], "ChangePending", "")?;
        self.judged("shop", "Healthy", "every machine serves in its role")?;
        self.patch(r#"{"spec":{"mysql":{"settings":{"max_connections":null}}}}"#)?;
        let machine = self.machine("m1")?;
        self.cloud.fault("deny ec2:CreateTags")?;
        self.cloud.ec2("DeleteTags", &[("ResourceId.1", &machine), ("Tag.1.Key", "drover:role")])?;
        self.judged("shop", "Progressing", "m1 is replica in")?;
        self.condition(&[SHOP], "Ready", "Ready")?;
        self.cloud.mend("deny ec2:CreateTags")?;
        self.judged("shop", "Healthy", "")?;
        let tag = (machine, "drover:role".to_owned());
        within(SOON, "the tag is there again", || Ok(self.cloud.tags()?.contains_key(&tag).then_some(())))
    }

    pub fn replaces_what_is_lost(&self) -> anyhow::Result<()> {
        heading("a machine that is lost is replaced, its Services follow, and all that is told");
        let before = self.machine("m2")?;
        self.cloud.end_machine(&before)?;
        self.judged("shop", "Progressing", "m2: ")?;
        self.makes()?;
        ensure!(self.machine("m2")? != before);
        let address = self.address("m2")?;
        within(SOON, "it takes reads", || {
            let slice = self.admin.get_json(&["endpointslice", "shop-replicas"])?;
            let mut endpoints = slice["endpoints"].as_array().into_iter().flatten();
            Ok(endpoints.any(|endpoint| endpoint["addresses"][0] == *address).then_some(()))
        })?;
        let told = self.admin.kubectl(&["describe", SHOP])?;
        ensure!(told.contains("MachineEnded") && told.contains(&format!("m2: {before} has ended")), "{told}");
        Ok(())
    }

    pub fn pauses(&self) -> anyhow::Result<()> {
        heading("a paused set is suspended, and refuses what is asked for");
        self.patch(r#"{"spec":{"paused":true}}"#)?;
        self.judged("shop", "Suspended", "spec.paused is true")?;
        self.asked("hold", "by-hand-3 m1", "refused: nothing is changed while spec.paused is true")?;
        self.patch(r#"{"spec":{"paused":false}}"#)?;
        self.judged("shop", "Healthy", "")
    }

    pub fn loses_its_primary(&self) -> anyhow::Result<()> {
        heading("a set that lost its primary is degraded");
        let served = |name: &str| -> anyhow::Result<usize> {
            let slice = self.admin.get_json(&["endpointslice", name])?;
            Ok(slice["endpoints"].as_array().map_or(0, Vec::len))
        };
        within(SOON, "all of it serves", || {
            Ok(((served("shop-primary")?, served("shop-replicas")?) == (1, 2)).then_some(()))
        })?;
        self.cloud.end_machine(&self.machine("m0")?)?;
        within(SOON, "it is told", || {
            let (health, told) = self.argo.judge(&self.admin.get_json(&[SHOP])?);
            Ok((health == "Degraded" && told.contains("restore")).then_some(()))
        })?;
        // How old a replica's data is nobody can say then, so reads stop too.
        within(SOON, "nobody is sent anywhere", || {
            Ok(((served("shop-primary")?, served("shop-replicas")?) == (0, 0)).then_some(()))
        })?;
        self.patch(r#"{"spec":{"paused":true}}"#)?;
        self.condition(&[SHOP], "Suspended", "Paused")?;
        self.judged("shop", "Degraded", "restore")?;
        heading("a deletion is stopped by a pause, and lets everything go when the policy is to retain");
        self.patch(r#"{"spec":{"deletionPolicy":"Delete"}}"#)?;
        self.admin.kubectl(&["delete", "--wait=false", SHOP])?;
        within(SOON, "it is looked at", || {
            let shown = self.admin.get_json(&[SHOP])?;
            Ok((shown["metadata"]["generation"] == shown["status"]["observedGeneration"]).then_some(()))
        })?;
        self.condition(&[SHOP], "Suspended", "Paused")?;
        self.patch(r#"{"spec":{"deletionPolicy":"Retain"}}"#)?;
        // It is retained: gone at once, with nothing ended.
        within(SOON, "it is gone", || Ok(self.admin.kubectl(&["get", SHOP]).is_err().then_some(())))?;
        let fleet = self.cloud.fleet_of("shop")?;
        ensure!(fleet.contains_key("m1") && fleet.contains_key("m2"), "{fleet:?}");
        Ok(())
    }

    /// Every object that the API server ever showed.
    pub fn every_object_was_judged(&self, seen: History) -> anyhow::Result<()> {
        heading("every object that the API server showed has a health, and the histories are what people expect");
        let states = [
            "deleting-retained",
            "deleting-stopped",
            "held",
            "launching",
            "mending",
            "new",
            "not-known",
            "paused",
            "paused-stalled",
            "primary-lost",
            "ready-change-pending",
            "ready-working",
            "realm-held-by-other",
            "spec-changed",
            "stalled",
            "stalled-before-change",
        ];
        let is_let_go = |object: &serde_json::Value| {
            let is_asked = object["metadata"]["deletionTimestamp"].is_string();
            object["metadata"]["name"] == "shop" && is_asked && object["spec"]["deletionPolicy"] == "Retain"
        };
        let histories = self.argo.judge_all(&seen.end(is_let_go)?, &states)?;
        let shop = &histories["default/shop"];
        assert_eq!(shop[..2], ["Progressing", "Healthy"], "{shop:?}");
        // A sync is given up over Degraded: nothing that mends itself may be.
        let mut lost = shop.iter().skip_while(|health| *health != "Degraded");
        ensure!(lost.all(|health| health == "Degraded" || health == "Progressing"), "{shop:?}");
        let is_ever =
            |name: &str, health: &str| histories[&format!("default/{name}")].iter().any(|seen| seen == health);
        ensure!(!is_ever("broken", "Healthy") && !is_ever("cracked", "Healthy"), "{histories:?}");
        Ok(())
    }

    /// Waits until Argo CD would say that, with these words among its message.
    pub fn judged(&self, set: &str, health: &str, words: &str) -> anyhow::Result<()> {
        let mut last = (String::new(), String::new());
        let waited = within(SOON, format!("{set} is {health}"), || {
            last = self.argo.judge(&self.admin.get_json(&[&format!("mrs/{set}")])?);
            Ok((last.0 == health && last.1.contains(words)).then_some(()))
        });
        waited.with_context(|| format!("{} {}", last.0, last.1))
    }
}
