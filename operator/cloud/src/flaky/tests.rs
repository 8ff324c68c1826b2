//! The wrapper over the fake: what reaches the cloud, what the caller is told, where a process ends.

use std::future::Future;

use drover_api::{ClientToken, bucket::ObjectKey};

use super::*;
use crate::{
    Machines, Objects,
    fake::{
        Fake,
        tests::{cloud, now, realm, request},
    },
    objects::Condition,
};

/// The three calls of a process: a read, a bucket write, a launch. Ends at the first error.
async fn work(cloud: &Flaky<Fake>, token: &str) -> Result<()> {
    Machines::list(cloud, &realm()).await?;
    cloud.put(&ObjectKey::raw(token), b"intent".to_vec(), Condition::Always).await?;
    let wanted = request(cloud.inner(), token);
    cloud.launch(&wanted).await.map(drop)
}

fn machines(cloud: &Fake) -> usize {
    now(Machines::list(cloud, &realm())).expect("the fake itself is well").len()
}

fn objects(cloud: &Fake) -> usize {
    now(Objects::list(cloud, "")).expect("the fake itself is well").len()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    now(future)
}

#[test]
fn without_odds_nothing_goes_wrong() {
    let cloud = Flaky::new(cloud(), Plan::new(1));
    assert_eq!(run(work(&cloud, "token")), Ok(()));
    let seen: Vec<(&str, Effect, Fate)> =
        cloud.plan().record().iter().map(|it| (it.call, it.effect, it.fate)).collect();
    let expected = [
        ("DescribeInstances", Effect::Reads, Fate::Answered(None)),
        ("PutObject", Effect::Mutates, Fate::Answered(None)),
        ("RunInstances", Effect::Mutates, Fate::Answered(None)),
    ];
    assert_eq!(seen, expected);
    assert_eq!((cloud.plan().calls(Counted::All), cloud.plan().calls(Counted::Mutating)), (3, 2));
    assert_eq!(cloud.plan().changes(), 2);
}

#[test]
fn every_crash_point_lies_on_its_side_of_the_call() {
    let table = [
        (Counted::All, 1, When::Before, 0, 0),
        (Counted::All, 1, When::After, 0, 0),
        (Counted::All, 2, When::Before, 0, 0),
        (Counted::All, 2, When::After, 1, 0),
        (Counted::All, 3, When::Before, 1, 0),
        (Counted::All, 3, When::After, 1, 1),
        (Counted::Mutating, 1, When::Before, 0, 0),
        (Counted::Mutating, 1, When::After, 1, 0),
        (Counted::Mutating, 2, When::Before, 1, 0),
        (Counted::Mutating, 2, When::After, 1, 1),
    ];
    for (counted, nth, when, put, launched) in table {
        let cloud = Flaky::new(cloud(), Plan::new(1));
        let point = Crash { nth, counted, when };
        cloud.plan().crash_at(point);
        let error = run(work(&cloud, "token")).expect_err("it crashes");
        assert_eq!(error.class, Class::Crashed);
        assert!(cloud.plan().crashed(), "{point:?}");
        assert_eq!((objects(cloud.inner()), machines(cloud.inner())), (put, launched), "{point:?}");

        assert_eq!(run(work(&cloud, "later")).expect_err("it is dead").class, Class::Crashed);
        assert_eq!((objects(cloud.inner()), machines(cloud.inner())), (put, launched), "nothing more is sent");

        let restarted = Flaky::new(cloud.inner().clone(), Plan::new(2));
        assert_eq!(run(work(&restarted, "token")), Ok(()));
        assert_eq!((objects(cloud.inner()), machines(cloud.inner())), (1, 1), "{point:?}: the same token, one machine");
    }
}

#[test]
fn a_crash_beyond_the_last_call_never_comes() {
    let cloud = Flaky::new(cloud(), Plan::new(1));
    cloud.plan().crash_at(Crash { nth: 4, counted: Counted::All, when: When::Before });
    assert_eq!(run(work(&cloud, "token")), Ok(()));
    assert!(!cloud.plan().crashed());
}

#[test]
fn a_call_under_way_when_the_process_ends_is_applied_and_not_answered() {
    let cloud = Flaky::new(cloud(), Plan::new(1));
    let plan = cloud.plan().clone();
    let answer = run(cloud.plan().pass("RunInstances", Effect::Mutates, async {
        plan.crash();
        Ok(())
    }));
    assert_eq!(answer.expect_err("the process is dead").class, Class::Crashed);
    assert_eq!(plan.record()[0].fate, Fate::CrashedAfter);
}

#[test]
fn a_lost_reply_was_applied_and_an_unsent_call_was_not() {
    let certain = |throttled, unsent, reply_lost| Odds { throttled, unsent, reply_lost };
    let table = [
        (certain(0, 0, 1000), Class::Transient, 1, Fate::ReplyLost),
        (certain(0, 1000, 0), Class::Transient, 0, Fate::NotSent),
        (certain(1000, 0, 0), Class::Throttled, 0, Fate::NotSent),
    ];
    for (odds, class, applied, fate) in table {
        let cloud = Flaky::new(cloud(), Plan::new(1));
        cloud.plan().set_odds(odds);
        let wanted = request(cloud.inner(), "token");
        let error = run(cloud.launch(&wanted)).expect_err("certain to fail");
        assert_eq!((error.class, machines(cloud.inner())), (class, applied), "{odds:?}");
        assert_eq!(cloud.plan().record()[0].fate, fate);
        assert_eq!(cloud.plan().changes(), applied);

        cloud.plan().set_odds(Odds::default());
        run(cloud.launch(&wanted)).expect("the faults have ended");
        assert_eq!(machines(cloud.inner()), 1, "the same token again makes no second machine");
    }
}

#[test]
fn a_seed_decides_what_goes_wrong_and_about_as_often_as_asked() {
    let fates = |seed| {
        let cloud = Flaky::new(cloud(), Plan::new(seed));
        cloud.plan().set_odds(Odds { throttled: 100, unsent: 200, reply_lost: 300 });
        let token = ClientToken::new("none").expect("a valid token");
        for _ in 0..2_000 {
            match run(cloud.find_by_token(&token)) {
                Ok(found) => assert!(found.is_empty()),
                Err(error) => assert!(error.message.starts_with("injected"), "{error}"),
            }
        }
        cloud.plan().record()
    };
    assert_eq!(fates(1), fates(1));
    assert_ne!(fates(1), fates(2));
    let made = fates(1);
    let share = |fate| made.iter().filter(|it| it.fate == fate).count() * 1000 / made.len();
    assert!((250..350).contains(&share(Fate::NotSent)), "{}", share(Fate::NotSent));
    assert!((250..350).contains(&share(Fate::ReplyLost)), "{}", share(Fate::ReplyLost));
}
