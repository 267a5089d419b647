//! The steps of a run, read back from its transcript when somebody asks for them. What is kept in memory of a step is
//! where it stands.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::RunDir;
use super::line::RawLine;
use super::reader::{LONGEST_LINE, event_of};
use crate::domain::{Entry, Event, Job, JobEnd, JobId, PastStep, call_work};

/// Why a step can't be had.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The transcript can't be read.
    #[error("the transcript cannot be read")]
    Io(#[from] io::Error),
    /// What stands there is not what was recorded.
    #[error("the transcript is damaged where the step stands")]
    Damaged,
    /// So many steps there are.
    #[error("there is no step {asked}: the run has {there} so far")]
    NoSuchStep {
        /// What was asked for.
        asked: u64,
        /// How many there are.
        there: u64,
    },
}

/// Where a step stands in the transcript, in bytes from its beginning.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The answer that asked for it.
    answered: u64,
    /// Which call of that answer, from 0.
    nth: u32,
    /// A hash of the call's id.
    id: u64,
    /// Its end, once it has one.
    ended: Option<u64>,
    /// The job that it became: where that began and ended.
    job: Option<(u64, Option<u64>)>,
}

/// The steps of one run. Reads what was added since it was last asked, and what it is asked for.
#[derive(Debug)]
pub struct Steps {
    run: PathBuf,
    /// How much of the transcript is in the index.
    read: u64,
    places: Vec<Place>,
    /// Steps without an end, by the ids of their calls.
    open: BTreeMap<String, usize>,
    /// Steps under way, by the names under which the box knows them.
    works: BTreeMap<String, usize>,
    /// Steps whose jobs run.
    jobs: BTreeMap<JobId, usize>,
}

impl Steps {
    /// Of a run; reads nothing yet.
    pub fn of(run: &RunDir) -> Self {
        Self::at(run.path())
    }

    /// Of the run in a directory.
    pub fn at(run: &Path) -> Self {
        let (open, works, jobs) = Default::default();
        Self { run: run.to_owned(), read: 0, places: Vec::new(), open, works, jobs }
    }

    /// The run's directory, to which the logs' names in outcomes are relative.
    pub fn dir(&self) -> &Path {
        &self.run
    }

    /// How many there are.
    ///
    /// # Errors
    /// [`StepError::Io`], [`StepError::Damaged`].
    pub fn count(&mut self) -> Result<u64, StepError> {
        self.read_on()?;
        Ok(self.places.len() as u64)
    }

    /// The step with that number, from 1.
    ///
    /// # Errors
    /// [`StepError`].
    pub fn step(&mut self, number: u64) -> Result<PastStep, StepError> {
        self.read_on()?;
        let there = self.places.len() as u64;
        let place = number.checked_sub(1).and_then(|at| self.places.get(usize::try_from(at).ok()?));
        let place = *place.ok_or(StepError::NoSuchStep { asked: number, there })?;
        let mut file = self.open_file()?;
        let asked = entry_at(&mut file, place.answered)?;
        let Event::ModelAnswered { mut calls, .. } = asked.event else { return Err(StepError::Damaged) };
        let nth = usize::try_from(place.nth).ok().filter(|nth| *nth < calls.len()).ok_or(StepError::Damaged)?;
        let call = calls.swap_remove(nth);
        let outcome = match place.ended {
            None => None,
            Some(at) => match entry_at(&mut file, at)?.event {
                Event::ToolEnded { outcome, .. } => Some(outcome),
                _ => return Err(StepError::Damaged),
            },
        };
        let job = match place.job {
            None => None,
            Some((began, ended)) => Some(job_at(&mut file, began, ended)?),
        };
        Ok(PastStep { number, call, asked: asked.time, outcome, job })
    }

    /// The number of the step whose call has that id.
    ///
    /// # Errors
    /// [`StepError::Io`], [`StepError::Damaged`].
    pub fn number_of(&mut self, call_id: &str) -> Result<Option<u64>, StepError> {
        self.read_on()?;
        let wanted = hash(call_id);
        let alike: Vec<usize> = (0..self.places.len()).filter(|at| self.places[*at].id == wanted).collect();
        for at in alike {
            let step = self.step(at as u64 + 1)?;
            if step.call.id == call_id {
                return Ok(Some(step.number));
            }
        }
        Ok(None)
    }

