//! From the words of a filter to its meaning: a recursive descent, `OR` below `AND` below `NOT` below comparisons. Pure.
//!
//! Invariant: what it returns is bounded in depth and size, and every comparison fits the type of its field.

use super::{
    ast::{Attribute, DatasetPart, Field, Filter, Op, OrderBy, Selected, Stat, Test},
    lexer::{self, FilterError, Kind, Token, at},
    literal::{Literal, literal, values},
    pattern::Pattern,
};
use crate::request::quoted;

/// Longest filter, in bytes.
const MAX_LENGTH: usize = 20_000;
/// Most comparisons.
const MAX_COMPARISONS: usize = 100;
/// Most values in all lists.
const MAX_VALUES: usize = 1000;
/// Deepest nesting of parentheses and NOT.
const MAX_DEPTH: usize = 30;

const KEYWORDS: [&str; 9] = [
    "AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN",
];

type Parsed<T> = Result<T, FilterError>;

/// Reads a filter; an empty one fits every run.
pub(super) fn parse(filter: &str) -> Parsed<Filter> {
    let mut parser = Parser::new(filter)?;
    if parser.peek().kind == Kind::End {
        return Ok(Filter::All(Vec::new()));
    }
    let parsed = parser.any()?;
    match &parser.peek().kind {
        Kind::End => Ok(parsed),
        Kind::Close => Err(parser.complain("this `)` closes nothing")),
        other => Err(parser.complain(format!(
            "{other} is unexpected; join comparisons with AND or OR"
        ))),
    }
}

/// Reads one of the fields to return: a kind such as `metrics`, or one of it such as `metrics.mae`.
pub(super) fn parse_selected(text: &str) -> Parsed<Selected> {
    let mut parser = Parser::new(text)?;
    let token = parser.next();
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
    match parser.next().kind {
        Kind::End => Ok(selected),
        _ => Err(wrong()),
    }
}

