//! Longhaul: an autonomous workflow agent.
//!
//! The table below is the architecture: top to bottom, a module may import only what its row names. The test
//! `modules_import_only_what_the_table_allows` reads it and fails on any other arrow. What a row calls `later` has no
//! code yet. `docs/ARCHITECTURE.md` says why the rows are as they are.
//!
//! | module | may import | what it is |
//! |---|---|---|
//! | `domain` | – | nouns all share: ids, events, calls, outcomes. Plain serialisable data; no I/O, no async, no clock |
//! | `clock` | domain | where time comes from |
//! | `process` | domain | programs on this host: spawn, cap, kill group, reap |
//! | `config` | domain | defaults < system < user < project < environment < flags, each value with its origin |
//! | `notify` | domain process | telling a person who looks elsewhere: commands, desktop, bell, webhooks |
//! | `telemetry` | domain | tracing set-up, redaction |
//! | `journal` | domain clock telemetry | events on disk: chained, in order, by run; blobs; store of runs |
//! | `report` | domain | events turned into what people and programs read: live, timeline, jsonl, markdown, cast |
//! | `model` | domain clock | one trait and whoever answers: openai-compatible, scripted; retry; tokens; prices |
//! | `recovery` | domain | pure: what a failure comes from, failures that come again, steps that go round in a circle |
//! | `policy` | domain | effect classes: what may be repeated, what must be asked, what deserves a checkpoint first |
//! | `guest` | domain process | the supervisor inside the box: PTYs, logs, exits; its wire protocol |
//! | `sandbox` | domain process guest | the box: docker/podman, local namespaces, host |
//! | `terminal` | domain clock guest | sessions, screen rendering, jobs, waits |
//! | `context` | domain model | what the model sees of the past: prompts, history |
//! | `tools` | domain clock guest sandbox terminal | what the model may do: one file per tool, one registry |
//! | `agent` | domain clock journal model context tools policy recovery | the loop |
//! | `workflow` | domain | what a workflow file says, whether it makes sense, the graph of its stages; later: running it |
//! | `cli` | all | arguments in, wiring, words and exit code out |

pub mod agent;
pub mod cli;
pub mod clock;
pub mod config;
pub mod context;
pub mod domain;
pub mod guest;
pub mod journal;
pub mod model;
pub mod notify;
pub mod policy;
pub mod process;
pub mod recovery;
pub mod report;
pub mod sandbox;
pub mod telemetry;
pub mod terminal;
pub mod tools;
pub mod workflow;
