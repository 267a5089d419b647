//! Messages to a run from other terminals: one file each, taken in order by whoever drives the run.
//!
//! A message is there whole or not at all, and is removed only when it has been recorded. Where nobody drives the run
//! there is no inbox for words, so that nothing is left that nobody would read; the answer to a question waits there for
//! whoever takes the run up again.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::inotify;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{RunDir, RunLock, new_run_id};
use crate::domain::{QuestionId, Reply};

/// The longest message, in bytes of its text.
pub const LONGEST_MESSAGE: usize = 64 << 10;
/// The directory below the run's.
const DIR: &str = "inbox";
/// What a message's file is called after its name.
const ENDING: &str = ".json";
/// What the directory's name ends with once nobody can leave a message any more.
const CLOSED: &str = "closed";
/// How often an inbox that goes away is looked for again.
const TRIES: usize = 3;
/// How long a file that breaks off is left to whoever may still be writing it.
const BEING_WRITTEN: Duration = Duration::from_secs(10);
/// A file that is larger is no message: JSON may take six bytes for one.
const LARGEST_FILE: u64 = 6 * LONGEST_MESSAGE as u64 + 256;

/// Why a message could not be left.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// There is nobody who would read it.
    #[error("run {0} is not being driven: nothing would read it")]
    NotDriven(crate::domain::RunId),
    /// It has no words.
    #[error("the message is empty")]
    Empty,
    /// It has too many.
    #[error("the message is longer than {} KiB", LONGEST_MESSAGE >> 10)]
    TooLong,
    /// Another answer to the same question has not been taken yet: its words.
    #[error("question {0} is answered already, with `{1}`, which waits to be taken")]
    Answered(QuestionId, String),
    /// The system says no.
    #[error("cannot leave the message")]
    Io(#[source] io::Error),
}

/// A message that has been taken and not been recorded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The name under which it lies in the inbox.
    pub name: String,
    /// The words; empty for an order or an answer.
    pub text: String,
    /// What the driver is to do, where it is no message to the model.
    pub order: Option<Order>,
    /// What was answered, where it answers a question.
    pub answer: Option<LeftAnswer>,
}

/// An answer to a question that was left in an inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftAnswer {
    /// The question.
    pub question: QuestionId,
    /// What was said.
    #[serde(flatten)]
    pub reply: Reply,
}

impl Mail {
    /// What it says, in words.
    pub fn words(&self) -> String {
        match &self.answer {
            None => self.text.clone(),
            Some(answer) => format!("to {}: {}", answer.question, answer.reply.words()),
        }
    }
}

/// Something that a person has the driver do between calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Take a checkpoint.
    Checkpoint {
        /// Its name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Make the conversation smaller.
    Compact,
}

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<LeftAnswer>,
}

/// What a file in an inbox is.
enum Found {
    Message(Content),
    /// Its end is not there yet.
    Begun,
    Nothing,
}

/// The messages of one run, for its driver.
#[derive(Debug)]
pub struct Inbox {
    dir: PathBuf,
    watch: AsyncFd<OwnedFd>,
    /// Taken already: what could not be removed is not taken twice.
    taken: BTreeSet<String>,
}

/// Leaves `text` for the driver of `run`. `random` tells apart what is left at the same `now`.
///
/// # Errors
/// [`PostError`]; nothing is left then.
pub fn post(run: &RunDir, text: &str, now: Timestamp, random: u128) -> Result<(), PostError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(PostError::Empty);
    }
    if text.len() > LONGEST_MESSAGE {
        return Err(PostError::TooLong);
    }
    let content = Content { text: text.to_owned(), order: None, answer: None };
    post_content(run, &content, now, random)
}

