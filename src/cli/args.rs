//! What a person can type: every subcommand, flag and default.

mod proof;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use self::proof::ProofArgs;

/// An autonomous workflow agent: works towards a goal in a sandboxed box, waits without asking a model, proves its
/// results with checks that the harness runs, and leaves a transcript that can be replayed and verified.
#[derive(Debug, Parser)]
#[command(
    name = "agent",
    version,
    max_term_width = 100,
    after_help = EXIT_CODES,
    arg_required_else_help = false
)]
pub(super) struct Cli {
    /// What to do; without one, a chat begins.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// How the chat runs when no subcommand is given.
    #[command(flatten)]
    pub(super) chat: ChatArgs,
}

/// Shown below every `--help`.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0 done    1 internal error   2 usage or configuration   3 failed, or a check failed
  4 needs a person   5 limit reached   6 refused by policy   7 no sandbox
  8 unverified, with --require-verified   75 model server unavailable, try later
  77 credentials refused   130 interrupted   143 terminated";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Works on one goal until the harness has a verdict.
    Do(Box<DoArgs>),
    /// Talks with the model in the terminal, with the same tools and box.
    Chat(Box<ChatArgs>),
    /// Runs the demo: scripted replies instead of a model, everything else real; needs no key.
    Demo(DemoArgs),
    /// Goes on with a run whose driver has gone, or that was stopped: nothing is lost and nothing done twice.
    Resume(ResumeArgs),
    /// Begins a run of its own as another one stood at some entry, with the files of a checkpoint.
    Fork(ForkArgs),
    /// Looks into a running box: its tmux, or one session.
    Attach(AttachArgs),
    /// Says something to the model of a run that goes on, and wakes it if it waits.
    Send(SendArgs),
    /// Answers a question that a run has put to a person.
    Answer(super::answer::AnswerArgs),
    /// Shows the questions that wait for an answer.
    Questions(super::questions::QuestionsArgs),
    /// Prints what a session of a run has printed, or which sessions there are.
    Logs(LogsArgs),
    /// Lists the jobs of a run: commands that outlived their calls.
    Jobs(JobsArgs),
    /// Shows what a run changed, against the host as it is now.
    Diff(DiffArgs),
    /// Brings what a run changed to the host.
    Apply(ApplyArgs),
    /// Shows what happened in a run, from the transcript alone.
    Replay(super::ReplayArgs),
    /// Proves that a transcript is whole and unchanged.
    Verify(super::VerifyArgs),
    /// Takes, lists, shows, restores and deletes checkpoints of a run.
    #[command(subcommand)]
    Checkpoint(super::CheckpointCommand),
    /// Tells what a run cost, by model.
    Cost(CostArgs),
    /// Counts how the runs went: verdicts, failures, what was done about them and whether that helped, questions, money.
    Stats(super::StatsArgs),
    /// Lists what was learned about failures across runs, and forgets it.
    Lessons(super::LessonsArgs),
    /// Tells how full the model's window is, and of what.
    Context(ContextArgs),
    /// Has a run that is being driven make its conversation with the model smaller.
    Compact(CompactArgs),
    /// Lists, shows, measures and removes runs.
    #[command(subcommand)]
    Runs(super::RunsCommand),
    /// Lists what nothing needs any more, and removes it: layers, images, boxes of runs that are gone.
    Gc(GcArgs),
    /// Tries what this machine can do: boxes, tmux, the model's settings, the state directory.
    Doctor(DoctorArgs),
    /// Tries whether notifications reach you.
    Notify(TestNotifyArgs),
    /// Says what is wrong with a workflow file, each mistake at its place; exits with 2 if there is one.
    Validate(super::ValidateArgs),
    /// Draws the stages of a workflow file.
    Graph(super::GraphArgs),
    /// Shows what a run may do unasked, and judges a command by that.
    Policy(super::ShowPolicyArgs),
    /// Shows the tools that the model has, with their JSON Schemas.
    Tools(ToolsArgs),
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

