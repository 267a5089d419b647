//! Damaged, spliced and arbitrary bytes through the whole way from a response to an answer and back into a request, over
//! both APIs: no panic, no hang, nothing that grows beyond what came, nothing that could not be sent back.
//!
//! Bounded by time: three seconds, or `LONGHAUL_FUZZ_S`. A failure names its seed; `LONGHAUL_FUZZ_SEED` plays it again.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::exchange::{Exchange, Tap};
use super::fault::Fault;
use super::{OpenAi, Reading, Wire, chunk, responses};
use crate::model::{Answer, Message, Model as _, Patience, Request};

/// Responses as servers send them, each the start of many damaged ones.
const SEEDS: [&str; 14] = [
    // Words and the end, with usage in a chunk without choices.
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüße\"}}]}\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n",
    // Two calls, interleaved.
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"shell\",\"arguments\":\"\"}},{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"read_file\",\"arguments\":\"{\\\"path\\\"\"}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"command\\\":\\\"ls\\\"}\"}},{\"index\":1,\"function\":{\"arguments\":\":\\\"x\\\"}\"}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n",
    // All calls under the number 0, whole, without ids.
    "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"\",\"function\":{\"name\":\"shell\",\"arguments\":{\"command\":\"a\"}}}]}}]}\n\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"shell\",\"arguments\":\"{\\\"command\\\":\\\"b\\\"}\"},\"extra_content\":{\"google\":{\"thought_signature\":\"x\"}}}]},\"finish_reason\":\"stop\"}]}\n\n",
    // Reasoning, with comments, pings, a BOM and CRLF.
    "\u{feff}: OPENROUTER PROCESSING\r\n\r\nevent: ping\r\ndata: {}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Hm\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"index\":0,\"text\":\"Hm\"}]}}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"Yes\"}]},\"finish_reason\":\"\"}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"eos\"}]}\r\n\r\ndata: [DONE] \r\n\r\n",
    // Errors in the middle of a stream.
    "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"error\":{\"message\":\"upstream\",\"code\":502}}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"object\":\"error\",\"message\":\"boom\",\"type\":\"InternalServerError\",\"code\":500}\n\ndata: [DONE]\n\n",
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
    // Responses: reasoning, words, a call.
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"output\":[]}}\n\nevent: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"id\":\"rs\"}}\n\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"reasoning\",\"id\":\"rs\",\"summary\":[],\"encrypted_content\":\"gAAA\"}}\n\ndata: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"id\":\"fc\",\"call_id\":\"a\",\"name\":\"shell\",\"arguments\":\"\"}}\n\ndata: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":1,\"delta\":\"{\\\"command\\\": \\\"ls\\\"}\"}\n\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"m\",\"delta\":\"I look.\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"usage\":{\"input_tokens\":9,\"output_tokens\":3}}}\n\n",
    "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"m\"}}}\n\n",
    "data: {\"type\":\"response.incomplete\",\"response\":{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"shell\",\"arguments\":\"{\\\"command\\\": \\\"rm -rf /tmp/bu\"}]}}\n\n",
    // No streams.
    "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"shell\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":1.0,\"completion_tokens\":2}}",
    "{\"error\":{\"message\":\"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens\",\"type\":\"BadRequestError\",\"code\":400,\"n_ctx\":4096}}",
    "[{\"error\":{\"code\":429,\"message\":\"Please retry in 12.5s.\",\"status\":\"RESOURCE_EXHAUSTED\",\"metadata\":{\"raw\":\"x\"}}}]",
    "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
];

/// What trips parsers.
const TOKENS: [&str; 30] = [
    "null",
    "true",
    "-1",
    "1e400",
    "1e-400",
    "18446744073709551616",
    "9223372036854775807",
    "4095",
    "4096",
    "\"\"",
    "{}",
    "[]",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "\u{feff}",
    "\r",
    "\n\n",
    "\r\n\r\n",
    "data: ",
    "data:[DONE]\n\n",
    ": \n",
    "event: ping\n",
    "\"index\":0,",
    "\"output_index\":4000,",
    "\"id\":\"a\",",
    "\"error\":{},",
    "\"choices\":[],",
    "\u{fffd}",
    "\\",
    "\"",
];

