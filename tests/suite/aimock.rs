//! aimock, a model server that others wrote, as installed by `scripts/servers.sh`; and our model against it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longhaul::model::{
    Answer, Delta, Message, Model, ModelChoice, ModelErrorKind, Patience, Purpose, Request, ToolSpec, Wire, open,
};
use serde_json::{Value, json};

/// aimock with the fixtures of `tests/servers/aimock.json`, from [`Aimock::start`] until it is dropped.
pub(crate) struct Aimock {
    child: Child,
    origin: String,
}

impl Aimock {
    /// Starts the server on a free port of 127.0.0.1; None where it is not installed.
    ///
    /// # Panics
    /// Where it is not installed and `CI=true`: there nothing may be skipped.
    pub(crate) fn start() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = |name: &str| -> PathBuf { root.join("target/servers").join(name) };
        let script = program("node_modules/@copilotkit/aimock/dist/cli.js");
        if !script.exists() {
            missing("aimock");
            return None;
        }
        let mut child = Command::new(program("node"))
            .arg(script)
            .args(["--port", "0", "--host", "127.0.0.1", "--chunk-size", "7", "--strict", "--validate-on-load"])
            .arg("--fixtures")
            .arg(root.join("tests/servers/aimock.json"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let origin =
            lines.find_map(|line| line.split_once("listening on ").map(|(_, origin)| origin.trim().to_owned()));
        // It must never block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let origin = origin.expect("aimock says where it listens");
        Some(Self { child, origin })
    }

    /// What `OPENAI_BASE_URL` is to be.
    pub(crate) fn base_url(&self) -> String {
        format!("{}/v1", self.origin)
    }

    /// Makes it fail from now on, as in `{"disconnectRate": 1}`; `{}` makes it well again.
    async fn fail(&self, rates: &Value) {
        let url = format!("{}/__aimock/chaos", self.origin);
        let sent = reqwest::Client::new().post(url).json(rates).send().await;
        assert!(sent.is_ok_and(|response| response.status().is_success()), "aimock takes the rates");
    }
}

impl Drop for Aimock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that a test is skipped for want of what `scripts/servers.sh` installs.
///
/// # Panics
/// Where `CI=true`: there nothing may be skipped.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
pub(crate) fn missing(what: &str) {
    let missing = format!("{what} is not installed: run scripts/servers.sh");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    eprintln!("skipped: {missing}");
}

fn model(server: &Aimock) -> std::sync::Arc<dyn Model> {
    let patience = Patience {
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(50),
        ..Patience::default()
    };
    let base_url = Some(server.base_url());
    let choice = ModelChoice { name: "qwen3".to_owned(), base_url, api_key: None, wire: Wire::Auto, patience, seed: 1 };
    open(&choice).expect("the choice is sound")
}

fn asked(text: &str) -> Request {
    let tool = ToolSpec {
        name: "shell".to_owned(),
        description: "Runs a command.".to_owned(),
        parameters: json!({"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}),
        strict: false,
    };
    Request { messages: vec![Message::User(text.to_owned())], tools: [tool].into(), purpose: Purpose::Turn }
}

/// The conversation after this answer, with a result for every call.
fn go_on(mut request: Request, answer: &Answer) -> Request {
    let (text, calls, opaque) = (answer.text.clone(), answer.calls.clone(), answer.opaque.clone());
    let results = calls.iter().map(|call| Message::Tool { call_id: call.id.clone(), text: "exit 0".to_owned() });
    let results: Vec<_> = results.collect();
    request.messages.push(Message::Assistant { text, calls, opaque });
    request.messages.extend(results);
    request
}

#[tokio::test]
async fn a_conversation_with_parallel_calls_works_with_a_server_that_others_wrote() {
    let Some(server) = Aimock::start() else { return };
    let model = model(&server);
    let request = asked("Give me two numbers.");
    let mut deltas = Vec::new();
    let answer = model.answer(&request, &mut |delta| deltas.push(delta)).await.unwrap();
    assert!(deltas.len() > 3, "the words are streamed: {deltas:?}");
    assert_eq!(answer.text, "I ask for both at once, in words that take more than one chunk.");
    let commands: Vec<Value> = answer.calls.iter().map(|call| serde_json::from_str(&call.arguments).unwrap()).collect();
    assert_eq!(commands, [json!({"command": "echo forty-one"}), json!({"command": "printf '%s\\n' \"forty-two\""})]);
    assert!(answer.usage.is_some_and(|usage| usage.output_tokens > 0));

    let answer = model.answer(&go_on(request, &answer), &mut |_| {}).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.calls.len()), ("They are 41 and 42.", 0));
    assert_eq!(answer.reasoning, "The results say so.");
}

#[tokio::test]
async fn its_chaos_is_waited_out() {
    let Some(server) = Aimock::start() else { return };
    let model = model(&server);
    for fault in ["dropRate", "disconnectRate", "rateLimitRate"] {
        server.fail(&json!({fault: 1})).await;
        let (told, mut waits) = tokio::sync::mpsc::unbounded_channel();
        let asking = async {
            let mut tell = |delta| {
                if let Delta::Delayed { why, .. } = delta {
                    told.send(why).unwrap();
                }
            };
            model.answer(&asked("Give me two numbers."), &mut tell).await
        };
        let mending = async {
            waits.recv().await.expect("it is waited for");
            server.fail(&json!({})).await;
        };
        let (answer, ()) = tokio::join!(asking, mending);
        assert_eq!(answer.unwrap().calls.len(), 2, "{fault}");
    }
}

#[tokio::test]
async fn what_is_no_answer_at_all_is_an_error_at_once() {
    let Some(server) = Aimock::start() else { return };
    let model = model(&server);
    server.fail(&json!({"malformedRate": 1})).await;
    let error = model.answer(&asked("Give me two numbers."), &mut |_| {}).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Protocol, "{error:?}");
    server.fail(&json!({})).await;
    assert_eq!(model.answer(&asked("Give me two numbers."), &mut |_| {}).await.unwrap().calls.len(), 2);
}