/// Who answers.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ModelArgs {
    /// The model's name as its server knows it, or `script:FILE` [config: model]
    #[arg(long, value_name = "NAME")]
    pub(super) model: Option<String>,
    /// The server's base URL, such as http://127.0.0.1:11434/v1 [env: OPENAI_BASE_URL] [config: base_url]
    #[arg(long, value_name = "URL")]
    pub(super) base_url: Option<String>,
    /// Which API it is asked over: auto, chat or responses [default: auto] [config: wire]
    #[arg(long, value_name = "API")]
    pub(super) wire: Option<String>,
    /// What a million tokens cost in US dollars, as INPUT,CACHED,OUTPUT [config: price]
    #[arg(long, value_name = "PRICE")]
    pub(super) price: Option<String>,
    /// A model that is asked while those before it can't answer; may be repeated. The key of another server is taken from
    /// LONGHAUL_KEY_ and the server's name, such as LONGHAUL_KEY_OPENROUTER_AI [config: fallbacks]
    #[arg(long, value_name = "MODEL[@URL][=PRICE]")]
    pub(super) fallback: Vec<String>,
    /// The model's window in tokens, where it is not known or the server was started with another [config: window]
    #[arg(long, value_name = "TOKENS")]
    pub(super) window: Option<String>,
    /// How long a server that is limited, overloaded or gone is waited for, such as 30m or 6h [default: 6h] [config: patience]
    #[arg(long, value_name = "DURATION")]
    pub(super) patience: Option<String>,
    /// How long an answer may bring nothing before it is cut and asked for again [default: 5m] [config: stall]
    #[arg(long, value_name = "DURATION")]
    pub(super) stall: Option<String>,
}

/// Where the work happens.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct BoxArgs {
    /// Kind of box: auto, docker, local or host (nothing contained) [config: sandbox]
    #[arg(long, value_name = "KIND")]
    pub(super) sandbox: Option<String>,
    /// Image for a container; implies docker [config: image]
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: Option<String>,
    /// Network of the box: open or none [config: network]
    #[arg(long, value_name = "MODE")]
    pub(super) network: Option<String>,
    /// Installs tmux for people into a derived image, once, where the image has none [config: tmux = "install"]
    #[arg(long)]
    pub(super) tmux: bool,
    /// The project directory: overlay keeps changes in the box, bind writes through to the host
    #[arg(long, value_name = "MODE", default_value = "overlay")]
    pub(super) workspace: WorkspaceArg,
    /// The project directory, if not the current one
    #[arg(short = 'C', long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// Memory limit of the box, such as 4GiB [config: memory]
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<String>,
    /// What that limit may be raised to where commands run out of memory [default: twice the limit, and half of the
    /// machine's memory at most] [config: memory_max]
    #[arg(long, value_name = "SIZE")]
    pub(super) memory_max: Option<String>,
    /// Most processes and threads in the box [default: 4096] [config: pids]
    #[arg(long, value_name = "N")]
    pub(super) pids: Option<String>,
    /// Processors the box may use, such as 1.5 [config: cpus]
    #[arg(long, value_name = "N")]
    pub(super) cpus: Option<String>,
    /// Most that the terminal logs of a run keep, such as 4GiB [default: 16GiB] [config: log_cap]
    #[arg(long, value_name = "SIZE")]
    pub(super) log_cap: Option<String>,
    /// Checkpoints taken unasked, before risky steps and after passed checks: auto or off [default: auto] [config:
    /// checkpoints]
    #[arg(long, value_name = "WHEN")]
    pub(super) checkpoints: Option<String>,
    /// Most checkpoints taken unasked that are kept, and most bytes of them; the oldest go [default: 20,16GiB] [config:
    /// checkpoint_cap]
    #[arg(long, value_name = "N,SIZE")]
    pub(super) checkpoint_cap: Option<String>,
    /// A command that has programs write down what they hold in memory; runs in the box before each checkpoint
    #[arg(long, value_name = "CMD")]
    pub(super) before_checkpoint: Option<String>,
}

