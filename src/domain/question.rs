//! Questions to a person: durable records that are asked once, wait as long as they have to, and are answered once from
//! wherever the person is.

use serde::{Deserialize, Serialize};

use super::{DecisionId, QuestionId, Scope};

/// Something that a person is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Its name.
    pub id: QuestionId,
    /// What it is about.
    pub subject: Subject,
    /// The question, in one line.
    pub text: String,
    /// What happened, so that the person can answer without looking elsewhere. May be several lines.
    pub background: String,
    /// Where more is to be seen: entries (`entry 12`), paths below the run's directory, checkpoints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Two to four ways on, each with a name that can be typed.
    pub options: Vec<Choice>,
    /// The name of the option that is recommended, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<String>,
    /// What becomes of it while nobody answers.
    pub silence: Silence,
}

/// A way on that a question offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// A word to type.
    pub name: String,
    /// What it means, in one line.
    pub what: String,
}

impl Question {
    /// Whether words alone answer it. Nobody is taken to have agreed to a call, or to have refused it, by words that name
    /// neither.
    pub fn takes_words(&self) -> bool {
        !matches!(self.subject, Subject::Approval { .. })
    }

    /// Whether this answers it: an option that there is, or words where they are enough.
    pub fn admits(&self, reply: &Reply) -> bool {
        match &reply.choice {
            Some(choice) => self.options.iter().any(|option| option.name == *choice),
            None => self.takes_words() && !reply.text.trim().is_empty(),
        }
    }

    /// The option that is recommended, or the first.
    pub fn first_choice(&self) -> &str {
        let first = self.recommended.as_ref().or(self.options.first().map(|option| &option.name));
        first.map_or("yes", String::as_str)
    }

    /// The names of the options, such as `yes, no`.
    pub fn names(&self) -> String {
        self.options.iter().map(|option| option.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

impl Choice {
    /// A way on.
    pub fn new(name: &str, what: impl Into<String>) -> Self {
        Self { name: name.to_owned(), what: what.into() }
    }
}

/// What a question is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "snake_case")]
pub enum Subject {
    /// Whether a call may run. Holds for what the hash was taken of and nothing else.
    Approval {
        /// The call.
        call_id: String,
        /// SHA-256 of the call's name and arguments, in lower-case hex.
        sha256: String,
        /// The rule that asks, in words.
        rule: String,
        /// What the answer `always` allows for the rest of the run.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        always: Vec<Scope>,
    },
    /// The model asks.
    Model {
        /// Its call.
        call_id: String,
        /// False where the call has its outcome already and the answer comes as a message.
        waits: bool,
    },
    /// The model has claimed to be done and a check has failed, as often as it may.
    FailedClaims {
        /// How often.
        rounds: u32,
    },
    /// The model goes round in a circle and was told so.
    Stuck,
    /// The model says that it can't go on without a person.
    GaveUp {
        /// The call that says so.
        call_id: String,
    },
    /// A failure that no way on is left for.
    Failure {
        /// The decision to ask.
        decision: DecisionId,
        /// The call that failed, while it has no outcome yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
    },
}

impl Subject {
    /// The call that gets the answer as its outcome, or waits for it to be run.
    pub fn call_id(&self) -> Option<&str> {
        match self {
            Self::Approval { call_id, .. } | Self::Model { call_id, waits: true } | Self::GaveUp { call_id } => {
                Some(call_id)
            }
            Self::Failure { call_id, .. } => call_id.as_deref(),
            Self::Model { waits: false, .. } | Self::FailedClaims { .. } | Self::Stuck => None,
        }
    }

    /// Whether the run stands still until it is answered.
    pub fn stops_the_run(&self) -> bool {
        !matches!(self, Self::Model { waits: false, .. })
    }

    /// Whether a message that says what to do makes it needless.
    pub fn yields_to_words(&self) -> bool {
        match self {
            Self::FailedClaims { .. } | Self::Stuck | Self::GaveUp { .. } => true,
            Self::Approval { .. } | Self::Model { .. } | Self::Failure { .. } => false,
        }
    }
}

/// What becomes of a question while nobody answers. Silence is never taken for an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// What is done then.
    pub then: OnSilence,
    /// How long somebody is waited for first; None for as long as it takes where somebody can be asked, and not at all
    /// where nobody can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_s: Option<u64>,
}

/// What is done when nobody has answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnSilence {
    /// The run waits on.
    #[default]
    Wait,
    /// The run stops and keeps all that it has; the question stays open.
    Pause,
    /// The question is over: whoever asked is told that nobody answered.
    Fail,
}

impl OnSilence {
    /// Its name, as it is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Pause => "pause",
            Self::Fail => "fail",
        }
    }
}