/// Leaves the answer to a question for whoever drives `run` now, or takes it up again. The name under which it lies. Of
/// two that come at once one is left.
///
/// # Errors
/// [`PostError::Answered`] where one lies there already, [`PostError::Empty`], [`PostError::TooLong`], [`PostError::Io`];
/// nothing is left then.
pub fn post_answer(run: &RunDir, answer: LeftAnswer, now: Timestamp, random: u128) -> Result<String, PostError> {
    let LeftAnswer { question, reply } = &answer;
    if reply.choice.is_none() && reply.text.trim().is_empty() {
        return Err(PostError::Empty);
    }
    if reply.text.len() > LONGEST_MESSAGE {
        return Err(PostError::TooLong);
    }
    let question = *question;
    let name = new_run_id(now, random);
    let content = Content { text: String::new(), order: None, answer: Some(answer) };
    for _ in 0..TRIES {
        let (_gate, dir) = gate(run).map_err(PostError::Io)?;
        if let Some(other) = left_answers(run).into_iter().find(|other| other.question == question) {
            return Err(PostError::Answered(question, other.reply.words()));
        }
        let (new, whole) = (dir.join(format!("{name}.new")), format!("{name}{ENDING}"));
        match leave(&new, &dir.join(&whole), &content) {
            Ok(()) => return Ok(whole),
            // The driver has closed its inbox meanwhile: there will be another one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                drop(fs::remove_file(&new));
                return Err(PostError::Io(error));
            }
        }
    }
    Err(PostError::Io(io::ErrorKind::NotFound.into()))
}

/// The inbox, which is made where there is none, and the right to leave an answer there, held until it is dropped.
fn gate(run: &RunDir) -> io::Result<(File, PathBuf)> {
    let dir = run.path().join(DIR);
    DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
    let gate = File::open(&dir)?;
    rustix::fs::flock(&gate, rustix::fs::FlockOperation::LockExclusive)?;
    Ok((gate, dir))
}

/// The answers that lie in the inbox of `run` and have not been recorded.
pub fn left_answers(run: &RunDir) -> Vec<LeftAnswer> {
    let open = run.path().join(DIR);
    let closed = open.with_extension(CLOSED);
    let files = [open, closed].into_iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    let whole = files.map(|file| file.path()).filter(|path| path.to_string_lossy().ends_with(ENDING));
    let answer = |path: PathBuf| match read(&path) {
        Found::Message(content) => content.answer,
        Found::Begun | Found::Nothing => None,
    };
    whole.filter_map(answer).collect()
}

/// Leaves an order for the driver of `run`, as [`post`] does with words.
///
/// # Errors
/// [`PostError`]; nothing is left then.
pub fn post_order(run: &RunDir, order: Order, now: Timestamp, random: u128) -> Result<(), PostError> {
    post_content(run, &Content { text: String::new(), order: Some(order), answer: None }, now, random)
}

fn post_content(run: &RunDir, content: &Content, now: Timestamp, random: u128) -> Result<(), PostError> {
    let not_driven = || PostError::NotDriven(run.id().clone());
    RunLock::holder(run.path()).ok_or_else(not_driven)?;
    let (dir, name) = (run.path().join(DIR), new_run_id(now, random));
    let new = dir.join(format!("{name}.new"));
    let left = leave(&new, &dir.join(format!("{name}{ENDING}")), content);
    left.map_err(|error| match error.kind() {
        // The driver has removed its inbox: it is about to end.
        io::ErrorKind::NotFound => not_driven(),
        _ => {
            drop(fs::remove_file(&new));
            PostError::Io(error)
        }
    })
}

fn leave(new: &Path, whole: &Path, content: &Content) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_data()?;
    fs::rename(new, whole)
}

