//! Messages to a run from other terminals: one file each, taken in order by whoever drives the run.
//!
//! A message is there whole or not at all, and is removed only when it has been recorded. Where nobody drives the run
//! there is no inbox, so that nothing is left that nobody would read.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::inotify;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{RunDir, RunLock, new_run_id};

/// The longest message, in bytes of its text.
pub const LONGEST_MESSAGE: usize = 64 << 10;
/// The directory below the run's.
const DIR: &str = "inbox";
/// What a message's file is called after its name.
const ENDING: &str = ".json";
/// What the directory's name ends with once nobody can leave a message any more.
const CLOSED: &str = "closed";
/// A file that is larger is no message: JSON may take six bytes for one.
const LARGEST_FILE: u64 = 6 * LONGEST_MESSAGE as u64 + 64;

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
    /// The system says no.
    #[error("cannot leave the message")]
    Io(#[source] io::Error),
}

/// A message that has been taken and not been recorded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The name under which it lies in the inbox.
    pub name: String,
    /// The words; empty for an order.
    pub text: String,
    /// What the driver is to do, where it is no message to the model.
    pub order: Option<Order>,
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
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    order: Option<Order>,
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
    let content = Content { text: text.to_owned(), order: None };
    post_content(run, &content, now, random)
}

/// Leaves an order for the driver of `run`, as [`post`] does with words.
///
/// # Errors
/// [`PostError`]; nothing is left then.
pub fn post_order(run: &RunDir, order: Order, now: Timestamp, random: u128) -> Result<(), PostError> {
    post_content(run, &Content { text: String::new(), order: Some(order) }, now, random)
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
        inotify::add_watch(&fd, &dir, inotify::WatchFlags::MOVED_TO)?;
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
            self.taken.insert(name.clone());
            if let Some(Content { text, order }) = read(&self.dir.join(&name)) {
                return Some(Mail { name, text, order });
            }
            // No message: whoever left it there did not use `post`.
            self.remove(&name);
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

fn read(path: &Path) -> Option<Content> {
    let mut text = String::new();
    let read = File::open(path).ok()?.take(LARGEST_FILE + 1).read_to_string(&mut text).ok()?;
    let content: Content = serde_json::from_str(&text).ok().filter(|_| read as u64 <= LARGEST_FILE)?;
    Some(content).filter(|content| content.order.is_some() || !content.text.trim().is_empty())
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
        for (name, content) in [("0.json", "{"), ("1.json", "{\"text\":\" \"}"), ("2.json", "{\"other\":1}")] {
            fs::write(run.path().join(DIR).join(name), content).expect("written");
        }
        fs::write(run.path().join(DIR).join("00.new"), "{\"text\":\"half\"}").expect("written");
        let mut inbox = Inbox::open(run.path()).expect("opened");
        assert_eq!(inbox.next().await.text, "early");
        assert_eq!(inbox.take(), None);
        assert_eq!(fs::read_dir(run.path().join(DIR)).expect("there").count(), 2, "the half one and the taken one");
        drop(lock);
        assert!(matches!(say(&run, "x", 50), Err(PostError::NotDriven(_))));
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
