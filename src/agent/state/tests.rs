//! What comes next, without clock, model or box.

use super::*;
use crate::domain::{AnsweredAt, BlobRef, Check, FileHash, QuestionEnd, Reply, RunId, Subject, Verdict};

const NO_BLOB: BlobRef = BlobRef { sha256: String::new(), size_bytes: 0 };

fn state(mode: RunMode, checks: &[&str], max_turns: u32) -> State {
    let run = RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a ULID");
    let checks = checks.iter().map(|&check| Check::Command(check.to_owned())).collect();
    State::new(RunSpec { checks, max_turns, ..RunSpec::new(run, mode, "g") })
}

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: "{}".to_owned() }
}

impl State {
    fn sees(&mut self, event: Event) {
        self.apply(&Entry { seq: 0, time: Timestamp::UNIX_EPOCH, event });
    }

    fn answer(&mut self, text: &str, calls: &[ToolCall]) {
        let turn = self.turn + 1;
        self.sees(Event::ModelRequested { turn, sha256: String::new(), kept_bytes: 0, rest: NO_BLOB });
        self.sees(Event::ModelAnswered {
            turn,
            text: text.to_owned(),
            reasoning: String::new(),
            calls: calls.to_vec(),
            finish_reason: "stop".to_owned(),
            usage: None,
            response: NO_BLOB,
            duration_ms: 1,
            opaque: None,
        });
    }

    fn outcome(&mut self, call_id: &str, status: Status) {
        self.sees(Event::ToolEnded { call_id: call_id.to_owned(), outcome: Outcome::words(status, "x") });
    }

    fn claim_done(&mut self, id: &str, gave_up: bool) {
        self.answer("", &[call(id, "finish")]);
        let claim = FinishClaim {
            summary: "did it".to_owned(),
            artifacts: vec!["a".to_owned()],
            gave_up,
            requirements: Vec::new(),
        };
        self.sees(Event::FinishClaimed { claim });
    }

    fn check(&mut self, check: usize, status: Status) {
        let result = CheckResult { check, round: self.check_round(), outcome: Outcome::words(status, "x") };
        self.sees(Event::CheckEnded { result });
    }

    /// Puts the question that comes next.
    fn asks(&mut self) -> Question {
        let Step::Ask(question) = self.next() else { panic!("nothing is asked: {:?}", self.next()) };
        self.sees(Event::QuestionAsked { question: (*question).clone() });
        *question
    }

    fn ending(&self) -> (Verdict, ExitReason) {
        match self.next() {
            Step::End(ending) => (ending.verdict, ending.reason),
            other => panic!("not at its end: {other:?}"),
        }
    }
}

fn replied(choice: Option<&str>, text: &str) -> Event {
    let reply = Reply { choice: choice.map(str::to_owned), text: text.to_owned() };
    Event::QuestionAnswered { question: QuestionId(1), reply, at: AnsweredAt::Terminal, mail: None }
}

fn over(end: QuestionEnd) -> Event {
    Event::QuestionClosed { question: QuestionId(1), end, why: "x".to_owned() }
}

#[test]
fn calls_are_answered_before_the_model_is_asked_again() {
    let mut run = state(RunMode::Goal, &[], 9);
    assert_eq!(run.next(), Step::AskModel { turn: 1 });
    run.answer("two things", &[call("a", "shell"), call("b", "shell")]);
    assert_eq!(run.next(), Step::RunCalls(vec![call("a", "shell"), call("b", "shell")]));
    run.outcome("a", Status::Ok);
    assert_eq!(run.next(), Step::RunCalls(vec![call("b", "shell")]));
    run.outcome("b", Status::Failed);
    assert_eq!(run.next(), Step::AskModel { turn: 2 });
}

