//! From the words of a filter to its meaning: a recursive descent, `OR` below `AND` below `NOT` below comparisons. Pure.
//!
//! Invariant: what it returns is bounded in depth and size, and every comparison fits the type of its field. Which fields
//! there are and how they are written is not known here.

use super::{
    ast::{Attribute, Field, Filter, Op, Test},
    fields::field,
    lexer::{Kind, Token, at},
    literal::{Literal, literal, values},
    pattern::Pattern,
    words::{Parsed, Words},
};

/// Most comparisons.
const MAX_COMPARISONS: usize = 100;
/// Most values in all lists.
const MAX_VALUES: usize = 1000;
/// Deepest nesting of parentheses and NOT.
const MAX_DEPTH: usize = 30;

/// Reads a filter; an empty one fits every run.
pub(super) fn parse(filter: &str) -> Parsed<Filter> {
    let mut parser = Parser {
        words: Words::of(filter)?,
        depth: 0,
        comparisons: 0,
        values: 0,
    };
    if parser.words.peek().kind == Kind::End {
        return Ok(Filter::All(Vec::new()));
    }
    let parsed = parser.any()?;
    match &parser.words.peek().kind {
        Kind::End => Ok(parsed),
        Kind::Close => Err(parser.words.complain("this `)` closes nothing")),
        other => Err(parser.words.complain(format!(
            "{other} is unexpected; join comparisons with AND or OR"
        ))),
    }
}

struct Parser {
    words: Words,
    depth: usize,
    comparisons: usize,
    values: usize,
}

impl Parser {
    fn any(&mut self) -> Parsed<Filter> {
        let mut parts = vec![self.all()?];
        while self.words.take_keyword("OR") {
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
        while self.words.take_keyword("AND") {
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
            matches!(&self.words.peek().kind, Kind::Word(word) if word.eq_ignore_ascii_case("NOT"));
        if self.words.peek().kind != Kind::Open && !is_not {
            return self.comparison();
        }
        if self.depth == MAX_DEPTH {
            return Err(self
                .words
                .complain(format!("filters are nested deeper than {MAX_DEPTH}")));
        }
        let open = self.words.take();
        self.depth += 1;
        let inner = if is_not { self.one()? } else { self.any()? };
        self.depth -= 1;
        if is_not {
            return Ok(Filter::Not(Box::new(inner)));
        }
        match &self.words.peek().kind {
            Kind::Close => {
                self.words.take();
                Ok(inner)
            }
            Kind::End => Err(at(&open, "this `(` is not closed")),
            other => Err(self.words.complain(format!(
                "{other} is unexpected; join comparisons with AND or OR"
            ))),
        }
    }

    fn comparison(&mut self) -> Parsed<Filter> {
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return Err(self
                .words
                .complain(format!("more than {MAX_COMPARISONS} comparisons")));
        }
        let field = field(&mut self.words)?;
        let token = self.words.take();
        let test = match &token.kind {
            Kind::Op(op) => self.compared(&field, *op, &token)?,
            Kind::Word(word) => match word.to_ascii_uppercase().as_str() {
                "LIKE" => self.like(&field, &token, false, false)?,
                "ILIKE" => self.like(&field, &token, true, false)?,
                "IN" => self.list(&field, false)?,
                "IS" => self.null()?,
                "NOT" if self.words.take_keyword("IN") => self.list(&field, true)?,
                "NOT" if self.words.take_keyword("LIKE") => {
                    self.like(&field, &token, false, true)?
                }
                "NOT" if self.words.take_keyword("ILIKE") => {
                    self.like(&field, &token, true, true)?
                }
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

    fn compared(&mut self, field: &Field, op: Op, token: &Token) -> Parsed<Test> {
        let value = self.words.take();
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
        let value = self.words.take();
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
        let open = self.words.take();
        if open.kind != Kind::Open {
            return Err(at(
                &open,
                "IN needs a list in parentheses, as in IN ('a', 'b')",
            ));
        }
        let mut literals = Vec::new();
        loop {
            let value = self.words.take();
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
            match self.words.take() {
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
        let negated = self.words.take_keyword("NOT");
        if self.words.take_keyword("NULL") {
            Ok(Test::Null { negated })
        } else {
            Err(self
                .words
                .complain("IS stands before NULL or NOT NULL only"))
        }
    }
}

const COMPARISONS: &str =
    "possible are = != < <= > >= LIKE ILIKE IN, these three with NOT, IS NULL, IS NOT NULL";

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
