//! The facts a run is made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AnsweredAt, AskedNew, BoxReturn, BoxUsage, CheckResult, Checkpoint, CheckpointId, Decision, DecisionId, ExitReason,
    FileHash, Finding, FinishClaim, Job, JobEnd, JobId, NoticeKind, Outcome, Question, QuestionEnd, QuestionId,
    Reduction, Reply, RunSpec, SessionName, ToolCall, TurnedOut, Usage, Verdict, WaitRecord,
};

/// The transcript format that this program writes. A reader refuses a higher major version by name and carries unknown
/// kinds of a higher minor version through.
pub const FORMAT_MAJOR: u32 = 1;
/// See [`FORMAT_MAJOR`].
pub const FORMAT_MINOR: u32 = 4;

/// A recorded event: its place, its time, what happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// 0 for the first entry of a run, without gaps.
    pub seq: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// What happened.
    pub event: Event,
}

/// The name of a blob of the run: the SHA-256 of its content in lower-case hex, and its size before compression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRef {
    /// 64 hex digits.
    pub sha256: String,
    /// Size of the content.
    pub size_bytes: u64,
}

/// Which kind of box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxKind {
    /// A container of Docker or Podman.
    Docker,
    /// Linux namespaces over the host's own root.
    Local,
    /// No box.
    Host,
}

/// Something a box can or can't do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    /// Its name, such as `memory limit`.
    pub name: String,
    /// None where it is there; else the reason it is not, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// What is recorded of a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxFacts {
    /// Which kind.
    pub kind: SandboxKind,
    /// Why this kind, in one line.
    pub why: String,
    /// Container name or id; pid of the first process for `local`.
    pub id: String,
    /// Image name, for containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Image id or digest, for containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// The project directory inside; the same path as outside.
    pub workspace: String,
    /// How the workspace is kept from the host: `overlay`, `copy` or `bind`.
    pub workspace_mode: String,
    /// What it can do and what not.
    pub capabilities: Vec<Capability>,
}

