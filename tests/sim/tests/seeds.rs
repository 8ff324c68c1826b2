//! Histories from seeds: everything that can go wrong, goes wrong for a while, and then the world must come to rest as
//! declared. `DROVER_SEED=n cargo test -p drover-sim seeds` runs one seed alone.

use std::{collections::BTreeSet, time::Duration};

use drover_api::{InstanceId, ResourceKey, Slot};
use drover_cloud::{
    ec2::{Credentials, NoCapacity, Throttling},
    fake::BucketFault,
    flaky::{Counted, Crash, Odds, When},
};
use drover_sim::{
    Declared, Process, Sim, World, each,
    laws::{BUSY, converge, delete, slots},
};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

const SEEDS: u64 = 200;
/// How long things go wrong, and how long the world then has to come to rest: five minutes of asking after a launch whose
/// outcome is not known, five of absence for a machine that is gone, a replacement, and all of it twice.
const TROUBLE: Duration = Duration::from_secs(12 * 60);
const LIMIT: Duration = Duration::from_secs(45 * 60);

#[test]
fn seeds_with_everything_going_wrong_come_to_rest_as_declared() {
    run_all(|seed| History::new(seed).everything());
}

#[test]
fn seeds_with_lost_replies_converge_while_they_last() {
    run_some(|history| history.odds = Odds { throttled: 0, unsent: 30, reply_lost: 150 });
}

#[test]
fn seeds_with_throttling_converge_while_it_lasts() {
    run_some(|history| {
        history.odds = Odds { throttled: 200, unsent: 0, reply_lost: 0 };
        history.cloud(|world| world.ec2.faults().throttling = Throttling::Buckets);
    });
}

#[test]
fn seeds_without_capacity_for_a_type_in_one_zone_converge_while_it_lasts() {
    run_some(|history| {
        let zone = ["eu-test-1a", "eu-test-1b", "eu-test-1c"].choose(&mut history.rng).expect("three").to_string();
        let refused = NoCapacity { zone: Some(zone), instance_type: Some("m7g.large".into()) };
        history.cloud(|world| world.ec2.faults().no_capacity = vec![refused]);
    });
}

#[test]
fn seeds_with_a_visibility_lag_of_a_minute_converge_while_it_lasts() {
    run_some(|history| history.cloud(|world| world.ec2.faults().visibility_lag = Duration::from_secs(60)));
}

#[test]
fn seeds_with_all_four_at_once_converge_while_they_last() {
    run_some(|history| {
        history.odds = Odds { throttled: 60, unsent: 20, reply_lost: 60 };
        let refused = NoCapacity { zone: Some("eu-test-1b".into()), instance_type: Some("m7g.large".into()) };
        history.cloud(|world| {
            world.ec2.faults().throttling = Throttling::Buckets;
            world.ec2.faults().no_capacity = vec![refused];
            world.ec2.faults().visibility_lag = Duration::from_secs(60);
        });
    });
}

/// Their law holds in every history too.
const USERS: &str = "databases: {shop: {}}, users: {app: {database: shop, access: ReadWrite}, report: {database: shop, access: ReadOnly}}";

