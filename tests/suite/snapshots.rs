//! What every kind of box promises of snapshots, tried on real ones. Called by the tests of each backend.

use std::collections::BTreeMap;
use std::time::Duration;

use longhaul::domain::{Consistency, Snapshot};
use longhaul::guest::{CheckCommand, Client, OpenSession, Phase, RunCommand, Start, TermSize};
use longhaul::sandbox::changes::{Changes, Wanted};
use longhaul::sandbox::{Backend, BoxSpec, Found, Sandbox, SnapshotWish};

use crate::sandbox_contract::{Bench, close, open, run_in, said};

/// A wish for a layer of that name, of that bench's run, while the box goes on.
pub(crate) fn wish(bench: &Bench, name: &str) -> SnapshotWish {
    SnapshotWish { layer: format!("{}-{name}", bench.run().short()), ..SnapshotWish::default() }
}

/// Takes a snapshot, which must work.
pub(crate) async fn keep(sandbox: &dyn Sandbox, wish: &SnapshotWish) -> Snapshot {
    match sandbox.snapshot(wish).await {
        Ok(snapshot) => snapshot,
        Err(error) => panic!("{error}: {:?}; hint: {:?}", error.because, error.hint),
    }
}

/// The specification of a box that begins with that snapshot, of a run of its own.
pub(crate) fn from(bench: &Bench, snapshot: &Snapshot) -> BoxSpec {
    BoxSpec { from: Some(snapshot.clone()), ..bench.another_run() }
}

/// Makes files of every kind that a box can have, below its workspace, and deletes and replaces what was there.
const EVERY_KIND: &str = r#"
set -e
mkdir -p kinds/deep/er && cd kinds
echo plain >plain && chmod 640 plain && touch -d '2001-02-03 04:05:06.789' plain
echo one >first && ln first second
ln -s nowhere/at/all link && ln -s plain short
mkfifo pipe
cp /bin/true program && chmod 4755 program
truncate -s 64M sparse && printf end | dd of=sparse bs=1 seek=60M conv=notrunc status=none
printf 'x\ny' >"$(printf 'odd\nname \377')"
chmod 500 deep && chmod 2777 .
mkdir shut && echo inside >shut/file && chmod 000 shut
echo secret >closed && chmod 000 closed
python3 - <<'PY' 2>/dev/null || true
import os
os.setxattr('plain', 'user.kept', b'value\0with nul')
os.setxattr('deep', 'user.kept', b'on a directory')
PY
cd ..
rm input.txt
mkdir input.txt && echo now-a-directory >input.txt/file
"#;

/// Describes everything below the workspace: kinds, modes, owners, times, targets, links, contents, attributes.
const DESCRIBE: &str = r#"
python3 - <<'PY'
import hashlib, os, stat
links = {}
for top, dirs, files in os.walk(b'.'):
    dirs.sort()
    for name in sorted(files + dirs) + ([b''] if top == b'.' else []):
        path = os.path.join(top, name)
        s = os.lstat(path)
        kind = stat.S_IFMT(s.st_mode)
        more = ''
        if stat.S_ISLNK(s.st_mode):
            more = os.readlink(path)
        elif stat.S_ISREG(s.st_mode):
            mode = stat.S_IMODE(s.st_mode)
            if not mode & 0o400 and os.getuid():
                os.chmod(path, 0o400)
            more = hashlib.sha256(open(path, 'rb').read()).hexdigest()
            more += ' blocks<%d' % (16384 if s.st_blocks < 16384 else 1 << 40)
            if not mode & 0o400 and os.getuid():
                os.chmod(path, mode)
        attributes = {}
        if not stat.S_ISLNK(s.st_mode):
            try:
                attributes = {n: os.getxattr(path, n) for n in sorted(os.listxattr(path)) if n.startswith('user.')}
            except OSError:
                pass
        time = 0 if stat.S_ISDIR(s.st_mode) and name == b'' else s.st_mtime_ns
        same = links.setdefault(s.st_ino, path) if stat.S_ISREG(s.st_mode) else ''
        print(path, oct(s.st_mode), s.st_uid, s.st_gid, time, s.st_size if kind != stat.S_IFDIR else 0, more, attributes, same)
PY
"#;

