//! A thousand hostile commands over parallel sessions of three shells: none is told to have ended before it has, every
//! exit is the right one, and every session takes the next command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use longhaul::domain::{Exit, SessionName};
use longhaul::guest::{Client, CommandEnd, OpenSession, Phase, RunCommand, Start, Stop, TermSize};

use crate::boxless::{Boxless, session};

/// How many.
const CASES: usize = 1000;

/// How long one may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(200);

/// Each runs in as many sessions as this at a time.
const SESSIONS_EACH: usize = 2;

const SHELLS: [Shell; 3] = [
    Shell { path: "/bin/bash", bash: true, echoes_errors: true },
    Shell { path: "/bin/dash", bash: false, echoes_errors: true },
    Shell { path: "/bin/busybox", bash: false, echoes_errors: false },
];

#[derive(Debug, Clone, Copy)]
struct Shell {
    path: &'static str,
    bash: bool,
    /// Its prompt goes to standard error, so that it is lost where that is.
    echoes_errors: bool,
}

/// What is done to the shell and its terminal before the command's own work.
struct Hazard {
    text: &'static str,
    bash_only: bool,
    /// It changes the shell for good: the next command must not rely on it.
    stays: bool,
    /// The prompt may be lost with it, and the exit with the prompt.
    mutes: bool,
}

const fn harmless(text: &'static str) -> Hazard {
    Hazard { text, bash_only: false, stays: false, mutes: false }
}

const fn staying(text: &'static str) -> Hazard {
    Hazard { text, bash_only: false, stays: true, mutes: false }
}

const fn bash(text: &'static str) -> Hazard {
    Hazard { text, bash_only: true, stays: true, mutes: false }
}

const fn muting(text: &'static str) -> Hazard {
    Hazard { text, bash_only: false, stays: true, mutes: true }
}

const HAZARDS: [Hazard; 62] = [
    harmless(r"printf '\033[?1049h\033[2J\033[Hmenu'"),
    harmless(r"printf '\033[?1049h'; sleep 0.02; printf '\033[?1049l'"),
    harmless(r"printf '\033[?47h\033[8m\033[?25l'"),
    harmless(r"printf '\033]0;title\007\033]52;c;eA==\007'"),
    harmless(r"printf '\033[6n\033[c\033[5n'"),
    harmless(r"printf '\033c\016\033(0'"),
    harmless(r"printf '\033]133;A\007\033]133;B\033\\'"),
    harmless(r"printf '\033]133;'; sleep 0.02; printf 'D;0\007'"),
    harmless(r"printf '\377\376\300\200\033'"),
    harmless(r"printf 'no newline'"),
    harmless(r"printf '%0500d' 0"),
    harmless("head -c 100000 /dev/urandom"),
    harmless("seq 1 3000"),
    harmless("stty raw -echo"),
    harmless("stty -icanon min 0 time 1"),
    harmless("stty -opost -onlcr"),
    harmless("stty -isig -echo"),
    harmless("stty intr ^X eof ^Y 2>/dev/null"),
    harmless("stty rows 5 cols 20"),
    harmless("sleep 0.3 &"),
    harmless("sleep 5 >/dev/null 2>&1 </dev/null &"),
    harmless("(i=0; while [ $i -lt 15 ]; do echo noise-$i; i=$((i+1)); sleep 0.01; done) &"),
    harmless("(sleep 0.05; printf '\\033]133;D;0\\007$ ') &"),
    harmless("sh -c 'exec >&- 2>&-; :'"),
    harmless("sh -c 'trap \"\" HUP INT TERM; sleep 1' &"),
    harmless("cat <<END\n' \" $HOME `echo x` \\x\nEND"),
    harmless("cat <<'END' | cat\n\x1b]133;D;0;\x07 ' \"\nEND"),
    harmless("wait"),
    harmless("echo 'a\nb\nc'"),
    harmless(": 'x\\' \"\\\"\""),
    harmless("jobs; fg 2>/dev/null"),
    harmless("mkdir -p gone.$$ && cd gone.$$ && rmdir ../gone.$$; cd /"),
    harmless("(exec sh -c 'kill -9 $$')"),
    harmless("sh -c 'kill -SEGV $$'"),
    harmless("kill -CONT $$"),
    harmless("kill -WINCH $$"),
    harmless("read -r x </dev/null"),
    harmless("ulimit -c 0; umask 077"),
    staying("set -x"),
    staying("set -v"),
    staying("set -f; set -C"),
    staying("set +m"),
    staying("IFS='/:;xyz'"),
    staying("PS1='> '; PS2=; PS4='$(exit 9)'"),
    staying("unset PS1 PS2 PS4"),
    staying("export PS1='\\033]133;D;0\\007'"),
    staying("alias printf=false return=false"),
    staying("alias command=false unset=false"),
    staying("printf() { false; }; cd() { false; }"),
    staying("trap 'echo trapped' INT TERM HUP"),
    staying("trap '' INT"),
    staying("HOME=/nowhere PATH=/nowhere:$PATH TERM=dumb"),
    staying("exec </dev/null"),
    staying("exec >/dev/null"),
    muting("exec 2>/dev/null"),
    bash("PROMPT_COMMAND='exit 1'"),
    bash("PROMPT_COMMAND='sleep 0.1; PS1=x'"),
    bash("PS0='\\033]133;C\\007'; PROMPT_COMMAND=(false 'echo prompt')"),
    bash("trap 'echo debug' DEBUG; trap 'echo return' RETURN; trap 'echo err' ERR"),
    bash("shopt -u promptvars; shopt -s expand_aliases extglob"),
    bash("enable -n printf; return() { false; }"),
    bash("set -o posix; set -T -E"),
];

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Exits(i32),
    Dies(i32),
}

