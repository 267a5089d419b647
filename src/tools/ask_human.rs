//! `ask_human`: a question to a person.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::{Choice, Question, QuestionId, Silence, Subject};

/// Fewest and most options.
const OPTIONS: std::ops::RangeInclusive<usize> = 2..=4;
/// Most characters of the question.
const MOST_QUESTION: usize = 400;
/// Most characters of what happened.
const MOST_BACKGROUND: usize = 4_000;
/// Most characters of an option's name.
const MOST_NAME: usize = 24;
/// Most characters of what an option means.
const MOST_WHAT: usize = 300;

/// A way on.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// One word to type, such as `retry`.
    pub name: String,
    /// What it means, in one line.
    pub what: String,
}

/// Arguments of `ask_human`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Args {
    /// The question, in one line.
    pub question: String,
    /// What happened and what the answer decides, so that the person can answer without looking elsewhere.
    pub background: String,
    /// Two to four ways on.
    pub options: Vec<Way>,
    /// The name of the option that you recommend; null for none.
    #[serde(default)]
    pub recommended: Option<String>,
    /// False: go on with other work, and the answer comes as a message. Null: true.
    #[serde(default)]
    pub waits: Option<bool>,
}

impl Args {
    /// Whether the call ends with the answer.
    pub fn waits(&self) -> bool {
        self.waits.unwrap_or(true)
    }

    /// The question.
    ///
    /// # Errors
    /// What of the arguments makes no question, with its place.
    pub fn question(&self, id: QuestionId, call_id: &str, silence: Silence) -> Result<Question, String> {
        let most = |place: &str, text: &str, most: usize| match text.trim() {
            "" => Err(format!("{place}: it is empty")),
            text if text.chars().count() > most => Err(format!("{place}: it is longer than {most} characters")),
            _ => Ok(()),
        };
        most("question", &self.question, MOST_QUESTION)?;
        most("background", &self.background, MOST_BACKGROUND)?;
        if !OPTIONS.contains(&self.options.len()) {
            let (least, most) = (OPTIONS.start(), OPTIONS.end());
            return Err(format!("options: there are {}, and there must be {least} to {most}", self.options.len()));
        }
        for (nth, way) in self.options.iter().enumerate() {
            most(&format!("options[{nth}].what"), &way.what, MOST_WHAT)?;
            most(&format!("options[{nth}].name"), &way.name, MOST_NAME)?;
            let is_word = way.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            if !is_word || way.name.chars().all(|c| c.is_ascii_digit()) {
                return Err(format!("options[{nth}].name: it must be one word of letters, digits, `_` and `-`"));
            }
            if self.options[..nth].iter().any(|other| other.name.eq_ignore_ascii_case(&way.name)) {
                return Err(format!("options[{nth}].name: `{}` is there twice", way.name));
            }
        }
        let recommended = self.recommended.clone().filter(|name| !name.trim().is_empty());
        if let Some(name) = recommended.iter().find(|name| self.options.iter().all(|way| way.name != **name)) {
            return Err(format!("recommended: `{name}` is none of the options"));
        }
        Ok(Question {
            id,
            subject: Subject::Model { call_id: call_id.to_owned(), waits: self.waits() },
            text: self.question.split_whitespace().collect::<Vec<_>>().join(" "),
            background: self.background.trim().to_owned(),
            evidence: Vec::new(),
            options: self.options.iter().map(|way| Choice::new(&way.name, way.what.trim())).collect(),
            recommended,
            silence,
        })
    }
}
