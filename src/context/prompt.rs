//! The words we say to the model: Markdown templates in `prompts/`, filled in strictly.

use std::collections::BTreeMap;

/// A template that ships with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prompt {
    /// The standing instructions.
    System,
    /// The first message of a run with a goal.
    Goal,
    /// What is added to the instructions in a chat.
    Chat,
    /// The model stopped while work is open.
    Continue,
    /// A person interrupted and then spoke.
    Interrupted,
    /// A claim to be done was not accepted.
    CheckFailed,
    /// How things stand: the last words of a request.
    State,
    /// The run was taken up again after its driver had gone.
    Resumed,
    /// The run is a fork of another.
    Forked,
    /// The model goes round in a circle.
    Stuck,
    /// What the project says of itself.
    Docs,
    /// The model is to sum the conversation up.
    Summary,
    /// What stands for what was summed up.
    Summarised,
    /// A call was not run: nobody allowed it.
    Refused,
    /// Nothing may be changed.
    ModePlan,
    /// A person is asked before anything is changed.
    ModeAsk,
}

/// A template and its values do not fit each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The template names something that was not given.
    #[error("prompt `{prompt}` wants `{name}`, which was not given")]
    Missing {
        /// The template's file name without ending.
        prompt: &'static str,
        /// The placeholder.
        name: String,
    },
    /// Something was given that the template does not name.
    #[error("prompt `{prompt}` has no place for `{name}`")]
    Unused {
        /// The template's file name without ending.
        prompt: &'static str,
        /// The value's name.
        name: String,
    },
    /// A `{{` without its `}}`.
    #[error("prompt `{prompt}` has an unclosed placeholder")]
    Unclosed {
        /// The template's file name without ending.
        prompt: &'static str,
    },
}

impl Prompt {
    /// All templates.
    pub const ALL: [Self; 16] = [
        Self::System,
        Self::Goal,
        Self::Chat,
        Self::Continue,
        Self::Interrupted,
        Self::CheckFailed,
        Self::State,
        Self::Resumed,
        Self::Forked,
        Self::Stuck,
        Self::Docs,
        Self::Summary,
        Self::Summarised,
        Self::Refused,
        Self::ModePlan,
        Self::ModeAsk,
    ];

    /// The file name without ending.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Goal => "goal",
            Self::Chat => "chat",
            Self::Continue => "continue",
            Self::Interrupted => "interrupted",
            Self::CheckFailed => "check_failed",
            Self::State => "state",
            Self::Resumed => "resumed",
            Self::Forked => "forked",
            Self::Stuck => "stuck",
            Self::Docs => "docs",
            Self::Summary => "summary",
            Self::Summarised => "summarised",
            Self::Refused => "refused",
            Self::ModePlan => "mode_plan",
            Self::ModeAsk => "mode_ask",
        }
    }

    /// The template as it stands in its file.
    pub fn template(self) -> &'static str {
        match self {
            Self::System => include_str!("../../prompts/system.md"),
            Self::Goal => include_str!("../../prompts/goal.md"),
            Self::Chat => include_str!("../../prompts/chat.md"),
            Self::Continue => include_str!("../../prompts/continue.md"),
            Self::Interrupted => include_str!("../../prompts/interrupted.md"),
            Self::CheckFailed => include_str!("../../prompts/check_failed.md"),
            Self::State => include_str!("../../prompts/state.md"),
            Self::Resumed => include_str!("../../prompts/resumed.md"),
            Self::Forked => include_str!("../../prompts/forked.md"),
            Self::Stuck => include_str!("../../prompts/stuck.md"),
            Self::Docs => include_str!("../../prompts/docs.md"),
            Self::Summary => include_str!("../../prompts/summary.md"),
            Self::Summarised => include_str!("../../prompts/summarised.md"),
            Self::Refused => include_str!("../../prompts/refused.md"),
            Self::ModePlan => include_str!("../../prompts/mode_plan.md"),
            Self::ModeAsk => include_str!("../../prompts/mode_ask.md"),
        }
    }

    /// Fills the template in. Values are never looked through for placeholders.
    ///
    /// # Errors
    /// When a placeholder has no value or a value no placeholder.
    pub fn render(self, values: &[(&str, &str)]) -> Result<String, PromptError> {
        let prompt = self.name();
        let mut unused: BTreeMap<&str, &str> = values.iter().copied().collect();
        let mut text = String::new();
        let mut rest = self.template().trim_end();
        while let Some(at) = rest.find("{{") {
            let end = rest[at..].find("}}").ok_or(PromptError::Unclosed { prompt })?;
            let name = rest[at + 2..at + end].trim();
            let value = values.iter().find(|(key, _)| *key == name);
            let (_, value) = value.ok_or_else(|| PromptError::Missing { prompt, name: name.to_owned() })?;
            unused.remove(name);
            text.push_str(&rest[..at]);
            text.push_str(value);
            rest = &rest[at + end + 2..];
        }
        text.push_str(rest);
        match unused.keys().next() {
            Some(name) => Err(PromptError::Unused { prompt, name: (*name).to_owned() }),
            None => Ok(text.trim_end().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_looked_through_for_placeholders() {
        let text = Prompt::Interrupted.render(&[("text", "see {{text}} and {{other}}")]).expect("fits");
        assert!(text.ends_with("see {{text}} and {{other}}"), "{text}");
    }

    #[test]
    fn template_and_values_must_fit_exactly() {
        let missing = Prompt::Interrupted.render(&[]);
        assert_eq!(missing, Err(PromptError::Missing { prompt: "interrupted", name: "text".to_owned() }));
        let unused = Prompt::System.render(&[("text", "x")]);
        assert_eq!(unused, Err(PromptError::Unused { prompt: "system", name: "text".to_owned() }));
    }

    #[test]
    fn the_instructions_have_no_placeholders() {
        assert_eq!(Prompt::System.render(&[]).as_deref(), Ok(Prompt::System.template().trim_end()));
    }
}
