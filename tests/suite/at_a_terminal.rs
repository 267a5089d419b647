//! What needs a real terminal: a chat, and looking into a run from another one.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::stage::Stage;

const SCRIPT: &str = r#"
[[turn]]
say = "Hello to you."
[[turn]]
[[turn.call]]
tool = "shell"
arguments = { command = "echo in the box; sleep 600" }
[[turn]]
expect = ["interrupted", "still there"]
say = "As you wish."
"#;

/// A program on a terminal of its own.
pub(crate) struct Terminal {
    /// The program.
    pub(crate) child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    printed: Receiver<Vec<u8>>,
    text: String,
    seen: usize,
}

impl Terminal {
    /// Runs the program on a terminal of 100 columns and 40 lines.
    pub(crate) fn run(stage: &Stage, args: &[&str]) -> Self {
        let pty = native_pty_system().openpty(PtySize { rows: 40, cols: 100, ..PtySize::default() }).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_agent"));
        command.args(args);
        command.cwd(stage.project());
        command.env_clear();
        for (name, value) in [("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("TERM", "xterm"), ("NO_COLOR", "1")] {
            command.env(name, value);
        }
        command.env("HOME", stage.home());
        command.env("LONGHAUL_STATE_DIR", stage.state());
        let child = pty.slave.spawn_command(command).unwrap();
        let mut reader = pty.master.try_clone_reader().unwrap();
        let keys = pty.master.take_writer().unwrap();
        let (send, printed) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, master: pty.master, keys, printed, text: String::new(), seen: 0 }
    }

    /// Waits until `words` are printed after what was waited for last.
    #[track_caller]
    pub(crate) fn until(&mut self, words: &str) {
        loop {
            if let Some(at) = self.text[self.seen..].find(words) {
                self.seen += at + words.len();
                return;
            }
            match self.printed.recv_timeout(Duration::from_secs(30)) {
                Ok(bytes) => self.text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("`{words}` did not come; printed so far:\n{}", self.text),
            }
        }
    }

    /// Makes its window another size.
    pub(crate) fn resize(&self, rows: u16, cols: u16) {
        self.master.resize(PtySize { rows, cols, ..PtySize::default() }).unwrap();
    }

    /// Types.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }
}

#[test]
fn a_person_is_answered_may_interrupt_and_leaves() {
    let stage = Stage::new();
    let script = stage.home().join("script.toml");
    std::fs::write(&script, SCRIPT).unwrap();
    let model = format!("script:{}", script.display());
    let mut chat = Terminal::run(&stage, &["chat", "--sandbox", "local", "--model", &model]);
    chat.until("> ");
    chat.type_keys("hello\r");
    chat.until("Hello to you.");
    chat.until("> ");
    chat.type_keys("/stauts\r");
    chat.until("did you mean /status?");
    chat.until("> ");
    chat.type_keys("/status\r");
    chat.until("so far   1 turn");
    chat.until("> ");
    chat.type_keys("start something\r");
    chat.until("$ echo in the box");
    chat.until("in the box");
    chat.type_keys("\x03");
    chat.until("by Ctrl-C");
    chat.until("> ");
    chat.type_keys("still there\r");
    chat.until("As you wish.");
    chat.until("> ");
    chat.type_keys("\x04");
    chat.until("the person ended the chat");
    assert_eq!(chat.child.wait().unwrap().exit_code(), 0);
    let said: Vec<_> = stage.events_of("user_said").iter().map(|event| event["text"].clone()).collect();
    assert_eq!(said, ["hello", "start something", "still there"]);
    assert_eq!(stage.events_of("turn_interrupted").len(), 1);
    assert_eq!(stage.events_of("box_closed")[0]["removed"], true);
    assert!(std::fs::read_to_string(stage.state().join("chat_history")).unwrap().contains("start something"));
    stage.verifies();
}

