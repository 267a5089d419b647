//! Conversations in windows of all sizes: what is sent always fits, what belongs together stays together, and nothing of
//! what persons said is lost.

use longhaul::context::{Begin, History, Kind, MOST_ASKED, Meter, NoRoom, Reducer, Window};
use longhaul::domain::{
    BlobRef, Check, Entry, Event, Exit, FORMAT_MAJOR, FORMAT_MINOR, Outcome, Reduction, ReductionCause, RunId, RunMode,
    RunSpec, Status, Summary, SummaryBy, ToolCall,
};
use longhaul::model::Message;
use proptest::prelude::*;

const FIXED: u64 = 300;
const INSTRUCTION: &str = "Sum it up.";

/// What happens next in a conversation.
#[derive(Debug, Clone)]
enum Happens {
    Answer { words: usize, results: Vec<(usize, usize)> },
    Person(usize),
    Harness(usize),
}

/// What the model does when it is asked for a summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Summariser {
    Good,
    Fails,
    Overflows,
    Empty,
    Endless,
}

fn happens() -> impl Strategy<Value = Happens> {
    let result = (0..400_usize, prop_oneof![4 => 0..600_usize, 1 => 600..40_000_usize]);
    prop_oneof![
        6 => (0..300_usize, prop::collection::vec(result, 0..4))
            .prop_map(|(words, results)| Happens::Answer { words: words.max(1), results }),
        1 => prop_oneof![5 => 1..300_usize, 1 => 300..9_000_usize].prop_map(Happens::Person),
        1 => (1..200_usize).prop_map(Happens::Harness),
    ]
}

fn summariser() -> impl Strategy<Value = Summariser> {
    use Summariser::{Empty, Endless, Fails, Good, Overflows};
    prop_oneof![Just(Good), Just(Fails), Just(Overflows), Just(Empty), Just(Endless)]
}

