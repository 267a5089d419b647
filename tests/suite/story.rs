//! A run with an event of every kind, recorded for real with a clock that ticks: what the tests of transcripts are about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longhaul::clock::TickingClock;
use longhaul::domain::{
    AnsweredAt, AskedNew, BlobRef, BoxFacts, BoxReturn, BoxUsage, Capability, Check, CheckResult, Checkpoint,
    CheckpointId, CheckpointReason, Choice, Confidence, Consistency, Decision, DecisionId, Event, Exit, ExitReason,
    FORMAT_MAJOR, FORMAT_MINOR, Failure, FailureClass, FileHash, Finding, FinishClaim, GpuUsage, Job, JobEnd, JobId,
    Level, NoticeKind, OnSilence, Outcome, OutputFacts, Question, QuestionEnd, QuestionId, Reaction, Reduction,
    ReductionCause, Reply, Requirement, RunId, RunMode, RunSpec, SandboxKind, SessionName, Signal, Silence, Snapshot,
    Status, Subject, Summary, SummaryBy, ToolCall, TurnedOut, Usage, Verdict, WaitRecord, WakeCause, Weighed,
};
use longhaul::journal::{Blobs, Recorder, Requests, RunDir, RunStore};
use longhaul::telemetry::Redactor;
use sha2::{Digest as _, Sha256};

/// The run's id.
pub(crate) const RUN: &str = "01KE0000000000000000000042";

const GOAL: &str = "Train a classifier on data.csv.\nReach 0.9 on the held-out rows.";

pub(crate) fn spec(run: &str) -> RunSpec {
    RunSpec {
        title: "Train a classifier".into(),
        checks: vec![Check::Command("awk -f score.awk model held-out.csv".into())],
        workspace: "/home/someone/project".into(),
        model: "some-model".into(),
        base_url: "http://127.0.0.1:8080/v1".into(),
        version: "0.1.0".into(),
        prompts: [("system".to_owned(), "0".repeat(64))].into(),
        tools_sha256: "1".repeat(64),
        max_turns: 200,
        ..RunSpec::new(RunId::new(run).expect("the story can be told"), RunMode::Goal, GOAL)
    }
}

pub(crate) fn redactor() -> Arc<Redactor> {
    Arc::new(Redactor::new(&[]))
}

pub(crate) fn clock() -> Arc<TickingClock> {
    Arc::new(TickingClock::new(
        "2026-01-02T03:04:05.678Z".parse().expect("the story can be told"),
        Duration::from_millis(1_250),
    ))
}

/// Records the story in a store below `state_dir` and returns its run.
pub(crate) fn record(state_dir: &Path) -> RunDir {
    let run = RunStore::new(state_dir).create(&spec(RUN), &redactor()).expect("the story can be told");
    std::fs::write(run.artifacts().join("model.txt"), "w 0.5\n").expect("the story can be told");
    std::fs::write(run.sessions().join("main.raw"), "epoch 1 loss 0.5\r\nepoch 2 loss 0.2\r\n")
        .expect("the story can be told");
    let mut recorder = Recorder::create(&run, clock(), redactor()).expect("the story can be told");
    for event in events(&run.blobs(redactor())) {
        recorder.append(event).expect("the story can be told");
    }
    run
}