/// A fact. Names are past tense; the JSON carries the kind in `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The first entry of every transcript.
    RunStarted {
        /// Major version of the format.
        format_major: u32,
        /// Minor version of the format.
        format_minor: u32,
        /// What was asked.
        spec: RunSpec,
    },
    /// A box is up.
    BoxOpened {
        /// What it is.
        facts: BoxFacts,
    },
    /// The box is gone, or was left.
    BoxClosed {
        /// What was removed and what could not be, in words.
        notes: Vec<String>,
        /// True if nothing remains of it but the workspace's changes.
        removed: bool,
    },
    /// A terminal session is open.
    SessionOpened {
        /// Its name.
        session: SessionName,
        /// The shell, as a path inside the box.
        shell: String,
        /// Its raw log, relative to the run's directory.
        log: String,
    },
    /// A person said something.
    UserSaid {
        /// The words.
        text: String,
        /// The name under which the message lay in the inbox, where it came from another terminal: it is taken once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mail: Option<String>,
    },
    /// The harness said something to the model: a nudge, a failed check.
    HarnessSaid {
        /// The words.
        text: String,
    },
    /// A request is on its way to the model.
    ///
    /// The request as sent (redacted, without credentials) is the first `kept_bytes` of the request before it followed
    /// by `rest`: requests mostly grow at the end, and so a run's size grows with its length and not with its square.
    ModelRequested {
        /// From 1.
        turn: u32,
        /// SHA-256 of the whole request.
        sha256: String,
        /// How much of the run's previous request this one begins with.
        kept_bytes: u64,
        /// What follows.
        rest: BlobRef,
    },
    /// The model's server has to be waited for.
    ModelDelayed {
        /// The turn.
        turn: u32,
        /// What is wrong, in words.
        why: String,
        /// Time until the next try.
        wait_ms: u64,
    },
    /// The model has answered.
    ModelAnswered {
        /// The turn.
        turn: u32,
        /// Its words; may be empty.
        text: String,
        /// Its reasoning where the server shows it; may be empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// The calls, in order; ids unique within the run.
        calls: Vec<ToolCall>,
        /// Why it ended, in the server's word.
        finish_reason: String,
        /// Tokens, where the server says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// The raw response as received.
        response: BlobRef,
        /// From the first byte sent to the last received, without waits.
        duration_ms: u64,
        /// What has to be sent back to the same server with the next request, as it came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        opaque: Option<serde_json::Value>,
    },
    /// The model gave no answer and won't without a change.
    ModelFailed {
        /// The turn.
        turn: u32,
        /// What is wrong, in words.
        why: String,
        /// What the exit code will say.
        reason: ExitReason,
    },
    /// Another model answers from here on, until the next such entry.
    ModelSwitched {
        /// The one before, as it was asked for.
        from: String,
        /// The one from here on, as it was asked for.
        to: String,
        /// Why, in words.
        why: String,
    },
    /// A person has allowed more at a limit that was reached.
    LimitsRaised {
        /// What holds from here on.
        asked: AskedNew,
    },
    /// A summary of the conversation is asked for; stored as a [`Event::ModelRequested`] is.
    SummaryRequested {
        /// SHA-256 of the whole request.
        sha256: String,
        /// How much of the run's previous request this one begins with.
        kept_bytes: u64,
        /// What follows.
        rest: BlobRef,
    },
    /// The model has written a summary.
    SummaryAnswered {
        /// Tokens, where the server says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
        /// The raw response as received; what of it counts is in the reduction that follows.
        response: BlobRef,
        /// From the first byte sent to the last received, without waits.
        duration_ms: u64,
    },
    /// The model has written no summary that can be used.
    SummaryFailed {
        /// Why, in words.
        why: String,
    },
    /// The conversation was made smaller.
    ConversationReduced {
        /// How.
        reduction: Reduction,
    },
    /// A tool call is about to take effect.
    ToolStarted {
        /// The call.
        call: ToolCall,
    },
    /// A tool call has ended.
    ToolEnded {
        /// The call's id.
        call_id: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// A call was tried and has failed in a way that may pass: the harness tries it again, so that it has no outcome yet.
    AttemptFailed {
        /// The call's id.
        call_id: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// What came of it.
        outcome: Outcome,
    },
    /// A person is asked something.
    QuestionAsked {
        /// What.
        question: Question,
    },
    /// A person has answered.
    QuestionAnswered {
        /// What.
        question: QuestionId,
        /// With what.
        reply: Reply,
        /// From where.
        at: AnsweredAt,
        /// The name under which the answer lay in the inbox, where it came from another terminal: it is taken once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mail: Option<String>,
    },
    /// A question is over without an answer.
    QuestionClosed {
        /// Which.
        question: QuestionId,
        /// How that came.
        end: QuestionEnd,
        /// Why, in words.
        why: String,
    },
    /// It was decided what is done about a failure.
    DecisionMade {
        /// What, and on what grounds.
        decision: Decision,
    },
    /// It has shown how a decision turned out.
    DecisionJudged {
        /// Which.
        decision: DecisionId,
        /// How.
        turned_out: TurnedOut,
        /// What shows it, in words.
        why: String,
    },
    /// The box was given more than it had.
    BoxGrown {
        /// Its memory limit from here on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_bytes: Option<u64>,
        /// Why, in words.
        why: String,
    },
    /// The files that the run must leave as they are were looked at before any work.
    ProtectedSeen {
        /// They.
        files: Vec<FileHash>,
        /// What the checks run: programs by name, scripts by path.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        programs: Vec<FileHash>,
    },
    /// Some of them are not as they were.
    ProtectedChanged {
        /// Which.
        paths: Vec<String>,
        /// Which of what the checks run.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        programs: Vec<String>,
    },
    /// The checks of the current round have passed, and what they looked at has changed meanwhile: they are run again.
    ChecksOutdated {
        /// The round.
        round: u32,
        /// What has changed, some of it where it is much; paths in the workspace.
        paths: Vec<String>,
        /// What runs in the box and may have done that: names of programs and sessions.
        running: Vec<String>,
    },
    /// A command has outlived its call and is a job from now on.
    JobStarted {
        /// The job.
        job: Job,
    },
    /// Something was noticed about a job.
    JobNoted {
        /// The job.
        job: JobId,
        /// What.
        finding: Finding,
    },
    /// A job has ended.
    JobEnded {
        /// The job.
        job: JobId,
        /// How.
        end: JobEnd,
    },
    /// A wait has ended.
    Waited {
        /// What came of it.
        wait: WaitRecord,
    },
    /// A person typed into a session.
    PersonTyped {
        /// The session.
        session: SessionName,
    },
    /// A session is closed.
    SessionClosed {
        /// Its name.
        session: SessionName,
        /// Why, in words.
        why: String,
    },
    /// What the box has used so far.
    BoxMeasured {
        /// The figures.
        usage: BoxUsage,
    },
    /// The harness noticed something about itself or its surroundings.
    Noticed {
        /// The kind.
        kind: NoticeKind,
        /// In words.
        text: String,
    },
    /// The run was taken up again after its driver had gone.
    RunResumed {
        /// The driver's number: each is higher than the one before.
        epoch: u64,
        /// Time since the last entry.
        away_ms: u64,
        /// How the box was found.
        found: BoxReturn,
        /// What the driver before it left in the middle, and what else is to be known, in words.
        notes: Vec<String>,
        /// What is asked for otherwise from here on.
        #[serde(default, skip_serializing_if = "AskedNew::is_nothing")]
        asked: AskedNew,
    },
    /// The run begins as the continuation of another: the entries before this one are that run's, byte for byte.
    RunForked {
        /// What is asked from here on.
        spec: RunSpec,
    },
    /// A checkpoint was taken.
    CheckpointTaken {
        /// It.
        checkpoint: Checkpoint,
    },
    /// A checkpoint is about to be restored: the box as it is goes.
    RestoreStarted {
        /// Which.
        checkpoint: CheckpointId,
        /// The one that holds what is left behind; None where nothing could be kept.
        saved: Option<CheckpointId>,
    },
    /// A checkpoint was restored.
    CheckpointRestored {
        /// Which.
        checkpoint: CheckpointId,
        /// The sessions that were opened again.
        sessions: Vec<SessionName>,
        /// What came of services and what is not as it was, in words.
        notes: Vec<String>,
    },
    /// A checkpoint was deleted.
    CheckpointDeleted {
        /// Which.
        checkpoint: CheckpointId,
    },
    /// A service beside the box was started.
    SidecarStarted {
        /// Its name, which is also its host name for the box.
        name: String,
        /// The image, for containers.
        image: Option<String>,
        /// Container name, or session.
        id: String,
    },
    /// A service beside the box is gone.
    SidecarStopped {
        /// Its name.
        name: String,
        /// Why, in words.
        why: String,
    },
    /// The box was kept as an image.
    ImageSaved {
        /// The image's name.
        name: String,
        /// Its id.
        id: String,
        /// What is not in it.
        left_out: Vec<String>,
    },
    /// The model claims to be done.
    FinishClaimed {
        /// What it says.
        claim: FinishClaim,
    },
    /// A check is about to run.
    CheckStarted {
        /// Index into the checks.
        check: usize,
        /// The round, from 1; 0 is before any work.
        round: u32,
        /// Since when it is looked at what changes beside the checks, by the clock that stamps files in nanoseconds since
        /// 1970. Only with the first check of a round, and where something runs that could change it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        watched_since_ns: Option<i64>,
    },
    /// A check has run.
    CheckEnded {
        /// How it went.
        result: CheckResult,
    },
    /// A person interrupted the turn.
    TurnInterrupted {
        /// The turn.
        turn: u32,
    },
    /// The run is to end: a signal, a second Ctrl-C, a person's `/quit`, a fault of the harness or the box.
    StopAsked {
        /// What the exit code will say.
        reason: ExitReason,
        /// One line.
        why: String,
    },
    /// A file was brought out of the box.
    ArtifactCollected {
        /// Path inside the box.
        path: String,
        /// Path below the run's `artifacts` directory.
        stored: String,
        /// Size.
        size_bytes: u64,
        /// 64 hex digits.
        sha256: String,
    },
    /// A file that was named could not be brought out.
    ArtifactRefused {
        /// Path inside the box.
        path: String,
        /// Why.
        why: String,
    },
    /// The last entry of a run that ended.
    RunEnded {
        /// The judgment.
        verdict: Verdict,
        /// What the exit code says.
        reason: ExitReason,
        /// One line: what decided.
        why: String,
        /// The model's last words or summary: what goes to stdout.
        answer: String,
    },
    /// A kind that this program does not know, as it stands in the file.
    #[serde(untagged)]
    Other(serde_json::Value),
}

