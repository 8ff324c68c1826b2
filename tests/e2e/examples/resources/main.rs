//! 2,000 MySQLReplicaSets on a real API server, kept by the real operator's loop, watches, publisher and election, with the cloud in
//! memory and the simulator's agents behind it, in real time. Figures only; nothing here fails by being slow. Run by `make bench`.
//!
//!   resources [SETS] [SECONDS]    how many sets, and how long they are looked at while nothing happens

mod cost;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use drover_api::{defaults::Terms, set::MySQLReplicaSet};
use drover_control::{
    kubernetes::{Cluster, client::client, election::Ballot},
    metrics::Metrics,
    run::{Intents, Running, Surroundings, run_in},
};
use drover_e2e::{Access, AuditEntry, ControlPlane, within};
use drover_sim::{Declared, Parts, Sim};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Config,
    api::{ApiResource, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::DynamicObject,
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/drover");
const SETS: usize = 2_000;
const REST: Duration = Duration::from_secs(120);
/// Longer than anything that is written late: words of a status wait for ten seconds.
const SETTLED: Duration = Duration::from_secs(20);
const CREATE_MAX: Duration = Duration::from_secs(600);
/// Requests at the same time, of whoever creates the resources and of the peer; the operator's publisher makes as many.
const AT_ONCE: usize = 8;
const CHANGES: usize = 5;
/// The operator's tasks end at their next wait.
const END_MAX: Duration = Duration::from_secs(10);
/// The threads of the operator's runtime.
const OPERATOR: &str = "operator";
/// The thread in which machines, agents and mysqlds live.
const WORLD: &str = "world";
const USER: &str = "system:serviceaccount:drover:drover";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).map(|word| word.parse::<usize>()).transpose();
    let sets = number(0)?.unwrap_or(SETS);
    let rest = number(1)?.map_or(REST, |seconds| Duration::from_secs(seconds as u64));
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let dir = tempfile::tempdir()?;
    let plane = ControlPlane::up(dir.path())?;
    let bench = Bench::begin(&plane, dir.path(), sets)?;
    bench.launch()?;
    let rested = bench.rest(rest)?;
    // Before anything of this process that would not be there but for the measuring: a list of everything, the audit log.
    bench.memory()?;
    bench.change()?;
    bench.audited(&rested)?;
    bench.peers()
}

struct Bench<'a> {
    plane: &'a ControlPlane,
    sets: usize,
    sim: Sim,
    metrics: Arc<Metrics>,
    /// Of the operator alone.
    operator: Option<Runtime>,
    /// For what is done beside it.
    own: Runtime,
    api: Api<DynamicObject>,
}

impl<'a> Bench<'a> {
    /// The chart and an operator that has nothing to do yet.
    fn begin(plane: &'a ControlPlane, dir: &Path, sets: usize) -> anyhow::Result<Self> {
        let values = "realm=test,bucket=drover,replicas=0";
        let place = ["install", "drover", CHART, "--namespace", "drover", "--create-namespace", "--set", values];
        plane.admin.helm(&place)?;
        let crd = "crd/mysqlreplicasets.drover.dev";
        plane.admin.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", crd])?;
        let sim = Sim::new(1);
        sim.lock().tick = Duration::from_secs(5);
        live(&sim)?;
        let metrics = Arc::new(Metrics::default());
        let (operator, own) = (runtime(OPERATOR)?, runtime("bench")?);
        let access = plane.service_account("drover", "drover")?;
        let config = operator.block_on(reached(&access))?;
        let client_of_operator = {
            let _entered = operator.enter();
            client(config, &metrics)?
        };
        let Parts { cloud, agents, clock, entropy, config, .. } = Parts::new(&sim, 'a');
        let ballot = Ballot {
            namespace: "drover".into(),
            name: "drover".into(),
            identity: "bench".into(),
            duration: Duration::from_secs(15),
        };
        let running = Running {
            operator: config,
            intents: Intents::Kubernetes(Box::new(Cluster { client: client_of_operator, namespaces: vec![], ballot })),
            terms: Terms::default(),
            state: dir.join("state"),
            listen: None,
            metrics: Arc::clone(&metrics),
        };
        let surroundings = Surroundings { clock, entropy, agents: Box::new(|_| agents) };
        operator.spawn(async move {
            let ended = run_in(surroundings, Arc::new(cloud), running).await;
            eprintln!("the operator has ended: {ended:?}");
        });
        let admin = own.block_on(reached(&plane.admin))?;
        let client = {
            let _entered = own.enter();
            kube::Client::try_from(admin)?
        };
        let api = Api::namespaced_with(client, "default", &ApiResource::erase::<MySQLReplicaSet>(&()));
        Ok(Self { plane, sets, sim, metrics, operator: Some(operator), own, api })
    }