#[expect(clippy::disallowed_methods, reason = "a test is the edge")]
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("DROVER_SEED") {
        Ok(seed) => vec![seed.parse().expect("DROVER_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

fn run_all(run: impl Fn(u64) + Sync) {
    each(&seeds(SEEDS), |seed| format!("DROVER_SEED={seed}"), |seed| run(*seed));
}

/// One set, one kind of trouble that goes on, and it converges nevertheless.
fn run_some(trouble: impl Fn(&mut History) + Sync) {
    each(
        &seeds(SEEDS),
        |seed| format!("DROVER_SEED={seed}"),
        |seed| {
            let mut history = History::new(*seed);
            trouble(&mut history);
            history.process.faults.set_odds(history.odds);
            let wanted = history.wanted();
            converge(&history.sim, &mut history.process, &wanted, LIMIT);
        },
    );
}

/// One history under way.
struct History {
    sim: Sim,
    rng: ChaCha8Rng,
    sets: Vec<Declared>,
    process: Process,
    build: char,
    odds: Odds,
    /// What is to be undone, and when: by the number of steps from the beginning.
    mends: Vec<(u32, Mend)>,
    step: u32,
    /// Machines that a person stopped, and starts again.
    stopped: Vec<InstanceId>,
}

/// The end of a trouble.
type Mend = Box<dyn FnOnce(&mut World)>;

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sim = Sim::new(seed);
        let members = *[1, 3, 3, 3, 5].choose(&mut rng).expect("not empty");
        let shop = Declared::new("shop", members, rng.random_range(0..=2));
        let mut sets = vec![Declared { clients: USERS, ..shop }];
        if rng.random_range(0..4) == 0 {
            sets.push(Declared::new("till", 1, rng.random_range(0..=1)));
        }
        let process = Process::start(&sim, 'a');
        let mut history = Self {
            sim,
            rng,
            sets,
            process,
            build: 'a',
            odds: Odds::default(),
            mends: Vec::new(),
            step: 0,
            stopped: Vec::new(),
        };
        history.declare();
        history
    }

    fn declare(&mut self) {
        let intents = self.sets.iter().flat_map(Declared::intents).collect();
        self.process.operator.declare(intents, vec![]);
    }

    fn wanted(&self) -> Vec<(ResourceKey, Vec<Slot>)> {
        self.sets.iter().map(|set| (set.key(), slots(set.members, set.readers))).collect()
    }

    fn cloud(&self, change: impl FnOnce(&mut drover_cloud::fake::World)) {
        self.sim.lock().fake.clone().look(change);
    }

    fn everything(mut self) {
        self.odds = Odds {
            throttled: self.rng.random_range(0..80),
            unsent: self.rng.random_range(0..40),
            reply_lost: self.rng.random_range(0..80),
        };
        self.process.faults.set_odds(self.odds);
        let (lag, orders_lost) = (self.rng.random_range(0..60), self.rng.random_range(0..100));
        self.cloud(|world| world.ec2.faults().visibility_lag = Duration::from_secs(lag));
        self.sim.lock().orders_lost = orders_lost;
        for step in 0..u32::try_from(TROUBLE.as_secs() / BUSY.as_secs()).expect("a few hundred") {
            self.step = step;
            self.mend(|due| due <= step);
            if self.rng.random_range(0..30) == 0 {
                self.start_stopped();
            }
            if self.rng.random_range(0..10) == 0 {
                self.trouble();
            }
            self.process.pass();
            self.sim.lock().check();
            if self.process.faults.crashed() {
                self.restart();
            }
            self.sim.advance(BUSY);
        }
        self.come_to_rest();
    }

    fn mend(&mut self, is_due: impl Fn(u32) -> bool) {
        let (due, later) = std::mem::take(&mut self.mends).into_iter().partition(|(at, _)| is_due(*at));
        self.mends = later;
        let due: Vec<(u32, Mend)> = due;
        for (_, mend) in due {
            mend(&mut self.sim.lock());
        }
    }

    fn come_to_rest(mut self) {
        self.mend(|_| true);
        self.odds = Odds::default();
        self.process.faults.set_odds(self.odds);
        // A crash that has not come yet never comes.
        self.process.faults.crash_at(Crash { nth: 0, counted: Counted::All, when: When::Before });
        self.cloud(|world| {
            *world.ec2.faults() = Default::default();
            world.bucket.set_fault(None);
        });
        self.sim.lock().orders_lost = 0;
        // Stopping takes half a minute.
        self.sim.advance(Duration::from_secs(60));
        self.start_stopped();
        let wanted = self.wanted();
        converge(&self.sim, &mut self.process, &wanted, LIMIT);
        if self.rng.random_range(0..4) == 0 {
            delete(&self.sim, &mut self.process, &self.sets[0].key(), LIMIT);
        }
    }

    fn start_stopped(&mut self) {
        let mut world = self.sim.lock();
        self.stopped.retain(|id| !world.start_if_stopped(id));
    }

    fn restart(&mut self) {
        self.process = Process::start(&self.sim, self.build);
        self.process.faults.set_odds(self.odds);
        self.declare();
    }

    fn trouble(&mut self) {
        match self.rng.random_range(0..16) {
            0 | 1 => {
                let when = *[When::Before, When::After].choose(&mut self.rng).expect("two");
                let nth = self.process.faults.calls(Counted::All) + self.rng.random_range(1..30);
                self.process.faults.crash_at(Crash { nth, counted: Counted::All, when });
            }
            2 => {
                // Ended in order, and started as another build. A lock that could not be given up ends by itself.
                let _released = self.process.release();
                self.build = *['a', 'b', 'c'].choose(&mut self.rng).expect("three");
                self.restart();
            }
            3 => self.scale(),
            4 => {
                let edited = self.sets.swap_remove(0).edited();
                self.sets.insert(0, edited);
                self.declare();
            }
            5 => self.cloud_fault(|world| world.fake.look(|it| it.ec2.faults().credentials = Credentials::Revoked)),
            6 => self.cloud_fault(|world| {
                world.fake.look(|it| it.ec2.faults().zone_outages = BTreeSet::from(["eu-test-1a".to_owned()]));
            }),
            7 => self.cloud_fault(|world| world.fake.look(|it| it.bucket.set_fault(Some(BucketFault::Unavailable)))),
            8 => self.cloud_fault(|world| {
                let refused = NoCapacity { zone: Some("eu-test-1c".into()), instance_type: None };
                world.fake.look(|it| it.ec2.faults().no_capacity = vec![refused]);
            }),
            _ => self.machine_trouble(),
        }
    }

    fn scale(&mut self) {
        let readers = self.rng.random_range(0..=3);
        let at = self.rng.random_range(0..self.sets.len());
        let set = &mut self.sets[at];
        set.readers = readers;
        set.generation += 1;
        self.declare();
    }

    /// A fault of the cloud, and its end after a while.
    fn cloud_fault(&mut self, begin: impl FnOnce(&mut World)) {
        begin(&mut self.sim.lock());
        let end = |world: &mut World| {
            world.fake.look(|it| {
                it.ec2.faults().credentials = Credentials::Valid;
                it.ec2.faults().zone_outages.clear();
                it.ec2.faults().no_capacity.clear();
                it.bucket.set_fault(None);
            });
        };
        self.mend_later(end);
    }

    fn mend_later(&mut self, mend: impl FnOnce(&mut World) + 'static) {
        let after = self.rng.random_range(5..60);
        self.mends.push((self.step + after, Box::new(mend)));
    }

    fn machine_trouble(&mut self) {
        let mut world = self.sim.lock();
        let running = world.running();
        let Some(id) = running.choose(&mut self.rng).cloned() else { return };
        // Before failover exists, a set of several whose leader died stays closed for good.
        let may_die = world.may_lose(&id);
        let what = self.rng.random_range(0..8);
        match what {
            0 => world.kill_agent(&id),
            1 => world.machine(&id).silent = true,
            2 => world.machine(&id).cut = true,
            3 | 4 if may_die => world.kill_mysqld(&id),
            5 if may_die => world.terminate(&id),
            6 if may_die => world.reboot(&id),
            7 if may_die => world.stop(&id),
            _ => world.kill_agent(&id),
        }
        drop(world);
        match what {
            1 | 2 => self.mend_later(move |world| {
                if let Some(machine) = world.machines.get_mut(&id) {
                    (machine.silent, machine.cut) = (false, false);
                }
            }),
            7 if may_die => self.stopped.push(id),
            _ => {}
        }
    }
}