/// A box that is made from a snapshot has every kind of file as it was, and nothing of what came after.
pub(crate) async fn every_kind_of_file_comes_back(backend: &dyn Backend, bench: &Bench, spec: &BoxSpec) {
    let sandbox = open(backend, spec).await;
    let guest = sandbox.guest();
    said(guest, EVERY_KIND).await;
    said(guest, "mkdir -p /tmp/kept && echo temporary >/tmp/kept/file && echo home >$HOME/new.txt").await;
    let before = said(guest, DESCRIBE).await;
    assert!(before.contains("kinds/sparse"), "{before}");
    let snapshot = keep(sandbox.as_ref(), &wish(bench, "k1")).await;
    assert!(matches!(snapshot.consistency, Consistency::Frozen { .. }), "{:?}", snapshot.consistency);
    assert_eq!(said(guest, DESCRIBE).await, before, "the box goes on as it was");
    said(guest, "chmod 700 kinds/shut kinds/deep; rm -rf kinds && echo later >later && rm /tmp/kept/file").await;

    let again = open(backend, &from(bench, &snapshot)).await;
    assert_eq!(said(again.guest(), DESCRIBE).await, before);
    assert_eq!(said(again.guest(), "cat /tmp/kept/file $HOME/new.txt").await, "temporary\nhome");
    // What is changed on top of a snapshot is kept in the next one, with what is below.
    said(again.guest(), "rm kinds/first && echo changed >kinds/plain && rm -rf input.txt && echo file >input.txt")
        .await;
    said(again.guest(), "chmod 700 kinds/deep && rm -rf kinds/deep && mkdir kinds/deep && echo new >kinds/deep/new")
        .await;
    let changed = said(again.guest(), DESCRIBE).await;
    let second = keep(again.as_ref(), &wish(bench, "k2")).await;
    close(again.as_ref()).await;
    let third = open(backend, &from(bench, &second)).await;
    assert_eq!(said(third.guest(), DESCRIBE).await, changed);
    close(third.as_ref()).await;
    // The first one is as it was.
    let first = open(backend, &from(bench, &snapshot)).await;
    assert_eq!(said(first.guest(), DESCRIBE).await, before);
    close(first.as_ref()).await;
    close(sandbox.as_ref()).await;
}

/// Writers in files, in memory and in a database: each is in every snapshot as if it had been killed.
pub(crate) async fn writers_are_kept_as_at_one_instant(backend: &dyn Backend, bench: &Bench, spec: &BoxSpec) {
    const WRITERS: &str = r#"
cat >writers.py <<'PY'
import mmap, os, sqlite3, threading
with open('mapped', 'wb') as f:
    f.write(b'\0' * 8192)
def mapped():
    m = mmap.mmap(os.open('mapped', os.O_RDWR), 8192)
    n = 0
    while True:
        n += 1
        m[0:8] = n.to_bytes(8, 'little')
        m[4096:4104] = n.to_bytes(8, 'little')
def ordered():
    fds = [os.open('o%02d' % i, os.O_RDWR | os.O_CREAT) for i in range(64)]
    n = 0
    while True:
        n += 1
        for fd in fds:
            os.pwrite(fd, b'%012d' % n, 0)
def database():
    db = sqlite3.connect('base.db')
    db.execute('create table if not exists t (a, b)')
    n = 0
    while True:
        n += 1
        with db:
            for i in range(20):
                db.execute('insert into t values (?, ?)', (n, 'x' * 300))
        if n == 3:
            open('ready', 'w').close()
for work in (mapped, ordered, database):
    if os.fork() == 0:
        work()
PY
setsid python3 writers.py >/dev/null 2>&1 &
until test -e ready; do :; done
"#;
    const JUDGE: &str = r#"
python3 - <<'PY'
import sqlite3
m = open('mapped', 'rb').read()
a, b = (int.from_bytes(m[at:at + 8], 'little') for at in (0, 4096))
assert a - b in (0, 1), (a, b)
o = [int(open('o%02d' % i, 'rb').read() or b'0') for i in range(64)]
assert o[0] - o[63] in (0, 1) and o == sorted(o, reverse=True), o
db = sqlite3.connect('base.db')
assert db.execute('pragma integrity_check').fetchone() == ('ok',)
counts = {n for (n,) in db.execute('select count(*) from t group by a')}
assert counts == {20}, counts
print(a, o[0])
PY
"#;
    let sandbox = open(backend, spec).await;
    let guest = sandbox.guest();
    if run_in(guest, "python3 -c 'import sqlite3, mmap'").await.0 != Some(longhaul::domain::Exit::Code(0)) {
        return close(sandbox.as_ref()).await;
    }
    said(guest, WRITERS).await;
    let mut last = (0, 0);
    for round in 1..=6 {
        let snapshot = keep(sandbox.as_ref(), &wish(bench, &format!("w{round}"))).await;
        assert!(matches!(snapshot.consistency, Consistency::Frozen { .. }), "{:?}", snapshot.consistency);
        let again = open(backend, &from(bench, &snapshot)).await;
        let found = said(again.guest(), JUDGE).await;
        let numbers: Vec<u64> = found.split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(
            numbers[0] > last.0 && numbers[1] > last.1,
            "{found} after {last:?}: nothing is taken from an old copy"
        );
        last = (numbers[0], numbers[1]);
        close(again.as_ref()).await;
    }
    close(sandbox.as_ref()).await;
}