/// A workspace mode as typed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum WorkspaceArg {
    /// Copy-on-write.
    #[default]
    Overlay,
    /// Written through.
    Bind,
}

/// What a run may take. Each counts from the run's beginning, whoever drives it.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct LimitArgs {
    /// Most model requests, from the run's beginning on [default: 200] [config: max_turns]
    #[arg(long, value_name = "N")]
    pub(super) max_turns: Option<String>,
    /// How often failed commands that do no harm twice are run again without asking the model; 0 for never [default: 20]
    /// [config: max_retries]
    #[arg(long, value_name = "N")]
    pub(super) max_retries: Option<String>,
    /// Most time that the run is driven, such as 90s, 45m or 1h30m; commands that run then are ended [config: max_time]
    #[arg(long, value_name = "DURATION")]
    pub(super) max_time: Option<String>,
    /// Most tokens of prompts and answers [config: max_tokens]
    #[arg(long, value_name = "N")]
    pub(super) max_tokens: Option<String>,
    /// Most money in US dollars, where the model's price is known [config: max_cost]
    #[arg(long, value_name = "USD")]
    pub(super) max_cost: Option<String>,
    /// When the run ends at the latest: 18:00, 2026-01-31T18:00, or with its zone
    #[arg(long, value_name = "TIME", conflicts_with = "max_time")]
    pub(super) deadline: Option<String>,
}

/// How a person who looks elsewhere is told.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct NotifyArgs {
    /// Tells you when the run needs you, ends, stalls or nears a limit: a command (JSON on its standard input), `desktop`,
    /// `bell`, a URL, or `none`; may be repeated [config: notify]
    #[arg(long, value_name = "WHAT")]
    pub(super) notify: Vec<String>,
    /// How long a question is open before you are reminded; then after twice that, and so on [default: 10m] [config:
    /// remind_after]
    #[arg(long, value_name = "DURATION")]
    pub(super) remind_after: Option<String>,
}

/// `agent notify`.
#[derive(Debug, Args)]
pub(super) struct TestNotifyArgs {
    /// Sends a test message over every channel and says which have taken it
    #[arg(long, required = true)]
    pub(super) test: bool,
    #[command(flatten)]
    pub(super) notify: NotifyArgs,
    /// Prints an array of JSON objects
    #[arg(long)]
    pub(super) json: bool,
}

/// What a run may do unasked.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct PolicyArgs {
    /// How freely it acts: plan changes nothing, ask asks before each change, auto acts in its box and asks before what
    /// reaches beyond it or destroys [default: auto] [config: mode]
    #[arg(long, value_name = "MODE")]
    pub(super) mode: Option<String>,
    /// A file of rules that allow, ask or deny, beside those of the configuration
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    /// What becomes of a question that nobody answers: wait, pause (exit 4, the question stays) or fail (it is not done)
    /// [default: wait] [config: on_silence]
    #[arg(long, value_name = "WHAT")]
    pub(super) on_silence: Option<String>,
    /// How long an answer is waited for, such as 10m or 8h [config: answer_within]
    #[arg(long, value_name = "DURATION")]
    pub(super) answer_within: Option<String>,
}

