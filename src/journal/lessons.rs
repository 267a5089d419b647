//! What was learned across runs, in one file beside them: `lessons.json` in the state directory.
//!
//! It helps and is never needed: a file that can't be read is set aside, one that can't be written is written later, and
//! no run waits for it. An experience counts once, however often its run is taken up again.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::{Entry, Experience, Learning, Lesson, RunId, TurnedOut};

/// The version of the file's form. What is newer is left alone.
const VERSION: u32 = 1;
/// Most lessons that are kept; those that were of use last stay.
const MOST_LESSONS: usize = 4_000;
/// Most runs of which it is known how far they were learned from; the newest stay.
const MOST_RUNS: usize = 2_000;
/// A file that is larger was not written by this program.
const LARGEST: u64 = 64 << 20;

/// Why what was learned can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum LessonsError {
    /// The system says no.
    #[error("cannot keep what was learned in {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it for longer than is waited for.
    #[error("another process writes what was learned to {0}")]
    Busy(String),
    /// A later version of this program wrote it.
    #[error("what was learned in {0} was written by a later version of this program")]
    Newer(String),
}

/// What was learned, and what this run adds to it.
#[derive(Debug, Default)]
pub struct Lessons {
    /// None where nothing is remembered.
    file: Option<PathBuf>,
    book: Book,
    learning: Learning,
    /// Learned and not written yet.
    pending: Vec<Experience>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    lessons: Vec<Lesson>,
    /// The last entry of each run that was learned from.
    #[serde(default)]
    counted: BTreeMap<RunId, u64>,
}

/// What was found of what was learned.
#[derive(Debug)]
pub struct OpenedLessons {
    /// It.
    pub lessons: Lessons,
    /// What is to be known of it, in words: a file that was set aside, or is of a later version.
    pub notice: Option<String>,
}

impl Lessons {
    /// Reads what was learned by the runs of a state directory, which need not exist yet. A damaged file is set aside.
    /// Nothing is remembered where the file can't be read.
    pub fn open(state_dir: &Path) -> OpenedLessons {
        let file = state_dir.join("lessons.json");
        let off = |notice: String| OpenedLessons { lessons: Self::off(), notice: Some(notice) };
        let (book, notice) = match Book::read(&file) {
            Ok(book) => (book, None),
            Err(Unread::Damaged) => match set_aside(&file) {
                Ok(aside) => {
                    let aside = aside.display();
                    (Book::default(), Some(format!("what was learned was damaged and is set aside as {aside}")))
                }
                Err(error) => return off(in_words(&LessonsError::Io { path: shown(&file), source: error })),
            },
            Err(Unread::Newer) => return off(in_words(&LessonsError::Newer(shown(&file)))),
            Err(Unread::Io(source)) => return off(in_words(&LessonsError::Io { path: shown(&file), source })),
        };
        OpenedLessons { lessons: Self { file: Some(file), book, ..Self::default() }, notice }
    }

    /// Remembers nothing and knows nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// What is known of a failure, by its mark: one lesson for each way to react, the one that worked most often first.
    pub fn known(&self, fingerprint: &str) -> Vec<&Lesson> {
        let mut known: Vec<&Lesson> = self.all().filter(|lesson| lesson.fingerprint == fingerprint).collect();
        known.sort_by_key(|lesson| std::cmp::Reverse((lesson.worked, lesson.last)));
        known
    }

    /// All lessons, in the order of their marks.
    pub fn all(&self) -> impl Iterator<Item = &Lesson> {
        self.book.lessons.iter()
    }

