//! `${{ }}`: what is put into the texts of a workflow when a stage is about to run.

use std::ops::Range;

use serde_json::Value;

use super::expression_reading;

/// A text with expressions in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Value(Expression),
}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A value as it is written.
    Literal(Value),
    /// A name and the way from there, such as `matrix.size` or `needs.build.outputs.tag`.
    Name(Vec<String>),
    /// A function and what it is given.
    Call(Function, Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// Two values and what is done with them.
    Both(Box<Self>, Operator, Box<Self>),
}

/// What is done with two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `||`
    Or,
    /// `&&`
    And,
    /// `==`
    Equal,
    /// `!=`
    Different,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

/// The functions that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Whether everything that is needed has passed.
    Success,
    /// Whether something that is needed has failed.
    Failure,
    /// True.
    Always,
    /// Whether the run was cancelled.
    Cancelled,
    /// Whether a text or a list has a value in it.
    Contains,
    /// Whether a text begins so.
    StartsWith,
    /// Whether a text ends so.
    EndsWith,
    /// A list as text, with something between.
    Join,
    /// A value as JSON.
    ToJson,
    /// JSON as a value.
    FromJson,
}

impl Function {
    pub(super) const ALL: [(&'static str, Self, Range<usize>); 10] = [
        ("success", Self::Success, 0..1),
        ("failure", Self::Failure, 0..1),
        ("always", Self::Always, 0..1),
        ("cancelled", Self::Cancelled, 0..1),
        ("contains", Self::Contains, 2..3),
        ("startsWith", Self::StartsWith, 2..3),
        ("endsWith", Self::EndsWith, 2..3),
        ("join", Self::Join, 1..3),
        ("toJSON", Self::ToJson, 1..2),
        ("fromJSON", Self::FromJson, 1..2),
    ];
}

/// What is wrong with an expression, and where in its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ExpressionError {
    /// In bytes of the text.
    pub span: Range<usize>,
    /// In words.
    pub what: String,
}

/// What the names of expressions stand for.
pub trait Scope {
    /// What stands under this name, which has a word at least. None where there is nothing.
    fn value(&self, name: &[String]) -> Option<Value>;

    /// What a function says that asks how the run stands.
    fn asks(&self, function: Function) -> bool;
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    /// [`ExpressionError`] for the first expression that is none.
    pub fn read(text: &str) -> Result<Self, ExpressionError> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find("${{").map(|open| at + open) {
            if open > at {
                pieces.push(Piece::Text(text[at..open].to_owned()));
            }
            let begin = open + 3;
            let end = closing(text, begin).ok_or_else(|| ExpressionError {
                span: open..begin,
                what: "`${{` has no `}}` that closes it".to_owned(),
            })?;
            let expression = Expression::read(&text[begin..end])
                .map_err(|error| ExpressionError { span: error.span.start + begin..error.span.end + begin, ..error })?;
            pieces.push(Piece::Value(expression));
            at = end + 2;
        }
        if at < text.len() {
            pieces.push(Piece::Text(text[at..].to_owned()));
        }
        Ok(Self { pieces })
    }

    /// The expressions in it, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Value(expression) => Some(expression),
            Piece::Text(_) => None,
        })
    }

    /// The text with the values in their places.
    ///
    /// # Errors
    /// What has no value, in words.
    pub fn fill(&self, scope: &dyn Scope) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Value(expression) => out.push_str(&as_text(&expression.value(scope)?)),
            }
        }
        Ok(out)
    }
}

/// Where the expression that begins here ends: braces in quotes are no end.
fn closing(text: &str, from: usize) -> Option<usize> {
    let mut quoted = false;
    let bytes = text.as_bytes();
    (from..bytes.len()).find(|&at| {
        quoted ^= bytes[at] == b'\'';
        !quoted && bytes[at..].starts_with(b"}}")
    })
}

impl Expression {
    /// Reads an expression without the braces around it.
    ///
    /// # Errors
    /// [`ExpressionError`].
    pub fn read(text: &str) -> Result<Self, ExpressionError> {
        expression_reading::whole(text)
    }

    /// Calls `each` with every name in it.
    pub fn names(&self, each: &mut dyn FnMut(&[String])) {
        match self {
            Self::Literal(_) => {}
            Self::Name(name) => each(name),
            Self::Call(_, given) => given.iter().for_each(|given| given.names(each)),
            Self::Not(inner) => inner.names(each),
            Self::Both(left, _, right) => {
                left.names(each);
                right.names(each);
            }
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// What has no value, in words.
    pub fn value(&self, scope: &dyn Scope) -> Result<Value, String> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Name(name) => scope.value(name).ok_or_else(|| format!("`{}` has no value", name.join("."))),
            Self::Call(function, given) => call(*function, given, scope),
            Self::Not(inner) => Ok(Value::Bool(!is_true(&inner.value(scope)?))),
            Self::Both(left, operator, right) => {
                let left = left.value(scope)?;
                match operator {
                    Operator::Or if is_true(&left) => return Ok(left),
                    Operator::And if !is_true(&left) => return Ok(left),
                    _ => {}
                }
                let right = right.value(scope)?;
                Ok(match operator {
                    Operator::Or | Operator::And => right,
                    Operator::Equal => Value::Bool(is_same(&left, &right)),
                    Operator::Different => Value::Bool(!is_same(&left, &right)),
                    Operator::Below | Operator::AtMost | Operator::Above | Operator::AtLeast => {
                        Value::Bool(compare(&left, *operator, &right)?)
                    }
                })
            }
        }
    }
}

