//! A disk that loses what was not synced, and one that fails: what the transcript is worth then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use longhaul::domain::{AskedNew, BoxReturn, Entry, Event, ExitReason, Verdict};
use longhaul::journal::{
    AppendError, Disk, DiskFile, Heartbeat, Holder, LockError, Recorder, ReopenError, RunDir, RunStore, SystemDisk,
    verify,
};

use crate::story::{RUN, clock, redactor, spec};

/// What was asked of the disk, in order.
#[derive(Debug, Clone)]
enum Asked {
    /// A name now leads to that file.
    Named(String, usize),
    /// Bytes came to a file at an offset.
    Written(usize, u64, Vec<u8>),
    /// A file was cut.
    Cut(usize, u64),
    /// All of a file is on disk.
    Synced(usize),
    /// All names are on disk.
    NamesSynced,
    /// The recorder has said that so many entries are safe.
    Acknowledged(usize),
}

/// Remembers what was asked, so that every state that a power failure could leave can be made.
#[derive(Clone, Default)]
struct LossyDisk(Arc<Mutex<Vec<Asked>>>);

struct LossyFile {
    disk: LossyDisk,
    file: usize,
    length: Mutex<u64>,
}

impl LossyDisk {
    fn note(&self, asked: Asked) {
        self.0.lock().unwrap().push(asked);
    }

    fn file(&self) -> LossyFile {
        let named = |asked: &&Asked| matches!(asked, Asked::Named(..));
        let file = self.0.lock().unwrap().iter().filter(named).count();
        LossyFile { disk: self.clone(), file, length: Mutex::new(0) }
    }
}

impl Disk for LossyDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.file();
        self.note(Asked::Named(name.to_owned(), file.file));
        Ok(Arc::new(file))
    }

    fn open(&self, _: &str) -> io::Result<Arc<dyn DiskFile>> {
        unreachable!("a transcript is taken up on a real disk")
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.file();
        file.append(content)?;
        self.note(Asked::Named(name.to_owned(), file.file));
        file.sync()?;
        Ok(Arc::new(file))
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Asked::NamesSynced);
        Ok(())
    }
}

impl DiskFile for LossyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut length = self.length.lock().unwrap();
        self.disk.note(Asked::Written(self.file, *length, bytes.to_vec()));
        *length += bytes.len() as u64;
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.note(Asked::Written(self.file, offset, bytes.to_vec()));
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        *self.length.lock().unwrap() = length;
        self.disk.note(Asked::Cut(self.file, length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.note(Asked::Synced(self.file));
        Ok(())
    }
}

/// How much of what was not synced is there after all.
#[derive(Debug, Clone, Copy)]
enum Luck {
    Nothing,
    Everything,
    /// Each block by a throw of the dice, with zeros where it is not.
    Dice(u64),
    /// Everything, but the last write only up to so many thousandths.
    Torn(u64),
}

/// Blocks are lost whole. Smaller than real ones, so that there are more of them.
const BLOCK: u64 = 64;

