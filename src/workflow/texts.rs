//! Whether the expressions in a stage's texts are such, and whether their names stand for something.

use super::expression::{Expression, Template};
use super::meaning::Reading;
use super::mistake::{Mistake, MistakeKind};
use super::tree::{Kind, Node};
use crate::domain::most_alike;

impl Reading<'_> {
    /// Every text of a stage may have expressions in it.
    pub(super) fn texts(&mut self, id: &str) {
        let root = self.root;
        let Some((_, stage)) = root.member("stages").and_then(|(_, stages)| stages.member(id)) else { return };
        let Kind::Map(members) = &stage.kind else { return };
        for (key, value) in members.iter().filter(|(key, _)| !key.name.starts_with("x-")) {
            match &value.kind {
                Kind::Text(text) if key.name == "if" && !text.contains("${{") => self.condition(id, value, text),
                _ => self.texts_of(id, value),
            }
        }
    }

    fn texts_of(&mut self, id: &str, node: &Node) {
        match &node.kind {
            Kind::Text(text) if text.contains("${{") => match Template::read(text) {
                Ok(template) => {
                    let expressions: Vec<Expression> = template.expressions().cloned().collect();
                    expressions.iter().for_each(|expression| self.names(id, node, expression));
                }
                Err(error) => self.no_expression(node, text, error.span.start, &error.what),
            },
            Kind::List(items) => items.iter().for_each(|item| self.texts_of(id, item)),
            Kind::Map(members) => members.iter().for_each(|(_, value)| self.texts_of(id, value)),
            _ => {}
        }
    }

    fn condition(&mut self, id: &str, node: &Node, text: &str) {
        match Expression::read(text) {
            Ok(expression) => self.names(id, node, &expression),
            Err(error) => self.no_expression(node, text, error.span.start, &error.what),
        }
    }

    fn no_expression(&mut self, node: &Node, text: &str, at: usize, what: &str) {
        let near: String = text[text.floor_char_boundary(at)..].chars().take(20).collect();
        let what = format!("{what}, near `{}`", near.lines().next().unwrap_or_default());
        self.mistakes.push(Mistake::new(MistakeKind::Meaning, node.span.clone(), what));
    }

    /// Whether the names of an expression stand for something where it is read.
    fn names(&mut self, id: &str, node: &Node, expression: &Expression) {
        let mut wrong = Vec::new();
        expression.names(&mut |name| wrong.extend(self.nameless(id, name)));
        for (what, hint) in wrong {
            self.mistakes.push(Mistake::new(MistakeKind::Meaning, node.span.clone(), what).hint_if(hint));
        }
    }

    fn nameless(&self, id: &str, name: &[String]) -> Option<(String, Option<String>)> {
        const ROOTS: [&str; 7] = ["inputs", "matrix", "env", "secrets", "needs", "run", "stage"];
        let whole = name.join(".");
        let stage = &self.workflow.stages[id];
        let root = name.first().map(String::as_str).unwrap_or_default();
        let listed = |known: Vec<&str>, what: &str| {
            let Some(second) = name.get(1) else {
                return Some((format!("`{whole}` must be followed by a name"), None));
            };
            if known.contains(&second.as_str()) {
                return None;
            }
            let meant =
                most_alike(second, known.iter().copied()).map(|meant| format!("did you mean `{root}.{meant}`?"));
            let hint = meant.or_else(|| (!known.is_empty()).then(|| format!("there are {}", known.join(", "))));
            Some((format!("`{whole}`: {what} `{second}`"), hint))
        };
        match root {
            "inputs" => listed(self.workflow.inputs.keys().map(String::as_str).collect(), "the workflow has no input"),
            "matrix" => {
                let axes =
                    stage.strategy.iter().flat_map(|strategy| strategy.matrix.keys()).map(String::as_str).collect();
                listed(axes, &format!("the matrix of stage `{id}` has no"))
            }
            "secrets" => listed(
                stage.secrets.iter().map(String::as_str).collect(),
                &format!("stage `{id}` does not see the secret"),
            ),
            "needs" => {
                listed(stage.needs().iter().map(String::as_str).collect(), &format!("stage `{id}` does not need"))
                    .or_else(|| self.output_of(name, &whole))
            }
            "run" => listed(vec!["id", "dir", "name"], "nothing of the run is called"),
            "stage" => listed(vec!["id", "name", "attempt"], "nothing of the stage is called"),
            "env" => None,
            _ => {
                let meant = most_alike(root, ROOTS).map(|meant| format!("did you mean `{meant}`?"));
                let hint = meant.unwrap_or_else(|| format!("a name begins with {}", ROOTS.join(", ")));
                Some((format!("`{whole}` stands for nothing"), Some(hint)))
            }
        }
    }

    /// `needs.build.outputs.tag`, `needs.build.result`.
    fn output_of(&self, name: &[String], whole: &str) -> Option<(String, Option<String>)> {
        let of = self.workflow.stages.get(name.get(1)?)?;
        match (name.get(2).map(String::as_str), name.get(3)) {
            (Some("result"), None) => None,
            (Some("outputs"), Some(output)) if of.outputs.contains_key(output) => None,
            (Some("outputs"), Some(output)) => {
                let meant = most_alike(output, of.outputs.keys().map(String::as_str));
                let what = format!("`{whole}`: stage `{}` has no output `{output}`", name[1]);
                Some((what, meant.map(|meant| format!("did you mean `{meant}`?"))))
            }
            _ => Some((
                format!("`{whole}` stands for nothing"),
                Some("it goes on with `result` or `outputs.NAME`".to_owned()),
            )),
        }
    }
}
