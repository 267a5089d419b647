//! What takes the room in a conversation, part by part.

use serde::Serialize;

use super::{History, Kind, Meter};
use crate::model::{Message, ToolSpec};

/// A part of what the model is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The standing instructions.
    Instructions,
    /// The tools with their manuals.
    Tools,
    /// The goal with its checks, and what the project says of itself.
    Goal,
    /// What stands for older steps.
    Summary,
    /// What persons said.
    Persons,
    /// What the model said, and its calls.
    Answers,
    /// What came of the calls.
    Results,
    /// What the harness said.
    Harness,
    /// How things stand.
    State,
}

impl Part {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 9] = [
        Self::Instructions,
        Self::Tools,
        Self::Goal,
        Self::Summary,
        Self::Persons,
        Self::Answers,
        Self::Results,
        Self::Harness,
        Self::State,
    ];

    /// What it is called.
    pub fn words(self) -> &'static str {
        match self {
            Self::Instructions => "instructions",
            Self::Tools => "tools",
            Self::Goal => "goal, documents",
            Self::Summary => "summary",
            Self::Persons => "persons' words",
            Self::Answers => "answers, calls",
            Self::Results => "results",
            Self::Harness => "harness's words",
            Self::State => "how things stand",
        }
    }
}

/// Our count of each part, in the order of [`Part::ALL`]; those that have nothing are left out.
pub fn shares(history: &History, tools: &[ToolSpec], state: Option<&str>, meter: &mut Meter) -> Vec<(Part, u64)> {
    let mut sums = Part::ALL.map(|part| (part, 0_u64));
    let mut add = |part: Part, tokens: u64| {
        let sum = sums.iter_mut().find(|(other, _)| *other == part).expect("all parts are there");
        sum.1 = sum.1.saturating_add(tokens);
    };
    add(Part::Tools, meter.tools(tools));
    for unit in history.units() {
        for message in &unit.messages {
            let part = match (message, unit.kind) {
                (Message::System(_), _) => Part::Instructions,
                (Message::Tool { .. }, _) => Part::Results,
                (Message::Assistant { .. }, _) => Part::Answers,
                (Message::User(_), Kind::Pinned) => Part::Goal,
                (Message::User(_), Kind::Person) => Part::Persons,
                (Message::User(_), Kind::Summary) => Part::Summary,
                (Message::User(_), Kind::Harness | Kind::Answer) => Part::Harness,
            };
            add(part, meter.message(message));
        }
    }
    if let Some(state) = state {
        add(Part::State, meter.message(&Message::User(state.to_owned())));
    }
    sums.into_iter().filter(|(_, tokens)| *tokens > 0).collect()
}