#[test]
fn done_means_that_every_check_passed() {
    let mut run = state(RunMode::Goal, &["one", "two"], 9);
    run.claim_done("f", false);
    assert_eq!(run.next(), Step::RunCheck { check: 0, round: 1 });
    run.check(0, Status::Ok);
    assert_eq!(run.next(), Step::RunCheck { check: 1, round: 1 });
    run.check(1, Status::Ok);
    assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: true });
    run.outcome("f", Status::Ok);
    assert_eq!(run.ending(), (Verdict::Verified, ExitReason::Done));
    let Step::End(ending) = run.next() else { panic!("ended") };
    assert_eq!((ending.answer.as_str(), ending.artifacts.len()), ("did it", 1));
}

/// Claims to be done, and a check refuses it, as often as that goes without a person.
fn refused_three_times(run: &mut State, from: u32) {
    for round in from..from + MAX_CHECK_ROUNDS {
        let id = format!("f{round}");
        run.claim_done(&id, false);
        assert_eq!(run.next(), Step::RunCheck { check: 0, round });
        run.check(0, Status::Failed);
        assert_eq!(run.next(), Step::AnswerClaim { call_id: id.clone(), accepted: false });
        run.outcome(&id, Status::Failed);
    }
}

#[test]
fn three_claims_with_a_failed_check_lead_to_a_question_whose_answer_decides() {
    let asked = |answer: &[Event]| {
        let mut run = state(RunMode::Goal, &["one"], 99);
        refused_three_times(&mut run, 1);
        let question = run.asks();
        assert_eq!(question.subject, Subject::FailedClaims { rounds: MAX_CHECK_ROUNDS });
        assert!(question.background.starts_with("$ one\nx"), "{question:?}");
        assert_eq!(run.next(), Step::AwaitAnswer(question.id));
        answer.iter().for_each(|event| run.sees(event.clone()));
        run
    };
    assert_eq!(asked(&[replied(Some("stop"), "")]).ending(), (Verdict::Failed, ExitReason::Failed));
    assert_eq!(asked(&[over(QuestionEnd::Timeout)]).ending(), (Verdict::Failed, ExitReason::Failed));
    let accepted = asked(&[replied(Some("accept"), "")]);
    assert_eq!(accepted.ending(), (Verdict::Unverified, ExitReason::Done));
    let Step::End(ending) = accepted.next() else { panic!("ended") };
    assert_eq!((ending.answer.as_str(), ending.artifacts.len()), ("did it", 1));
    for goes_on in [replied(Some("go_on"), "use sed"), replied(None, "use sed"), over(QuestionEnd::Withdrawn)] {
        let mut run = asked(&[goes_on]);
        assert_eq!(run.next(), Step::AskModel { turn: 4 });
        refused_three_times(&mut run, MAX_CHECK_ROUNDS + 1);
        assert_eq!(run.asks().id, QuestionId(2), "asked anew");
    }
}

#[test]
fn a_question_that_stopped_the_run_is_still_there_when_it_is_taken_up() {
    let mut run = state(RunMode::Goal, &["one"], 99);
    refused_three_times(&mut run, 1);
    let question = run.asks();
    run.sees(Event::StopAsked { reason: ExitReason::NeedsHuman, why: "nobody".to_owned() });
    assert_eq!(run.ending(), (Verdict::Blocked, ExitReason::NeedsHuman));
    run.sees(ended(ExitReason::NeedsHuman));
    run.sees(resumed(None));
    assert_eq!(run.next(), Step::AwaitAnswer(question.id));
    run.sees(replied(Some("go_on"), ""));
    assert_eq!(run.next(), Step::AskModel { turn: 4 });
}

#[test]
fn a_check_that_was_cancelled_is_never_a_pass() {
    for status in [Status::Cancelled, Status::Unknown, Status::Running, Status::Malformed] {
        let mut run = state(RunMode::Goal, &["one"], 9);
        run.claim_done("f", false);
        run.check(0, status);
        assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: false }, "{status:?}");
    }
}

