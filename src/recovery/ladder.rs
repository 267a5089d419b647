//! What is done about a failure: the ways that its class allows, the best first, each with what speaks for it or why it is
//! left out. The first that is left is taken, unless it is an act of the harness that nobody can be sure of: then a person
//! is asked.
//!
//! No way is taken in more than two calls for the same failure, and what credentials, quotas and permissions have refused is
//! never run again by the harness.

use std::time::Duration;

use jiff::Timestamp;

use super::confidence::{Grounds, confidence};
use super::decisions::{Decisions, is_of_names};
use crate::domain::{
    CheckpointId, Decision, Effect, Failure, FailureClass, Lesson, Level, Reaction, Weighed, duration_words, size_words,
};

/// A command is run so often by the harness, the first time included.
pub const MOST_TRIES: u32 = 5;
/// How often a run's harness tries again by itself, where nothing else is said.
pub const DEFAULT_MAX_RETRIES: u32 = 20;
/// The same is done so often for the same failure.
const MOST_TIMES: u32 = 2;
/// The first wait; each one after it is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// No wait is longer, unless the other side says so.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Nobody parks longer than this without being asked.
const LONGEST_PARK: Duration = Duration::from_secs(24 * 3600);
/// Waits are up to this share longer, so that many runs do not come back at once.
const JITTER: f64 = 0.1;

/// Whether the box can be given more memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// It can.
    Grows {
        /// Its limit.
        from: u64,
        /// What the limit can be.
        to: u64,
    },
    /// It can't, for this reason.
    Full(String),
}

/// A failure, and all that is known when it is decided about.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    /// The call that failed.
    pub call_id: &'a str,
    /// What it comes from.
    pub failure: &'a Failure,
    /// How far the command reaches.
    pub effect: Effect,
    /// Whether it may be run again as it is.
    pub is_repeatable: bool,
    /// What was decided before.
    pub past: &'a Decisions,
    /// What earlier runs have learned of this failure.
    pub lessons: &'a [Lesson],
    /// How often it was the end of a call before.
    pub repeats: u32,
    /// Whether it comes from another place than the last time.
    pub moved: bool,
    /// For how long the other side says to wait.
    pub told: Option<Duration>,
    /// The time.
    pub now: Timestamp,
    /// How often the harness may try again in this run.
    pub max_retries: u32,
    /// What is left of the run's time.
    pub time_left: Option<Duration>,
    /// What is left of the limit that is nearest, from 0 to 1.
    pub budget_left: f64,
    /// Whether something outside the model's reach proves the goal in the end.
    pub has_checks: bool,
    /// Whether the box can be given more memory.
    pub memory: Memory,
    /// What the box can be brought back to.
    pub snapshot: Option<CheckpointId>,
    /// Whether the box sees the world's network.
    pub has_network: bool,
    /// Whether the command speaks to the box itself.
    pub is_own: bool,
    /// The project directory.
    pub workspace: &'a str,
    /// Entries and other places that show it.
    pub evidence: Vec<String>,
}

/// A way on.
struct Way {
    reaction: Reaction,
    /// What speaks for it, or why it is left out.
    why: Result<String, String>,
}

/// Decides. None where nothing is left to be decided: the model has been told all, and goes its own way.
pub fn decide(case: &Case<'_>) -> Option<Decision> {
    let ways = ways(case);
    let best = ways.iter().position(|way| way.why.is_ok())?;
    let grounds = |reaction: &Reaction| grounds(case, reaction);
    let mut chosen = ways[best].reaction.clone();
    let mut sure = confidence(&grounds(&chosen));
    let mut options: Vec<Weighed> = ways.into_iter().map(Weighed::from).collect();
    if is_act(&chosen) && is_too_unsure(sure.level, case.effect) {
        let ask = ask(case);
        if ask.why.is_ok() {
            options[best].why.push_str("; but nobody can be sure enough of it");
            options.retain(|option| option.reaction != Reaction::Ask);
            chosen = ask.reaction.clone();
            sure = confidence(&grounds(&Reaction::RetryAsIs { after_ms: 0 }));
            options.insert(best + 1, Weighed::from(ask));
        }
    }
    let mut evidence = vec![case.failure.evidence.clone()];
    evidence.extend(case.evidence.iter().cloned());
    Some(Decision {
        id: case.past.next_id(),
        call_id: Some(case.call_id.to_owned()),
        class: case.failure.class,
        fingerprint: case.failure.fingerprint.clone(),
        evidence,
        options,
        expected: expected(&chosen).to_owned(),
        confidence: sure,
        chosen,
    })
}

