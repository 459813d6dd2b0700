//! The fields of runs as a search names them: to compare, to order by, to return. Pure.
//!
//! Invariant: a field is taken with all of its words, or a complaint says what is possible. What is asked of a field is not
//! known here.

use super::{
    ast::{Attribute, DatasetPart, Field, OrderBy, Selected, Stat},
    lexer::{FilterError, Kind, Token, at},
    words::{Parsed, Words},
};
use crate::request::quoted;

const KEYWORDS: [&str; 9] = [
    "AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN",
];

/// Takes a field.
pub(super) fn field(words: &mut Words) -> Parsed<Field> {
    let token = words.take();
    match &token.kind {
        Kind::Dotted(group, key) => match group.to_ascii_lowercase().as_str() {
            "metrics" | "metric" => Ok(Field::Metric(Stat::Last, key.clone())),
            "params" | "param" | "parameters" | "parameter" => Ok(Field::Param(key.clone())),
            "tags" | "tag" => {
                let attribute = Attribute::by_tag(key).map(Field::Attribute);
                Ok(attribute.unwrap_or_else(|| Field::Tag(key.clone())))
            }
            "datasets" | "dataset" => DatasetPart::by_name(key)
                .map(Field::Dataset)
                .ok_or_else(|| unknown_part(&token, key)),
            "attributes" | "attribute" | "attr" | "run" => Attribute::by_name(key)
                .map(Field::Attribute)
                .ok_or_else(|| unknown(&token, key)),
            _ => Err(at(
                &token,
                format!(
                    "`{group}` is unknown; fields begin with metrics, params, tags, datasets or attributes"
                ),
            )),
        },
        Kind::Word(word)
            if KEYWORDS
                .iter()
                .any(|keyword| word.eq_ignore_ascii_case(keyword)) =>
        {
            Err(at(
                &token,
                format!("a field is missing before {}", token.kind),
            ))
        }
        Kind::Word(word) if words.peek().kind == Kind::Open => stat(words, &token, word),
        Kind::Word(word) => Attribute::by_name(word)
            .map(Field::Attribute)
            .ok_or_else(|| unknown(&token, word)),
        Kind::End => Err(at(&token, "a field is missing at the end")),
        other => Err(at(
            &token,
            format!(
                "{other} is not a field; write it as metrics.<key>, params.<key>, tags.<key> or attributes.<name>"
            ),
        )),
    }
}

/// `min(metrics.<key>)` and its like, from the parenthesis on.
fn stat(words: &mut Words, token: &Token, word: &str) -> Parsed<Field> {
    let stat = Stat::by_name(word).ok_or_else(|| {
        let message =
            format!("`{word}(…)` is unknown; possible are min, max, last and count of a metric");
        at(token, message)
    })?;
    let open = words.take();
    let inner = words.take();
    let key = match &inner.kind {
        Kind::Dotted(group, key)
            if ["metrics", "metric"].contains(&group.to_ascii_lowercase().as_str()) =>
        {
            key.clone()
        }
        _ => {
            return Err(at(
                &inner,
                format!("`{word}` is of a metric, as in {word}(metrics.loss)"),
            ));
        }
    };
    match words.take().kind {
        Kind::Close => Ok(Field::Metric(stat, key)),
        _ => Err(at(&open, "this `(` is not closed")),
    }
}

/// Reads one order, such as `metrics.mae ASC`.
pub(super) fn parse_order(order: &str) -> Parsed<OrderBy> {
    let mut words = Words::of(order)?;
    let field = field(&mut words)?;
    let descending = match words.take() {
        Token {
            kind: Kind::End, ..
        } => {
            return Ok(OrderBy {
                field,
                descending: false,
            });
        }
        Token {
            kind: Kind::Word(word),
            ..
        } if word.eq_ignore_ascii_case("asc") => false,
        Token {
            kind: Kind::Word(word),
            ..
        } if word.eq_ignore_ascii_case("desc") => true,
        token => {
            return Err(at(
                &token,
                format!("{} is unexpected; an order ends in ASC or DESC", token.kind),
            ));
        }
    };
    match words.take() {
        Token {
            kind: Kind::End, ..
        } => Ok(OrderBy { field, descending }),
        token => Err(at(
            &token,
            format!("{} is unexpected; give one field an entry", token.kind),
        )),
    }
}

/// Reads one of the fields to return: a kind such as `metrics`, or one of it such as `metrics.mae`.
pub(super) fn parse_selected(text: &str) -> Parsed<Selected> {
    let mut words = Words::of(text)?;
    let token = words.take();
    let wrong = || {
        let message = "must be metrics, params, tags, inputs or none, or one of them as metrics.<key>, params.<key> or tags.<key>";
        at(&token, message)
    };
    let selected = match &token.kind {
        Kind::Word(word) => match word.as_str() {
            "metrics" => Selected::Metrics(None),
            "params" => Selected::Params(None),
            "tags" => Selected::Tags(None),
            "inputs" | "datasets" => Selected::Inputs,
            "none" => Selected::Nothing,
            _ => return Err(wrong()),
        },
        Kind::Dotted(group, key) => match group.as_str() {
            "metrics" => Selected::Metrics(Some(key.clone())),
            "params" => Selected::Params(Some(key.clone())),
            "tags" => Selected::Tags(Some(key.clone())),
            _ => return Err(wrong()),
        },
        _ => return Err(wrong()),
    };
    match words.take().kind {
        Kind::End => Ok(selected),
        _ => Err(wrong()),
    }
}

fn unknown(token: &Token, name: &str) -> FilterError {
    let known: Vec<&str> = Attribute::ALL.iter().map(|(_, name)| *name).collect();
    at(
        token,
        format!(
            "{} is no attribute of runs ({}); others are written as params.<key>, metrics.<key> or tags.<key>",
            quoted(name),
            known.join(", ")
        ),
    )
}

fn unknown_part(token: &Token, name: &str) -> FilterError {
    at(
        token,
        format!(
            "{} is unknown of data sets; possible are name, digest, context and source",
            quoted(name)
        ),
    )
}