pub(crate) fn spec(goal: &str) -> RunSpec {
    let run = RunId::new("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap();
    let checks = vec![Check::Command("make test".to_owned())];
    RunSpec { checks, max_turns: 5, ..RunSpec::new(run, RunMode::Goal, goal) }
}

/// Text that a byte of is a token of: the hardest case.
fn text(label: &str, bytes: usize) -> String {
    let mut text = format!("{label} ");
    text.extend("wörter und zahlen 0123 \n".chars().cycle().take(bytes));
    text
}

/// A run of which nothing but the conversation is made.
struct Talk {
    history: History,
    entries: Vec<Entry>,
    meter: Meter,
    window: Window,
    said: Vec<String>,
    sent: Vec<Vec<Message>>,
    asked: usize,
    reductions: usize,
    appended: u64,
}

impl Talk {
    fn new(window: u64) -> Self {
        let meter = Meter::new(|text| text.len() as u64);
        let window = Window { tokens: window };
        let mut talk = Self {
            history: History::default(),
            entries: Vec::new(),
            meter,
            window,
            said: Vec::new(),
            sent: Vec::new(),
            asked: 0,
            reductions: 0,
            appended: 0,
        };
        let spec = spec("make it so");
        talk.note(Event::RunStarted { format_major: FORMAT_MAJOR, format_minor: FORMAT_MINOR, spec });
        talk
    }

    fn note(&mut self, event: Event) {
        let time = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        let entry = Entry { seq: self.entries.len() as u64, time, event };
        self.history.apply(&entry);
        self.entries.push(entry);
    }

    fn size(&mut self) -> u64 {
        FIXED + self.meter.history(&self.history)
    }

    fn take(&mut self, happens: &Happens) {
        let before = self.size();
        let nth = self.entries.len();
        match happens {
            Happens::Person(bytes) => {
                let text = text(&format!("said {nth}:"), *bytes);
                self.said.push(text.clone());
                self.note(Event::UserSaid { text, mail: None });
            }
            Happens::Harness(bytes) => self.note(Event::HarnessSaid { text: text("[harness]", *bytes) }),
            Happens::Answer { words, results } => {
                let call = |(at, (bytes, _)): (usize, &(usize, usize))| ToolCall {
                    id: format!("call_{nth}_{at}"),
                    name: "shell".to_owned(),
                    arguments: serde_json::json!({"command": text("echo", *bytes)}).to_string(),
                };
                let calls: Vec<ToolCall> = results.iter().enumerate().map(call).collect();
                self.note(Event::ModelAnswered {
                    turn: 1,
                    text: text("then", *words),
                    reasoning: String::new(),
                    calls: calls.clone(),
                    finish_reason: "stop".to_owned(),
                    usage: None,
                    response: BlobRef { sha256: String::new(), size_bytes: 0 },
                    duration_ms: 0,
                    opaque: None,
                });
                for (call, (at, (_, bytes))) in calls.iter().zip(results.iter().enumerate()) {
                    let code = i32::from(at == 1);
                    let status = if code == 0 { Status::Ok } else { Status::Failed };
                    let outcome =
                        Outcome { exit: Some(Exit::Code(code)), ..Outcome::words(status, text("[exit]", *bytes)) };
                    self.note(Event::ToolEnded { call_id: call.id.clone(), outcome });
                }
            }
        }
        self.appended += self.size() - before;
    }

    /// Makes it fit, as the driver does, and sends it.
    fn send(&mut self, summariser: Summariser) -> Result<(), NoRoom> {
        if self.size() > self.window.trigger(self.history.reduced_to()) {
            let reduction = self.reduce(ReductionCause::Full, summariser)?;
            self.note(Event::ConversationReduced { reduction });
            self.reductions += 1;
            self.is_content();
            self.meter.forget();
        }
        let (size, usable) = (self.size(), self.window.usable());
        assert!(size <= usable, "{size} of {usable}");
        let messages = self.history.messages();
        is_paired(&messages);
        self.sent.push(messages);
        Ok(())
    }

    /// Nothing is left to be done.
    fn is_content(&mut self) {
        assert!(self.size() <= self.window.trigger(self.history.reduced_to()), "it would be reduced once more");
    }

    fn reduce(&mut self, cause: ReductionCause, summariser: Summariser) -> Result<Reduction, NoRoom> {
        let Self { history, meter, window, asked, .. } = self;
        let mut size = |unit: &longhaul::context::Unit| meter.unit(unit);
        let mut reducer = Reducer { history, window: *window, cause, fixed: FIXED, size: &mut size };
        let worth_asking = match reducer.begin() {
            Begin::Stubs(reduction) => return Ok(reduction),
            Begin::Cut => return reducer.finish(None),
            Begin::SumUp { worth_asking } => worth_asking,
        };
        let mut summary = None;
        for nth in (0..MOST_ASKED).filter(|_| worth_asking) {
            let Some(messages) = reducer.asked(nth, INSTRUCTION) else { continue };
            *asked += 1;
            is_paired(&messages);
            assert_eq!(messages.last(), Some(&Message::User(INSTRUCTION.to_owned())));
            let text = match summariser {
                Summariser::Good => "Goal: so.\nDone: much.\nNext: more.".to_owned(),
                Summariser::Overflows => continue,
                Summariser::Fails | Summariser::Empty | Summariser::Endless => break,
            };
            summary = Some(Summary { by: SummaryBy::Model, text });
            break;
        }
        let summary = summary.unwrap_or_else(|| reducer.digest());
        reducer.finish(Some(&summary))
    }

    fn again(&self) -> History {
        let mut history = History::default();
        self.entries.iter().for_each(|entry| history.apply(entry));
        history
    }
}

/// Every result follows its call, every call has one result, ids are unique.
fn is_paired(messages: &[Message]) {
    let mut open: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for message in messages {
        match message {
            Message::Tool { call_id, .. } => {
                let at = open.iter().position(|id| id == call_id).expect("a result of an open call");
                open.remove(at);
            }
            Message::Assistant { calls, .. } => {
                assert!(open.is_empty(), "calls without results: {open:?}");
                for call in calls {
                    assert!(seen.insert(&call.id), "{} twice", call.id);
                    assert!(serde_json::from_str::<serde_json::Value>(&call.arguments).unwrap().is_object());
                    open.push(&call.id);
                }
            }
            Message::System(_) | Message::User(_) => assert!(open.is_empty(), "words before results: {open:?}"),
        }
    }
    assert!(open.is_empty());
}

fn words_of(messages: &[Message]) -> Vec<&str> {
    fn words(message: &Message) -> Option<&str> {
        match message {
            Message::User(text) => Some(text.as_str()),
            Message::System(_) | Message::Assistant { .. } | Message::Tool { .. } => None,
        }
    }
    messages.iter().filter_map(words).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_conversation_of_any_kind_fits_its_window_or_says_why_not(
        window in prop_oneof![500..6_000_u64, 6_000..60_000_u64],
        steps in prop::collection::vec(happens(), 1..60),
        summariser in summariser(),
    ) {
        let mut talk = Talk::new(window);
        let head: Vec<Message> = talk.history.messages();
        let mut room = Ok(());
        for step in &steps {
            talk.take(step);
            let reductions = talk.reductions;
            room = talk.send(summariser);
            if room.is_err() {
                break;
            }
            let sent = talk.sent.last().unwrap();
            prop_assert!(sent.starts_with(&head), "instructions and goal stay as they are, and first");
            if let [.., before, now] = &talk.sent[..] && reductions == talk.reductions {
                prop_assert!(now.starts_with(before), "between reductions it only grows");
            }
            let words = words_of(sent);
            let total: usize = talk.said.iter().map(String::len).sum();
            if (total as u64) < talk.window.usable() / 8 {
                for said in &talk.said {
                    prop_assert!(words.contains(&said.as_str()) || said.len() > 128, "`{}` is lost", &said[..20]);
                }
            }
            for said in &talk.said {
                let begin = &said[..said.floor_char_boundary(12)];
                prop_assert!(words.iter().any(|text| text.starts_with(begin)), "nothing is left of `{begin}`");
            }
            prop_assert_eq!(&talk.again().messages(), sent, "the same entries give the same messages");
        }
        if let Err(NoRoom { needed, window: told }) = room {
            prop_assert_eq!(told, window);
            prop_assert!(needed > talk.window.usable() / 2, "{} of {}", needed, window);
        }
        let usable = talk.window.usable();
        prop_assert!(talk.asked as u64 <= 3 * (1 + talk.appended / (usable / 10).max(1)), "{} asked", talk.asked);
        prop_assert!(
            talk.reductions as u64 <= 2 + talk.appended / (usable / 20).max(1),
            "{} reductions for {} of {usable}", talk.reductions, talk.appended
        );
    }
}

#[test]
fn words_of_persons_stay_as_they_were_said_through_many_reductions() {
    let mut talk = Talk::new(20_000);
    for step in 0..200 {
        if step % 20 == 0 {
            talk.take(&Happens::Person(60));
        }
        talk.take(&Happens::Answer { words: 50, results: vec![(80, 1_500)] });
        talk.send(Summariser::Good).unwrap();
    }
    assert!(talk.reductions > 10, "{}", talk.reductions);
    let sent = talk.sent.last().unwrap();
    for said in &talk.said {
        assert!(words_of(sent).contains(&said.as_str()), "`{said}` is lost");
    }
    let kinds: Vec<Kind> = talk.history.units().iter().map(|unit| unit.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Summary).count(), 1, "{kinds:?}");
}

#[test]
fn a_window_that_the_goal_alone_fills_is_said_to_be_too_small() {
    let mut talk = Talk::new(1_000);
    talk.take(&Happens::Answer { words: 5, results: vec![] });
    let NoRoom { needed, window } = talk.send(Summariser::Good).unwrap_err();
    assert!(needed > window && window == 1_000, "{needed}");
}