/// Whether what mends this failure may make things worse, so that a way back is worth its price.
pub fn wants_snapshot(case: &Case<'_>) -> bool {
    matches!(case.failure.class, FailureClass::VersionConflict | FailureClass::WrongResult)
        && case.past.tried(&case.failure.fingerprint, "fix_forward", case.moved) == 0
}

impl From<Way> for Weighed {
    fn from(way: Way) -> Self {
        let why = match way.why {
            Ok(why) => why,
            Err(why) => format!("left out: {why}"),
        };
        Self { reaction: way.reaction, why }
    }
}

/// What the harness does by itself needs evidence; what the model does is looked at when it does it.
fn is_act(reaction: &Reaction) -> bool {
    reaction.is_try() || matches!(reaction, Reaction::RollBack { .. })
}

fn is_too_unsure(level: Level, effect: Effect) -> bool {
    match level {
        Level::High => false,
        Level::Medium => effect > Effect::Workspace,
        Level::Low => true,
    }
}

/// The ways that a class allows, the best first.
fn ways(case: &Case<'_>) -> Vec<Way> {
    match case.failure.class {
        FailureClass::Network if is_own_service(case) => {
            vec![
                left_out(retry(case), "nothing listens there yet"),
                fix(case, "what listens there has to be started"),
                abort(case),
            ]
        }
        FailureClass::Network if !case.has_network => {
            let out = "the box sees no network";
            vec![left_out(retry(case), out), fix(case, "it has to be done without the network"), abort(case)]
        }
        FailureClass::Network if is_of_names(case.failure) && case.past.names_failed() => {
            let out = "no name was to be resolved twice: that is how the network is set up, and does not pass";
            vec![left_out(retry(case), out), ask(case), abort(case)]
        }
        FailureClass::Network | FailureClass::LostHost => vec![retry(case), fix(case, "another source"), ask(case)],
        FailureClass::RateLimit => vec![park(case), fix(case, "less at a time, or another source"), ask(case)],
        FailureClass::Quota | FailureClass::Auth => {
            vec![left_out(retry(case), "the same is refused again"), ask(case), abort(case)]
        }
        FailureClass::Permission if is_beyond(case) => {
            vec![left_out(retry(case), "the same is refused again"), ask(case), abort(case)]
        }
        FailureClass::Permission => vec![fix(case, "what is its own can be made accessible"), abort(case)],
        FailureClass::Oom => vec![grow(case), fix(case, "its footprint has to be cut"), ask(case)],
        FailureClass::VersionConflict | FailureClass::WrongResult => {
            vec![fix(case, "on a snapshot, at most twice"), roll_back(case), ask(case)]
        }
        FailureClass::CudaOom | FailureClass::DiskFull | FailureClass::ResourceLimit => {
            vec![fix(case, "it has to need less, or make room with what is its own"), ask(case)]
        }
        FailureClass::GpuFault | FailureClass::Environment => {
            vec![fix(case, "another device or another image"), ask(case)]
        }
        FailureClass::MissingDependency
        | FailureClass::Build
        | FailureClass::NotFound
        | FailureClass::Crash
        | FailureClass::Timeout
        | FailureClass::Hang
        | FailureClass::Interrupted => {
            vec![left_out(retry(case), "the same again fails again"), fix(case, "the cause can be mended"), abort(case)]
        }
        // A command that says no by its exit code alone, such as `grep`, is no trouble yet.
        FailureClass::Unknown if case.repeats == 0 => Vec::new(),
        FailureClass::Unknown => vec![fix(case, "the model may find out what it is"), abort(case)],
    }
}

