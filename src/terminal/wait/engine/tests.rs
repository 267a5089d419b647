//! Waits without a box: what is seen, what time it is, and what comes of it.

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::guest::Condition;

const HOUR: u64 = 3600;

fn at(awake_s: u64, suspended_s: u64) -> Reading {
    let total = Duration::from_secs(awake_s + suspended_s);
    Reading {
        wall: "2026-11-22T22:00:00Z".parse::<jiff::Timestamp>().expect("a timestamp") + total,
        monotonic: Duration::from_secs(awake_s),
        since_boot: total,
    }
}

fn jobs(numbers: &[u32]) -> BTreeSet<JobId> {
    numbers.iter().copied().map(JobId).collect()
}

fn spec(conditions: Vec<WaitFor>) -> WaitSpec {
    WaitSpec { conditions, problems: true, any_end: true, ..WaitSpec::default() }
}

/// What came of a wait in which this was seen, at the start.
fn after(spec: &WaitSpec, seen: &[Seen]) -> Option<Fired> {
    let mut engine = Engine::new(spec, at(0, 0));
    for seen in seen {
        engine.see(seen.clone(), &at(1, 0));
    }
    engine.fired().cloned()
}

fn ended(job: u32, code: i32) -> Seen {
    Seen::Ended(JobId(job), Some(Exit::Code(code)))
}

#[test]
fn the_first_thing_that_happens_ends_a_wait() {
    let spec = spec(vec![WaitFor::AnyEnd(jobs(&[1, 2]))]);
    let fired = after(&spec, &[ended(2, 3), ended(1, 0)]).expect("one has ended");
    assert_eq!((fired.cause, fired.job, fired.failed), (WakeCause::Condition, Some(JobId(2)), true));
}

#[test]
fn without_a_name_any_job_counts_and_with_one_only_that() {
    assert_eq!(after(&spec(vec![]), &[ended(7, 0)]).map(|fired| fired.cause), Some(WakeCause::JobEnded));
    let port = || WaitFor::Seen(Condition::Port { host: "h".to_owned(), port: 1 });
    assert_eq!(after(&spec(vec![port()]), &[ended(7, 0)]).map(|fired| fired.cause), Some(WakeCause::JobEnded));
    let quiet = WaitSpec { any_end: false, ..spec(vec![port()]) };
    assert_eq!(after(&quiet, &[ended(7, 0)]), None);
    assert_eq!(after(&spec(vec![WaitFor::AnyEnd(jobs(&[1]))]), &[ended(7, 0)]), None);
}

#[test]
fn all_waits_for_the_last_but_not_beyond_a_failure_unless_told_to() {
    let all = spec(vec![WaitFor::AllEnd(jobs(&[1, 2]))]);
    assert_eq!(after(&all, &[ended(1, 0)]), None);
    assert_eq!(after(&all, &[ended(1, 0), ended(2, 0)]).map(|fired| fired.failed), Some(false));
    assert_eq!(after(&all, &[ended(1, 9)]).map(|fired| fired.cause), Some(WakeCause::JobEnded));
    let to_the_end = WaitSpec { problems: false, ..all };
    assert_eq!(after(&to_the_end, &[ended(1, 9)]), None);
    let fired = after(&to_the_end, &[ended(1, 9), ended(2, 0)]).expect("all have ended");
    assert_eq!((fired.cause, fired.failed), (WakeCause::Condition, true));
    assert_eq!(fired.what, "all have ended: j1 exit 9, j2 exit 0");
}

#[test]
fn problems_wake_whoever_did_not_ask_to_sleep_through_them() {
    let found = Seen::Found(JobId(1), Finding::Diverged { metric: "loss".to_owned(), line: "loss nan".to_owned() });
    let wants = spec(vec![WaitFor::AnyEnd(jobs(&[1]))]);
    assert_eq!(after(&wants, std::slice::from_ref(&found)).map(|fired| fired.cause), Some(WakeCause::Problem));
    let ready = Seen::Found(JobId(1), Finding::Ready { after_ms: 5 });
    assert_eq!(after(&wants, &[ready]), None);
    assert_eq!(after(&WaitSpec { problems: false, ..wants }, &[found]), None);
}