    /// Creates the resources and waits until each of them says that it is ready.
    fn launch(&self) -> anyhow::Result<()> {
        let before = self.used()?;
        let clock = now();
        let objects = (0..self.sets).map(|n| object(&Declared::new(&format!("set-{n}"), 1, 0)));
        let objects: Vec<DynamicObject> = objects.collect::<anyhow::Result<_>>()?;
        self.own.block_on(async {
            let created = stream::iter(
                objects.iter().map(|object| async { self.api.create(&PostParams::default(), object).await.map(drop) }),
            );
            created.buffer_unordered(AT_ONCE).try_collect::<()>().await
        })?;
        let created = clock.elapsed();
        within(CREATE_MAX, "the operator has every set ready", || {
            Ok((self.operator_has_ready() == self.sets).then_some(()))
        })?;
        within(CREATE_MAX, "every set is ready", || Ok((self.ready()? == self.sets).then_some(())))?;
        let ready = clock.elapsed();
        let after = self.used()?;
        println!("{} resources, each a set of one machine", self.sets);
        println!(
            "created in {:.0} s with {AT_ONCE} requests at a time, all ready {:.0} s after the first",
            secs(created),
            secs(ready)
        );
        println!("until then:");
        after.minus(&before).print(None, self.sets);
        Ok(())
    }

    /// What is used while nothing happens.
    fn rest(&self, rest: Duration) -> anyhow::Result<Rested> {
        self.settle()?;
        let (from, before, clock) = (stamp(), self.used()?, now());
        within(rest * 2, "the time of rest is over", || Ok((clock.elapsed() >= rest).then_some(())))?;
        let (after, minutes, until) = (self.used()?, secs(clock.elapsed()) / 60.0, stamp());
        println!("at rest, {minutes:.1} min:");
        after.minus(&before).print(Some(minutes), self.sets);
        Ok(Rested { from, until, minutes })
    }

    /// What the API server says of that time.
    fn audited(&self, rested: &Rested) -> anyhow::Result<()> {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let is_then = |entry: &AuditEntry| entry.received > rested.from && entry.received < rested.until;
        for entry in self.plane.audit()?.into_iter().filter(|entry| entry.user == USER && is_then(entry)) {
            *seen.entry(format!("{} {}", entry.verb, entry.resource)).or_default() += 1;
        }
        println!("at rest by the API server's audit log, per minute:");
        for (what, count) in seen {
            println!("  {what}: {:.1}", count as f64 / rested.minutes);
        }
        Ok(())
    }

    /// Until nothing is written any more.
    fn settle(&self) -> anyhow::Result<()> {
        let writes = || -> u64 {
            let requests = requests(&self.metrics);
            requests
                .iter()
                .filter(|(method, _)| ["PATCH", "POST"].contains(&method.as_str()))
                .map(|(_, count)| count)
                .sum()
        };
        let (mut known, mut since) = (writes(), now());
        within(CREATE_MAX, "nothing is written any more", || {
            if writes() != known {
                (known, since) = (writes(), now());
            }
            Ok((since.elapsed() > SETTLED).then_some(()))
        })
    }

