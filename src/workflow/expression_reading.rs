//! How expressions are read from their text.

use serde_json::{Number, Value};

use super::expression::{Expression, ExpressionError, Function, Operator};

/// Parentheses and brackets that may be open at once.
const DEEPEST: usize = 64;

/// Reads a whole text as one expression.
pub(super) fn whole(text: &str) -> Result<Expression, ExpressionError> {
    let mut reading = Reading { text, at: 0, depth: 0 };
    reading.blanks();
    if reading.rest().is_empty() {
        return Err(reading.error("an expression must not be empty"));
    }
    let expression = reading.binary(0)?;
    match reading.rest().is_empty() {
        true => Ok(expression),
        false => Err(reading.error("an operator was expected here")),
    }
}

/// Operators, those that bind least first.
const OPERATORS: [&[(&str, Operator)]; 4] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[("==", Operator::Equal), ("!=", Operator::Different)],
    &[("<=", Operator::AtMost), (">=", Operator::AtLeast), ("<", Operator::Below), (">", Operator::Above)],
];

struct Reading<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reading<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn error(&self, what: impl Into<String>) -> ExpressionError {
        let next = self.rest().chars().next().map_or(0, char::len_utf8);
        ExpressionError { span: self.at..self.at + next, what: what.into() }
    }

    fn take(&mut self, word: &str) -> bool {
        let is_there = self.rest().starts_with(word);
        if is_there {
            self.at += word.len();
            self.blanks();
        }
        is_there
    }

    fn binary(&mut self, level: usize) -> Result<Expression, ExpressionError> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.take(sign)) {
            let right = self.binary(level + 1)?;
            left = Expression::Both(Box::new(left), *operator, Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, ExpressionError> {
        if self.depth >= DEEPEST {
            return Err(self.error("too much in too many parentheses"));
        }
        self.depth += 1;
        let read = match self.rest().starts_with('!') && !self.rest().starts_with("!=") {
            true => {
                self.take("!");
                self.unary().map(|inner| Expression::Not(Box::new(inner)))
            }
            false => self.primary(),
        };
        self.depth -= 1;
        read
    }

    fn primary(&mut self) -> Result<Expression, ExpressionError> {
        if self.take("(") {
            let inner = self.binary(0)?;
            return if self.take(")") { Ok(inner) } else { Err(self.error("`)` was expected here")) };
        }
        match self.rest().chars().next() {
            Some('\'') => self.quoted().map(|text| Expression::Literal(Value::String(text))),
            Some('"') => Err(self.error("text is put in single quotes here")),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.name_or_call(),
            Some(_) => Err(self.error("a name, a number or a 'text' was expected here")),
            None => Err(self.error("the expression ends too early")),
        }
    }

    /// `'it''s'` is `it's`.
    fn quoted(&mut self) -> Result<String, ExpressionError> {
        let begin = self.at;
        let mut text = String::new();
        let mut rest = &self.rest()[1..];
        loop {
            let Some(end) = rest.find('\'') else {
                return Err(ExpressionError { span: begin..begin + 1, what: "this quote is not closed".to_owned() });
            };
            text.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('\'') {
                Some(more) => {
                    text.push('\'');
                    rest = more;
                }
                None => break,
            }
        }
        self.at = self.text.len() - rest.len();
        self.blanks();
        Ok(text)
    }

    fn number(&mut self) -> Result<Expression, ExpressionError> {
        let end = self.rest().find(|c: char| !c.is_ascii_alphanumeric() && !".-+_".contains(c));
        let word = &self.rest()[..end.unwrap_or(self.rest().len())];
        let whole = word.parse::<i64>().ok().map(Number::from);
        let number = whole.or_else(|| Number::from_f64(word.parse().ok()?));
        let span = self.at..self.at + word.len();
        let number = number.ok_or_else(|| ExpressionError { span, what: format!("`{word}` is no number") })?;
        self.at += word.len();
        self.blanks();
        Ok(Expression::Literal(Value::Number(number)))
    }

    fn word(&mut self) -> &'t str {
        let end = self.rest().find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        let word = &self.rest()[..end.unwrap_or(self.rest().len())];
        self.at += word.len();
        word
    }

    fn name_or_call(&mut self) -> Result<Expression, ExpressionError> {
        let begin = self.at;
        let first = self.word();
        let literal = match first {
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            "null" => Some(Value::Null),
            _ => None,
        };
        if let Some(value) = literal {
            self.blanks();
            return Ok(Expression::Literal(value));
        }
        if self.rest().trim_start().starts_with('(') {
            self.blanks();
            return self.call(first, begin);
        }
        let mut name = vec![first.to_owned()];
        loop {
            if let Some(after) = self.rest().strip_prefix('.') {
                self.at = self.text.len() - after.len();
                let word = self.word();
                if word.is_empty() {
                    return Err(self.error("a name was expected after `.`"));
                }
                name.push(word.to_owned());
            } else if self.rest().starts_with("['") {
                self.at += 1;
                name.push(self.quoted()?);
                if !self.rest().starts_with(']') {
                    return Err(self.error("`]` was expected here"));
                }
                self.at += 1;
            } else {
                self.blanks();
                return Ok(Expression::Name(name));
            }
        }
    }

    fn call(&mut self, name: &str, begin: usize) -> Result<Expression, ExpressionError> {
        let span = begin..begin + name.len();
        let Some((_, function, count)) = Function::ALL.into_iter().find(|(known, ..)| *known == name) else {
            let names = Function::ALL.map(|(name, ..)| name);
            let meant = crate::domain::most_alike(name, names.iter().copied());
            let hint = meant.map_or_else(
                || format!("; there are {}", names.join(", ")),
                |meant| format!("; did you mean `{meant}`?"),
            );
            return Err(ExpressionError { span, what: format!("there is no function `{name}`{hint}") });
        };
        self.take("(");
        let mut given = Vec::new();
        while !self.take(")") {
            if !given.is_empty() && !self.take(",") {
                return Err(self.error("`,` or `)` was expected here"));
            }
            given.push(self.binary(0)?);
        }
        if !count.contains(&given.len()) {
            let wanted = match count.end - 1 {
                0 => "nothing".to_owned(),
                most if most == count.start => format!("{most} values"),
                most => format!("{} or {most} values", count.start),
            };
            return Err(ExpressionError {
                span,
                what: format!("`{name}` takes {wanted}, and was given {}", given.len()),
            });
        }
        Ok(Expression::Call(function, given))
    }
}
