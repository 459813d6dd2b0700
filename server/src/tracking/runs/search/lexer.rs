//! The words of a filter. Pure.

use std::fmt;

use super::ast::Op;

/// What is wrong with a filter, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FilterError {
    /// Character, counted from 1.
    pub(super) position: usize,
    pub(super) message: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.position, self.message)
    }
}

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Character, counted from 1.
    pub(super) position: usize,
}

/// The complaint about a word.
pub(super) fn at(token: &Token, message: impl Into<String>) -> FilterError {
    FilterError {
        position: token.position,
        message: message.into(),
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A bare word: a keyword or an attribute.
    Word(String),
    /// A word, a dot, a key: `metrics.mae`, `` tags.`my key` ``.
    Dotted(String, String),
    /// A text in quotes.
    Text(String),
    /// A number, and whether it was written as an integer that fits.
    Number(f64, Option<i64>),
    /// A comparison.
    Op(Op),
    Open,
    Close,
    Comma,
    /// The end of the filter.
    End,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Dotted(group, key) => write!(f, "`{group}.{key}`"),
            Self::Text(text) => write!(f, "the text {}", crate::request::quoted(text)),
            Self::Number(number, _) => write!(f, "the number {number}"),
            Self::Op(op) => write!(f, "`{op}`"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::Comma => f.write_str("`,`"),
            Self::End => f.write_str("the end"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        })
    }
}

/// Cuts a filter into words; the last one is [`Kind::End`].
pub(super) fn tokens(filter: &str) -> Result<Vec<Token>, FilterError> {
    let mut lexer = Lexer {
        chars: filter.chars().collect(),
        at: 0,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.take_while(char::is_whitespace);
        let position = lexer.at + 1;
        let kind = lexer
            .next_kind()
            .map_err(|message| FilterError { position, message })?;
        let end = kind == Kind::End;
        tokens.push(Token { kind, position });
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take_if(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&wanted) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    fn next_kind(&mut self) -> Result<Kind, String> {
        let Some(first) = self.peek() else {
            return Ok(Kind::End);
        };
        match first {
            '\'' | '"' => self.quoted(first).map(Kind::Text),
            '`' => Err("backquotes are for keys, as in tags.`my key`; texts stand in single or double quotes".to_owned()),
            '(' | ')' | ',' => {
                self.at += 1;
                Ok(match first {
                    '(' => Kind::Open,
                    ')' => Kind::Close,
                    _ => Kind::Comma,
                })
            }
            '=' | '!' | '<' | '>' => self.op(first).map(Kind::Op),
            c if c.is_ascii_digit() || "+-.".contains(c) => self.number(),
            c if c.is_alphabetic() || c == '_' => self.word(),
            other => Err(format!("{other:?} has no meaning here")),
        }
    }

    /// A text in quotes; a doubled quote stands for itself.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(format!("the quote {quote} is not closed")),
                Some('\0') => return Err("a text must not hold NUL characters".to_owned()),
                Some(c) => {
                    self.at += 1;
                    if c == quote && !self.take_if(quote) {
                        return Ok(text);
                    }
                    text.push(c);
                }
            }
        }
    }

    fn op(&mut self, first: char) -> Result<Op, String> {
        self.at += 1;
        match (first, self.peek()) {
            ('=', Some('=')) => Err("`==` has no meaning here; use `=`".to_owned()),
            ('<', Some('>')) => Err("`<>` has no meaning here; use `!=`".to_owned()),
            ('!', Some('=')) => {
                self.at += 1;
                Ok(Op::Ne)
            }
            ('!', _) => Err("`!` has no meaning alone; use `!=`".to_owned()),
            ('<', _) => Ok(if self.take_if('=') { Op::Le } else { Op::Lt }),
            ('>', _) => Ok(if self.take_if('=') { Op::Ge } else { Op::Gt }),
            _ => Ok(Op::Eq),
        }
    }

    fn number(&mut self) -> Result<Kind, String> {
        let start = self.at;
        self.at += 1;
        loop {
            self.take_while(|c| c.is_alphanumeric() || c == '.' || c == '_');
            let exponent = matches!(self.chars[self.at - 1], 'e' | 'E')
                && matches!(self.peek(), Some('+' | '-'));
            if !exponent {
                break;
            }
            self.at += 1;
        }
        let text: String = self.chars[start..self.at].iter().collect();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() && text.chars().any(|c| c.is_ascii_digit()) => {
                Ok(Kind::Number(number, text.parse().ok()))
            }
            Ok(_) => Err(format!(
                "{} is beyond the numbers that there are",
                crate::request::quoted(&text)
            )),
            Err(_) => Err(format!(
                "{} is not a number; texts stand in quotes",
                crate::request::quoted(&text)
            )),
        }
    }

    fn word(&mut self) -> Result<Kind, String> {
        let group = self.take_while(|c| c.is_alphanumeric() || c == '_');
        if !self.take_if('.') {
            return Ok(Kind::Word(group));
        }
        let key = match self.peek() {
            Some(quote @ ('`' | '"')) => self.quoted(quote)?,
            _ => self.take_while(|c| c.is_alphanumeric() || "_-./:".contains(c)),
        };
        if key.is_empty() {
            return Err(format!(
                "`{group}.` needs a key; one with blanks or other signs stands in quotes: {group}.\"my key\""
            ));
        }
        Ok(Kind::Dotted(group, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(filter: &str) -> Vec<Kind> {
        tokens(filter)
            .expect("words")
            .into_iter()
            .map(|token| token.kind)
            .collect()
    }

    #[test]
    fn words_and_where_they_stand() {
        let tokens = tokens("metrics.`val loss`<=-1.5e-3").expect("words");
        let expected = [
            (Kind::Dotted("metrics".to_owned(), "val loss".to_owned()), 1),
            (Kind::Op(Op::Le), 19),
            (Kind::Number(-1.5e-3, None), 21),
            (Kind::End, 28),
        ];
        assert_eq!(
            tokens
                .into_iter()
                .map(|token| (token.kind, token.position))
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn quotes() {
        assert_eq!(
            kinds(r#"'it''s' "a ""b""""#)[..2],
            [
                Kind::Text("it's".to_owned()),
                Kind::Text("a \"b\"".to_owned())
            ]
        );
        assert_eq!(
            kinds(r#"tags."a.b c""#)[0],
            Kind::Dotted("tags".to_owned(), "a.b c".to_owned())
        );
        assert_eq!(
            kinds("params.model/depth-1.x")[0],
            Kind::Dotted("params".to_owned(), "model/depth-1.x".to_owned())
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(
            kinds("15 +2 .5 1e3")[..4],
            [
                Kind::Number(15.0, Some(15)),
                Kind::Number(2.0, Some(2)),
                Kind::Number(0.5, None),
                Kind::Number(1000.0, None),
            ]
        );
        for bad in ["1x", "1e999", "-", "1_000", "--1", "."] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let error = |filter: &str| tokens(filter).expect_err("no words").to_string();
        assert_eq!(error("a = 'x"), "at character 5: the quote ' is not closed");
        assert!(error("a == 1").contains("use `=`"));
        assert!(error("a <> 1").contains("use `!=`"));
        assert!(error("ä = §").starts_with("at character 5:"));
        assert!(error("metrics. < 1").contains("needs a key"));
    }
}