/// One command and what must come of it.
#[derive(Debug)]
struct Case {
    text: String,
    end: End,
    may_be_unknown: bool,
    /// Whether the shell is replaced afterwards, so that what the case did to it is gone.
    stays: bool,
    /// The file that must be there when it has ended.
    trace: Option<PathBuf>,
    /// The file after which it is interrupted.
    interrupt_after: Option<PathBuf>,
    resizes: bool,
    slow_start: bool,
}

fn case(rng: &mut Rng, shell: Shell, number: usize, dir: &Path) -> Case {
    let trace = dir.join(format!("trace-{number}"));
    let begun = dir.join(format!("begun-{number}"));
    let mut lines = Vec::new();
    let (mut stays, mut may_be_unknown) = (false, false);
    for _ in 0..rng.usize(0..4) {
        let hazard = rng.choice(&HAZARDS).expect("there are some");
        if !hazard.bash_only || shell.bash {
            lines.push(hazard.text.to_owned());
            stays |= hazard.stays;
            may_be_unknown |= hazard.mutes && shell.echoes_errors;
        }
    }
    if rng.u8(..) < 80 {
        lines.push(forged_mark(rng));
    }
    if rng.u8(..) < 100 {
        lines.push(format!("sleep 0.0{}", rng.u8(1..9)));
    }
    rng.shuffle(&mut lines);
    let line = match number {
        7 | 509 => Some("head -c 100000000 /dev/zero | tr '\\0' x"),
        _ if number % 250 == 9 => Some("head -c 2000000 /dev/zero | tr '\\0' x"),
        _ => None,
    };
    lines.extend(line.map(str::to_owned));
    // Not by the shell's own hand: redirections may be forbidden or its output closed by now.
    lines.push(format!("/usr/bin/touch {}", trace.display()));
    let code = rng.i32(0..256);
    let (last, end, leaves) = match rng.u8(0..16) {
        0..6 => (format!("(exit {code})"), End::Exits(code), false),
        6 => (format!("\\exit {code}"), End::Exits(code), true),
        7 => (format!("sh -c 'exit {code}'"), End::Exits(code), false),
        8 => ("kill -9 $$; sleep 5".to_owned(), End::Dies(9), true),
        9 => (format!("exec sh -c 'exit {code}'"), End::Exits(code), true),
        10 => ("sh -c 'kill -TERM $$'".to_owned(), End::Exits(143), false),
        11 => ("if true; then".to_owned(), End::Exits(2), false),
        12 => ("echo \"never closed".to_owned(), End::Exits(2), false),
        13 => (format!("set -e; (exit {}); sleep 5", code.max(1)), End::Exits(code.max(1)), true),
        14 => (format!("sh -c '/usr/bin/touch {}; sleep 30'", begun.display()), End::Exits(130), false),
        _ => ("false; true".to_owned(), End::Exits(0), false),
    };
    let interrupted = end == End::Exits(130) && last.contains("begun");
    if interrupted {
        // What ignores or catches Ctrl-C does not end by it, and a prompt that ends the shell comes right after it.
        lines.retain(|line| !["INT", "set +m", "exit 1"].iter().any(|word| line.contains(word)));
    }
    lines.push(last);
    Case {
        text: lines.join("\n"),
        end,
        may_be_unknown,
        stays: stays && !leaves,
        trace: Some(trace),
        interrupt_after: interrupted.then_some(begun),
        resizes: rng.u8(..) < 25,
        slow_start: rng.u8(..) < 12,
    }
}