    /// Takes in what was recorded since the last look.
    fn read_on(&mut self) -> Result<(), StepError> {
        let mut file = self.open_file()?;
        if file.get_ref().metadata()?.len() <= self.read {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
            // A line that is just being written has no end yet.
            if line.pop_if(|last| *last == b'\n').is_none() {
                return Ok(());
            }
            self.take(&line)?;
            self.read += length;
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), StepError> {
        let raw = std::str::from_utf8(line).ok().and_then(RawLine::parse).ok_or(StepError::Damaged)?;
        let kind = raw.event.strip_prefix("{\"type\":\"").and_then(|rest| rest.split_once('"')).map(|(kind, _)| kind);
        match kind {
            Some("model_answered") => {
                let answered: Answered = read(raw.event)?;
                for (nth, call) in answered.calls.into_iter().enumerate() {
                    self.open.insert(call.id.clone(), self.places.len());
                    let (answered, nth) = (self.read, u32::try_from(nth).map_err(|_| StepError::Damaged)?);
                    self.places.push(Place { answered, nth, id: hash(&call.id), ended: None, job: None });
                }
            }
            Some("tool_started") => {
                let started: Started = read(raw.event)?;
                if let Some(at) = self.open.get(&started.call.id) {
                    self.works.insert(format!("c{}", raw.seq), *at);
                }
            }
            Some("tool_ended") => {
                let ended: Ended = read(raw.event)?;
                if let Some(at) = self.open.remove(&ended.call_id) {
                    self.places[at].ended = Some(self.read);
                    self.works.retain(|_, step| *step != at);
                }
            }
            Some("job_started") => {
                let JobStarted { job } = read(raw.event)?;
                if let Some(at) = self.works.get(call_work(&job.work)) {
                    self.places[*at].job = Some((self.read, None));
                    self.jobs.insert(job.id, *at);
                }
            }
            Some("job_ended") => {
                let ended: JobEnded = read(raw.event)?;
                if let Some(at) = self.jobs.remove(&ended.job)
                    && let Some((_, end)) = &mut self.places[at].job
                {
                    *end = Some(self.read);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn open_file(&self) -> io::Result<BufReader<File>> {
        Ok(BufReader::with_capacity(1 << 16, File::open(self.run.join("journal.jsonl"))?))
    }
}

#[derive(Deserialize)]
struct Answered {
    calls: Vec<CallId>,
}

#[derive(Deserialize)]
struct CallId {
    id: String,
}

#[derive(Deserialize)]
struct Started {
    call: CallId,
}

#[derive(Deserialize)]
struct Ended {
    call_id: String,
}

#[derive(Deserialize)]
struct JobStarted {
    job: JobName,
}

#[derive(Deserialize)]
struct JobName {
    id: JobId,
    work: String,
}

#[derive(Deserialize)]
struct JobEnded {
    job: JobId,
}

fn read<'a, T: Deserialize<'a>>(event: &'a str) -> Result<T, StepError> {
    serde_json::from_str(event).map_err(|_| StepError::Damaged)
}

fn hash(call_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    call_id.hash(&mut hasher);
    hasher.finish()
}

/// The entry whose line begins there, proved by its own hash.
fn entry_at(file: &mut BufReader<File>, at: u64) -> Result<Entry, StepError> {
    file.seek(SeekFrom::Start(at))?;
    let mut line = Vec::new();
    file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    line.pop_if(|last| *last == b'\n');
    let raw = std::str::from_utf8(&line).ok().and_then(RawLine::parse).ok_or(StepError::Damaged)?;
    if raw.computed_hash() != raw.hash {
        return Err(StepError::Damaged);
    }
    let time = raw.time.parse().map_err(|_| StepError::Damaged)?;
    let event = event_of(raw.event).map_err(|_| StepError::Damaged)?;
    Ok(Entry { seq: raw.seq, time, event })
}

fn job_at(file: &mut BufReader<File>, began: u64, ended: Option<u64>) -> Result<(Job, Option<JobEnd>), StepError> {
    let Event::JobStarted { job } = entry_at(file, began)?.event else { return Err(StepError::Damaged) };
    let end = match ended {
        None => None,
        Some(at) => match entry_at(file, at)?.event {
            Event::JobEnded { end, .. } => Some(end),
            _ => return Err(StepError::Damaged),
        },
    };
    Ok((job, end))
}