/// What lies on the disk after the power failed when so much had been asked.
fn left_after(asked: &[Asked], luck: Luck) -> BTreeMap<String, Vec<u8>> {
    let mut dice = fastrand::Rng::with_seed(match luck {
        Luck::Dice(seed) => seed,
        Luck::Nothing | Luck::Everything | Luck::Torn(_) => 0,
    });
    let mut throws = |certain: bool| match luck {
        Luck::Nothing => certain,
        Luck::Everything | Luck::Torn(_) => true,
        Luck::Dice(_) => certain || dice.bool(),
    };
    let last = |wanted: &dyn Fn(&Asked) -> bool| asked.iter().rposition(wanted);
    let names_synced = last(&|asked| matches!(asked, Asked::NamesSynced));
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (at, one) in asked.iter().enumerate() {
        if let Asked::Named(name, file) = one
            && throws(names_synced.is_some_and(|synced| at < synced))
        {
            names.insert(name.clone(), *file);
        }
    }
    let mut left = BTreeMap::new();
    for (name, file) in names {
        let synced = last(&|asked| matches!(asked, Asked::Synced(one) if *one == file));
        let writes: Vec<usize> =
            (0..asked.len()).filter(|at| matches!(&asked[*at], Asked::Written(one, ..) if *one == file)).collect();
        let mut content: Vec<u8> = Vec::new();
        for (at, one) in asked.iter().enumerate() {
            let certain = synced.is_some_and(|synced| at < synced);
            match one {
                Asked::Cut(of, length) if *of == file => content.truncate(usize::try_from(*length).unwrap()),
                Asked::Written(of, offset, bytes) if *of == file => {
                    let mut bytes = &bytes[..];
                    if let (Luck::Torn(share), false, true) = (luck, certain, Some(&at) == writes.last()) {
                        bytes = &bytes[..bytes.len() * usize::try_from(share).unwrap() / 1000];
                    }
                    let offset = usize::try_from(*offset).unwrap();
                    // The head is written within one sector: all of it or nothing.
                    let blocks = if name == "head" { bytes.len().max(1) } else { usize::try_from(BLOCK).unwrap() };
                    for (nth, block) in bytes.chunks(blocks).enumerate() {
                        if throws(certain) {
                            let from = offset + nth * blocks;
                            content.resize(content.len().max(from + block.len()), 0);
                            content[from..from + block.len()].copy_from_slice(block);
                        }
                    }
                }
                _ => {}
            }
        }
        left.insert(name, content);
    }
    left
}

/// In memory where there is some: it is about what is asked of a disk, not about how fast that is.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn run_in(dir: &Path) -> RunDir {
    RunStore::new(dir).create(&spec(RUN), &redactor()).unwrap()
}

/// As if the machine had been started anew since.
fn restart_machine(run: &RunDir) {
    let path = run.path().join("epoch/000001");
    let mut holder: Holder = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    holder.boot_id = "an earlier boot".to_owned();
    fs::write(path, serde_json::to_vec(&holder).unwrap()).unwrap();
}

/// Records entries of all sizes with a commit now and then; returns them.
fn record_on(disk: &LossyDisk, run: &RunDir) -> Vec<Entry> {
    let mut recorder = Recorder::create_on(disk, run, clock(), redactor()).unwrap();
    let mut told = Vec::new();
    let started = Event::RunStarted { format_major: 1, format_minor: 2, spec: spec(RUN) };
    told.push(recorder.append(started).unwrap());
    for nth in 0..12_usize {
        let text = "all work and no play ".repeat(nth * nth % 7);
        told.push(recorder.append(Event::HarnessSaid { text }).unwrap());
        if nth % 3 == 1 {
            recorder.commit().unwrap();
            disk.note(Asked::Acknowledged(told.len()));
        }
    }
    let (why, answer) = ("done".to_owned(), String::new());
    told.push(
        recorder.append(Event::RunEnded { verdict: Verdict::Verified, reason: ExitReason::Done, why, answer }).unwrap(),
    );
    disk.note(Asked::Acknowledged(told.len()));
    told
}

