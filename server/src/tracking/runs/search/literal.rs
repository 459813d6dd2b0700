//! The values of a filter, as the type of their field wants them. Pure.

use uuid::Uuid;

use super::{
    ast::{Attribute, Field, Values},
    lexer::{FilterError, Kind, Token, at},
};
use crate::{clock::Timestamp, request::quoted};

const STATUSES: [&str; 5] = ["RUNNING", "FINISHED", "FAILED", "KILLED", "CRASHED"];

/// A value.
#[derive(Debug)]
pub(super) enum Literal {
    Number(f64),
    Text(String),
    Time(i64),
    Id(Uuid),
}

/// A value as the type of its field wants it.
pub(super) fn literal(field: &Field, token: &Token) -> Result<Literal, FilterError> {
    use Attribute::{
        CreatedAt, EndedAt, ExperimentId, ParentRunId, RunId, StartedAt, Status, UpdatedAt,
    };
    match (field, &token.kind) {
        (Field::Metric(..) | Field::Param(_) | Field::Tag(_), Kind::Number(number, _)) => {
            Ok(Literal::Number(*number))
        }
        (Field::Metric(_, key), Kind::Text(_)) => Err(at(
            token,
            format!(
                "the metric {} compares with a number, without quotes",
                quoted(key)
            ),
        )),
        (Field::Attribute(Status), Kind::Text(text)) => {
            status(text).map_err(|message| at(token, message))
        }
        (Field::Attribute(RunId | ParentRunId | ExperimentId), Kind::Text(text)) => {
            Uuid::try_parse(text)
                .map(Literal::Id)
                .map_err(|_| at(token, format!("{} is not a UUID", quoted(text))))
        }
        (Field::Attribute(StartedAt | EndedAt | CreatedAt | UpdatedAt), Kind::Text(text)) => {
            Timestamp::parse(text)
                .map(|time| Literal::Time(time.micros()))
                .ok_or_else(|| {
                    at(
                        token,
                        format!(
                            "{} is not a time such as '2026-01-02T03:04:05Z'",
                            quoted(text)
                        ),
                    )
                })
        }
        (
            Field::Attribute(StartedAt | EndedAt | CreatedAt | UpdatedAt),
            Kind::Number(_, Some(millis)),
        ) => millis.checked_mul(1000).map(Literal::Time).ok_or_else(|| {
            at(
                token,
                "is beyond the times that there are; give milliseconds since 1970",
            )
        }),
        (Field::Attribute(StartedAt | EndedAt | CreatedAt | UpdatedAt), _) => Err(at(
            token,
            format!(
                "{} is not a time; give milliseconds since 1970, or a text such as '2026-01-02T03:04:05Z'",
                token.kind
            ),
        )),
        (_, Kind::Text(text)) => Ok(Literal::Text(text.clone())),
        (_, Kind::End) => Err(at(token, "a value is missing at the end")),
        (Field::Metric(..), other) => Err(at(token, format!("{other} is not a number"))),
        (_, Kind::Word(word)) => Err(at(
            token,
            format!("`{word}` is not a value; texts stand in quotes: '{word}'"),
        )),
        (_, other) => Err(at(
            token,
            format!("{other} is not a text; texts stand in quotes"),
        )),
    }
}

fn status(text: &str) -> Result<Literal, String> {
    let upper = text.to_ascii_uppercase();
    if STATUSES.contains(&upper.as_str()) {
        Ok(Literal::Text(upper))
    } else {
        Err(format!(
            "{} is not a status; possible are {}",
            quoted(text),
            STATUSES.join(", ")
        ))
    }
}

/// A list whose literals are all of one type.
pub(super) fn values(literals: Vec<Literal>) -> Values {
    let (mut numbers, mut texts, mut times, mut ids) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for literal in literals {
        match literal {
            Literal::Number(number) => numbers.push(number),
            Literal::Text(text) => texts.push(text),
            Literal::Time(micros) => times.push(micros),
            Literal::Id(id) => ids.push(id),
        }
    }
    if !numbers.is_empty() {
        Values::Numbers(numbers)
    } else if !times.is_empty() {
        Values::Times(times)
    } else if !ids.is_empty() {
        Values::Ids(ids)
    } else {
        Values::Texts(texts)
    }
}