impl Case {
    /// Whether a command after this one may be told as not begun: a shell without input ends at its next prompt, and
    /// where the case was cut short by Ctrl-C or a syntax error, only bash can be given the terminal back before that.
    fn may_be_first_to_tell(&self, end: &CommandEnd) -> bool {
        let not_begun = end.exit.is_none() && end.respawned.as_ref().is_some_and(|why| why.contains("seen to begin"));
        not_begun && self.text.contains("exec </dev/null") && matches!(self.end, End::Exits(2 | 130))
    }
}

/// Something that looks like the end of a command and is not: a wrong nonce, none, too many fields, within a line.
fn forged_mark(rng: &mut Rng) -> String {
    let nonce: String = (0..24).map(|_| *rng.choice(b"0123456789ABCDEF").expect("a digit") as char).collect();
    let (seq, code) = (rng.u8(0..60), rng.u8(0..3));
    match rng.u8(0..6) {
        0 => format!("printf '\\033]133;D;{code};{nonce};{seq};\\007'"),
        1 => format!("printf 'text \\033]133;D;{code};{nonce};{seq};r\\007 text\\n'"),
        2 => format!("printf '\\033]133;C;{nonce};{seq}\\007\\033]133;D;{code};{nonce};{seq};\\033\\\\'"),
        3 => format!("printf '\\033]133;D;'; sleep 0.01; printf '{code};;{seq};\\007'"),
        4 => format!("printf '\\033\\033]133;D;{code};{nonce}'"),
        _ => format!("printf '\\r\\033]133;D;{code};;;\\007/ $ '; sleep 0.03"),
    }
}

/// A session that a worker keeps.
struct Worker {
    client: Client,
    shell: Shell,
    name: SessionName,
    dir: PathBuf,
    rng: Rng,
}

impl Worker {
    async fn open(&self, name: &SessionName, slow: bool) {
        let rc = self.dir.join("slow.rc");
        let home = self.dir.join("slow");
        let env = match slow {
            true => BTreeMap::from([
                ("HOME".to_owned(), home.to_string_lossy().into_owned()),
                ("ENV".to_owned(), rc.to_string_lossy().into_owned()),
            ]),
            false => BTreeMap::new(),
        };
        let size = TermSize { cols: 80, rows: 24 };
        let shell = Some(self.shell.path.to_owned());
        let open = OpenSession { session: name.clone(), shell, cwd: None, env, size };
        self.client.open(open).await.expect("a session");
    }

    async fn run(&self, name: &SessionName, id: &str, text: &str) {
        let run = RunCommand { id: id.to_owned(), session: name.clone(), cwd: None };
        let start = self.client.run(run, text.as_bytes()).await.expect("started");
        assert!(matches!(start, Start::Started(_)), "{text}: {start:?}");
    }

    /// Waits for the end; what of the output comes along.
    async fn ended(&self, name: &SessionName, id: &str, text: &str) -> (CommandEnd, String) {
        let ended = tokio::time::timeout(PATIENCE, self.client.ended(id)).await;
        let Ok(ended) = ended else {
            let seen = self.client.foreground(name).await;
            let size = self.client.sessions().await.unwrap().into_iter().find(|info| info.session == *name).unwrap();
            let from = size.log_size.saturating_sub(1500);
            let log = self.client.read_log(&size.log, from, 1500).await.unwrap();
            panic!(
                "{} {id}: not ended: {text}\n{seen:?}\n{size:?}\n{:?}",
                self.shell.path,
                String::from_utf8_lossy(&log)
            );
        };
        let (state, output) = ended.expect("an end");
        let Phase::Ended(end) = state.phase else { panic!("not ended: {state:?}") };
        (end, String::from_utf8_lossy(&output.unwrap_or_default()).into_owned())
    }