fn call(function: Function, given: &[Expression], scope: &dyn Scope) -> Result<Value, String> {
    let values: Vec<Value> = given.iter().map(|given| given.value(scope)).collect::<Result<_, _>>()?;
    let text = |at: usize| values.get(at).map(as_text).unwrap_or_default();
    Ok(match function {
        Function::Success | Function::Failure | Function::Cancelled => Value::Bool(scope.asks(function)),
        Function::Always => Value::Bool(true),
        Function::Contains => Value::Bool(match &values[0] {
            Value::Array(items) => items.iter().any(|item| is_same(item, &values[1])),
            other => as_text(other).contains(&text(1)),
        }),
        Function::StartsWith => Value::Bool(text(0).starts_with(&text(1))),
        Function::EndsWith => Value::Bool(text(0).ends_with(&text(1))),
        Function::Join => {
            let between = if values.len() > 1 { text(1) } else { ",".to_owned() };
            match &values[0] {
                Value::Array(items) => Value::String(items.iter().map(as_text).collect::<Vec<_>>().join(&between)),
                other => Value::String(as_text(other)),
            }
        }
        Function::ToJson => Value::String(values[0].to_string()),
        Function::FromJson => {
            let text = text(0);
            serde_json::from_str(&text).map_err(|error| format!("fromJSON was given no JSON: {error}"))?
        }
    })
}

/// What counts as yes.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// A value as a command sees it.
pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => left == right,
        _ => as_text(left) == as_text(right),
    }
}

fn compare(left: &Value, operator: Operator, right: &Value) -> Result<bool, String> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let (Some(left), Some(right)) = (number(left), number(right)) else {
        return Err(format!("`{}` and `{}` can't be compared as numbers", as_text(left), as_text(right)));
    };
    Ok(match operator {
        Operator::Below => left < right,
        Operator::AtMost => left <= right,
        Operator::Above => left > right,
        _ => left >= right,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct Some_(Value);

    impl Scope for Some_ {
        fn value(&self, name: &[String]) -> Option<Value> {
            name.iter().try_fold(&self.0, |value, word| value.get(word)).cloned()
        }

        fn asks(&self, function: Function) -> bool {
            function == Function::Success
        }
    }

    fn fill(text: &str) -> Result<String, String> {
        let scope =
            json!({ "matrix": { "size": "base", "n": 3 }, "list": ["a", "b"], "a-b": { "c d": 1 }, "no": false });
        Template::read(text).map_err(|error| error.to_string())?.fill(&Some_(scope))
    }

    #[test]
    fn values_stand_where_the_expressions_were() {
        for (text, filled) in [
            ("plain $x ${y} }}", "plain $x ${y} }}"),
            ("configs/${{ matrix.size }}.yaml", "configs/base.yaml"),
            ("${{matrix.n}}${{ matrix.n }}", "33"),
            ("${{ matrix.n > 2 && 'big' || 'small' }}", "big"),
            ("${{ !no }} ${{ !(matrix.n == 3) }}", "true false"),
            ("${{ matrix.n == '3' }} ${{ matrix.size != 'x' }}", "true true"),
            ("${{ join(list, '-') }} ${{ contains(list, 'b') }} ${{ contains('abc', 'd') }}", "a-b true false"),
            ("${{ 'it''s }} here' }}", "it's }} here"),
            ("${{ a-b['c d'] }}", "1"),
            ("${{ success() }} ${{ failure() }} ${{ always() }}", "true false true"),
            ("${{ fromJSON('[1,2]') }} ${{ toJSON(list) }}", "[1,2] [\"a\",\"b\"]"),
            ("${{ -1.5 < 2 }} ${{ startsWith(matrix.size, 'ba') }}", "true true"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(filled), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told_where_it_is_none() {
        for (text, at, what) in [
            ("a ${{ b", 2, "has no `}}`"),
            ("${{ }}", 4, "must not be empty"),
            ("${{ a. }}", 6, "after `.`"),
            ("${{ a b }}", 6, "operator"),
            ("${{ sucess() }}", 4, "did you mean `success`?"),
            ("${{ contains('a') }}", 4, "takes 2 values, and was given 1"),
            ("${{ \"a\" }}", 4, "single quotes"),
            ("${{ (a }}", 7, "`)`"),
            ("${{ 1x }}", 4, "is no number"),
            ("x ${{ a && }}", 11, "ends too early"),
        ] {
            let error = Template::read(text).unwrap_err();
            assert!(error.what.contains(what) && error.span.start == at, "{text}: {error:?}");
        }
        assert_eq!(fill("${{ nothing.there }}").unwrap_err(), "`nothing.there` has no value");
        assert!(fill("${{ 'a' < 1 }}").unwrap_err().contains("can't be compared"));
        assert!(Template::read(&format!("${{{{ {}1 }}}}", "(".repeat(10_000))).is_err(), "deep ones are no trouble");
    }
}