/// Reads one order, such as `metrics.mae ASC`.
pub(super) fn parse_order(order: &str) -> Parsed<OrderBy> {
    let mut parser = Parser::new(order)?;
    let field = parser.field()?;
    if let Field::Attribute(notes @ (Attribute::StatusMessage | Attribute::Description)) = field {
        return Err(FilterError {
            position: 1,
            message: format!("runs are not ordered by their `{}`", notes.name()),
        });
    }
    let descending = match parser.next() {
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
    match parser.next() {
        Token {
            kind: Kind::End, ..
        } => Ok(OrderBy { field, descending }),
        token => Err(at(
            &token,
            format!("{} is unexpected; give one field an entry", token.kind),
        )),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    comparisons: usize,
    values: usize,
}

impl Parser {
    fn new(text: &str) -> Parsed<Self> {
        if text.len() > MAX_LENGTH {
            let message = format!("longer than {MAX_LENGTH} bytes");
            return Err(FilterError {
                position: MAX_LENGTH,
                message,
            });
        }
        Ok(Self {
            tokens: lexer::tokens(text)?,
            next: 0,
            depth: 0,
            comparisons: 0,
            values: 0,
        })
    }

    /// The next word; the last one, which is the end, again and again.
    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn complain(&self, message: impl Into<String>) -> FilterError {
        at(self.peek(), message)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found =
            matches!(&self.peek().kind, Kind::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }

    fn any(&mut self) -> Parsed<Filter> {
        let mut parts = vec![self.all()?];
        while self.take_keyword("OR") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 {
            parts.swap_remove(0)
        } else {
            Filter::Any(parts)
        })
    }

    fn all(&mut self) -> Parsed<Filter> {
        let mut parts = vec![self.one()?];
        while self.take_keyword("AND") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 {
            parts.swap_remove(0)
        } else {
            Filter::All(parts)
        })
    }

    /// A comparison, a filter in parentheses, or NOT and one of these.
    fn one(&mut self) -> Parsed<Filter> {
        let is_not =
            matches!(&self.peek().kind, Kind::Word(word) if word.eq_ignore_ascii_case("NOT"));
        if self.peek().kind != Kind::Open && !is_not {
            return self.comparison();
        }
        if self.depth == MAX_DEPTH {
            return Err(self.complain(format!("filters are nested deeper than {MAX_DEPTH}")));
        }
        let open = self.next();
        self.depth += 1;
        let inner = if is_not { self.one()? } else { self.any()? };
        self.depth -= 1;
        if is_not {
            return Ok(Filter::Not(Box::new(inner)));
        }
        match &self.peek().kind {
            Kind::Close => {
                self.next += 1;
                Ok(inner)
            }
            Kind::End => Err(at(&open, "this `(` is not closed")),
            other => Err(self.complain(format!(
                "{other} is unexpected; join comparisons with AND or OR"
            ))),
        }
    }

    fn comparison(&mut self) -> Parsed<Filter> {
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return Err(self.complain(format!("more than {MAX_COMPARISONS} comparisons")));
        }
        let field = self.field()?;
        let token = self.next();
        let test = match &token.kind {
            Kind::Op(op) => self.compared(&field, *op, &token)?,
            Kind::Word(word) => match word.to_ascii_uppercase().as_str() {
                "LIKE" => self.like(&field, &token, false, false)?,
                "ILIKE" => self.like(&field, &token, true, false)?,
                "IN" => self.list(&field, false)?,
                "IS" => self.null()?,
                "NOT" if self.take_keyword("IN") => self.list(&field, true)?,
                "NOT" if self.take_keyword("LIKE") => self.like(&field, &token, false, true)?,
                "NOT" if self.take_keyword("ILIKE") => self.like(&field, &token, true, true)?,
                "BETWEEN" => {
                    return Err(at(
                        &token,
                        "BETWEEN has no meaning here; use `>=` and `<=` joined with AND",
                    ));
                }
                "NOT" => {
                    return Err(at(
                        &token,
                        "NOT stands before IN, LIKE and ILIKE, or before the whole comparison",
                    ));
                }
                _ => {
                    return Err(at(
                        &token,
                        format!("{} is not a comparison; {COMPARISONS}", token.kind),
                    ));
                }
            },
            other => {
                return Err(at(
                    &token,
                    format!("{other} is not a comparison; {COMPARISONS}"),
                ));
            }
        };
        Ok(Filter::Compare(field, test))
    }

    fn field(&mut self) -> Parsed<Field> {
        let token = self.next();
        match &token.kind {
            Kind::Dotted(group, key) => match group.to_ascii_lowercase().as_str() {
                "metrics" | "metric" => Ok(Field::Metric(Stat::Last, key.clone())),
                "params" | "param" | "parameters" | "parameter" => Ok(Field::Param(key.clone())),
                "tags" | "tag" => Ok(Field::Tag(key.clone())),
                "datasets" | "dataset" => DatasetPart::by_name(key)
                    .map(Field::Dataset)
                    .ok_or_else(|| {
                        let message = format!(
                            "{} is unknown of data sets; possible are name, digest, context and source",
                            quoted(key)
                        );
                        at(&token, message)
                    }),
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
            Kind::Word(word) if self.peek().kind == Kind::Open => self.stat(&token, word),
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
    fn stat(&mut self, token: &Token, word: &str) -> Parsed<Field> {
        let stat = Stat::by_name(word).ok_or_else(|| {
            let message = format!(
                "`{word}(…)` is unknown; possible are min, max, last and count of a metric"
            );
            at(token, message)
        })?;
        let open = self.next();
        let inner = self.next();
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
        match self.next().kind {
            Kind::Close => Ok(Field::Metric(stat, key)),
            _ => Err(at(&open, "this `(` is not closed")),
        }
    }

    fn compared(&mut self, field: &Field, op: Op, token: &Token) -> Parsed<Test> {
        let value = self.next();
        let equality = matches!(op, Op::Eq | Op::Ne);
        if let Field::Attribute(
            attribute @ (Attribute::RunId
            | Attribute::ParentRunId
            | Attribute::ExperimentId
            | Attribute::Status
            | Attribute::StatusMessage
            | Attribute::Description),
        ) = field
            && !equality
        {
            return Err(at(
                token,
                format!(
                    "`{}` compares with `=`, `!=`, LIKE and IN only",
                    attribute.name()
                ),
            ));
        }
        Ok(match literal(field, &value)? {
            Literal::Number(number) => Test::Number(op, number),
            Literal::Text(text) => Test::Text(op, text),
            Literal::Time(micros) => Test::Time(op, micros),
            Literal::Id(id) => Test::Id(op, id),
        })
    }

    fn like(
        &mut self,
        field: &Field,
        token: &Token,
        ignore_case: bool,
        negated: bool,
    ) -> Parsed<Test> {
        use Attribute::{CreatedAt, EndedAt, StartedAt, UpdatedAt};
        if matches!(
            field,
            Field::Metric(..) | Field::Attribute(StartedAt | EndedAt | CreatedAt | UpdatedAt)
        ) {
            return Err(at(
                token,
                "patterns are for texts, not for numbers and times",
            ));
        }
        let value = self.next();
        match &value.kind {
            Kind::Text(text) => {
                let pattern = Pattern::parse(text).map_err(|message| at(&value, message))?;
                Ok(Test::Like {
                    pattern,
                    ignore_case,
                    negated,
                })
            }
            other => Err(at(
                &value,
                format!("{other} is not a pattern; write it in quotes, as in LIKE 'resnet%'"),
            )),
        }
    }

    fn list(&mut self, field: &Field, negated: bool) -> Parsed<Test> {
        let open = self.next();
        if open.kind != Kind::Open {
            return Err(at(
                &open,
                "IN needs a list in parentheses, as in IN ('a', 'b')",
            ));
        }
        let mut literals = Vec::new();
        loop {
            let value = self.next();
            self.values += 1;
            if self.values > MAX_VALUES {
                return Err(at(
                    &value,
                    format!("more than {MAX_VALUES} values in lists"),
                ));
            }
            let found = literal(field, &value)?;
            if literals.first().is_some_and(|first| {
                std::mem::discriminant(first) != std::mem::discriminant(&found)
            }) {
                return Err(at(&value, "a list holds texts or numbers, not both"));
            }
            literals.push(found);
            match self.next() {
                Token {
                    kind: Kind::Comma, ..
                } => {}
                Token {
                    kind: Kind::Close, ..
                } => break,
                Token {
                    kind: Kind::End, ..
                } => return Err(at(&open, "this `(` is not closed")),
                token => {
                    return Err(at(
                        &token,
                        format!(
                            "{} is unexpected; values of a list are parted by commas",
                            token.kind
                        ),
                    ));
                }
            }
        }
        Ok(Test::In {
            values: values(literals),
            negated,
        })
    }

    fn null(&mut self) -> Parsed<Test> {
        let negated = self.take_keyword("NOT");
        if self.take_keyword("NULL") {
            Ok(Test::Null { negated })
        } else {
            Err(self.complain("IS stands before NULL or NOT NULL only"))
        }
    }
}

const COMPARISONS: &str =
    "possible are = != < <= > >= LIKE ILIKE IN, these three with NOT, IS NULL, IS NOT NULL";

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

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
