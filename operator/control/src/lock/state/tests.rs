//! Processes that take, lose, renew and give up the lock, at given times.

use super::*;

const LEASE: u64 = 30;
const CALL: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn id(text: &str) -> WriteId {
    WriteId::new(format!("write-id-{text}")).expect("a write id")
}

fn etag(text: &str) -> ETag {
    ETag(text.into())
}

fn process(name: &str) -> LockState {
    LockState::new(Challenger { process: id(name), holder: name.into(), lease: at(LEASE) })
}

fn lock(of: &str, write: &str, fence: u64) -> Lock {
    Lock {
        write_id: id(write),
        holder: of.into(),
        process: id(of),
        fence,
        lease_seconds: LEASE as u32,
        released: false,
    }
}

/// `a` holding fence 1 since a write sent at `sent`.
fn holder(sent: u64) -> LockState {
    let mut state = process("a");
    state.saw(Found::Nothing, at(sent));
    let Step::Write { lock, condition } = state.step(at(sent), id("1")) else {
        panic!("an absent lock is not taken");
    };
    assert_eq!((lock.fence, condition), (1, Condition::Absent));
    state.sending(&lock, at(sent));
    state.wrote(lock, etag("1"));
    state
}

#[test]
fn nothing_is_permitted_before_the_lock_is_ours() {
    let mut state = process("a");
    assert!(!state.permits(1, at(0), Duration::ZERO));
    state.saw(Found::Nothing, at(0));
    assert!(!state.permits(1, at(0), Duration::ZERO));
    state.saw(Found::Lock(lock("b", "9", 4), etag("9")), at(0));
    assert!(!state.permits(1, at(0), Duration::ZERO));
    assert_eq!(state.holding(), Holding::Other { holder: "b".into(), fence: 4 });
}

#[test]
fn a_call_is_permitted_only_when_its_deadline_ends_inside_the_lease() {
    let state = holder(100);
    for (now, permitted) in [(100, true), (119, true), (120, false), (130, false), (4000, false)] {
        assert_eq!(state.permits(1, at(now), CALL), permitted, "at {now} s");
    }
}

#[test]
fn the_holder_renews_at_a_third_and_the_lease_counts_from_before_the_write() {
    let mut state = holder(100);
    assert_eq!(state.step(at(109), id("2")), Step::Rest);
    let Step::Write { lock, condition } = state.step(at(110), id("2")) else {
        panic!("no renewal at a third");
    };
    assert_eq!((lock.fence, condition), (1, Condition::Unchanged(etag("1"))));
    state.sending(&lock, at(110));
    // The reply takes 8 s; the lease does not begin with it.
    state.wrote(lock, etag("2"));
    assert!(state.permits(1, at(129), CALL));
    assert!(!state.permits(1, at(130), CALL));
}

#[test]
fn a_renewal_without_an_answer_keeps_the_old_lease_and_reads_first() {
    let mut state = holder(100);
    let renewal = lock("a", "2", 1);
    state.sending(&renewal, at(110));
    state.lost();
    assert_eq!(state.step(at(111), id("3")), Step::Read);
    assert!(state.permits(1, at(119), CALL) && !state.permits(1, at(120), CALL));
    // The read shows that it was applied: the lease counts from its sending.
    state.saw(Found::Lock(renewal, etag("2")), at(115));
    assert!(state.permits(1, at(129), CALL) && !state.permits(1, at(130), CALL));
}

#[test]
fn a_challenger_waits_a_full_lease_from_when_it_saw_the_object() {
    let mut state = process("b");
    let theirs = lock("a", "1", 7);
    state.saw(Found::Lock(theirs.clone(), etag("1")), at(50));
    assert_eq!(state.step(at(79), id("x")), Step::Read);
    // Seen again unchanged: the wait goes on from the first sight.
    state.saw(Found::Lock(theirs, etag("1")), at(79));
    let Step::Write { lock, condition } = state.step(at(80), id("x")) else {
        panic!("not taken after a full lease");
    };
    assert_eq!((lock.fence, condition), (8, Condition::Unchanged(etag("1"))));
}

#[test]
fn a_renewal_seen_in_time_starts_the_wait_anew() {
    let mut state = process("b");
    state.saw(Found::Lock(lock("a", "1", 7), etag("1")), at(50));
    state.saw(Found::Lock(lock("a", "2", 7), etag("2")), at(79));
    assert_eq!(state.step(at(108), id("x")), Step::Read);
    assert!(matches!(state.step(at(109), id("x")), Step::Write { .. }));
}

#[test]
fn a_released_lock_is_taken_at_once_under_the_next_fence() {
    let mut state = holder(100);
    let (released, unchanged) = state.release(id("2")).expect("ours");
    assert_eq!(unchanged, etag("1"));
    state.sending(&released, at(101));
    state.wrote(released.clone(), etag("2"));
    assert!(!state.permits(1, at(101), Duration::ZERO), "acts after giving the lock up");
    let mut other = process("b");
    other.saw(Found::Lock(released, etag("2")), at(102));
    let Step::Write { lock, .. } = other.step(at(102), id("x")) else {
        panic!("a released lock is waited for");
    };
    assert_eq!(lock.fence, 2);
}