macro_rules! kinds {
    ($($variant:ident $name:literal,)*) => {
        impl Event {
            /// The kinds that this program knows, as they stand in `type`.
            pub const KINDS: &[&str] = &[$($name,)*];

            /// The kind, as it stands in `type`; empty for an unknown event without one.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant { .. } => $name,)*
                    Self::Other(value) => value.get("type").and_then(serde_json::Value::as_str).unwrap_or_default(),
                }
            }
        }
    };
}

kinds! {
    RunStarted "run_started",
    BoxOpened "box_opened",
    BoxClosed "box_closed",
    SessionOpened "session_opened",
    UserSaid "user_said",
    HarnessSaid "harness_said",
    ModelRequested "model_requested",
    ModelDelayed "model_delayed",
    ModelAnswered "model_answered",
    ModelFailed "model_failed",
    ModelSwitched "model_switched",
    LimitsRaised "limits_raised",
    SummaryRequested "summary_requested",
    SummaryAnswered "summary_answered",
    SummaryFailed "summary_failed",
    ConversationReduced "conversation_reduced",
    ToolStarted "tool_started",
    ToolEnded "tool_ended",
    AttemptFailed "attempt_failed",
    QuestionAsked "question_asked",
    QuestionAnswered "question_answered",
    QuestionClosed "question_closed",
    DecisionMade "decision_made",
    DecisionJudged "decision_judged",
    BoxGrown "box_grown",
    ProtectedSeen "protected_seen",
    ProtectedChanged "protected_changed",
    ChecksOutdated "checks_outdated",
    JobStarted "job_started",
    JobNoted "job_noted",
    JobEnded "job_ended",
    Waited "waited",
    PersonTyped "person_typed",
    SessionClosed "session_closed",
    BoxMeasured "box_measured",
    Noticed "noticed",
    RunResumed "run_resumed",
    RunForked "run_forked",
    CheckpointTaken "checkpoint_taken",
    RestoreStarted "restore_started",
    CheckpointRestored "checkpoint_restored",
    CheckpointDeleted "checkpoint_deleted",
    SidecarStarted "sidecar_started",
    SidecarStopped "sidecar_stopped",
    ImageSaved "image_saved",
    FinishClaimed "finish_claimed",
    CheckStarted "check_started",
    CheckEnded "check_ended",
    TurnInterrupted "turn_interrupted",
    ArtifactCollected "artifact_collected",
    ArtifactRefused "artifact_refused",
    StopAsked "stop_asked",
    RunEnded "run_ended",
}
