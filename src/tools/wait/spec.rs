//! What a `wait` call asks for, checked against the jobs and sessions that there are.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use regex::Regex;

use super::{Args, Becomes, Idle, WakeOn};
use crate::domain::{JobId, SessionName};
use crate::guest::{Condition, FileChange};
use crate::terminal::JobView;
use crate::terminal::wait::{WaitFor, WaitSpec};
use crate::tools::path::resolve;

/// Longest span of time that can be asked for: a year.
const LONGEST_S: f64 = 366.0 * 86_400.0;

/// What there is.
pub(super) struct Known<'a> {
    /// The jobs, by id.
    pub(super) jobs: &'a [JobView],
    /// The sessions.
    pub(super) sessions: &'a [SessionName],
    /// The project directory inside the box.
    pub(super) workspace: &'a str,
}

/// Turns arguments into a wait.
///
/// # Errors
/// Words by which the model can correct itself.
pub(super) fn spec(args: &Args, known: &Known<'_>) -> Result<WaitSpec, String> {
    let mut conditions = Vec::new();
    for (place, names) in [("exit", &args.exit), ("all", &args.all)] {
        let Some(names) = names else { continue };
        let jobs = names.iter().map(|name| known.job(place, name)).collect::<Result<BTreeSet<_>, _>>()?;
        if jobs.is_empty() {
            return Err(format!("{place}: names no job; {}", known.listed()));
        }
        conditions.push(if place == "exit" { WaitFor::AnyEnd(jobs) } else { WaitFor::AllEnd(jobs) });
    }
    if let Some(name) = &args.ready {
        conditions.push(WaitFor::Ready(known.job_with_probe(name)?));
    }
    if let Some(output) = &args.output {
        let pattern = Regex::new(&output.pattern).map_err(|error| format!("output.pattern: {error}"))?;
        let jobs = known.job_or_all("output.job", output.job.as_deref())?;
        conditions.push(WaitFor::Output { pattern, jobs });
    }
    if let Some(silence) = &args.silence {
        let lasting = seconds("silence.for_s", silence.for_s)?;
        let jobs = known.job_or_all("silence.job", silence.job.as_deref())?;
        conditions.push(WaitFor::Silence { lasting, jobs });
    }
    if let Some(name) = &args.input {
        conditions.push(known.input(name)?);
    }
    conditions.extend(seen(args, known.workspace)?.into_iter().map(WaitFor::Seen));
    let deadline = args.deadline_s.map(|deadline| seconds("deadline_s", deadline)).transpose()?;
    let until = args.until.as_deref().map(moment).transpose()?;
    if let Some(expected) = args.expected_s {
        seconds("expected_s", expected)?;
    }
    let problems = args.wake_on != Some(WakeOn::Conditions);
    let spec = WaitSpec { conditions, deadline, until, problems, any_end: true, ended_before: None };
    known.must_end(&spec)?;
    Ok(spec)
}