    /// Takes an entry of the run in, and keeps what is learned by it.
    ///
    /// # Errors
    /// [`LessonsError`] where that can't be written now; it is written with the next one.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), LessonsError> {
        match self.learning.apply(entry) {
            Some(experience) => self.record(experience),
            None => Ok(()),
        }
    }

    /// Keeps an experience, unless it was counted before.
    ///
    /// # Errors
    /// As [`Lessons::apply`].
    pub fn record(&mut self, experience: Experience) -> Result<(), LessonsError> {
        if self.file.is_none() || !self.book.is_new(&experience) {
            return Ok(());
        }
        self.pending.push(experience);
        let pending = self.pending.clone();
        self.change(|book| pending.into_iter().for_each(|one| book.learn(one)))?;
        self.pending.clear();
        Ok(())
    }

    /// Forgets what is known of a failure, or of all where none is named; the number of lessons that were forgotten.
    ///
    /// # Errors
    /// [`LessonsError`]; nothing is forgotten then.
    pub fn forget(&mut self, fingerprint: Option<&str>) -> Result<usize, LessonsError> {
        let before = self.book.lessons.len();
        let is_meant = |lesson: &Lesson| fingerprint.is_none_or(|mark| lesson.fingerprint == mark);
        self.change(|book| book.lessons.retain(|lesson| !is_meant(lesson)))?;
        Ok(before.saturating_sub(self.book.lessons.len()))
    }

    /// Reads the file anew, changes it and puts it back, while no other process does.
    fn change(&mut self, change: impl FnOnce(&mut Book)) -> Result<(), LessonsError> {
        let Some(file) = &self.file else { return Ok(()) };
        let io = |source| LessonsError::Io { path: shown(file), source };
        let dir = file.parent().expect("it lies in the state directory");
        DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(io)?;
        let _lock = lock(&dir.join("lessons.lock")).map_err(|error| match error {
            TryLockError::WouldBlock => LessonsError::Busy(shown(file)),
            TryLockError::Error(source) => io(source),
        })?;
        let mut book = match Book::read(file) {
            Ok(book) => book,
            // What was damaged meanwhile is what is known here.
            Err(Unread::Damaged) => set_aside(file).map(|_| std::mem::take(&mut self.book)).map_err(io)?,
            Err(Unread::Newer) => return Err(LessonsError::Newer(shown(file))),
            Err(Unread::Io(source)) => return Err(io(source)),
        };
        change(&mut book);
        book.cut();
        book.write(file).map_err(io)?;
        self.book = book;
        Ok(())
    }
}

/// Why a book was not read.
enum Unread {
    Damaged,
    Newer,
    Io(io::Error),
}

impl Book {
    fn read(file: &Path) -> Result<Self, Unread> {
        let size = match fs::metadata(file) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Unread::Io(error)),
        };
        if size > LARGEST {
            return Err(Unread::Damaged);
        }
        let text = fs::read(file).map_err(Unread::Io)?;
        let json: serde_json::Value = serde_json::from_slice(&text).map_err(|_| Unread::Damaged)?;
        match json.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(VERSION) => Err(Unread::Newer),
            Some(_) => serde_json::from_value(json).map_err(|_| Unread::Damaged),
            None => Err(Unread::Damaged),
        }
    }

    fn write(&mut self, file: &Path) -> io::Result<()> {
        self.version = VERSION;
        let dir = file.parent().unwrap_or(Path::new("."));
        let mut temporary = tempfile::Builder::new().prefix(".lessons-").tempfile_in(dir)?;
        temporary.write_all(&serde_json::to_vec_pretty(self)?)?;
        temporary.as_file().sync_data()?;
        temporary.persist(file).map(drop).map_err(|error| error.error)
    }

    fn is_new(&self, experience: &Experience) -> bool {
        self.counted.get(&experience.run).is_none_or(|last| *last < experience.seq)
    }

    fn learn(&mut self, one: Experience) {
        if !self.is_new(&one) {
            return;
        }
        self.counted.insert(one.run, one.seq);
        let place = |lesson: &Lesson| {
            (lesson.fingerprint.as_str(), lesson.action.as_str()).cmp(&(&one.fingerprint, &one.action))
        };
        let at = match self.lessons.binary_search_by(place) {
            Ok(at) => at,
            Err(at) => {
                let lesson = Lesson {
                    fingerprint: one.fingerprint,
                    class: one.class,
                    action: one.action,
                    tried: 0,
                    worked: 0,
                    last: one.time,
                    commands: Vec::new(),
                };
                self.lessons.insert(at, lesson);
                at
            }
        };
        let lesson = &mut self.lessons[at];
        lesson.tried = lesson.tried.saturating_add(1);
        lesson.last = lesson.last.max(one.time);
        if one.turned_out == TurnedOut::Worked {
            lesson.worked = lesson.worked.saturating_add(1);
            if !one.commands.is_empty() {
                lesson.commands = one.commands;
            }
        }
    }

    /// Leaves out what was of no use for longest.
    fn cut(&mut self) {
        if self.lessons.len() > MOST_LESSONS {
            let mut times: Vec<_> = self.lessons.iter().map(|lesson| lesson.last).collect();
            times.sort_unstable();
            let oldest = times[times.len() - MOST_LESSONS];
            self.lessons.retain(|lesson| lesson.last >= oldest);
            self.lessons.truncate(MOST_LESSONS);
        }
        while self.counted.len() > MOST_RUNS {
            self.counted.pop_first();
        }
    }
}