/// The longest input.
const LONGEST: usize = 64 << 10;
/// Most time for one input, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fuzz {
    rng: fastrand::Rng,
    runtime: tokio::runtime::Runtime,
    chat: OpenAi,
    responses: OpenAi,
}

impl Fuzz {
    fn new() -> Self {
        let model = |wire| OpenAi::new("http://127.0.0.1:1/v1", None, "m", wire, Patience::default(), 1).unwrap();
        Self {
            rng: fastrand::Rng::with_seed(0),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            chat: model(Wire::Chat),
            responses: model(Wire::Responses),
        }
    }

    /// A damaged response, or no response at all.
    fn input(&mut self) -> Vec<u8> {
        if self.rng.u8(..) < 16 {
            let length = self.rng.usize(..512);
            return std::iter::repeat_with(|| self.rng.u8(..)).take(length).collect();
        }
        let mut bytes = SEEDS[self.rng.usize(..SEEDS.len())].as_bytes().to_vec();
        for _ in 0..self.rng.usize(..8) {
            self.damage(&mut bytes);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let (from, to) = (self.rng.usize(..=bytes.len()), self.rng.usize(..=bytes.len()));
        let (from, to) = (from.min(to), from.max(to));
        match self.rng.u8(..8) {
            0 if from < bytes.len() => bytes[from] = self.rng.u8(..),
            1 => drop(bytes.drain(from..to)),
            2 => bytes.truncate(from),
            3 => {
                let piece = bytes[from..to].to_vec();
                let times = self.rng.usize(1..20);
                bytes.splice(to..to, piece.repeat(times));
            }
            4 => {
                let other = SEEDS[self.rng.usize(..SEEDS.len())].as_bytes();
                let cut = self.rng.usize(..other.len());
                bytes.splice(from..to, other[cut..].iter().copied());
            }
            5 => {
                let depth = self.rng.usize(1..4_000);
                let bracket = *self.rng.choice(b"[{").unwrap();
                bytes.splice(from..from, std::iter::repeat_n(bracket, depth));
            }
            // In the place of a value, where there is one.
            6 => {
                let colon = bytes[from..].iter().position(|byte| *byte == b':').map_or(from, |at| from + at + 1);
                let end = bytes[colon..].iter().position(|byte| b",}]".contains(byte)).map_or(colon, |at| colon + at);
                bytes.splice(colon..end, TOKENS[self.rng.usize(..TOKENS.len())].bytes());
            }
            _ => drop(bytes.splice(from..from, TOKENS[self.rng.usize(..TOKENS.len())].bytes())),
        }
        bytes.truncate(LONGEST);
    }

    fn parts(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut at: Vec<usize> = (0..self.rng.usize(..12)).map(|_| self.rng.usize(..=bytes.len())).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
    }

    /// What comes of a response, read as it is read in a run.
    fn read(&self, model: &OpenAi, parts: Vec<Vec<u8>>, is_stream: bool) -> Result<Answer, Fault> {
        let tap = Arc::new(Mutex::new(Tap::default()));
        let exchange = Exchange { http: model.http.clone(), stall: PATIENCE, tap: Arc::clone(&tap) };
        let response = match is_stream {
            true => {
                let chunks = stream::iter(parts.into_iter().map(|part| Ok(Bytes::from(part))));
                exchange.guarded(chunks.boxed())
            }
            false => exchange.whole(parts.concat())?,
        };
        let plain = self.runtime.block_on(response.bytes()).expect("it has no faults of its own");
        let mut reading = match model.speaks_responses() {
            true => Reading::Responses(responses::Reading::default()),
            false => Reading::Chat(chunk::Reading::default()),
        };
        for event in std::str::from_utf8(&plain).expect("events are UTF-8").split_terminator("\n\n") {
            let data = event.strip_prefix("data: ").expect("one line of data per event");
            // A number that no one can hold is all that may be wrong with it.
            let chunk = serde_json::from_str(data).map_err(|error| Fault::passing("no JSON", error.to_string()));
            let taken = chunk.and_then(|chunk| reading.take(&chunk, &mut |_| {}));
            match taken {
                Err(_) if reading.assembly().has_finished() => break,
                taken => taken?,
            }
        }
        let tap = std::mem::take(&mut *tap.lock().unwrap());
        // How much of what follows the end is still received is a matter of luck.
        model.conclude(reading, tap, Duration::ZERO).map(|answer| Answer { raw: Vec::new(), ..answer })
    }

    fn case(&mut self, seed: u64) {
        self.rng = fastrand::Rng::with_seed(seed);
        let bytes = self.input();
        let (parts, is_stream) = (self.parts(&bytes), self.rng.u8(..4) > 0);
        for model in [&self.chat, &self.responses] {
            let begin = Instant::now();
            let answer = self.read(model, parts.clone(), is_stream);
            assert!(begin.elapsed() < PATIENCE, "it takes {:?}", begin.elapsed());
            let whole = self.read(model, vec![bytes.clone()], is_stream);
            let told = |answer: &Result<Answer, Fault>| answer.clone().map_err(|fault| (fault.remedy, fault.what));
            assert_eq!(told(&answer), told(&whole), "however it is split");
            if let Ok(answer) = answer {
                is_sound(model, answer, bytes.len());
            }
        }
        let status =
            StatusCode::from_u16(*self.rng.choice([400, 401, 402, 403, 404, 429, 500, 503, 529].iter()).unwrap());
        let mut headers = HeaderMap::new();
        let value = bytes.get(..bytes.len().min(24)).and_then(|value| HeaderValue::from_bytes(value).ok());
        headers.extend(value.map(|value| (http::header::RETRY_AFTER, value)));
        let fault = Fault::of_response(status.unwrap(), &headers, &bytes);
        assert!(fault.told().len() < 4_000, "what is shown is short");
    }
}

/// What holds for every answer, and for the request that carries it back.
fn is_sound(model: &OpenAi, answer: Answer, came: usize) {
    let ids: HashSet<&str> = answer.calls.iter().map(|call| call.id.as_str()).collect();
    assert!(ids.len() == answer.calls.len() && !ids.contains(""), "ids are there and differ: {:?}", answer.calls);
    let calls: usize = answer.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum();
    // A byte that is no UTF-8 becomes three.
    assert!(answer.text.len() + answer.reasoning.len() + calls <= 3 * came + 64, "it grows no larger than what came");
    let assistant = Message::Assistant { text: answer.text, calls: answer.calls, opaque: answer.opaque };
    let body =
        model.render(&Request { messages: vec![assistant], tools: [].into(), purpose: crate::model::Purpose::Turn });
    assert!(body.len() <= 40 * (came + 256), "{} bytes of {came}", body.len());
    let body: Value = serde_json::from_slice(&body).expect("a request is JSON");
    let sent = body["messages"][0]["tool_calls"].as_array().into_iter().flatten().map(|call| &call["function"]);
    let items = body["input"].as_array().into_iter().flatten().filter(|item| item["type"] == "function_call");
    for call in sent.chain(items) {
        let arguments = call["arguments"].as_str().expect("arguments are text");
        assert!(serde_json::from_str::<Value>(arguments).is_ok_and(|value| value.is_object()), "{arguments}");
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "whoever runs it longer wants to know how much was tried")]
fn no_bytes_make_it_panic_hang_or_grow() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let length = Duration::from_secs(number("LONGHAUL_FUZZ_S").unwrap_or(3));
    let (again, first) = (number("LONGHAUL_FUZZ_SEED"), 20_260_101);
    let mut fuzz = Fuzz::new();
    let (begin, mut cases) = (Instant::now(), 0_u64);
    while cases == 0 || (begin.elapsed() < length && again.is_none()) {
        let seed = again.unwrap_or(first + cases);
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fuzz.case(seed)));
        assert!(tried.is_ok(), "play it again with LONGHAUL_FUZZ_SEED={seed}");
        cases += 1;
    }
    eprintln!("{cases} cases in {:?}", begin.elapsed());
    assert!(cases > 20 || again.is_some(), "{cases} cases are none");
}
