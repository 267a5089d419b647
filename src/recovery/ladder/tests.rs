//! The ladder, rung by rung, and what must hold whatever fails.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{Entry, Event, Outcome, Status, ToolCall};

fn failure(class: FailureClass, evidence: &str) -> Failure {
    Failure { class, evidence: evidence.to_owned(), fingerprint: format!("{class}/curl/{evidence}") }
}

fn case<'a>(failure: &'a Failure, past: &'a Decisions) -> Case<'a> {
    Case {
        call_id: "a",
        failure,
        effect: Effect::None,
        is_repeatable: true,
        past,
        lessons: &[],
        repeats: 0,
        moved: false,
        told: None,
        now: Timestamp::UNIX_EPOCH,
        max_retries: DEFAULT_MAX_RETRIES,
        time_left: None,
        budget_left: 1.0,
        has_checks: true,
        memory: Memory::Full("it is full".to_owned()),
        snapshot: Some(CheckpointId(1)),
        has_network: true,
        is_own: false,
        workspace: "/w",
        evidence: Vec::new(),
    }
}

fn chosen(case: &Case<'_>) -> Option<&'static str> {
    decide(case).map(|decision| decision.chosen.name())
}

/// A run that only fails.
#[derive(Default)]
struct Failing {
    past: Decisions,
    seq: u64,
    before: HashMap<String, u32>,
}

impl Failing {
    fn note(&mut self, event: Event) {
        self.past.apply(&Entry { seq: self.seq, time: Timestamp::UNIX_EPOCH, event });
        self.seq += 1;
        while let Some(due) = self.past.due().first().cloned() {
            let event = Event::DecisionJudged { decision: due.decision, turned_out: due.turned_out, why: due.why };
            self.past.apply(&Entry { seq: self.seq, time: Timestamp::UNIX_EPOCH, event });
            self.seq += 1;
        }
    }

    /// A call that fails in this way, however often it is tried: what was decided.
    fn call(&mut self, id: &str, failure: &Failure, change: impl Fn(&mut Case<'_>)) -> Vec<Decision> {
        let arguments = r#"{"command":"curl x"}"#.to_owned();
        self.note(Event::ToolStarted { call: ToolCall { id: id.to_owned(), name: "shell".to_owned(), arguments } });
        let outcome =
            Outcome { failure: Some(Box::new(failure.clone())), ..Outcome::words(Status::Failed, "[exit 1]") };
        let mut made = Vec::new();
        for attempt in 1.. {
            assert!(attempt < 100, "it comes to an end");
            let mut case = Case { call_id: id, ..case(failure, &self.past) };
            case.repeats = self.before.get(&failure.fingerprint).copied().unwrap_or(0);
            change(&mut case);
            let Some(decision) = decide(&case) else { break };
            let tries = decision.chosen.is_try();
            if tries {
                self.note(Event::AttemptFailed { call_id: id.to_owned(), attempt, outcome: outcome.clone() });
            }
            self.note(Event::DecisionMade { decision: decision.clone() });
            made.push(decision);
            if !tries {
                break;
            }
        }
        self.note(Event::ToolEnded { call_id: id.to_owned(), outcome });
        *self.before.entry(failure.fingerprint.clone()).or_default() += 1;
        made
    }

    fn names(&mut self, id: &str, failure: &Failure) -> Vec<&'static str> {
        self.call(id, failure, |_| {}).iter().map(|decision| decision.chosen.name()).collect()
    }
}

#[test]
fn a_network_is_tried_five_times_in_longer_and_longer_intervals_then_left_to_the_model_and_at_last_to_a_person() {
    let mut run = Failing::default();
    let refused = failure(FailureClass::Network, "Connection reset by peer");
    let first = run.call("a", &refused, |_| {});
    let waits: Vec<u64> = first
        .iter()
        .filter_map(|decision| match decision.chosen {
            Reaction::RetryAsIs { after_ms } => Some(after_ms / 1000),
            _ => None,
        })
        .collect();
    assert_eq!((waits, first.len()), (vec![5, 10, 20, 41], 5), "the jitter of this call is small");
    assert_eq!(first[4].chosen.name(), "fix_forward");
    assert_eq!(run.names("b", &refused), ["retry_as_is", "retry_as_is", "retry_as_is", "retry_as_is", "fix_forward"]);
    assert_eq!(run.names("c", &refused), ["ask"]);
    assert_eq!(run.names("d", &refused), ["ask"]);
    assert_eq!(run.names("e", &refused), Vec::<&str>::new(), "all was said");
}

#[test]
fn names_that_nobody_knows_twice_are_the_network_s_own_way() {
    let mut run = Failing::default();
    let unknown = failure(FailureClass::Network, "curl: (6) Could not resolve host: x.example");
    assert_eq!(run.names("a", &unknown), ["retry_as_is", "ask"]);
    let mut past = Decisions::default();
    past.apply(&Entry { seq: 0, time: Timestamp::UNIX_EPOCH, event: Event::HarnessSaid { text: String::new() } });
    let closed = Case { has_network: false, ..case(&unknown, &past) };
    assert_eq!(chosen(&closed), Some("fix_forward"), "the box sees no network");
    let refused = failure(FailureClass::Network, "curl: (7) Failed to connect to localhost port 80");
    assert_eq!(chosen(&case(&refused, &past)), Some("fix_forward"), "nothing listens yet");
}

#[test]
fn a_wrong_result_gets_two_tries_then_the_way_back_then_a_person() {
    let mut run = Failing::default();
    let wrong = failure(FailureClass::WrongResult, "assert 1 == 2");
    let all: Vec<_> = ["a", "b", "c", "d", "e", "f"].iter().flat_map(|id| run.names(id, &wrong)).collect();
    assert_eq!(all, ["fix_forward", "fix_forward", "roll_back", "ask", "ask"]);
}

#[test]
fn what_moves_is_progress_and_counts_anew() {
    let past = Decisions::default();
    let wrong = failure(FailureClass::WrongResult, "2 failed");
    let stuck = Case { repeats: 3, ..case(&wrong, &past) };
    assert_eq!(decide(&stuck).unwrap().confidence.level, Level::Low);
    let moved = Case { repeats: 3, moved: true, ..case(&wrong, &past) };
    let progress = decide(&moved).unwrap().confidence.signals.into_iter().find(|signal| signal.name == "progress");
    assert_eq!(progress.unwrap().level, Level::High);
}

#[test]
fn memory_is_raised_where_it_can_be_and_else_the_footprint_is_cut() {
    let past = Decisions::default();
    let oom = failure(FailureClass::Oom, "killed");
    let grows = Memory::Grows { from: 1 << 30, to: 2 << 30 };
    assert_eq!(chosen(&Case { memory: grows, ..case(&oom, &past) }), Some("retry_changed"));
    assert_eq!(chosen(&case(&oom, &past)), Some("fix_forward"));
}

#[test]
fn what_is_too_long_or_not_known_to_be_harmless_is_not_waited_for() {
    let past = Decisions::default();
    let busy = failure(FailureClass::RateLimit, "429");
    let hour = Some(Duration::from_secs(3600));
    assert_eq!(chosen(&Case { told: hour, ..case(&busy, &past) }), Some("park"));
    assert_eq!(
        chosen(&Case { told: hour, time_left: Some(Duration::from_secs(60)), ..case(&busy, &past) }),
        Some("fix_forward")
    );
    assert_eq!(chosen(&Case { told: Some(LONGEST_PARK * 2), ..case(&busy, &past) }), Some("fix_forward"));
    let reset = failure(FailureClass::Network, "reset");
    assert_eq!(chosen(&Case { is_repeatable: false, ..case(&reset, &past) }), Some("fix_forward"));
    assert_eq!(chosen(&Case { max_retries: 0, ..case(&reset, &past) }), Some("fix_forward"));
}

#[test]
fn permissions_are_a_person_s_business_outside_the_workspace_alone() {
    let past = Decisions::default();
    let inside = failure(FailureClass::Permission, "bash: /w/run.sh: Permission denied");
    let outside = failure(FailureClass::Permission, "cp: cannot create '/etc/x': Permission denied");
    let writes = |failure| Case { effect: Effect::Workspace, ..case(failure, &past) };
    assert_eq!(chosen(&writes(&inside)), Some("fix_forward"));
    assert_eq!(chosen(&writes(&outside)), Some("ask"));
    assert_eq!(chosen(&case(&outside, &past)), Some("fix_forward"), "it only looked");
}

fn classes() -> impl Strategy<Value = FailureClass> {
    (0..FailureClass::ALL.len()).prop_map(|at| FailureClass::ALL[at])
}

proptest! {
    #[test]
    fn no_way_is_taken_in_more_than_two_calls_and_what_was_refused_is_never_run_again(
        calls in prop::collection::vec((classes(), 0_usize..2, any::<bool>(), any::<bool>(), 0_u64..4), 1..40)
    ) {
        let mut run = Failing::default();
        let mut times: HashMap<(String, &str), u32> = HashMap::new();
        let mut retries = 0;
        for (nth, (class, evidence, repeatable, grows, told)) in calls.into_iter().enumerate() {
            let failure = failure(class, ["one", "two"][evidence]);
            let made = run.call(&format!("c{nth}"), &failure, |case| {
                case.is_repeatable = repeatable;
                case.told = (told > 0).then(|| Duration::from_secs(told));
                if grows {
                    case.memory = Memory::Grows { from: 1, to: 2 };
                }
            });
            let mut names: Vec<&str> = made.iter().map(|decision| decision.chosen.name()).collect();
            retries += made.iter().filter(|decision| decision.chosen.is_try()).count();
            let tries = names.iter().filter(|name| **name == "retry_as_is").count();
            prop_assert!(tries < MOST_TRIES as usize, "{names:?}");
            let is_refused = matches!(class, FailureClass::Auth | FailureClass::Quota | FailureClass::Permission);
            prop_assert!(!is_refused || made.iter().all(|decision| !decision.chosen.is_try()), "{class}: {names:?}");
            names.dedup();
            for name in names {
                let times = times.entry((failure.fingerprint.clone(), name)).or_default();
                *times += 1;
                prop_assert!(*times <= MOST_TIMES, "{class}: {name} {times} times");
            }
            for decision in &made {
                prop_assert!(decision.options.iter().any(|option| option.reaction.name() == decision.chosen.name()));
                prop_assert!(!decision.confidence.signals.is_empty());
            }
        }
        prop_assert!(retries <= DEFAULT_MAX_RETRIES as usize + 2 * MOST_TIMES as usize, "{retries}");
    }
}