/// Takes the lock, within a fifth of a second.
fn lock(path: &Path) -> Result<File, TryLockError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let file = file.map_err(TryLockError::Error)?;
    let until = std::time::Instant::now() + std::time::Duration::from_millis(200);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Whoever has it writes one file: it is over in a moment.
            Err(TryLockError::WouldBlock) if std::time::Instant::now() < until => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Moves a file that can't be read out of the way; to where.
fn set_aside(file: &Path) -> io::Result<PathBuf> {
    let aside = file.with_extension("damaged.json");
    fs::rename(file, &aside).map(|()| aside)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn in_words(error: &LessonsError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::domain::FailureClass;

    fn run(number: u64) -> RunId {
        RunId::new(format!("01K{number:023}")).unwrap()
    }

    fn experience(run: RunId, seq: u64, fingerprint: &str, turned_out: TurnedOut) -> Experience {
        Experience {
            run,
            seq,
            time: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(seq).unwrap()),
            fingerprint: fingerprint.to_owned(),
            class: FailureClass::Network,
            action: "retry_as_is".to_owned(),
            turned_out,
            commands: Vec::new(),
        }
    }

    #[test]
    fn what_one_run_learns_the_next_one_knows_and_it_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let open = || Lessons::open(&state).lessons;
        let mut first = open();
        let mut beside = open();
        first.record(experience(run(1), 4, "a", TurnedOut::Worked)).unwrap();
        beside.record(experience(run(2), 9, "a", TurnedOut::Failed)).unwrap();
        // A run that is taken up again tells all of it once more.
        let mut again = open();
        again.record(experience(run(1), 4, "a", TurnedOut::Worked)).unwrap();
        again.record(experience(run(1), 7, "b", TurnedOut::Changed)).unwrap();
        let now = open();
        let counts = |mark: &str| now.known(mark).iter().map(|one| (one.tried, one.worked)).collect::<Vec<_>>();
        assert_eq!((counts("a"), counts("b"), counts("c")), (vec![(2, 1)], vec![(1, 0)], vec![]));
        let mut forgetful = open();
        assert_eq!(forgetful.forget(Some("a")).unwrap(), 1);
        assert_eq!(open().all().count(), 1);
        assert_eq!(forgetful.forget(None).unwrap(), 1);
        // What was forgotten does not come back with a run that is taken up again.
        open().record(experience(run(1), 4, "a", TurnedOut::Worked)).unwrap();
        assert_eq!(open().all().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_newer_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lessons.json");
        fs::write(&file, "{\"version\":1,\"lessons\":[{").unwrap();
        let OpenedLessons { mut lessons, notice } = Lessons::open(dir.path());
        assert!(notice.unwrap().contains("lessons.damaged.json"));
        assert_eq!(
            fs::read_to_string(dir.path().join("lessons.damaged.json")).unwrap(),
            "{\"version\":1,\"lessons\":[{"
        );
        lessons.record(experience(run(1), 1, "a", TurnedOut::Worked)).unwrap();
        assert_eq!(Lessons::open(dir.path()).lessons.all().count(), 1);

        fs::write(&file, "{\"version\":2}").unwrap();
        let OpenedLessons { mut lessons, notice } = Lessons::open(dir.path());
        assert!(notice.unwrap().contains("later version"));
        lessons.record(experience(run(1), 2, "a", TurnedOut::Worked)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"version\":2}");
    }

    #[test]
    fn the_file_is_bounded_and_what_was_of_use_last_stays() {
        let mut book = Book::default();
        let more = u64::try_from(MOST_LESSONS).unwrap() + 10;
        (0..more)
            .for_each(|seq| book.learn(experience(run(seq), seq, &format!("{:05}", more - seq), TurnedOut::Worked)));
        book.cut();
        assert_eq!((book.lessons.len(), book.counted.len()), (MOST_LESSONS, MOST_RUNS));
        assert!(book.lessons.iter().all(|lesson| lesson.last.as_second() >= 10));
        assert!(book.counted.contains_key(&run(more - 1)));
    }

    #[test]
    fn a_process_that_holds_the_file_delays_nobody_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let mut lessons = Lessons::open(dir.path()).lessons;
        let held = lock(&dir.path().join("lessons.lock")).unwrap();
        let busy = lessons.record(experience(run(1), 1, "a", TurnedOut::Worked)).unwrap_err();
        assert!(matches!(busy, LessonsError::Busy(_)), "{busy}");
        drop(held);
        lessons.record(experience(run(1), 2, "b", TurnedOut::Worked)).unwrap();
        assert_eq!(Lessons::open(dir.path()).lessons.all().count(), 2, "nothing is lost");
    }
}