/// A box that has destroyed itself is had back; two boxes from one snapshot have nothing to do with each other.
pub(crate) async fn a_ruined_box_is_had_back(backend: &dyn Backend, bench: &Bench, spec: &BoxSpec) {
    let sandbox = open(backend, spec).await;
    said(sandbox.guest(), "echo work >work.txt").await;
    let snapshot = keep(sandbox.as_ref(), &wish(bench, "k1")).await;
    // Whatever it can remove, it removes.
    run_in(sandbox.guest(), "rm -rf work.txt /usr/bin /usr/sbin /etc 2>/dev/null").await;
    assert_ne!(run_in(sandbox.guest(), "cat work.txt").await.0, Some(longhaul::domain::Exit::Code(0)));
    close(sandbox.as_ref()).await;
    let one = open(backend, &from(bench, &snapshot)).await;
    let other = open(backend, &from(bench, &snapshot)).await;
    assert_eq!(said(one.guest(), "cat work.txt").await, "work");
    said(one.guest(), "echo one >work.txt; echo one >one.txt").await;
    assert_eq!(said(other.guest(), "cat work.txt; ls").await, "work\ninput.txt\nwork.txt");
    close(one.as_ref()).await;
    close(other.as_ref()).await;
}

/// A shell with jobs does not notice that it was held, and what its user has stopped stays stopped.
pub(crate) async fn shells_do_not_notice(backend: &dyn Backend, bench: &Bench, spec: &BoxSpec) {
    let sandbox = open(backend, spec).await;
    let guest = sandbox.guest();
    let session: longhaul::domain::SessionName = longhaul::domain::SessionName::new("main").unwrap();
    let env = BTreeMap::new();
    let main = OpenSession { session: session.clone(), shell: None, cwd: None, env, size: TermSize::default() };
    guest.open(main).await.unwrap();
    let line = "set -m; sleep 1000 & sleep 1001 & kill -STOP %2; sh -c 'while :; do :; done' & sleep 1.5; jobs; kill %1 %3; kill -9 %2";
    let run = RunCommand { id: "held".to_owned(), session, cwd: None };
    let start = guest.run(run, line.as_bytes()).await.unwrap();
    assert!(matches!(start, Start::Started(_)), "{start:?}");
    for round in 0..8 {
        keep(sandbox.as_ref(), &wish(bench, &format!("k{round}"))).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(20), guest.ended("held")).await.expect("it goes on").unwrap();
    let Phase::Ended(_) = ended.0.phase else { panic!("{:?}", ended.0) };
    let text = log_of(guest, &ended.0.log).await;
    let says = |state: &str, job: &str| {
        text.lines().any(|line| line.contains(state) && line.trim_end_matches(" &").ends_with(job))
    };
    assert!(says("Running", "sleep 1000") && says("Running", "done'") && says("Stopped", "sleep 1001"), "{text}");
    assert!(!says("Stopped", "sleep 1000") && !says("Stopped", "done'"), "{text}");
    close(sandbox.as_ref()).await;
}

/// A driver that has gone is followed by another one, which finds the box and all that runs in it.
pub(crate) async fn a_box_is_found_as_it_is(backend: &dyn Backend, spec: &BoxSpec) {
    let Found::Gone(why) = look_for(backend, spec).await else { panic!("there is no box yet") };
    assert!(!why.is_empty());
    let sandbox = open(backend, spec).await;
    let facts = sandbox.facts().clone();
    said(sandbox.guest(), "echo work >work.txt").await;
    let check = CheckCommand { id: "long".to_owned(), cwd: None, env: BTreeMap::new(), timeout_ms: 600_000 };
    sandbox.guest().check(check.clone(), b"until test -e go; do sleep 0.05; done; echo gone on").await.unwrap();
    drop(sandbox);

    // Every driver has a token of its own.
    let next = BoxSpec { token: "another".to_owned(), ..spec.clone() };
    let Found::Alive(sandbox) = look_for(backend, &next).await else { panic!("it is up") };
    assert_eq!(*sandbox.facts(), facts);
    let start = sandbox.guest().check(check, b"echo a second time").await.unwrap();
    assert!(matches!(start, Start::Known(_)), "{start:?}");
    said(sandbox.guest(), "cat work.txt; touch go").await;
    let (state, output) = sandbox.guest().ended("long").await.unwrap();
    assert_eq!(output.as_deref(), Some(&b"gone on\n"[..]), "{state:?}");
    close(sandbox.as_ref()).await;
}