/// One event of every kind, in an order that makes sense.
pub(crate) fn events(blobs: &Blobs) -> Vec<Event> {
    let mut requests = Requests::new(blobs.clone());
    let started = |id: &str, name: &str, arguments: &str| Event::ToolStarted { call: call(id, name, arguments) };
    let ended = |id: &str, outcome: Outcome| Event::ToolEnded { call_id: id.into(), outcome };
    let mut events = vec![
        Event::RunStarted { format_major: FORMAT_MAJOR, format_minor: FORMAT_MINOR, spec: spec(RUN) },
        Event::BoxOpened { facts: facts() },
        Event::SessionOpened { session: session(), shell: "/bin/bash".into(), log: "sessions/main.raw".into() },
        Event::UserSaid { text: "Use awk only.".into(), mail: None },
        requested(&mut requests, 1, "[system,user]"),
        Event::ModelDelayed { turn: 1, why: "429 Too Many Requests".into(), wait_ms: 1_000 },
        answered(blobs, 1, "I will train it.", vec![call("call_1", "shell", r#"{"command":"./train.sh\nls"}"#)]),
        started("call_1", "shell", r#"{"command":"./train.sh\nls"}"#),
        ended("call_1", ran(Exit::Code(1), "epoch 1 loss 0.5\n./train.sh: line 3: awk: not found")),
        Event::HarnessSaid { text: "Go on, or say what blocks you.".into() },
        requested(&mut requests, 2, "[system,user,call,result]"),
        Event::ModelFailed {
            turn: 2,
            why: "the server closed the connection".into(),
            reason: ExitReason::ProviderUnavailable,
        },
        Event::TurnInterrupted { turn: 2 },
        requested(&mut requests, 3, "[system,user,call,result,user]"),
        answered(
            blobs,
            3,
            "",
            vec![
                call("call_2", "write_file", r#"{"path":"a.txt","content":"12345"}"#),
                call("call_3", "shell", r#"{"command":"sleep 60","session":"train"}"#),
            ],
        ),
        started("call_2", "write_file", r#"{"path":"a.txt","content":"12345"}"#),
        started("call_3", "shell", r#"{"command":"sleep 60","session":"train"}"#),
        ended("call_2", Outcome::words(Status::Ok, "wrote 5 bytes")),
        Event::JobStarted { job: job() },
        ended("call_3", Outcome { duration_ms: 10_000, ..Outcome::words(Status::Running, "runs on") }),
    ];
    events.extend(trouble_and_questions());
    events.extend(becoming_smaller(blobs, &mut requests));
    events.extend(life_of_the_job());
    events.extend(back_and_forth());
    events.extend(ending());
    events
}

/// The conversation outgrows the window, and the model that could have summed it up goes away.
fn becoming_smaller(blobs: &Blobs, requests: &mut Requests) -> Vec<Event> {
    let stored = requests.put(b"[system,user,call,result,user,sum up]").expect("the story can be told");
    let response = blobs.put(b"a summary").expect("the story can be told");
    vec![
        Event::SummaryRequested { sha256: stored.sha256, kept_bytes: stored.kept_bytes, rest: stored.rest },
        Event::SummaryAnswered { usage: None, response, duration_ms: 900 },
        Event::SummaryFailed { why: "it called a tool instead".into() },
        Event::ModelSwitched { from: "some-model".into(), to: "other-model".into(), why: "overloaded for 1 h".into() },
        Event::ConversationReduced { reduction: reduction() },
        Event::LimitsRaised { asked: AskedNew { max_turns: Some(400), ..AskedNew::default() } },
    ]
}

/// A failure is tried again, mended, asked about; what must not change has changed.
fn trouble_and_questions() -> Vec<Event> {
    let failure = Failure {
        class: FailureClass::Network,
        evidence: "curl: (7) refused".into(),
        fingerprint: "0f1e2d3c4b5a6978".into(),
    };
    let failed = ran(Exit::Code(7), "curl: (7) refused");
    let signal = |name: &str, level, why: &str| Signal { name: name.into(), level, why: why.into() };
    let decision = Decision {
        id: DecisionId(1),
        call_id: Some("call_2".into()),
        class: failure.class,
        fingerprint: failure.fingerprint.clone(),
        evidence: vec!["curl: (7) refused".into()],
        options: vec![
            Weighed { reaction: Reaction::RetryAsIs { after_ms: 5_000 }, why: "it may pass by itself".into() },
            Weighed { reaction: Reaction::Ask, why: "nothing has been tried yet".into() },
        ],
        chosen: Reaction::RetryAsIs { after_ms: 5_000 },
        confidence: Confidence {
            level: Level::Medium,
            signals: vec![
                signal("effect", Level::High, "the command changes nothing"),
                signal("novelty", Level::Medium, "seen twice before"),
            ],
        },
        expected: "the same command exits with 0".into(),
    };
    let question = Question {
        id: QuestionId(1),
        subject: Subject::Model { call_id: "call_2".into(), waits: false },
        text: "Which rows are held out?".into(),
        background: "data.csv says nothing about it.".into(),
        evidence: vec!["entry 12".into()],
        options: vec![Choice::new("last", "the last tenth"), Choice::new("random", "a tenth by lot")],
        recommended: Some("last".into()),
        silence: Silence { then: OnSilence::Fail, within_s: Some(600) },
    };
    let second = Question { id: QuestionId(2), subject: Subject::Stuck, ..question.clone() };
    vec![
        Event::AttemptFailed {
            call_id: "call_2".into(),
            attempt: 1,
            outcome: Outcome { failure: Some(Box::new(failure)), ..failed },
        },
        Event::DecisionMade { decision },
        Event::DecisionJudged {
            decision: DecisionId(1),
            turned_out: TurnedOut::Worked,
            why: "the second attempt exited with 0".into(),
        },
        Event::QuestionAsked { question },
        Event::QuestionAnswered {
            question: QuestionId(1),
            reply: Reply { choice: Some("last".into()), text: "without the header".into() },
            at: AnsweredAt::Inbox,
            mail: Some("01KE0000000000000000000044.json".into()),
        },
        Event::QuestionAsked { question: second },
        Event::QuestionClosed { question: QuestionId(2), end: QuestionEnd::Timeout, why: "600 s are over".into() },
        Event::BoxGrown { memory_bytes: Some(2 << 30), why: "the kernel had ended train.sh".into() },
        Event::ProtectedSeen {
            files: vec![FileHash { path: "score.awk".into(), sha256: Some("2".repeat(64)) }],
            programs: vec![FileHash { path: "awk".into(), sha256: Some("3".repeat(64)) }],
        },
        Event::ProtectedChanged { paths: vec!["score.awk".into()], programs: vec!["awk".into()] },
        Event::ChecksOutdated { round: 1, paths: vec!["model".into()], running: vec!["sleep".into()] },
    ]
}

/// The command that outlives its call.
fn job() -> Job {
    Job {
        id: JobId(1),
        work: "c16".into(),
        session: SessionName::new("train").expect("the story can be told"),
        command: "sleep 60".into(),
        cwd: Some("/home/someone/project".into()),
        expected_s: Some(60.0),
        service: false,
        readiness: None,
        log: "sessions/train.log".into(),
        offset: 0,
    }
}

/// What becomes of it.
fn life_of_the_job() -> Vec<Event> {
    let train = job().session;
    let stalled = Finding::Stalled { silent_ms: 30_000, usual_ms: 5_000 };
    let end = JobEnd {
        exit: Some(Exit::Code(1)),
        duration_ms: 61_000,
        size_bytes: 512,
        cpu_ms: Some(40_000),
        memory_peak_bytes: Some(80 << 20),
        note: None,
        failure: None,
    };
    let wait = WaitRecord {
        call_id: "call_3".into(),
        cause: WakeCause::JobEnded,
        what: "j1 ended: exit 1".into(),
        waited_ms: 51_000,
        suspended_ms: 0,
        expected_s: Some(60.0),
    };
    let gpu = GpuUsage { name: "Some GPU".into(), busy_percent: 87.5, memory_peak_bytes: 4 << 30 };
    let usage = BoxUsage {
        over_ms: 70_000,
        cpu_ms: Some(42_000),
        memory_peak_bytes: Some(1 << 30),
        disk_free_bytes: Some(100 << 30),
        gpus: vec![gpu],
    };
    vec![
        Event::JobNoted { job: JobId(1), finding: stalled },
        Event::PersonTyped { session: train.clone() },
        Event::JobEnded { job: JobId(1), end },
        Event::Waited { wait },
        Event::SessionClosed { session: train, why: "its shell ended".into() },
        Event::BoxMeasured { usage },
        Event::Noticed { kind: NoticeKind::Reconnected, text: "the channel to the box was lost for 2 s".into() },
    ]
}

/// The run is taken up again, goes back, becomes another, and has company.
fn back_and_forth() -> Vec<Event> {
    let checkpoint = Checkpoint {
        id: CheckpointId(1),
        name: Some("before-training".into()),
        reason: CheckpointReason::Model,
        seq: 26,
        snapshot: Snapshot {
            kind: SandboxKind::Local,
            layers: vec!["00000042-k1".into()],
            image: None,
            consistency: Consistency::Frozen { by: "signals".into(), held_ms: 3 },
            took_ms: 12,
            new_files: 10,
            new_bytes: 4_096,
            left_out: Vec::new(),
        },
        sessions: vec![session()],
        jobs: Vec::new(),
        sha256: "2".repeat(64),
    };
    let notes = vec!["entry 25 was half written and was cut off".to_owned()];
    vec![
        Event::RunResumed { epoch: 2, away_ms: 847_000, found: BoxReturn::Adopted, notes, asked: AskedNew::default() },
        Event::CheckpointTaken { checkpoint },
        Event::RestoreStarted { checkpoint: CheckpointId(1), saved: Some(CheckpointId(2)) },
        Event::CheckpointRestored {
            checkpoint: CheckpointId(1),
            sessions: vec![session()],
            notes: vec!["j1 was not started again".into()],
        },
        Event::CheckpointDeleted { checkpoint: CheckpointId(1) },
        Event::RunForked { spec: spec(RUN) },
        Event::SidecarStarted { name: "db".into(), image: Some("postgres:17".into()), id: "longhaul-db".into() },
        Event::SidecarStopped { name: "db".into(), why: "it was stopped".into() },
        Event::ImageSaved { name: "trained:1".into(), id: "sha256:00".into(), left_out: vec!["the workspace".into()] },
    ]
}

fn ending() -> Vec<Event> {
    vec![
        Event::FinishClaimed {
            claim: FinishClaim {
                summary: "Trained: 0.93.".into(),
                artifacts: vec!["model.txt".into()],
                gave_up: false,
                requirements: vec![Requirement {
                    requirement: "accuracy above 0.9".into(),
                    evidence: "step 1, model.txt".into(),
                    check: Some(1),
                    missing: vec!["model.txt".into()],
                }],
            },
        },
        Event::CheckStarted { check: 0, round: 1, watched_since_ns: None },
        Event::CheckEnded { result: CheckResult { check: 0, round: 1, outcome: ran(Exit::Code(0), "accuracy 0.93") } },
        Event::ArtifactCollected {
            path: "/home/someone/project/model.txt".into(),
            stored: "model.txt".into(),
            size_bytes: 6,
            sha256: hex(b"w 0.5\n"),
        },
        Event::ArtifactRefused { path: "/etc/shadow".into(), why: "outside the workspace".into() },
        Event::Other(serde_json::json!({"type": "moon_rose", "phase": "full"})),
        Event::StopAsked { reason: ExitReason::Interrupted, why: "Ctrl-C".into() },
        Event::BoxClosed { notes: vec!["box removed".into()], removed: true },
        Event::RunEnded {
            verdict: Verdict::Verified,
            reason: ExitReason::Done,
            why: "every check passed".into(),
            answer: "The classifier reaches 0.93.".into(),
        },
    ]
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

fn session() -> SessionName {
    SessionName::new("main").expect("the story can be told")
}

pub(crate) fn ran(exit: Exit, text: &str) -> Outcome {
    let output = OutputFacts { size_bytes: 38, omitted_bytes: 0, log: "sessions/main.raw".into(), offset: 0 };
    let status = if exit.is_success() { Status::Ok } else { Status::Failed };
    Outcome {
        exit: Some(exit),
        duration_ms: 1_234,
        cwd: Some("/home/someone/project".into()),
        output: Some(output),
        ..Outcome::words(status, text)
    }
}

fn requested(requests: &mut Requests, turn: u32, request: &str) -> Event {
    let stored = requests.put(request.as_bytes()).expect("the story can be told");
    Event::ModelRequested { turn, sha256: stored.sha256, kept_bytes: stored.kept_bytes, rest: stored.rest }
}

fn answered(blobs: &Blobs, turn: u32, text: &str, calls: Vec<ToolCall>) -> Event {
    let response: BlobRef = blobs.put(format!("response {turn}").as_bytes()).expect("the story can be told");
    Event::ModelAnswered {
        turn,
        text: text.into(),
        reasoning: "First the data.".into(),
        calls,
        finish_reason: "tool_calls".into(),
        usage: Some(Usage { input_tokens: 1_200, cached_tokens: 1_000, output_tokens: 56 }),
        response,
        duration_ms: 2_500,
        opaque: Some(serde_json::json!({"kept": [1, 2.5, null]})),
    }
}

fn facts() -> BoxFacts {
    BoxFacts {
        kind: SandboxKind::Local,
        why: "no image named".into(),
        id: "4242".into(),
        image: None,
        image_digest: None,
        workspace: "/home/someone/project".into(),
        workspace_mode: "overlay".into(),
        capabilities: vec![Capability { name: "memory limit".into(), missing: Some("no cgroup delegated".into()) }],
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn reduction() -> Reduction {
    Reduction {
        cause: ReductionCause::Full,
        window_tokens: 32_768,
        before_tokens: 25_000,
        after_tokens: 9_000,
        stub_before: Some(30),
        fold_before: Some(20),
        summary: Some(Summary { by: SummaryBy::Harness, text: "## Goal\nmake it so".into() }),
        words_bytes: None,
        clip_bytes: None,
    }
}
