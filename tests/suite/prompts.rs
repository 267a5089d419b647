//! Programs that wait for a person, and programs that only seem to: real ones, on real terminals.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use longhaul::domain::InputKind;
use longhaul::guest::{Actor, Client, Condition, Met, OpenSession, Start, Stop, TermSize};
use longhaul::sandbox::Backend as _;
use longhaul::terminal::Terminal;

use crate::boxless::{Boxless, options, session};
use crate::engines::{BUSYBOX, DEBIAN, DOCKER, Project};

use InputKind::{Editor, Other, Pager, Password, Repl, YesNo};

/// How soon a program that waits is recognised after its last output, on a machine that has the time.
const SOON: Duration = Duration::from_secs(1);

/// How long a program that does not wait is watched.
const WATCHED: Duration = Duration::from_millis(1500);

/// A command that ends up waiting, what for, and a piece of what then stands on the screen.
type Asking<'a> = (&'a str, InputKind, &'a str);

/// Programs of every kind that Debian and the machine's own Python have.
const ASKING: [Asking<'_>; 17] = [
    ("read -p 'Your name: ' x", Other, "Your name:"),
    ("sh -c 'printf \"Continue? [y/N] \"; read x'", YesNo, "[y/N]"),
    ("python3 -c 'input(\"Proceed ([y]/n)? \")'", YesNo, "Proceed"),
    ("python3 -c 'import getpass; getpass.getpass(\"Key: \")'", Password, "Key:"),
    ("python3 -c 'import sys; sys.stdin.readline()'", Other, ""),
    ("python3 -q", Repl, ">>>"),
    ("python3 -c 'import select,sys; select.select([sys.stdin],[],[])'", Other, ""),
    ("python3 -c 'import select; e=select.epoll(); e.register(0, select.EPOLLIN); e.poll()'", Other, ""),
    (
        "python3 -c 'import threading,time; t=threading.Thread(target=input, args=[\"In a thread: \"]); t.start()'",
        Other,
        "In a thread:",
    ),
    ("bash -c 'read -s -p \"Password: \" x'", Password, "Password:"),
    ("seq 1 500 | less", Pager, ":"),
    ("seq 1 500 | more", Pager, "--More--"),
    ("vim -u NONE note", Editor, ""),
    ("cat", Other, ""),
    ("sh -c 'sort >/dev/null'", Other, ""),
    ("script -qc 'python3 -c \"input(chr(63))\"' /dev/null", Other, "?"),
    ("touch kept; rm -i kept", YesNo, "rm: remove"),
];

/// Programs that are silent and do not wait for anybody.
const BUSY: [&str; 8] = [
    "sleep 30",
    "sh -c 'while :; do :; done'",
    "while :; do :; done",
    "python3 -c 'import socket,select; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(); select.select([s],[],[])'",
    "python3 -c 'import socket; s=socket.socket(); s.bind((\"127.0.0.1\",0)); s.listen(); s.accept()'",
    "python3 -c 'import select,sys\nwhile 1: select.select([sys.stdin],[],[],0.1)'",
    "script -qc 'sleep 30' /dev/null",
    "cat fifo",
];

async fn open(client: &Client, shell: Option<&str>) {
    let open = OpenSession {
        session: session("main"),
        shell: shell.map(str::to_owned),
        cwd: None,
        env: [].into(),
        size: TermSize { cols: 100, rows: 30 },
    };
    client.open(open).await.expect("a session");
}

async fn begin(client: &Client, id: &str, command: &str) {
    let run = longhaul::guest::RunCommand { id: id.into(), session: session("main"), cwd: None };
    let start = client.run(run, command.as_bytes()).await.expect("started");
    assert!(matches!(start, Start::Started(_)), "{command}: {start:?}");
}

/// Ends what runs in the session, whatever it does about signals.
async fn end(client: &Client, id: &str) {
    for stop in [Stop::Interrupt, Stop::Terminate, Stop::Kill] {
        client.signal(&session("main"), stop).await.expect("a signal");
        if tokio::time::timeout(Duration::from_millis(400), client.ended(id)).await.is_ok() {
            return;
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), client.ended(id)).await;
    ended.expect("it ends").expect("an end");
}

fn input() -> Condition {
    Condition::Input { session: session("main") }
}

