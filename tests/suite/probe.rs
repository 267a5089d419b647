//! A long run whose conversation is made smaller again and again: what was done at any step is still known.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::goal::{finish, shell};
use crate::model_server::{ModelServer, Reply};
use crate::stage::{Ran, Stage};

const STEPS: u64 = 400;
/// Calls of `recall` in one answer.
const AT_ONCE: u64 = 20;

/// The exit that step `k` has.
fn code(k: u64) -> u64 {
    k * 7 % 5
}

fn command(k: u64) -> String {
    format!("sh -c 'echo probe {k} of many; exit {}'", code(k))
}

/// The first step is a job that lives to the end; then come the probes; then each of them is asked for.
fn reply(turn: u64) -> Reply {
    let job = json!({"command": "sleep 600", "session": "long", "yield_s": 0, "expected_s": 600});
    let asked = turn.saturating_sub(STEPS + 1) * AT_ONCE;
    match turn {
        0 => Reply::call("shell", &job),
        1..=STEPS => shell(&command(turn + 1)),
        _ if asked < STEPS => {
            let calls: Vec<(&str, Value)> =
                (asked..asked + AT_ONCE).map(|k| ("recall", json!({"step": (k + 2).to_string()}))).collect();
            Reply::calls(&calls)
        }
        _ => finish("probed"),
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[test]
fn every_step_of_a_long_run_is_known_after_many_reductions_and_what_matters_is_always_told() {
    let stage = Stage::new();
    let (turns, pid) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU32::new(0)));
    let measured: Arc<Mutex<Vec<u64>>> = Arc::default();
    let (of_pid, of_measured) = (Arc::clone(&pid), Arc::clone(&measured));
    let server = ModelServer::replying(move |seen| {
        if seen.body["tool_choice"] == "none" {
            of_measured.lock().unwrap().push(resident_kib(of_pid.load(Ordering::Relaxed)));
            return Reply::text("Goal: probe. Done: probes were run. Next: run the next probe.");
        }
        reply(turns.fetch_add(1, Ordering::Relaxed))
    });
    let args = ["do", "probe", "--sandbox", "local", "--window", "24000", "--max-turns", "1000"];
    let child = stage.asking(&server, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    pid.store(child.id(), Ordering::Relaxed);
    Ran::of(&child.wait_with_output().unwrap()).exits_with(0);
    let events = stage.events();
    let reductions = events.iter().filter(|event| event["type"] == "conversation_reduced").count();
    assert!(reductions >= 3, "{reductions}");

    let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
    let mut known = 0;
    for event in &events {
        if let Some(calls) = event["calls"].as_array() {
            for call in calls.iter().filter(|call| call["name"] == "recall") {
                let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
                asked.insert(call["id"].as_str().unwrap(), arguments["step"].as_str().unwrap().parse().unwrap());
            }
        }
        let Some(k) = event["call_id"].as_str().filter(|_| event["type"] == "tool_ended").and_then(|id| asked.get(id))
        else {
            continue;
        };
        let told = event["outcome"]["text"].as_str().unwrap();
        assert!(told.starts_with(&format!("[step {k} · shell · exit {} · ", code(*k))), "{k}: {told}");
        assert!(told.contains(&format!("\ncommand: {}\n", command(*k))), "{k}: {told}");
        known += 1;
    }
    assert_eq!(known, STEPS);

    let requests = server.requests();
    let after = requests.iter().skip_while(|seen| seen.body["tool_choice"] != "none").skip(1);
    let mut looked_at = 0;
    for seen in after.filter(|seen| seen.body["tool_choice"] != "none") {
        let state = seen.last_text();
        assert!(state.contains("j1 · session long"), "the live job is told: {state}");
        looked_at += 1;
    }
    assert!(looked_at > 100, "{looked_at}");
    let state = requests.last().unwrap().last_text();
    assert!(state.contains("Failed before, and has not worked since:") && state.contains("probe "), "{state}");

    let measured = measured.lock().unwrap();
    if let [first, .., last] = measured[..] {
        assert!(last < first + 16 * 1024, "memory does not grow with the run: {measured:?} KiB");
    }
    let sizes: Vec<usize> = events.iter().map(|event| event.to_string().len()).collect();
    let (half, whole) = (sizes[..sizes.len() / 2].iter().sum::<usize>(), sizes.iter().sum::<usize>());
    assert!(whole < half * 3, "the transcript grows with the steps and not with their square: {half} of {whole}");
    stage.verifies();
}