/// A box that has ended is started again with its files, and what ran in it is known to be lost.
pub(crate) async fn a_box_that_was_killed_is_started_again(
    backend: &dyn Backend,
    bench: &Bench,
    spec: &BoxSpec,
    kill: impl AsyncFn(&dyn Sandbox),
) {
    let mut from = None;
    for round in 1..=2 {
        let sandbox = match from.take() {
            None => open(backend, spec).await,
            Some(sandbox) => sandbox,
        };
        let guest = sandbox.guest();
        let id = format!("long{round}");
        said(guest, &format!("echo {round} >>work.txt; echo {round} >>/tmp/more.txt; echo {round} >>$HOME/home.txt"))
            .await;
        let check = CheckCommand { id: id.clone(), cwd: None, env: BTreeMap::new(), timeout_ms: 600_000 };
        guest.check(check, b"echo begun; sleep 1000").await.unwrap();
        guest.growth("checks.log", 0).await.ok();
        kill(sandbox.as_ref()).await;
        drop(sandbox);
        let Found::Restarted(sandbox, why) = look_for(backend, spec).await else { panic!("its files are there") };
        assert!(!why.is_empty());
        let all: String = (1..=round).map(|round| format!("{round}\n")).collect();
        let found = said(sandbox.guest(), "cat work.txt /tmp/more.txt $HOME/home.txt").await;
        assert_eq!(found, format!("{all}{all}{all}").trim_end());
        let state = sandbox.guest().command(&id).await.unwrap();
        assert!(matches!(state.phase, Phase::Lost), "{state:?}");
        from = Some(sandbox);
    }
    // What it changed is told against the host as it was at the very first start, over all its layers.
    let changes = || {
        let wanted = Wanted { run_dir: spec.run_dir.clone(), workspace: bench.workspace(), started_ns: None };
        let changes = Changes::read(&wanted).unwrap();
        let shown =
            |change: &longhaul::sandbox::changes::Change| format!("{} {}", change.kind.word(), change.path.display());
        changes.list.iter().map(shown).collect::<Vec<_>>()
    };
    let sandbox = from.unwrap();
    said(sandbox.guest(), "rm input.txt").await;
    assert_eq!(changes(), ["deleted input.txt", "added work.txt"]);
    close(sandbox.as_ref()).await;
    assert_eq!(changes(), ["deleted input.txt", "added work.txt"]);
}

/// A snapshot of a box that goes takes it as it is.
pub(crate) async fn the_last_snapshot_is_the_box(backend: &dyn Backend, bench: &Bench, spec: &BoxSpec) {
    let sandbox = open(backend, spec).await;
    said(sandbox.guest(), EVERY_KIND).await;
    said(sandbox.guest(), "echo temporary >/tmp/file; echo home >$HOME/new.txt").await;
    let before = said(sandbox.guest(), DESCRIBE).await;
    let snapshot = keep(sandbox.as_ref(), &SnapshotWish { last: true, ..wish(bench, "end") }).await;
    assert_eq!(snapshot.consistency, Consistency::Stopped);
    close(sandbox.as_ref()).await;
    let again = open(backend, &from(bench, &snapshot)).await;
    assert_eq!(said(again.guest(), DESCRIBE).await, before);
    assert_eq!(said(again.guest(), "cat /tmp/file $HOME/new.txt").await, "temporary\nhome");
    close(again.as_ref()).await;
    // The run itself goes on from there in the place of its first box.
    let anew = open(backend, &BoxSpec { from: Some(snapshot), ..spec.clone() }).await;
    assert_eq!(said(anew.guest(), DESCRIBE).await, before);
    close(anew.as_ref()).await;
}

/// Looks for the run's box, which must be possible.
pub(crate) async fn look_for(backend: &dyn Backend, spec: &BoxSpec) -> Found {
    match backend.find(spec).await {
        Ok(found) => found,
        Err(error) => panic!("{error}: {:?}; hint: {:?}", error.because, error.hint),
    }
}

async fn log_of(guest: &Client, log: &str) -> String {
    String::from_utf8_lossy(&guest.read_log(log, 0, 1 << 20).await.unwrap()).into_owned()
}