    /// One resource is changed: how long until its status says so.
    fn change(&self) -> anyhow::Result<()> {
        let mut took = Vec::new();
        for n in 0..CHANGES {
            let name = format!("set-{}", n * self.sets / CHANGES);
            let clock = now();
            let patch = Patch::Merge(json!({ "spec": { "paused": true } }));
            let written = self.own.block_on(self.api.patch(&name, &PatchParams::default(), &patch))?;
            let generation = written.metadata.generation;
            within(Duration::from_secs(60), "the status says that it is suspended", || {
                let found = self.own.block_on(self.api.get(&name))?;
                let status = &found.data["status"];
                let is_seen = status["observedGeneration"].as_i64() == generation && condition(status, "Suspended");
                Ok(is_seen.then_some(()))
            })?;
            took.push(secs(clock.elapsed()));
        }
        took.sort_by(f64::total_cmp);
        println!(
            "one resource changed, {CHANGES} times: its status says so after {:.1} s, at most {:.1} s (looked at every 0.1 s)",
            took[CHANGES / 2],
            took[CHANGES - 1]
        );
        Ok(())
    }

    /// The process holds the simulated world too: how much that is, copies of it say.
    fn memory(&self) -> anyhow::Result<()> {
        let (resting, peak) = (cost::memory_mib("self", "VmRSS")?, cost::memory_mib("self", "VmHWM")?);
        let mut copies = Vec::new();
        let mut sizes = vec![resting];
        for _ in 0..3 {
            copies.push(self.sim.lock().fork());
            sizes.push(cost::memory_mib("self", "VmRSS")?);
        }
        // The first copies fill what was given back and not returned to the kernel.
        let world = sizes[3] - sizes[2];
        println!(
            "memory at rest: {resting:.0} MiB, {:.0} without the simulated cloud, machines and mysqlds",
            resting - world
        );
        println!("  peak: {peak:.0} MiB with them");
        for (name, process) in self.plane.processes() {
            println!("  beside it: {name} {:.0} MiB", cost::memory_mib(&process.to_string(), "VmRSS")?);
        }
        Ok(())
    }

    /// What others would cost: the floor, and a controller that writes each status in each interval. Without the operator, which
    /// would write back what is right.
    fn peers(mut self) -> anyhow::Result<()> {
        if let Some(operator) = self.operator.take() {
            operator.shutdown_timeout(END_MAX);
        }
        let api = |clock: Instant, before: Duration| -> anyhow::Result<(f64, f64)> {
            Ok((secs(clock.elapsed()), secs(self.cpu_of_api()?.saturating_sub(before))))
        };
        let (clock, before) = (now(), self.cpu_of_api()?);
        let objects = self.list()?;
        let (took, cpu) = api(clock, before)?;
        println!("for comparison, one list of them all: {took:.2} s, {cpu:.2} s of CPU in API server and etcd");
        let (clock, before) = (now(), self.cpu_of_api()?);
        let params = PatchParams::apply("bench").force();
        let written = self.own.block_on(async {
            let writes = stream::iter(objects.iter().map(|object| async {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                let set = ApiResource::erase::<MySQLReplicaSet>(&());
                let mut status = object.data["status"].clone();
                // What a clock in the status makes of it.
                status["version"] = json!("9.7.5");
                let body = json!({ "apiVersion": set.api_version, "kind": set.kind, "metadata": { "name": name }, "status": status });
                self.api.patch_status(name, &params, &Patch::Apply(body)).await.map(drop)
            }));
            writes.buffer_unordered(AT_ONCE).try_collect::<()>().await
        });
        written?;
        let (took, cpu) = api(clock, before)?;
        println!(
            "  and each status written once, as by who keeps a time in it: {} requests, {took:.1} s, {cpu:.1} s of CPU there",
            objects.len()
        );
        Ok(())
    }

    fn list(&self) -> anyhow::Result<Vec<DynamicObject>> {
        Ok(self.own.block_on(self.api.list(&ListParams::default()))?.items)
    }

    /// By their statuses; read by another process, whose memory is not ours.
    fn ready(&self) -> anyhow::Result<usize> {
        let each = r#"jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let told = self.plane.admin.kubectl(&["get", "mrs", "-o", each])?;
        Ok(told.lines().filter(|line| *line == "True").count())
    }