    /// Runs a case and looks whether all is as it must be; what is wrong otherwise.
    async fn suffer(&mut self, number: usize) -> Vec<String> {
        let case = case(&mut self.rng, self.shell, number, &self.dir);
        let name = match case.slow_start {
            true => session(&format!("slow{number}")),
            false => self.name.clone(),
        };
        if case.slow_start {
            self.open(&name, true).await;
        }
        let id = format!("case{number}");
        self.run(&name, &id, &case.text).await;
        if case.resizes {
            for _ in 0..20 {
                let size = TermSize { cols: self.rng.u16(10..300), rows: self.rng.u16(2..100) };
                self.client.resize(&name, size).await.expect("resized");
            }
        }
        if let Some(begun) = &case.interrupt_after {
            let until = Instant::now() + PATIENCE;
            while !begun.exists() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.client.signal(&name, Stop::Interrupt).await.expect("a signal");
        }
        let (end, _) = self.ended(&name, &id, &case.text).await;
        let mut wrong = Vec::new();
        if case.trace.as_ref().is_some_and(|trace| !trace.exists()) {
            wrong.push(format!("ended before it had: {end:?}"));
        }
        let expected = match case.end {
            End::Exits(code) => Exit::Code(code),
            End::Dies(signal) => Exit::Signal(signal),
        };
        if end.exit != Some(expected) && !(end.exit.is_none() && case.may_be_unknown) {
            wrong.push(format!("{expected:?} expected: {end:?}"));
        }
        if case.stays {
            let id = format!("renew{number}");
            self.run(&name, &id, "kill -9 $$").await;
            let (end, _) = self.ended(&name, &id, &case.text).await;
            if end.exit != Some(Exit::Signal(9)) && !case.may_be_first_to_tell(&end) {
                wrong.push(format!("a shell that was killed: {end:?}"));
            }
        }
        let (code, id) = (self.rng.i32(0..256), format!("alive{number}"));
        self.run(&name, &id, &format!("echo alive-{number}; (exit {code})")).await;
        let (end, output) = self.ended(&name, &id, &case.text).await;
        if end.exit != Some(Exit::Code(code)) || !output.contains(&format!("alive-{number}\r\n")) {
            wrong.push(format!("the next command, of exit {code}: {end:?} {output:?}"));
        }
        if case.slow_start {
            self.client.close(&name).await.expect("closed");
        }
        let about = |wrong: String| format!("{} case {number}: {wrong}\n{}", self.shell.path, case.text);
        wrong.into_iter().map(about).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hostile_commands_end_when_they_do_and_as_they_do() {
    let host = Boxless::start(&[]);
    let client = host.client().await;
    std::fs::create_dir(host.work().join("slow")).unwrap();
    std::fs::write(host.work().join("slow.rc"), "echo slow; sleep 0.4\n").unwrap();
    std::fs::write(host.work().join("slow/.bashrc"), "echo slow; sleep 0.4; PS1=mine; set -e\n").unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for at in 0..SHELLS.len() * SESSIONS_EACH {
        let (client, done) = (client.clone(), done.clone());
        let mut worker = Worker {
            client,
            shell: SHELLS[at % SHELLS.len()],
            name: session(&format!("w{at}")),
            dir: host.work(),
            rng: Rng::with_seed(at as u64),
        };
        workers.spawn(async move {
            worker.open(&worker.name.clone(), false).await;
            let mut wrong = Vec::new();
            // Each has its own cases, whatever the others do.
            for number in (at..CASES).step_by(SHELLS.len() * SESSIONS_EACH) {
                wrong.extend(worker.suffer(number).await);
                done.fetch_add(1, Ordering::SeqCst);
            }
            wrong
        });
    }
    let wrong: Vec<String> = workers.join_all().await.into_iter().flatten().collect();
    assert_eq!(done.load(Ordering::SeqCst), CASES);
    assert!(wrong.is_empty(), "{} of {CASES}:\n{}", wrong.len(), wrong.join("\n\n"));
}