/// `agent do`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct DoArgs {
    /// The goal in words; `-` reads it from standard input
    #[arg(value_name = "GOAL", required_unless_present = "file")]
    pub(super) goal: Vec<String>,
    /// Reads the goal from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "goal")]
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) proof: ProofArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    /// Writes what the program does to a file, line by line; LONGHAUL_LOG says which lines, such as debug [default: info]
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Does not show the model the project's AGENTS.md and RUNBOOK.md
    #[arg(long)]
    pub(super) no_docs: bool,
    /// Leaves the services that the model has marked running at the end, and their box with them
    #[arg(long)]
    pub(super) keep_services: bool,
    /// Keeps the container as an image of this name at the end; implies docker. The project's changes are not in it
    #[arg(long, value_name = "NAME")]
    pub(super) save_image: Option<String>,
    /// Brings the changes of the project to the host when every check has passed, as `agent apply` does
    #[arg(long)]
    pub(super) apply: bool,
    /// Exits with 8 when the result was not proved by a check
    #[arg(long)]
    pub(super) require_verified: bool,
    /// What goes to stdout: text, json or stream-json [default: text] [config: output_format]
    #[arg(long, value_name = "FORMAT")]
    pub(super) output_format: Option<String>,
    /// Goes on in the background: prints the run's id and returns when the run has begun
    #[arg(long)]
    pub(super) detach: bool,
    /// Whether this process is the one in the background.
    #[arg(skip)]
    pub(super) in_background: bool,
    #[command(flatten)]
    pub(super) notify: NotifyArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) sandbox: BoxArgs,
}

/// `agent cost`.
#[derive(Debug, Args)]
pub(super) struct CostArgs {
    /// The beginning of a run's id, `last`, a journal.jsonl file, or a run's directory
    #[arg(default_value = "last")]
    pub(super) run: String,
    /// Prints one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// `agent context`.
#[derive(Debug, Args)]
pub(super) struct ContextArgs {
    /// The beginning of a run's id, `last`, a journal.jsonl file, or a run's directory
    #[arg(default_value = "last")]
    pub(super) run: String,
    /// Prints one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// `agent compact`.
#[derive(Debug, Args)]
pub(super) struct CompactArgs {
    /// The beginning of a run's id, or `last`
    #[arg(default_value = "last")]
    pub(super) run: String,
}

/// `agent chat`.
#[derive(Debug, Default, Args)]
pub(super) struct ChatArgs {
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    /// Writes what the program does to a file, line by line; LONGHAUL_LOG says which lines, such as debug [default: info]
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Does not show the model the project's AGENTS.md and RUNBOOK.md
    #[arg(long)]
    pub(super) no_docs: bool,
    #[command(flatten)]
    pub(super) notify: NotifyArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) sandbox: BoxArgs,
}

/// `agent resume`.
#[derive(Debug, Default, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ResumeArgs {
    /// The run: its id, a unique beginning of it, or `last`; the newest that has not finished without
    #[arg(value_name = "RUN")]
    pub(super) run: Option<String>,
    /// Lists what could be taken up again, and why
    #[arg(long, conflicts_with_all = ["run", "message", "detach"])]
    pub(super) all: bool,
    /// Something for the model to know as it goes on
    #[arg(long, value_name = "TEXT")]
    pub(super) message: Option<String>,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    /// Says what became of a call of which nobody knows: ran, not-run, or look (the model finds out); may be repeated
    #[arg(long, value_name = "CALL=WHAT")]
    pub(super) settle: Vec<String>,
    /// What goes to stdout: text, json or stream-json [default: text] [config: output_format]
    #[arg(long, value_name = "FORMAT")]
    pub(super) output_format: Option<String>,
    /// Writes what the program does to a file, line by line; LONGHAUL_LOG says which lines, such as debug [default: info]
    #[arg(long, value_name = "FILE")]
    pub(super) log: Option<PathBuf>,
    /// Goes on in the background: prints the run's id and returns when the run goes on
    #[arg(long)]
    pub(super) detach: bool,
    /// Whether this process is the one in the background.
    #[arg(skip)]
    pub(super) in_background: bool,
    #[command(flatten)]
    pub(super) notify: NotifyArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

/// `agent demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Kind of box: auto, docker, local or host (nothing contained)
    #[arg(long, value_name = "KIND")]
    pub(super) sandbox: Option<String>,
    /// Image for a container; implies docker
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: Option<String>,
}