#[test]
fn a_claim_without_checks_is_unverified_and_one_that_asks_for_help_is_blocked() {
    let mut run = state(RunMode::Goal, &[], 9);
    run.claim_done("f", false);
    run.outcome("f", Status::Ok);
    assert_eq!(run.ending(), (Verdict::Unverified, ExitReason::Done));
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.claim_done("f", true);
    let question = run.asks();
    assert_eq!((question.subject.call_id(), question.background.as_str()), (Some("f"), "did it"));
    let mut goes_on = run.clone();
    goes_on.sees(replied(None, "the login is x"));
    assert_eq!(goes_on.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: false });
    let mut stopped = run.clone();
    stopped.sees(Event::StopAsked { reason: ExitReason::NeedsHuman, why: "nobody".to_owned() });
    assert_eq!(stopped.ending(), (Verdict::Blocked, ExitReason::NeedsHuman), "and its claim stays open");
    run.sees(replied(Some("stop"), ""));
    assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: true });
    run.outcome("f", Status::Ok);
    assert_eq!(run.ending(), (Verdict::Blocked, ExitReason::NeedsHuman));
}

#[test]
fn words_alone_end_a_run_only_where_nothing_is_open() {
    let mut run = state(RunMode::Goal, &[], 9);
    run.answer("it is 42", &[]);
    assert_eq!(run.ending(), (Verdict::Unverified, ExitReason::Done));
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.answer("it is done", &[]);
    assert_eq!(run.next(), Step::Nudge);
    run.sees(Event::HarnessSaid { text: "go on".to_owned() });
    assert_eq!(run.next(), Step::AskModel { turn: 2 });
    run.answer("really done", &[]);
    assert_eq!(run.ending(), (Verdict::Blocked, ExitReason::NeedsHuman));
}

#[test]
fn work_between_two_silences_earns_a_new_nudge() {
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.answer("hm", &[]);
    run.sees(Event::HarnessSaid { text: "go on".to_owned() });
    run.answer("", &[call("a", "shell")]);
    run.outcome("a", Status::Ok);
    run.answer("hm", &[]);
    assert_eq!(run.next(), Step::Nudge);
}

#[test]
fn an_answer_with_nothing_in_it_is_not_an_end() {
    let mut run = state(RunMode::Goal, &[], 9);
    run.answer("", &[]);
    assert_eq!(run.next(), Step::Nudge);
}

#[test]
fn nothing_but_malformed_calls_three_times_is_no_progress() {
    let mut run = state(RunMode::Goal, &[], 9);
    for round in 0..MAX_MALFORMED_ANSWERS {
        assert_eq!(run.next(), Step::AskModel { turn: round + 1 });
        run.answer("", &[call("a", "nonsense"), call("b", "shell")]);
        run.outcome("a", Status::Malformed);
        run.outcome("b", Status::Malformed);
    }
    assert_eq!(run.ending(), (Verdict::Blocked, ExitReason::NeedsHuman));
}

#[test]
fn the_turn_limit_holds() {
    let mut run = state(RunMode::Goal, &[], 2);
    for turn in 1..=2 {
        assert_eq!(run.next(), Step::AskModel { turn });
        run.answer("", &[call("a", "shell")]);
        run.outcome("a", Status::Ok);
    }
    assert_eq!(run.ending(), (Verdict::Stopped, ExitReason::Budget));
}

#[test]
fn a_stop_goes_before_everything_but_the_answer_to_a_claim() {
    let stop = Event::StopAsked { reason: ExitReason::Terminated, why: "SIGTERM".to_owned() };
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.answer("", &[call("a", "shell")]);
    run.sees(stop.clone());
    assert_eq!(run.ending(), (Verdict::Stopped, ExitReason::Terminated));
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.claim_done("f", false);
    run.sees(stop);
    assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: false });
    run.outcome("f", Status::Cancelled);
    assert_eq!(run.ending(), (Verdict::Stopped, ExitReason::Terminated));
}

#[test]
fn a_model_that_fails_ends_the_run_with_its_reason() {
    let mut run = state(RunMode::Goal, &[], 9);
    run.sees(Event::ModelFailed { turn: 1, why: "401".to_owned(), reason: ExitReason::Auth });
    assert_eq!(run.ending(), (Verdict::Error, ExitReason::Auth));
}