    /// By its own metrics.
    fn operator_has_ready(&self) -> usize {
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix("drover_sets{state=\"ready\"} "));
        line.and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    fn cpu_of_api(&self) -> anyhow::Result<Duration> {
        let ours = self.plane.processes().into_iter().filter(|(name, _)| *name != "kube-controller-manager");
        ours.map(|(_, process)| cost::cpu_of(process)).sum()
    }

    fn used(&self) -> anyhow::Result<Used> {
        let beside = self.plane.processes().into_iter().map(|(name, process)| Ok((name, cost::cpu_of(process)?)));
        Ok(Used {
            operator: cost::cpu_of_threads(OPERATOR)?,
            world: cost::cpu_of_threads(WORLD)?,
            beside: beside.collect::<anyhow::Result<_>>()?,
            requests: requests(&self.metrics),
        })
    }
}

/// A time at rest, as the audit log writes times.
struct Rested {
    from: String,
    until: String,
    minutes: f64,
}

/// What was used so far.
struct Used {
    operator: Duration,
    world: Duration,
    beside: Vec<(&'static str, Duration)>,
    requests: BTreeMap<String, u64>,
}

impl Used {
    fn minus(&self, before: &Self) -> Self {
        let beside = self.beside.iter().zip(&before.beside);
        let was = |method: &String| before.requests.get(method).copied().unwrap_or_default();
        Self {
            operator: self.operator.saturating_sub(before.operator),
            world: self.world.saturating_sub(before.world),
            beside: beside.map(|((name, now), (_, then))| (*name, now.saturating_sub(*then))).collect(),
            requests: self.requests.iter().map(|(method, count)| (method.clone(), count - was(method))).collect(),
        }
    }

    /// All of it, or of a minute.
    fn print(&self, minutes: Option<f64>, sets: usize) {
        let (over, per) = minutes.map_or((1.0, ""), |minutes| (minutes, " per minute"));
        println!(
            "  CPU{per}: operator {:.2} s; beside it {}, the simulated world {:.2} s",
            secs(self.operator) / over,
            self.beside
                .iter()
                .map(|(name, cpu)| format!("{name} {:.2} s", secs(*cpu) / over))
                .collect::<Vec<_>>()
                .join(", "),
            secs(self.world) / over
        );
        let all: u64 = self.requests.values().sum();
        let by_method: Vec<String> =
            self.requests.iter().map(|(method, count)| format!("{method} {:.1}", *count as f64 / over)).collect();
        let each = if minutes.is_none() { format!(", {:.1} per set", all as f64 / sets as f64) } else { String::new() };
        println!("  requests to the API server{per}: {:.1}{each} ({})", all as f64 / over, by_method.join(", "));
    }
}

/// `rest_client_requests_total` by method.
fn requests(metrics: &Metrics) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for line in metrics.text().lines().filter(|line| line.starts_with("rest_client_requests_total{")) {
        let method = line.split("method=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let count: u64 = line.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
        *all.entry(method.to_owned()).or_default() += count;
    }
    all
}

fn object(set: &Declared) -> anyhow::Result<DynamicObject> {
    let value: Value = serde_saphyr::from_str(&set.manifest())?;
    Ok(serde_json::from_value(value)?)
}

fn condition(status: &Value, kind: &str) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// From now on the world's time passes as ours does.
fn live(sim: &Sim) -> anyhow::Result<()> {
    let sim = sim.clone();
    let live = move || {
        let mut last = now();
        loop {
            pause();
            let at = now();
            sim.advance(at - last);
            last = at;
        }
    };
    thread::Builder::new().name(WORLD.into()).spawn(live).context("a thread")?;
    Ok(())
}

fn runtime(name: &str) -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(2).thread_name(name).enable_all().build()?)
}

async fn reached(access: &Access) -> anyhow::Result<Config> {
    let kubeconfig = Kubeconfig::read_from(&access.kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "real time is what is measured here")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "compared with the API server's own, of the same host")]
fn stamp() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[expect(clippy::disallowed_methods, reason = "the pace of the simulated world")]
fn pause() {
    thread::sleep(Duration::from_millis(20));
}