/// What a person said to a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The name of the option that was chosen, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// The person's own words; may be empty where an option was chosen.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Reply {
    /// Reads what a person typed: the name or the number of an option, an option and words after it, or words alone.
    /// None for nothing.
    pub fn read(question: &Question, typed: &str) -> Option<Self> {
        let typed = typed.trim();
        if typed.is_empty() {
            return None;
        }
        let (first, rest) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
        let bare = first.trim_end_matches([',', ':', '.', ')']);
        let by_number = |word: &str| word.parse::<usize>().ok()?.checked_sub(1).and_then(|at| question.options.get(at));
        let by_name = |word: &str| question.options.iter().find(|option| option.name.eq_ignore_ascii_case(word));
        // `2 GPUs are free` is no choice of the second, and `2: GPUs are free` is.
        let chosen = match rest.trim().is_empty() || bare != first {
            true => by_name(bare).or_else(|| by_number(bare)),
            false => by_name(bare),
        };
        Some(match chosen {
            Some(option) => Self { choice: Some(option.name.clone()), text: rest.trim().to_owned() },
            None => Self { choice: None, text: typed.to_owned() },
        })
    }

    /// Whether this option was chosen.
    pub fn is(&self, choice: &str) -> bool {
        self.choice.as_deref() == Some(choice)
    }

    /// In words, such as `yes: but only once`.
    pub fn words(&self) -> String {
        match (&self.choice, self.text.is_empty()) {
            (Some(choice), true) => choice.clone(),
            (Some(choice), false) => format!("{choice}: {}", self.text),
            (None, _) => self.text.clone(),
        }
    }
}

/// From where an answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnsweredAt {
    /// The terminal of the run.
    Terminal,
    /// Another terminal, or a file left in the inbox.
    Inbox,
}

/// How a question came to be over without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionEnd {
    /// Nobody answered in time.
    Timeout,
    /// What it was about is no more.
    Withdrawn,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_read_as_people_mean_it() {
        let question = Question {
            id: QuestionId(1),
            subject: Subject::Stuck,
            text: "Go on?".to_owned(),
            background: String::new(),
            evidence: Vec::new(),
            options: vec![Choice::new("go_on", "goes on"), Choice::new("stop", "ends the run")],
            recommended: None,
            silence: Silence::default(),
        };
        let read = |typed: &str| Reply::read(&question, typed).map(|reply| (reply.choice, reply.text));
        let chosen = |choice: &str, text: &str| Some((Some(choice.to_owned()), text.to_owned()));
        assert_eq!(read(" \n"), None);
        assert_eq!(read("STOP"), chosen("stop", ""));
        assert_eq!(read("1"), chosen("go_on", ""));
        assert_eq!(read("2)"), chosen("stop", ""));
        assert_eq!(read("go_on: use the mirror"), chosen("go_on", "use the mirror"));
        assert_eq!(read("2 GPUs are free"), Some((None, "2 GPUs are free".to_owned())), "no choice of the second");
        assert_eq!(read("2, GPUs are free"), chosen("stop", "GPUs are free"));
        assert_eq!(read("3"), Some((None, "3".to_owned())));
    }
}