#[test]
fn a_service_that_ends_well_leaves_the_word_to_its_probe() {
    let ready = spec(vec![WaitFor::Ready(JobId(1))]);
    assert_eq!(after(&ready, &[ended(1, 0)]), None);
    let fired = after(&ready, &[ended(1, 0), Seen::Ready(JobId(1), Duration::from_millis(40_240))]).expect("ready");
    assert_eq!((fired.what.as_str(), fired.failed), ("j1 is ready after 40.2 s", false));
    assert_eq!(
        after(&ready, &[ended(1, 1)]).map(|fired| (fired.cause, fired.failed)),
        Some((WakeCause::JobEnded, true))
    );
    let not = after(&ready, &[Seen::NotReady(JobId(1), "refused".to_owned())]).expect("not ready");
    assert_eq!((not.cause, not.failed), (WakeCause::Condition, true));
}

#[test]
fn silence_is_kept_awake_and_begins_anew_with_each_output() {
    let silence = spec(vec![WaitFor::Silence { lasting: Duration::from_secs(60), jobs: jobs(&[1, 2]) }]);
    let mut engine = Engine::new(&silence, at(0, 0));
    engine.see(Seen::Grew(JobId(1)), &at(50, 0));
    engine.look(&at(100, 8 * HOUR));
    assert_eq!(engine.fired(), None, "neither of both was silent for a minute");
    assert!(engine.next_look(&at(109, 8 * HOUR)) <= Duration::from_secs(1));
    engine.see(Seen::Grew(JobId(2)), &at(105, 8 * HOUR));
    engine.look(&at(164, 9 * HOUR));
    assert_eq!(engine.fired(), None);
    engine.look(&at(165, 9 * HOUR));
    assert_eq!(engine.fired().map(|fired| fired.cause), Some(WakeCause::Condition));
}

#[test]
fn a_deadline_counts_suspension_and_a_moment_the_wall_clock() {
    let deadline = WaitSpec { deadline: Some(Duration::from_secs(8 * HOUR)), ..spec(vec![]) };
    let mut engine = Engine::new(&deadline, at(0, 0));
    assert_eq!(engine.deadline_left(&at(60, HOUR)), Some(Duration::from_secs(7 * HOUR - 60)));
    engine.look(&at(60, 8 * HOUR));
    assert_eq!(engine.fired().map(|fired| fired.what.as_str()), Some("the deadline has come"));
    let until = WaitSpec { until: Some(at(HOUR, 0).wall), ..spec(vec![]) };
    let mut engine = Engine::new(&until, at(0, 0));
    let set_back = Reading { wall: at(0, 0).wall, ..at(10 * HOUR, 0) };
    engine.look(&set_back);
    assert_eq!(engine.fired(), None);
    engine.look(&Reading { wall: at(2 * HOUR, 0).wall, ..at(10, 0) });
    assert_eq!(engine.fired().map(|fired| fired.cause), Some(WakeCause::Deadline));
}

#[test]
fn what_was_printed_is_told_with_its_line() {
    let pattern = Regex::new("ep.ch 10").expect("a pattern");
    let output = spec(vec![WaitFor::Output { pattern, jobs: jobs(&[1]) }]);
    let fired = after(&output, &[Seen::Matched(0, JobId(1), "epoch 10/10".to_owned())]).expect("it matches");
    assert_eq!(fired.what, "output of j1 matches `ep.ch 10`: epoch 10/10");
}

proptest! {
    #[test]
    fn a_wait_with_a_deadline_ends_by_then_whatever_the_clocks_do(
        deadline in 0u64..100_000,
        steps in prop::collection::vec((0u64..5_000, 0u64..20_000, -1_000_000i64..1_000_000), 1..60),
    ) {
        let spec = WaitSpec { deadline: Some(Duration::from_secs(deadline)), ..spec(vec![]) };
        let mut engine = Engine::new(&spec, at(0, 0));
        let (mut awake, mut asleep) = (0, 0);
        for (more_awake, more_asleep, wall) in steps {
            awake += more_awake;
            asleep += more_asleep;
            let now = at(awake, asleep);
            let now = Reading { wall: now.wall + jiff::SignedDuration::from_secs(wall), ..now };
            engine.look(&now);
            let is_over = awake + asleep >= deadline;
            prop_assert_eq!(engine.fired().is_some(), is_over);
            prop_assert!(engine.next_look(&now) <= Duration::from_secs(1));
            if is_over {
                break;
            }
        }
    }
}