fn left_out(way: Way, why: &str) -> Way {
    Way { why: Err(why.to_owned()), ..way }
}

/// Why a reaction can't come once more, if it can't.
fn used_up(case: &Case<'_>, action: &str, most: u32) -> Result<(), String> {
    let fingerprint = &case.failure.fingerprint;
    let is_series = matches!(action, "retry_as_is" | "park");
    if is_series && case.past.is_tried_in(Some(case.call_id), fingerprint, action) {
        return Ok(());
    }
    match case.past.tried(fingerprint, action, case.moved) {
        times if times < most => Ok(()),
        1 => Err("it was done once for this failure".to_owned()),
        times => Err(format!("it was done {times} times for this failure")),
    }
}

/// What every further try by the harness needs.
fn may_try_again(case: &Case<'_>, action: &str, wait: Duration) -> Result<(), String> {
    if !case.is_repeatable {
        return Err("it is not known to do no harm when it comes twice".to_owned());
    }
    if case.past.retries() >= case.max_retries {
        return Err(format!("the run's {} retries are used up", case.max_retries));
    }
    used_up(case, action, MOST_TIMES)?;
    match case.time_left {
        Some(left) if left <= wait => Err("the run's time is over before".to_owned()),
        _ => Ok(()),
    }
}

fn retry(case: &Case<'_>) -> Way {
    let nth = case.past.retries_of(case.call_id);
    let wait = back_off(nth, case.call_id).max(case.told.unwrap_or_default());
    let allowed = match nth + 1 >= MOST_TRIES {
        true => Err(format!("it was tried {MOST_TRIES} times")),
        false => may_try_again(case, "retry_as_is", wait),
    };
    let after_ms = millis(wait);
    let why = allowed.map(|()| format!("it may pass by itself: try {} of {MOST_TRIES}", nth + 2));
    Way { reaction: Reaction::RetryAsIs { after_ms }, why }
}

fn park(case: &Case<'_>) -> Way {
    let Some(told) = case.told else { return retry(case) };
    let wait = told + told.mul_f64(JITTER * share_of(case.call_id)).min(FIRST_WAIT);
    let until = case.now.checked_add(wait).unwrap_or(case.now);
    let allowed = match wait > LONGEST_PARK {
        true => Err(format!("it is to be waited for {}", duration_words(millis(told)))),
        false => may_try_again(case, "park", wait),
    };
    let why = allowed.map(|()| format!("the other side says to come back in {}", duration_words(millis(told))));
    Way { reaction: Reaction::Park { until }, why }
}

fn grow(case: &Case<'_>) -> Way {
    let what =
        |from: u64, to: u64| format!("a memory limit of {} in the place of {}", size_words(to), size_words(from));
    match &case.memory {
        Memory::Grows { from, to } => {
            let why = used_up(case, "retry_changed", MOST_TIMES).map(|()| "its limit can be raised".to_owned());
            Way { reaction: Reaction::RetryChanged { what: what(*from, *to) }, why }
        }
        Memory::Full(why) => {
            Way { reaction: Reaction::RetryChanged { what: "more memory".to_owned() }, why: Err(why.clone()) }
        }
    }
}

fn fix(case: &Case<'_>, why: &str) -> Way {
    let known = case.lessons.iter().find(|lesson| lesson.action == "fix_forward" && lesson.worked > 0);
    let why = match known {
        Some(lesson) => format!("{why}; that worked {} of {} times in earlier runs", lesson.worked, lesson.tried),
        None => why.to_owned(),
    };
    let why = used_up(case, "fix_forward", MOST_TIMES).map(|()| why);
    let from = case.snapshot.or_else(|| case.past.snapshot_of(&case.failure.fingerprint));
    Way { reaction: Reaction::FixForward { from }, why }
}