/// `agent attach`.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub(super) run: String,
    /// One session instead of the box's tmux
    #[arg(value_name = "SESSION")]
    pub(super) session: Option<String>,
    /// Types into the session too; without it the view is read-only
    #[arg(long)]
    pub(super) write: bool,
}

/// `agent send`.
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// The message in words; `-` reads it from standard input
    #[arg(value_name = "MESSAGE", required = true)]
    pub(super) message: Vec<String>,
}

/// `agent jobs`.
#[derive(Debug, Args)]
pub(super) struct JobsArgs {
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub(super) run: String,
    /// Prints an array of JSON objects
    #[arg(long)]
    pub(super) json: bool,
}

/// `agent diff`.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub(super) run: String,
    /// Only these files, and what is below these directories
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// A line for each file instead of the lines in it
    #[arg(long, conflicts_with = "json")]
    pub(super) stat: bool,
    /// As JSON, without contents
    #[arg(long)]
    pub(super) json: bool,
    /// Also lists what was changed outside the workspace, which can't be applied
    #[arg(long)]
    pub(super) all: bool,
}

/// `agent apply`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ApplyArgs {
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub(super) run: String,
    /// Only these files, and what is below these directories
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// Shows each change and asks
    #[arg(short, long, conflicts_with = "dry_run")]
    pub(super) interactive: bool,
    /// Says what would be done, and does nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Overwrites what the host has changed since the run began
    #[arg(long)]
    pub(super) force: bool,
    /// Also brings files that run by themselves on the host, such as git's hooks and settings of editors
    #[arg(long)]
    pub(super) include_active: bool,
}

/// `agent logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The run: its id, a unique beginning of it, or `last`
    #[arg(value_name = "RUN", default_value = "last")]
    pub(super) run: String,
    /// The session; without it the only one, or a list of those there are
    #[arg(value_name = "SESSION")]
    pub(super) session: Option<String>,
    /// Goes on until the run has ended
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "N")]
    pub(super) lines: Option<u64>,
    /// Byte for byte, escape sequences included; not to a terminal
    #[arg(long)]
    pub(super) raw: bool,
}

/// `agent doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

/// `agent fork`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct ForkArgs {
    /// The run, and where to part from it: RUN@ENTRY, RUN@k1 or RUN@NAME of a checkpoint; the newest checkpoint without
    #[arg(value_name = "RUN[@WHERE]")]
    pub(super) run: String,
    /// Something for the model to know as it takes its own way
    #[arg(long, value_name = "TEXT")]
    pub(super) message: Option<String>,
    /// A command that must exit with 0 beside those of the run; may be repeated
    #[arg(long, value_name = "CMD")]
    pub(super) check: Vec<String>,
    /// Most model requests of its own [default: as the run had]
    #[arg(long, value_name = "N")]
    pub(super) max_turns: Option<String>,
    /// Most time, such as 90s, 45m or 1h30m
    #[arg(long, value_name = "DURATION")]
    pub(super) max_time: Option<String>,
    #[command(flatten)]
    pub(super) policy: PolicyArgs,
    /// What goes to stdout: text, json or stream-json [default: text] [config: output_format]
    #[arg(long, value_name = "FORMAT")]
    pub(super) output_format: Option<String>,
    /// Goes on in the background: prints the fork's id and returns when it has begun
    #[arg(long)]
    pub(super) detach: bool,
    #[command(flatten)]
    pub(super) model: ModelArgs,
}

/// `agent gc`.
#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Removes it; without, it is only listed
    #[arg(long)]
    pub(super) apply: bool,
    /// Prints one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// `agent tools`.
#[derive(Debug, Args)]
pub(super) struct ToolsArgs {
    /// Only this tool, with its manual
    #[arg(value_name = "TOOL")]
    pub(super) name: Option<String>,
    /// As JSON, the way a model is told of them
    #[arg(long)]
    pub(super) json: bool,
}