impl Inbox {
    /// Opens the inbox of a run; what lies there already is taken first. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the directory can't be made or watched.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let dir = run_dir.join(DIR);
        DirBuilder::new().mode(0o700).recursive(true).create(&dir)?;
        reopen_closed(&dir);
        let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        // What is left by hand is written in its place.
        inotify::add_watch(&fd, &dir, inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE)?;
        // SAFETY: `AsyncFd` owns the descriptor, and nothing takes it out before it is dropped.
        let watch = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self { dir, watch: watch?, taken: BTreeSet::new() })
    }

    /// Waits for the next message, the oldest first. May be dropped and called again.
    pub async fn next(&mut self) -> Mail {
        loop {
            if let Some(mail) = self.take() {
                return mail;
            }
            match self.watch.readable().await {
                Ok(mut ready) => {
                    drain(self.watch.get_ref());
                    ready.clear_ready();
                }
                // Without a watch nothing is told any more.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// The oldest message that has not been taken, if there is one.
    pub fn take(&mut self) -> Option<Mail> {
        let found = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let names = found.filter_map(|entry| entry.file_name().into_string().ok());
        let mut new: Vec<String> = names.filter(|name| name.ends_with(ENDING) && !self.taken.contains(name)).collect();
        new.sort_unstable();
        for name in new {
            match read(&self.dir.join(&name)) {
                Found::Message(Content { text, order, answer }) => {
                    self.taken.insert(name.clone());
                    return Some(Mail { name, text, order, answer });
                }
                Found::Begun => {}
                // No message: whoever left it there did not use `post`.
                Found::Nothing => {
                    self.taken.insert(name.clone());
                    self.remove(&name);
                }
            }
        }
        None
    }

    /// Removes messages that were recorded by a driver that did not come to remove them.
    pub fn forget(&mut self, recorded: &HashSet<String>) {
        for name in recorded {
            self.taken.insert(name.clone());
            self.remove(name);
        }
    }

    /// Removes a message that has been recorded.
    pub fn done(&mut self, mail: &Mail) {
        self.remove(&mail.name);
    }

    fn remove(&self, name: &str) {
        // It stays in `taken`, so that one that can't be removed is not read again.
        drop(fs::remove_file(self.dir.join(name)));
    }

    /// Closes it: from now on nobody can leave a message. Returns those that were left and not taken; they stay where
    /// they are until all is removed.
    pub fn close(&mut self) -> Vec<Mail> {
        // Whoever is just leaving one finds no directory any more, or has left it before the rename.
        let closed = self.dir.with_extension(CLOSED);
        if fs::rename(&self.dir, &closed).is_ok() {
            self.dir = closed;
        }
        std::iter::from_fn(|| self.take()).collect()
    }

    /// Removes a closed inbox with all that is left in it: every message has been recorded.
    pub fn remove_all(self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Brings back what lies in an inbox that was closed by a driver which did not come to record it.
fn reopen_closed(dir: &Path) {
    let closed = dir.with_extension(CLOSED);
    for entry in fs::read_dir(&closed).into_iter().flatten().flatten() {
        drop(fs::rename(entry.path(), dir.join(entry.file_name())));
    }
    drop(fs::remove_dir(&closed));
}

fn read(path: &Path) -> Found {
    let read = || {
        let file = File::open(path).ok()?;
        let is_new = file.metadata().ok()?.modified().ok()?.elapsed().is_ok_and(|age| age < BEING_WRITTEN);
        let mut text = String::new();
        let read = file.take(LARGEST_FILE + 1).read_to_string(&mut text).ok()?;
        (read as u64 <= LARGEST_FILE).then_some((text, is_new))
    };
    let Some((text, is_new)) = read() else { return Found::Nothing };
    match serde_json::from_str::<Content>(&text) {
        Ok(content) if content.is_something() => Found::Message(content.tidy()),
        Err(error) if error.is_eof() && is_new => Found::Begun,
        Ok(_) | Err(_) => Found::Nothing,
    }
}

impl Content {
    fn is_something(&self) -> bool {
        self.order.is_some() || self.answer.is_some() || !self.text.trim().is_empty()
    }

    /// What is written by hand may name no option by an empty one.
    fn tidy(mut self) -> Self {
        if let Some(LeftAnswer { reply, .. }) = &mut self.answer {
            reply.choice = reply.choice.take().filter(|choice| !choice.trim().is_empty());
        }
        self
    }
}

/// Takes what the watch has to tell; the directory itself says the rest.
fn drain(watch: &OwnedFd) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    while let Ok(read) = rustix::io::read(watch, &mut buffer[..]) {
        if read.0.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunId;
    use crate::journal::RunStore;

    fn run(state: &Path) -> RunDir {
        let id = RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").expect("a ULID");
        let run = RunStore::new(state).run(&id);
        fs::create_dir_all(run.path()).expect("a directory");
        run
    }

    fn say(run: &RunDir, text: &str, second: i64) -> Result<(), PostError> {
        post(run, text, Timestamp::from_second(second).expect("in range"), 7)
    }

    #[tokio::test]
    async fn messages_come_in_order_and_each_once() {
        let state = tempfile::tempdir().expect("a directory");
        let run = run(state.path());
        let _lock = RunLock::take(run.path()).expect("free");
        let mut inbox = Inbox::open(run.path()).expect("opened");
        say(&run, "second\n", 20).expect("left");
        say(&run, "first", 10).expect("left");
        let first = inbox.next().await;
        assert_eq!(first.text, "first");
        inbox.done(&first);
        assert_eq!(inbox.next().await.text, "second");
        assert_eq!(inbox.take(), None, "not removed yet, and not taken again");
        let (third, ()) = tokio::join!(inbox.next(), async {
            tokio::task::yield_now().await;
            say(&run, "third", 30).expect("left");
        });
        assert_eq!(third.text, "third");
        say(&run, "too late to be taken", 40).expect("left");
        assert_eq!(inbox.close().into_iter().map(|mail| mail.text).collect::<Vec<_>>(), ["too late to be taken"]);
        drop(inbox);
        let mut again = Inbox::open(run.path()).expect("opened");
        let left = std::iter::from_fn(|| again.take()).map(|mail| mail.text);
        assert_eq!(left.last().as_deref(), Some("too late to be taken"), "closed, and not recorded");
        assert!(!again.close().is_empty() || !run.path().join(DIR).exists());
        again.remove_all();
        assert!(matches!(say(&run, "x", 50), Err(PostError::NotDriven(_))), "a closed inbox takes nothing");
        assert_eq!(fs::read_dir(run.path()).expect("there").count(), 1, "only the lock is left");
    }

    #[tokio::test]
    async fn what_was_left_before_is_found_and_what_is_no_message_is_removed() {
        let state = tempfile::tempdir().expect("a directory");
        let run = run(state.path());
        let lock = RunLock::take(run.path()).expect("free");
        drop(Inbox::open(run.path()).expect("opened"));
        say(&run, "early", 10).expect("left");
        for (name, content) in [("0.json", "words"), ("1.json", "{\"text\":\" \"}"), ("2.json", "{\"other\":1}")] {
            fs::write(run.path().join(DIR).join(name), content).expect("written");
        }
        fs::write(run.path().join(DIR).join("00.new"), "{\"text\":\"half\"}").expect("written");
        fs::write(run.path().join(DIR).join("01.json"), "{\"text\":\"as far as").expect("written");
        let mut inbox = Inbox::open(run.path()).expect("opened");
        assert_eq!(inbox.next().await.text, "early");
        assert_eq!(inbox.take(), None);
        assert_eq!(fs::read_dir(run.path().join(DIR)).expect("there").count(), 3, "the half ones and the taken one");
        drop(lock);
        assert!(matches!(say(&run, "x", 50), Err(PostError::NotDriven(_))));
    }

    #[tokio::test]
    async fn an_answer_waits_for_whoever_takes_the_run_up_and_there_is_one_of_them() {
        let state = tempfile::tempdir().expect("a directory");
        let run = run(state.path());
        let now = Timestamp::from_second(1).expect("in range");
        let answer = |question: u32, choice: &str| {
            let reply = Reply { choice: Some(choice.to_owned()), text: String::new() };
            post_answer(&run, LeftAnswer { question: QuestionId(question), reply }, now, u128::from(question))
        };
        let name = answer(1, "yes").expect("left");
        let second = answer(1, "no");
        assert!(matches!(&second, Err(PostError::Answered(QuestionId(1), said)) if said == "yes"), "{second:?}");
        answer(2, "no").expect("another question");
        let mut inbox = Inbox::open(run.path()).expect("opened");
        let first = inbox.next().await;
        assert_eq!((first.name.as_str(), first.words().as_str()), (name.as_str(), "to q1: yes"));
        assert!(answer(1, "no").is_err(), "taken, and not recorded");
        inbox.done(&first);
        assert_eq!(left_answers(&run).len(), 1);
        let by_hand = r#"{"answer": {"question": "q3", "choice": "", "text": "as I say"}}"#;
        let taken = inbox.take().expect("the second");
        inbox.done(&taken);
        let ((), mail) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                fs::write(run.path().join(DIR).join("mine.json"), by_hand).expect("written");
            },
            inbox.next()
        );
        let answer = mail.answer.expect("an answer");
        assert_eq!(
            (answer.question, answer.reply.choice, answer.reply.text.as_str()),
            (QuestionId(3), None, "as I say")
        );
    }

    #[test]
    fn a_message_has_words_and_not_too_many() {
        let state = tempfile::tempdir().expect("a directory");
        let run = run(state.path());
        assert!(matches!(say(&run, " \n", 1), Err(PostError::Empty)));
        assert!(matches!(say(&run, &"x".repeat(LONGEST_MESSAGE + 1), 1), Err(PostError::TooLong)));
        assert!(matches!(say(&run, "x", 1), Err(PostError::NotDriven(_))));
    }
}