/// Waits until the session waits for input; how long that was after its last output.
async fn recognised(client: &Client) -> (Met, Duration) {
    let mut met = Box::pin(client.met(input()));
    let (mut size, mut last_output) = (0, Instant::now());
    loop {
        tokio::select! {
            met = &mut met => return (met.expect("met"), last_output.elapsed()),
            grown = client.growth("main.log", size) => (size, last_output) = (grown.expect("a size"), Instant::now()),
        }
    }
}

/// Fails unless each of these is recognised for what it is, and most of them soon.
async fn are_recognised(terminal: &Terminal, asking: &[Asking<'_>]) {
    let client = terminal.guest();
    let mut took = Vec::new();
    for (at, (command, kind, shown)) in asking.iter().enumerate() {
        let id = format!("{at}: {command}");
        begin(client, &id, command).await;
        let seen = tokio::time::timeout(Duration::from_secs(20), recognised(client)).await;
        took.push(seen.unwrap_or_else(|_| panic!("{command}: not recognised")).1);
        let look = terminal.look(&session("main")).await.expect("a look");
        let (seen, prompt) = look.input.unwrap_or_else(|| panic!("{command}: {:?}", look.foreground));
        assert_eq!(seen, *kind, "{command}: {prompt:?} {:?}", look.foreground);
        assert!(prompt.contains(shown), "{command}: {prompt:?}");
        assert!(!look.foreground.at_prompt && look.foreground.group > 0, "{command}");
        end(client, &id).await;
    }
    took.sort();
    assert!(took[took.len() / 2] < SOON, "recognised after {took:?}");
}

async fn are_left_alone(terminal: &Terminal, busy: &[&str]) {
    let client = terminal.guest();
    for (at, command) in busy.iter().enumerate() {
        let id = format!("{at}: {command}");
        begin(client, &id, command).await;
        let met = tokio::time::timeout(WATCHED, client.met(input())).await;
        assert!(met.is_err(), "{command}: {met:?}");
        let look = terminal.look(&session("main")).await.expect("a look");
        assert_eq!(look.input, None, "{command}: {:?}", look.foreground);
        end(client, &id).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_wait_for_a_person_are_recognised_and_told_apart() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    open(terminal.guest(), None).await;
    are_recognised(&terminal, &ASKING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_work_or_serve_in_silence_are_left_alone() {
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    open(terminal.guest(), None).await;
    rustix::fs::mkfifoat(rustix::fs::CWD, host.work().join("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    are_left_alone(&terminal, &BUSY).await;
}

/// What every shell can do, with the programs of busybox.
const PLAIN: [Asking<'_>; 8] = [
    ("printf 'Your name: '; read x", Other, "Your name:"),
    ("sh -c 'printf \"Continue? [y/N] \"; read x'", YesNo, "[y/N]"),
    ("cat", Other, ""),
    ("sh -c 'stty -echo; printf \"Password: \"; read x'", Password, "Password:"),
    ("busybox seq 1 500 | busybox less", Pager, ""),
    ("busybox seq 1 500 | busybox more", Pager, "--More--"),
    ("busybox vi note", Editor, ""),
    ("busybox rm -i kept", YesNo, "remove"),
];

const PLAIN_BUSY: [&str; 4] =
    ["sleep 30", "while :; do :; done", "sh -c 'while :; do :; done'", "sh -c 'sleep 20; sleep 20'"];

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_wait_are_recognised_below_dash_and_busybox() {
    for shell in ["/bin/dash", "/bin/busybox"] {
        let host = Boxless::start(&[]);
        std::fs::write(host.work().join("kept"), "").unwrap();
        let terminal = host.terminal().await;
        open(terminal.guest(), Some(shell)).await;
        are_recognised(&terminal, &PLAIN).await;
        are_left_alone(&terminal, &PLAIN_BUSY).await;
    }
}

/// A box of this image with a session in it, and both kinds of programs.
async fn in_a_container(image: &str, asking: &[Asking<'_>], busy: &[&str]) {
    if !DOCKER.is_there() {
        return;
    }
    let project = Project::on(DOCKER);
    let spec = project.spec(image);
    let sandbox = project.backend().create(&spec).await.expect("a box");
    let terminal = Terminal::new(sandbox.guest().clone(), options(&project.dir()));
    open(terminal.guest(), None).await;
    are_recognised(&terminal, asking).await;
    are_left_alone(&terminal, busy).await;
    let vitals = terminal.guest().vitals().await.expect("vitals");
    assert!(vitals.memory_bytes > 100_000 && vitals.processes >= 2 && !vitals.disks.is_empty(), "{vitals:?}");
    let closed_port = Condition::Http { url: "http://localhost:9/".into(), status: None };
    let tried = terminal.guest().tried(closed_port).await.expect("it is tried");
    assert!(!tried.met, "{tried:?}");
    assert_eq!(sandbox.destroy(Duration::from_secs(10)).await.left, Vec::<String>::new());
}

#[tokio::test]
async fn programs_that_wait_are_recognised_in_a_container_of_bare_busybox() {
    in_a_container(BUSYBOX, &PLAIN[..7], &PLAIN_BUSY).await;
}

#[tokio::test]
async fn programs_that_wait_are_recognised_in_a_container_of_debian() {
    let asking = [
        ("apt-get remove tmux", YesNo, "[Y/n]"),
        ("read -p 'Your name: ' x", Other, "Your name:"),
        ("bash -c 'read -s -p \"Password: \" x'", Password, "Password:"),
        ("seq 1 500 | more", Pager, "--More--"),
    ];
    in_a_container(DEBIAN, &asking, &["sleep 30", "while :; do :; done"]).await;
}

/// A server for ssh that listens on this host; ended when dropped.
struct Sshd {
    server: std::process::Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Sshd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key").to_str().unwrap().to_owned();
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
        assert!(made.expect("ssh-keygen runs: see scripts/setup.sh").success());
        // It drops its rights there.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("ListenAddress=127.0.0.1:{port}");
        let options = ["-o", &listen, "-o", "PidFile=none", "-o", "UsePAM=no", "-o", "PasswordAuthentication=yes"];
        let mut server = Command::new("/usr/sbin/sshd");
        server.args(["-D", "-f", "/dev/null", "-h", &key, "-o", "PermitRootLogin=yes"]).args(options);
        let server = server.spawn().expect("sshd starts: see scripts/setup.sh");
        Self { server, port, _dir: dir }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_asks_for_the_host_key_and_then_for_the_password() {
    let (host, sshd) = (Boxless::start(&[]), Sshd::start());
    let terminal = host.terminal().await;
    let client = terminal.guest();
    open(client, None).await;
    let listens = client.met(Condition::Port { host: "127.0.0.1".into(), port: sshd.port });
    tokio::time::timeout(Duration::from_secs(20), listens).await.expect("it listens").expect("met");
    let files = "-o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -o PubkeyAuthentication=no";
    begin(client, "ssh", &format!("ssh -F none {files} -p {} root@127.0.0.1", sshd.port)).await;
    let asks = async |kind: InputKind, shown: &str| {
        tokio::time::timeout(Duration::from_secs(20), recognised(client)).await.expect("recognised");
        let look = terminal.look(&session("main")).await.expect("a look");
        let (seen, prompt) = look.input.unwrap_or_else(|| panic!("{:?}", look.foreground));
        assert!(seen == kind && prompt.contains(shown) && look.foreground.program == "ssh", "{seen:?}: {prompt}");
    };
    asks(YesNo, "(yes/no/[fingerprint])?").await;
    client.type_keys(&session("main"), b"yes\n", Actor::Model).await.expect("typed");
    asks(Password, "root@127.0.0.1's password:").await;
    end(client, "ssh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sudo_asks_for_a_password_in_the_box_of_root_and_of_an_ordinary_user() {
    // An ordinary user may not look into a program of root's: there the terminal tells.
    let sudo = [("sudo -k true", Password, "password for")];
    let as_nobody = [("setpriv --reuid 65534 --regid 65534 --clear-groups sudo -k true", Password, "password for")];
    let host = Boxless::start(&[]);
    let terminal = host.terminal().await;
    open(terminal.guest(), None).await;
    are_recognised(&terminal, &as_nobody).await;

    let host = Boxless::start_as(65534);
    let terminal = host.terminal().await;
    open(terminal.guest(), None).await;
    are_recognised(&terminal, &sudo).await;
    are_recognised(&terminal, &ASKING[..2]).await;
    are_left_alone(&terminal, &["sleep 30", "sh -c 'while :; do :; done'"]).await;
}
