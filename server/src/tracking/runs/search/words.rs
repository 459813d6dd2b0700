//! The words of a filter, taken one after the other. Pure.
//!
//! Invariant: there is always a next word; behind the last one it is the end, again and again. What the words mean together
//! is not known here.

use super::lexer::{self, FilterError, Kind, Token, at};

/// Longest filter, in bytes.
pub(super) const MAX_LENGTH: usize = 20_000;

pub(super) type Parsed<T> = Result<T, FilterError>;

pub(super) struct Words {
    tokens: Vec<Token>,
    next: usize,
}

impl Words {
    pub(super) fn of(text: &str) -> Parsed<Self> {
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
        })
    }

    /// The next word, which stays.
    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    pub(super) fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    /// The complaint about the next word.
    pub(super) fn complain(&self, message: impl Into<String>) -> FilterError {
        at(self.peek(), message)
    }

    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        let found =
            matches!(&self.peek().kind, Kind::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(found);
        found
    }
}