impl Known<'_> {
    /// The job of that id, or that which runs in the session of that name, or the last one that did.
    fn job(&self, place: &str, name: &str) -> Result<JobId, String> {
        let by_id = name.parse::<JobId>().ok().and_then(|id| self.jobs.iter().find(|view| view.job.id == id));
        let mut of_session = self.jobs.iter().rev().filter(|view| view.job.session.as_str() == name);
        let live = of_session.clone().find(|view| view.end.is_none());
        let found = by_id.or(live).or_else(|| of_session.next());
        found
            .map(|view| view.job.id)
            .ok_or_else(|| format!("{place}: there is no job `{}`; {}", cut(name), self.listed()))
    }

    fn job_with_probe(&self, name: &str) -> Result<JobId, String> {
        let id = self.job("ready", name)?;
        let has_probe = |view: &&JobView| view.job.id == id && view.ready.is_some();
        if self.jobs.iter().any(|view| has_probe(&view)) {
            return Ok(id);
        }
        Err(format!(
            "ready: {id} has no probe; start it with `ready` in its shell call, or wait for `port`, `http` or `output`"
        ))
    }

    fn job_or_all(&self, place: &str, name: Option<&str>) -> Result<BTreeSet<JobId>, String> {
        if let Some(name) = name {
            return Ok(BTreeSet::from([self.job(place, name)?]));
        }
        let live: BTreeSet<_> = self.live().map(|view| view.job.id).collect();
        if live.is_empty() {
            return Err(format!("{place}: no job runs whose output could be watched; {}", self.listed()));
        }
        Ok(live)
    }

    fn input(&self, name: &str) -> Result<WaitFor, String> {
        let live = self.live().find(|view| view.job.id.to_string() == name || view.job.session.as_str() == name);
        if let Some(view) = live {
            return Ok(WaitFor::Input { session: view.job.session.clone(), job: Some(view.job.id) });
        }
        let found = self.sessions.iter().find(|session| session.as_str() == name).cloned();
        found.map(|session| WaitFor::Input { session, job: None }).ok_or_else(|| {
            let names: Vec<_> = self.sessions.iter().map(SessionName::as_str).collect();
            let there = if names.is_empty() { "there is none".to_owned() } else { names.join(", ") };
            format!("input: no job `{0}` runs and there is no session `{0}`; sessions: {there}", cut(name))
        })
    }

    fn live(&self) -> impl Iterator<Item = &JobView> {
        self.jobs.iter().filter(|view| view.end.is_none())
    }

    /// A wait that nothing can end makes no sense.
    fn must_end(&self, spec: &WaitSpec) -> Result<(), String> {
        let has_limit = spec.deadline.is_some() || spec.until.is_some();
        let about_jobs = |condition: &WaitFor| !matches!(condition, WaitFor::Input { .. } | WaitFor::Seen(_));
        if has_limit || self.live().next().is_some() || spec.conditions.iter().any(about_jobs) {
            return Ok(());
        }
        if spec.conditions.is_empty() {
            return Err(format!(
                "nothing to wait for: no job runs, and no condition and no limit is given; {}",
                self.listed()
            ));
        }
        Err("deadline_s: no job runs whose end would end this wait, so it needs a limit".to_owned())
    }

    /// The jobs in words.
    fn listed(&self) -> String {
        if self.jobs.is_empty() {
            return "there are no jobs: a command becomes one when its shell call returns while it runs".to_owned();
        }
        let one = |view: &JobView| {
            let state = match &view.end {
                None => "runs".to_owned(),
                Some(end) => end.exit.map_or("ended".to_owned(), |exit| exit.to_string()),
            };
            format!("{} (session {}, {state})", view.job.id, view.job.session)
        };
        // The latest are the ones that can be meant.
        let from = self.jobs.len().saturating_sub(10);
        format!("jobs: {}", self.jobs[from..].iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

/// The conditions that the guest sees.
fn seen(args: &Args, workspace: &str) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    if let Some(port) = &args.port {
        let number = port_number("port.port", port.port)?;
        let host = port.host.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
        conditions.push(Condition::Port { host, port: number });
    }
    if let Some(http) = &args.http {
        conditions.push(Condition::Http {
            url: url("http.url", &http.url)?,
            status: http.status.map(|status| status_code("http.status", status)).transpose()?,
        });
    }
    if let Some(file) = &args.file {
        if file.path.is_empty() {
            return Err("file.path: is empty".to_owned());
        }
        let change = match file.becomes {
            None | Some(Becomes::Exists) => FileChange::Exists,
            Some(Becomes::Changes) => FileChange::Changes,
            Some(Becomes::Gone) => FileChange::Gone,
        };
        conditions.push(Condition::File { path: resolve(workspace, &file.path), change });
    }
    if let Some(idle) = &args.cpu_idle {
        let (below_percent, for_ms) = at_rest("cpu_idle", idle)?;
        conditions.push(Condition::CpuIdle { below_percent, for_ms });
    }
    if let Some(idle) = &args.gpu_idle {
        let (below_percent, for_ms) = at_rest("gpu_idle", idle)?;
        conditions.push(Condition::GpuIdle { below_percent, for_ms });
    }
    Ok(conditions)
}

fn at_rest(place: &str, idle: &Idle) -> Result<(f64, u64), String> {
    let percent = idle.below_percent;
    if !(percent > 0.0 && percent <= 1_000_000.0) {
        return Err(format!("{place}.below_percent: {percent} is not more than 0"));
    }
    let lasting = seconds(&format!("{place}.for_s"), idle.for_s)?;
    Ok((percent, u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX)))
}

/// A span of time.
pub(in crate::tools) fn seconds(place: &str, seconds: f64) -> Result<Duration, String> {
    if (0.0..=LONGEST_S).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(format!("{place}: {seconds} is not between 0 and {LONGEST_S} seconds"))
}

/// A port.
pub(in crate::tools) fn port_number(place: &str, port: i64) -> Result<u16, String> {
    let number = u16::try_from(port).ok().filter(|port| *port > 0);
    number.ok_or_else(|| format!("{place}: {port} is not a port: those are 1 to 65535"))
}

/// An HTTP status.
pub(in crate::tools) fn status_code(place: &str, status: i64) -> Result<u16, String> {
    let code = u16::try_from(status).ok().filter(|code| (100..600).contains(code));
    code.ok_or_else(|| format!("{place}: {status} is not an HTTP status: those are 100 to 599"))
}

/// A URL of a kind that can be asked.
pub(in crate::tools) fn url(place: &str, url: &str) -> Result<String, String> {
    let uri = url.parse::<http::Uri>().ok();
    let fits = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
    if fits { Ok(url.to_owned()) } else { Err(format!("{place}: `{}` is not an http:// or https:// URL", cut(url))) }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.trim().parse().map_err(|_| {
        format!(
            "until: `{}` is not a moment with its zone, such as 2026-11-23T09:00Z or 2026-11-23T09:00+01:00",
            cut(text)
        )
    })
}

/// The beginning of a text that may be of any length.
fn cut(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(80).chain(['…']).collect() }
}