fn roll_back(case: &Case<'_>) -> Way {
    let Some(to) = case.past.snapshot_of(&case.failure.fingerprint).or(case.snapshot) else {
        return Way {
            reaction: Reaction::RollBack { to: CheckpointId(0) },
            why: Err("there is no checkpoint".to_owned()),
        };
    };
    let why =
        used_up(case, "roll_back", 1).map(|()| "what was tried has not helped: another path from there".to_owned());
    Way { reaction: Reaction::RollBack { to }, why }
}

fn ask(case: &Case<'_>) -> Way {
    let why = used_up(case, "ask", MOST_TIMES).map(|()| "only a person can help".to_owned());
    Way { reaction: Reaction::Ask, why }
}

fn abort(case: &Case<'_>) -> Way {
    let why = used_up(case, "abort", MOST_TIMES).map(|()| "this way is given up: the model takes another".to_owned());
    Way { reaction: Reaction::Abort, why }
}

/// Whether something in the box itself is to answer, and does not: the model starts it and waits for it.
fn is_own_service(case: &Case<'_>) -> bool {
    let evidence = case.failure.evidence.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| evidence.contains(word));
    (case.is_own || says(&["localhost", "127.0.0.1", "[::1]"]))
        && says(&["refused", "couldn't connect", "failed to connect"])
}

/// Whether what may not be done lies outside the workspace, and is more than a look.
fn is_beyond(case: &Case<'_>) -> bool {
    if case.effect == Effect::None {
        return false;
    }
    let words = case.failure.evidence.split(|c: char| c.is_whitespace() || "'\"`:()".contains(c));
    let mut paths = words.filter(|word| word.starts_with('/') && word.len() > 1).peekable();
    match paths.peek() {
        Some(_) => paths.all(|path| !path.starts_with(case.workspace)),
        None => case.effect > Effect::Workspace,
    }
}

fn grounds(case: &Case<'_>, reaction: &Reaction) -> Grounds {
    let action = reaction.name();
    let lessons = case.lessons.iter().filter(|lesson| lesson.action == action);
    let (worked, of) = case.past.worked(&case.failure.fingerprint, action);
    let worked = lessons.fold((worked, of), |(worked, of), lesson| (worked + lesson.worked, of + lesson.tried));
    let effect = match reaction {
        reaction if reaction.is_try() => case.effect,
        Reaction::FixForward { .. } | Reaction::RollBack { .. } => Effect::Workspace,
        _ => Effect::None,
    };
    Grounds {
        has_checks: case.has_checks,
        repeats: case.repeats,
        ways_failed: case.past.ways_failed(&case.failure.fingerprint),
        worked,
        effect,
        moved: case.moved,
        budget_left: case.budget_left,
    }
}

fn expected(reaction: &Reaction) -> &'static str {
    match reaction {
        Reaction::RetryAsIs { .. } | Reaction::Park { .. } => "the same command succeeds",
        Reaction::RetryChanged { .. } => "the same command comes to its end with more memory",
        Reaction::FixForward { .. } => "the command succeeds once its cause is mended",
        Reaction::RollBack { .. } => "another path from there does not meet the failure",
        Reaction::Ask => "a person says how to go on",
        Reaction::Abort => "the goal is reached without it",
    }
}

/// The wait before the try after `nth` ones.
fn back_off(nth: u32, seed: &str) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(nth)).min(LONGEST_WAIT);
    wait + wait.mul_f64(JITTER * share_of(seed))
}

/// From 0 to 1, by a name: different runs and calls wait differently, the same one always alike.
fn share_of(seed: &str) -> f64 {
    let sum = seed.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    f64::from(sum % 1000) / 1000.0
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
