//! llama.cpp's server, as installed by `scripts/servers.sh`, with its small model of nonsense: a real tokenizer, template,
//! grammar and prompt cache, over both APIs.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use longhaul::model::{Message, ModelErrorKind, Wire};

use crate::responses::{asked, model};
use crate::stage::{Ran, Stage};

/// The server, from [`Llama::start`] until it is dropped.
pub(crate) struct Llama {
    child: Child,
    port: u16,
}

impl Llama {
    /// Starts the server on a free port of 127.0.0.1 with a window of so many tokens; None where it is not installed.
    ///
    /// # Panics
    /// Where it is not installed and `CI=true`: there nothing may be skipped.
    pub(crate) fn start(window: u32) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers/llama");
        if !root.join("unpacked").exists() {
            crate::aimock::missing("llama.cpp's server");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut program = match rustix::process::geteuid().is_root() {
            true => Command::new("chroot"),
            false => {
                let mut program = Command::new("unshare");
                program.args(["--map-root-user", "chroot"]);
                program
            }
        };
        let said = tempfile::NamedTempFile::new().unwrap();
        let child = program
            .arg(root)
            .args(["/usr/bin/llama-server", "--model", "/small.gguf", "--jinja", "--no-warmup"])
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--ctx-size", &window.to_string(), "--parallel", "1", "--threads", "1", "--threads-batch", "1"])
            .args(["--temp", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0"])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(said.path()).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { child, port };
        let until = Instant::now() + Duration::from_secs(60);
        // It listens only once the model is loaded.
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let told = || std::fs::read_to_string(said.path()).unwrap_or_default();
            assert!(server.child.try_wait().unwrap().is_none(), "llama-server has ended:\n{}", told());
            assert!(Instant::now() < until, "llama-server does not listen:\n{}", told());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// What `OPENAI_BASE_URL` is to be.
    pub(crate) fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }
}

impl Drop for Llama {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program against the server at `base_url` for so many requests, to a clean end at that limit; returns prompt
/// tokens and how many of them were cached, by request.
#[track_caller]
pub(crate) fn runs_to_its_limit(stage: &Stage, base_url: &str, wire: &str, turns: usize) -> Vec<(u64, u64)> {
    let most = turns.to_string();
    // Words alone don't end a run that has a check.
    let check = ["--check", "false"];
    let args = ["do", "talk nonsense", "--sandbox", "local", "--wire", wire, "--max-turns", &most];
    let args = [&args[..], &check].concat();
    let mut program = stage.agent(&args);
    program.env("OPENAI_BASE_URL", base_url).env("OPENAI_API_KEY", "sk-none").env("LONGHAUL_MODEL", "small");
    let ran = Ran::of(&program.output().unwrap()).exits_with(5);
    assert!(ran.stderr.contains(&format!("the limit of {most} model requests was reached")), "{}", ran.stderr);
    let answers = stage.events_of("model_answered");
    assert_eq!(answers.len(), turns);
    let calls: usize = answers.iter().map(|answer| answer["calls"].as_array().unwrap().len()).sum();
    assert!(calls > 0 && stage.events_of("tool_ended").len() == calls, "every call has its outcome, over {wire}");
    stage.verifies();
    let usage = |answer: &serde_json::Value| {
        let tokens = |name: &str| answer["usage"][name].as_u64().unwrap_or_default();
        assert!(tokens("input_tokens") > 1000 && tokens("output_tokens") > 0, "{}", answer["usage"]);
        (tokens("input_tokens"), tokens("cached_tokens"))
    };
    answers.iter().map(usage).collect()
}

/// The share of the prompts' tokens that the server had from earlier requests.
fn cached_share(usage: &[(u64, u64)]) -> f64 {
    let (all, cached) = usage.iter().fold((0, 0), |(all, cached), (one, of_it)| (all + one, cached + of_it));
    #[expect(clippy::cast_precision_loss, reason = "a share in thousandths")]
    let share = cached as f64 / all as f64;
    share
}

#[test]
fn calls_are_run_and_the_prompt_is_cached_over_chat_completions() {
    let Some(server) = Llama::start(65_536) else { return };
    let usage = runs_to_its_limit(&Stage::new(), &server.base_url(), "chat", 6);
    assert!(usage[1..].iter().all(|(prompt, cached)| cached * 2 > *prompt), "{usage:?}");
}

#[test]
fn calls_are_run_and_the_prompt_is_cached_over_responses() {
    let Some(server) = Llama::start(65_536) else { return };
    let usage = runs_to_its_limit(&Stage::new(), &server.base_url(), "responses", 6);
    assert!(usage[1..].iter().all(|(prompt, cached)| cached * 2 > *prompt), "{usage:?}");
}

#[tokio::test]
async fn a_prompt_that_outgrows_its_window_is_known_as_that_with_the_window_s_size() {
    let Some(server) = Llama::start(2048) else { return };
    for wire in [Wire::Chat, Wire::Responses] {
        let mut request = asked();
        request.messages.push(Message::User("a b c d e f g h ".repeat(1000)));
        let error = model(&server.base_url(), wire).answer(&request, &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::ContextLength, "{error:?}");
        assert_eq!(error.window, Some(2048), "{error:?}");
    }
}

#[test]
#[ignore = "takes minutes: `cargo nextest run --profile soak --run-ignored only --no-capture sixty`"]
#[expect(clippy::print_stderr, reason = "the share is for whoever asked for it")]
fn over_sixty_turns_nearly_all_of_each_prompt_is_cached() {
    let Some(server) = Llama::start(1 << 17) else { return };
    let usage = runs_to_its_limit(&Stage::new(), &server.base_url(), "chat", 60);
    let share = cached_share(&usage);
    eprintln!("{:.2} % of the prompts came from the server's cache", share * 100.0);
    assert!(share >= 0.95, "{share}: {usage:?}");
}

#[test]
fn a_run_goes_through_the_litellm_proxy_over_both_apis() {
    let Some(server) = Llama::start(65_536) else { return };
    let proxy = crate::litellm::Proxy::start(&server.base_url());
    for wire in ["chat", "responses"] {
        runs_to_its_limit(&Stage::new(), &proxy.base_url(), wire, 4);
    }
}