#[test]
fn an_earlier_process_of_the_same_host_is_another_holder() {
    let mut state = process("a2");
    state.saw(Found::Lock(lock("a", "1", 3), etag("1")), at(0));
    assert!(matches!(state.holding(), Holding::Other { fence: 3, .. }));
}

#[test]
fn a_lease_that_lapsed_untaken_is_renewed_under_its_fence() {
    let mut state = holder(100);
    assert_eq!(state.step(at(500), id("2")), Step::Read, "writes without having looked");
    state.saw(Found::Lock(lock("a", "1", 1), etag("1")), at(500));
    assert!(!state.permits(1, at(500), Duration::ZERO), "a read is no renewal");
    let Step::Write { lock, .. } = state.step(at(500), id("2")) else {
        panic!("not renewed");
    };
    assert_eq!(lock.fence, 1);
    state.sending(&lock, at(500));
    state.lost();
    assert!(!state.permits(1, at(500), Duration::ZERO), "an expired lease permits");
    state.saw(Found::Lock(super::tests::lock("b", "7", 2), etag("7")), at(501));
    assert!(matches!(state.holding(), Holding::Other { fence: 2, .. }));
}

#[test]
fn a_lock_that_was_another_s_in_between_permits_nothing_that_was_decided_before() {
    let mut state = holder(100);
    state.saw(Found::Lock(Lock { released: true, ..lock("b", "7", 2) }, etag("7")), at(150));
    let Step::Write { lock, .. } = state.step(at(150), id("3")) else {
        panic!("a released lock is waited for");
    };
    state.sending(&lock, at(150));
    state.wrote(lock, etag("8"));
    assert!(state.permits(3, at(151), CALL));
    assert!(!state.permits(1, at(151), CALL), "a plan of the first fence goes on under the third");
}

#[test]
fn a_higher_fence_at_an_agent_stops_everything_until_the_lock_was_read() {
    let mut state = holder(100);
    state.doubt(2);
    assert!(!state.permits(1, at(101), Duration::ZERO));
    assert_eq!(state.step(at(101), id("2")), Step::Read);
    // Another holds it.
    state.saw(Found::Lock(lock("b", "7", 2), etag("7")), at(101));
    assert!(matches!(state.holding(), Holding::Other { fence: 2, .. }));
}

#[test]
fn a_lock_that_is_ours_and_outranked_by_what_agents_have_taken_is_raised_above_it() {
    for taken in [1, 7] {
        let mut state = holder(100);
        state.doubt(taken);
        state.saw(Found::Lock(lock("a", "1", 1), etag("1")), at(101));
        let Step::Write { lock: raised, condition } = state.step(at(101), id("2")) else {
            panic!("not raised above {taken}");
        };
        assert_eq!((raised.fence, condition), (taken + 1, Condition::Unchanged(etag("1"))));
        state.sending(&raised, at(101));
        state.wrote(raised, etag("2"));
        assert!(matches!(state.holding(), Holding::Us { fence, .. } if fence == taken + 1));
        assert_eq!(state.step(at(102), id("3")), Step::Rest);
    }
}

#[test]
fn a_removed_lock_is_waited_out_and_goes_on_above_every_number_that_was_seen() {
    let mut state = process("b");
    state.saw(Found::Lock(lock("a", "1", 6), etag("1")), at(0));
    state.saw(Found::Removed, at(10));
    assert_eq!(state.step(at(39), id("x")), Step::Read);
    state.saw(Found::Removed, at(39));
    assert_eq!(state.waits(at(39)), Some(at(1)));
    assert!(
        matches!(state.step(at(40), id("x")), Step::Write { lock, condition: Condition::Absent } if lock.fence == 7)
    );
    // Its holder put it back meanwhile.
    state.saw(Found::Lock(lock("a", "2", 7), etag("2")), at(40));
    assert_eq!(state.step(at(69), id("x")), Step::Read);
}

#[test]
fn a_holder_whose_lock_is_removed_puts_it_back_at_once_while_its_lease_lasts() {
    for (now, at_once) in [(111, true), (131, false)] {
        let mut state = holder(100);
        state.lost();
        state.saw(Found::Removed, at(now));
        assert!(!state.permits(1, at(now), Duration::ZERO));
        let step = state.step(at(now), id("2"));
        let put_back = matches!(&step, Step::Write { lock, condition: Condition::Absent } if lock.fence == 2);
        assert_eq!(put_back, at_once, "{step:?}");
    }
}

#[test]
fn only_orders_of_others_outrank() {
    let accepted = |fence, seq| Accepted { fence, epoch: drover_api::Epoch(1), seq, digest: String::new() };
    for (taken, expected) in [
        (vec![], None),
        (vec![accepted(3, 5), accepted(2, 90)], None),
        (vec![accepted(3, 6)], Some(3)),
        (vec![accepted(4, 1), accepted(7, 2), accepted(3, 1)], Some(7)),
    ] {
        assert_eq!(outranked_by(taken.iter(), 3, 5), expected, "{taken:?}");
    }
}