#[test]
fn after_a_power_failure_every_acknowledged_entry_is_there_and_nothing_else_than_what_was_recorded() {
    let recording = place();
    let disk = LossyDisk::default();
    let told = record_on(&disk, &run_in(recording.path()));
    let asked = disk.0.lock().unwrap().clone();
    let mut states = BTreeSet::new();
    for until in 0..=asked.len() {
        let acknowledged = asked[..until].iter().rev().find_map(|one| match one {
            Asked::Acknowledged(entries) => Some(*entries),
            _ => None,
        });
        let dice = (0..6).map(Luck::Dice);
        let torn = [1, 250, 500, 999].map(Luck::Torn);
        for luck in [Luck::Nothing, Luck::Everything].into_iter().chain(torn).chain(dice) {
            let left = left_after(&asked[..until], luck);
            if !states.insert((left.clone(), acknowledged)) {
                continue;
            }
            let dir = place();
            let run = run_in(dir.path());
            drop(Recorder::create(&run, clock(), redactor()).unwrap());
            for name in ["journal.jsonl", "head"] {
                fs::remove_file(run.path().join(name)).unwrap();
            }
            left.iter().for_each(|(name, content)| fs::write(run.path().join(name), content).unwrap());
            restart_machine(&run);
            let mut found = Vec::new();
            let reopened = Recorder::reopen(&run, clock(), redactor(), &mut |entry| found.push(entry));
            let certain = acknowledged.unwrap_or(0);
            assert!(found.len() >= certain, "{until} {luck:?}: {} of {certain}", found.len());
            assert_eq!(found, told[..found.len()], "{until} {luck:?}");
            match reopened {
                Ok(mut reopened) => {
                    let (epoch, away_ms, found_box) = (reopened.recorder.epoch(), 1, BoxReturn::Lost);
                    let (notes, asked) = (Vec::new(), AskedNew::default());
                    let resumed = Event::RunResumed { epoch, away_ms, found: found_box, notes, asked };
                    reopened.recorder.append(resumed).unwrap();
                    let problems = if found.is_empty() { Vec::new() } else { verify(run.path()).unwrap().problems };
                    assert_eq!(problems, [], "{until} {luck:?}");
                }
                Err(ReopenError::Read(_)) => assert_eq!(certain, 0, "{until} {luck:?}"),
                Err(error) => panic!("{until} {luck:?}: {error}"),
            }
        }
    }
    let counted = format!("{} states after a power failure, {} things asked of the disk", states.len(), asked.len());
    writeln!(io::stderr(), "{counted}").unwrap();
    assert!(states.len() > 150);
}

#[test]
fn without_a_power_failure_zeros_and_a_missing_tail_are_somebodys_doing() {
    let dir = place();
    let run = run_in(dir.path());
    let mut recorder = Recorder::create(&run, clock(), redactor()).unwrap();
    recorder.append(Event::RunStarted { format_major: 1, format_minor: 2, spec: spec(RUN) }).unwrap();
    recorder.append(Event::HarnessSaid { text: "one".into() }).unwrap();
    drop(recorder);
    let whole = fs::read(run.journal()).unwrap();
    let reopen = || Recorder::reopen(&run, clock(), redactor(), &mut drop).map(|reopened| reopened.lost);
    fs::write(run.journal(), &whole[..whole.len() - 20]).unwrap();
    assert!(matches!(reopen(), Err(ReopenError::CutTail)));
    fs::write(run.journal(), [&whole[..whole.len() - 20], &[0; 20], b"\n"].concat()).unwrap();
    assert!(matches!(reopen(), Err(ReopenError::Read(_))));
    restart_machine(&run);
    assert!(matches!(reopen(), Ok(1)));
}

/// Fails at the nth thing that is asked of it, and at every one after that.
#[derive(Clone)]
struct FailingDisk {
    under: SystemDisk,
    left: Arc<Mutex<usize>>,
    error: fn() -> io::Error,
}

struct FailingFile {
    under: Arc<dyn DiskFile>,
    disk: FailingDisk,
}

impl FailingDisk {
    fn pass(&self) -> io::Result<()> {
        let mut left = self.left.lock().unwrap();
        *left = left.checked_sub(1).ok_or_else(self.error)?;
        Ok(())
    }

    fn file(&self, under: io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(FailingFile { under: under?, disk: self.clone() }))
    }
}

impl Disk for FailingDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.pass()?;
        self.file(self.under.create(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.pass()?;
        self.file(self.under.open(name))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
        self.pass()?;
        self.file(self.under.replace(name, content))
    }

    fn sync(&self) -> io::Result<()> {
        self.pass()?;
        self.under.sync()
    }
}

impl DiskFile for FailingFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.disk.pass() {
            // Half of it may have been written.
            self.under.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.under.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.pass()?;
        self.under.write_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        // Cutting needs no room.
        self.under.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.pass()?;
        self.under.sync()
    }
}