#[test]
fn a_chat_waits_for_the_person_whenever_the_model_rests() {
    let mut run = state(RunMode::Chat, &[], 9);
    assert_eq!(run.next(), Step::AwaitPerson);
    run.sees(Event::UserSaid { text: "hi".to_owned(), mail: None });
    assert_eq!(run.next(), Step::AskModel { turn: 1 });
    run.answer("hello", &[]);
    assert_eq!(run.next(), Step::AwaitPerson);
}

#[test]
fn an_interrupted_turn_gives_the_person_the_word() {
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.sees(Event::TurnInterrupted { turn: 1 });
    assert_eq!(run.next(), Step::AwaitPerson);
    run.sees(Event::UserSaid { text: "use batch 16".to_owned(), mail: None });
    assert_eq!(run.next(), Step::AskModel { turn: 1 });
}

fn resumed(max_turns: Option<u32>) -> Event {
    let asked = crate::domain::AskedNew { max_turns, ..Default::default() };
    Event::RunResumed { epoch: 2, away_ms: 1, found: BoxReturn::Adopted, notes: Vec::new(), asked }
}

fn ended(reason: ExitReason) -> Event {
    Event::RunEnded { verdict: Verdict::Stopped, reason, why: String::new(), answer: String::new() }
}

#[test]
fn calls_that_had_begun_are_known_until_they_have_an_outcome() {
    let mut state = state(RunMode::Goal, &[], 9);
    state.answer("", &[call("a", "shell"), call("b", "shell")]);
    state.sees(Event::ToolStarted { call: call("a", "shell") });
    state.sees(resumed(None));
    assert_eq!(state.begun().iter().map(|begun| begun.call_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert!(state.begun_as("b").is_none());
    assert!(matches!(state.next(), Step::RunCalls(calls) if calls.len() == 2));
    state.outcome("a", Status::Ok);
    assert!(state.begun().is_empty());
}

#[test]
fn a_run_that_ended_on_a_limit_goes_on_with_a_higher_one() {
    let mut state = state(RunMode::Goal, &[], 1);
    state.answer("", &[call("a", "shell")]);
    state.outcome("a", Status::Ok);
    assert_eq!(state.ending(), (Verdict::Stopped, ExitReason::Budget));
    state.sees(ended(ExitReason::Budget));
    state.sees(resumed(Some(5)));
    assert_eq!(state.next(), Step::AskModel { turn: 2 });
}

#[test]
fn what_stopped_a_run_counts_no_more_and_what_decided_its_end_does_until_that_is_recorded() {
    let mut state = state(RunMode::Goal, &[], 9);
    state.claim_done("a", true);
    state.outcome("a", Status::Ok);
    state.sees(resumed(None));
    assert_eq!(state.ending(), (Verdict::Blocked, ExitReason::NeedsHuman), "killed on its way to the end");
    state.sees(ended(ExitReason::NeedsHuman));
    state.sees(resumed(None));
    assert_eq!(state.next(), Step::AskModel { turn: 2 });
    state.sees(Event::TurnInterrupted { turn: 2 });
    state.sees(Event::StopAsked { reason: ExitReason::Interrupted, why: String::new() });
    state.sees(resumed(None));
    assert_eq!(state.next(), Step::AskModel { turn: 2 }, "nobody has to say `go on` once more");
}

fn proved_state(checks: &[&str], protect: &[&str]) -> State {
    let mut spec = state(RunMode::Goal, checks, 9).spec;
    spec.baseline = true;
    spec.protect = protect.iter().map(|&glob| glob.to_owned()).collect();
    State::new(spec)
}

fn file(path: &str, sha256: &str) -> FileHash {
    FileHash { path: path.to_owned(), sha256: Some(sha256.to_owned()) }
}

impl State {
    fn checked_before(&mut self, check: usize, status: Status) {
        let result = CheckResult { check, round: 0, outcome: Outcome::words(status, "x") };
        self.sees(Event::CheckEnded { result });
    }

    fn sees_files(&mut self, files: Vec<FileHash>) {
        self.sees(Event::ProtectedSeen { files, programs: Vec::new() });
    }

    fn has_run(&mut self, id: &str) {
        self.sees(Event::ToolStarted { call: call(id, "shell") });
        self.outcome(id, Status::Ok);
    }
}

#[test]
fn checks_run_once_before_the_first_call_and_never_after_it() {
    let mut run = proved_state(&["one", "two"], &[]);
    assert_eq!(run.next(), Step::AskModel { turn: 1 }, "the model is not kept waiting");
    run.answer("", &[call("a", "shell")]);
    assert_eq!(run.next(), Step::SeeProtected);
    run.sees_files(Vec::new());
    assert_eq!(run.next(), Step::RunCheck { check: 0, round: 0 });
    run.checked_before(0, Status::Ok);
    assert_eq!(run.next(), Step::RunCheck { check: 1, round: 0 });
    run.checked_before(1, Status::Unknown);
    assert_eq!(run.next(), Step::RunCalls(vec![call("a", "shell")]));
    run.has_run("a");
    run.claim_done("f", false);
    run.check(0, Status::Ok);
    run.check(1, Status::Ok);
    run.outcome("f", Status::Ok);
    let Step::End(ending) = run.next() else { panic!("ended") };
    assert_eq!(
        (ending.verdict, ending.why.as_str()),
        (Verdict::Verified, "2 checks passed, 1 of them before any work too")
    );
}

#[test]
fn an_old_run_whose_work_has_begun_has_no_checks_before_any_work() {
    let mut run = proved_state(&["one"], &["t"]);
    run.answer("", &[call("a", "shell"), call("b", "shell")]);
    run.has_run("a");
    assert_eq!(run.next(), Step::RunCalls(vec![call("b", "shell")]));
}

#[test]
fn a_second_claim_with_protected_files_changed_needs_a_person_and_no_check() {
    let mut run = proved_state(&["one"], &["t"]);
    for id in ["f", "g"] {
        run.claim_done(id, false);
        run.check(0, Status::Ok);
        run.sees(Event::ProtectedChanged { paths: vec!["t".to_owned()], programs: Vec::new() });
        assert_eq!(run.next(), Step::AnswerClaim { call_id: id.to_owned(), accepted: false });
        run.outcome(id, Status::Refused);
    }
    assert_eq!(run.ending(), (Verdict::Blocked, ExitReason::NeedsHuman));
}

#[test]
fn what_differs_is_changed_gone_or_new() {
    let mut run = proved_state(&[], &["t"]);
    run.sees_files(vec![file("a", "1"), file("b", "1"), file("c", "1")]);
    assert_eq!(run.proof().differing(&[file("a", "1"), file("b", "2"), file("d", "1")]), ["b", "c", "d"]);
}

#[test]
fn checks_that_something_changed_under_run_again_twice_at_most() {
    let mut run = state(RunMode::Goal, &["one", "two"], 9);
    run.claim_done("f", false);
    for _ in 0..3 {
        assert_eq!(run.next(), Step::RunCheck { check: 0, round: 1 });
        run.check(0, Status::Ok);
        run.check(1, Status::Ok);
        assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: true });
        run.sees(Event::ChecksOutdated { round: 1, paths: vec!["x".to_owned()], running: Vec::new() });
    }
    assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: false });
}

#[test]
fn what_a_person_types_under_a_check_has_it_run_again() {
    let mut run = state(RunMode::Goal, &["one"], 9);
    run.claim_done("f", false);
    run.sees(Event::CheckStarted { check: 0, round: 1, watched_since_ns: None });
    run.sees(Event::PersonTyped { session: crate::domain::SessionName::new("main").expect("a name") });
    run.check(0, Status::Ok);
    assert_eq!(run.next(), Step::RunCheck { check: 0, round: 1 });
    assert_eq!(run.proof().again(), 1);
    run.sees(Event::CheckStarted { check: 0, round: 1, watched_since_ns: None });
    run.check(0, Status::Ok);
    assert_eq!(run.next(), Step::AnswerClaim { call_id: "f".to_owned(), accepted: true });
}