#[test]
fn a_person_looks_into_a_run_from_another_terminal_and_takes_part_when_asked_to() {
    const COMMAND: &str = "echo ask; read answer; echo got=$answer; exit 7";
    let stage = Stage::new();
    let script = stage.home().join("script.toml");
    let calls = format!(
        "[[turn]]\n[[turn.call]]\ntool = 'shell'\narguments = {{ command = '{COMMAND}', session = 'work', yield_s = 60 }}\n\
         [[turn]]\nexpect = ['exit 7', 'got=by hand']\n[[turn.call]]\ntool = 'finish'\narguments = {{ summary = 'seen' }}\n"
    );
    std::fs::write(&script, calls).unwrap();
    let model = format!("script:{}", script.display());
    let mut run = Terminal::run(&stage, &["do", "ask", "--sandbox", "local", "--model", &model]);
    run.until("| ask");
    let mut watcher = Terminal::run(&stage, &["attach", "last", "work"]);
    watcher.until("q or Ctrl-C leaves");
    watcher.until("ask");
    watcher.type_keys("not heard\rq");
    watcher.until("left; the run goes on");
    assert_eq!(watcher.child.wait().unwrap().exit_code(), 0);
    let mut partner = Terminal::run(&stage, &["attach", "--write"]);
    partner.until("ask");
    partner.type_keys("by hand\r");
    partner.until("got=by hand");
    run.until("the model says it is done");
    assert_eq!(run.child.wait().unwrap().exit_code(), 0);
    stage.verifies();
}

#[test]
fn a_person_is_asked_of_each_change_and_what_runs_by_itself_is_never_among_all() {
    let stage = Stage::new();
    crate::diff::ran(
        &stage,
        "echo new >a; echo new >b; printf \"evil\\033[2J\\n\" >.envrc; echo new >c; echo 2 >data.txt",
    );
    let mut apply = Terminal::run(&stage, &["apply", "last", "--interactive"]);
    apply.until("+evil\\e[2J");
    apply.until("careful: it runs by itself on the host: direnv runs it");
    apply.until("[q]uit: ");
    apply.type_keys("perhaps\r");
    apply.until("[q]uit: ");
    apply.type_keys("n\r");
    apply.until("apply a (");
    apply.until("[q]uit: ");
    apply.type_keys("y\r");
    apply.until("apply b (");
    apply.until("[q]uit: ");
    apply.type_keys("\r");
    apply.until("apply c (");
    apply.until("[q]uit: ");
    apply.type_keys("a\r");
    apply.until("3 applied");
    assert_eq!(apply.child.wait().unwrap().exit_code(), 0);
    let at = |name: &str| stage.project().join(name);
    assert!(at("a").exists() && at("c").exists() && !at("b").exists() && !at(".envrc").exists());
    assert_eq!(std::fs::read_to_string(at("data.txt")).unwrap(), "2\n");
    let mut again = Terminal::run(&stage, &["apply", "last", "-i"]);
    again.until("[q]uit: ");
    again.type_keys("y\r");
    again.until("apply b (");
    again.until("[q]uit: ");
    again.type_keys("q\r");
    again.until("1 applied");
    assert_eq!(again.child.wait().unwrap().exit_code(), 0);
    assert!(at(".envrc").exists() && !at("b").exists());
}

#[test]
fn a_message_from_another_terminal_is_answered_in_a_chat_and_the_line_being_typed_is_kept() {
    let stage = Stage::new();
    let script = stage.home().join("script.toml");
    let turns =
        "[[turn]]\nexpect = ['from afar']\nsay = 'Heard you.'\n[[turn]]\nexpect = ['hello']\nsay = 'And you.'\n";
    std::fs::write(&script, turns).unwrap();
    let model = format!("script:{}", script.display());
    let mut chat = Terminal::run(&stage, &["chat", "--sandbox", "local", "--model", &model]);
    chat.until("> ");
    chat.type_keys("hel");
    chat.until("hel");
    stage.run(&["send", "last", "from afar"]).exits_with(0);
    chat.until("you       from afar");
    chat.until("Heard you.");
    chat.type_keys("lo\r");
    chat.until("And you.");
    chat.until("> ");
    chat.type_keys("\x04");
    chat.until("the person ended the chat");
    assert_eq!(chat.child.wait().unwrap().exit_code(), 0);
    let said: Vec<_> = stage.events_of("user_said").iter().map(|event| event["text"].clone()).collect();
    assert_eq!(said, ["from afar", "hello"]);
    stage.verifies();
}