#[test]
fn whichever_write_fails_the_recording_stops_loudly_and_goes_on_when_there_is_room_again() {
    let errors: [fn() -> io::Error; 2] =
        [|| io::Error::from_raw_os_error(libc::ENOSPC), || io::Error::from_raw_os_error(libc::EIO)];
    for error in errors {
        let is_full = error().raw_os_error() == Some(libc::ENOSPC);
        for until in 0.. {
            let dir = place();
            let run = run_in(dir.path());
            let under = SystemDisk(run.path().to_owned());
            let disk = FailingDisk { under, left: Arc::new(Mutex::new(until)), error };
            let Ok(mut recorder) = Recorder::create_on(&disk, &run, clock(), redactor()) else { continue };
            let mut told = Vec::new();
            let mut tell = |recorder: &mut Recorder| -> Result<(), AppendError> {
                let started = Event::RunStarted { format_major: 1, format_minor: 2, spec: spec(RUN) };
                told.push(recorder.append(started)?);
                for nth in 0..4 {
                    told.push(recorder.append(Event::HarnessSaid { text: format!("words {nth}") })?);
                    recorder.commit()?;
                }
                Ok(())
            };
            match tell(&mut recorder) {
                // All that is asked of a disk went well: there is nothing later to fail.
                Ok(()) => break,
                Err(AppendError::Full(_)) => assert!(is_full, "{until}"),
                Err(AppendError::Io(_)) => assert!(!is_full, "{until}"),
                Err(error) => panic!("{until}: {error}"),
            }
            let refused = recorder.append(Event::HarnessSaid { text: "more".into() });
            assert!(matches!(refused, Err(AppendError::Closed)), "{until}");
            assert!(matches!(recorder.commit(), Err(AppendError::Closed)), "{until}");
            drop(recorder);
            let mut found = Vec::new();
            let Ok(mut again) = Recorder::reopen(&run, clock(), redactor(), &mut |entry| found.push(entry)) else {
                assert!(told.is_empty(), "{until}");
                continue;
            };
            assert_eq!(found[..told.len()], told, "{until}");
            assert!(found.len() <= told.len() + 1, "{until}: at most the one that failed while its head was written");
            again.recorder.append(Event::HarnessSaid { text: "on".into() }).unwrap();
            assert!(found.is_empty() || verify(run.path()).unwrap().is_sound(), "{until}");
        }
    }
}

#[test]
fn a_driver_that_was_followed_by_another_writes_nothing_more() {
    let dir = place();
    let run = run_in(dir.path());
    let mut first = Recorder::create(&run, clock(), redactor()).unwrap();
    first.append(Event::RunStarted { format_major: 1, format_minor: 2, spec: spec(RUN) }).unwrap();
    // On a disk that machines share, the lock of another machine is not seen.
    fs::remove_file(run.path().join("lock")).unwrap();
    let path = run.path().join("epoch/000001");
    let mut holder: Holder = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    holder.host = "elsewhere".to_owned();
    fs::write(&path, serde_json::to_vec(&holder).unwrap()).unwrap();
    let refused = Recorder::reopen(&run, clock(), redactor(), &mut drop).map(|_| ());
    assert!(
        matches!(&refused, Err(ReopenError::Lock(LockError::Elsewhere { holder, .. })) if holder.host == "elsewhere")
    );
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
    fs::File::options().write(true).open(run.path().join("heartbeat")).unwrap().set_modified(long_ago).unwrap();
    let mut second = Recorder::reopen(&run, clock(), redactor(), &mut drop).unwrap().recorder;
    second.append(Event::HarnessSaid { text: "second".into() }).unwrap();
    let before = (fs::read(run.journal()).unwrap(), fs::read(run.path().join("head")).unwrap());
    let refused = first.append(Event::HarnessSaid { text: "first".into() });
    assert!(matches!(refused, Err(AppendError::TakenOver)));
    assert!(matches!(first.commit(), Err(AppendError::Closed)));
    assert_eq!(before, (fs::read(run.journal()).unwrap(), fs::read(run.path().join("head")).unwrap()));
    assert_eq!(Heartbeat::read(run.path()).unwrap().epoch, 2);
    second.append(Event::HarnessSaid { text: "goes on".into() }).unwrap();
    assert!(verify(run.path()).unwrap().is_sound());
}
