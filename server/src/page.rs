//! Paging of lists by keyset: a token holds the sort values of the last row of the page before.
//!
//! Invariant: a token is good for the same request only; a foreign or damaged one is a bad field, never a wrong page.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::request::Violations;

const DEFAULT_SIZE: u32 = 100;
const MAX_SIZE: u32 = 1000;

/// The page that a request asks for.
#[derive(Debug)]
pub struct Page {
    limit: u64,
    fingerprint: String,
    after: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: u8,
    f: String,
    a: Vec<String>,
}

impl Page {
    /// Reads `page_size` and `page_token`. `request` is what else the request says (parent, filter, order): a token of
    /// another request is refused.
    pub fn parse(
        violations: &mut Violations,
        page_size: u32,
        page_token: &str,
        request: &[&str],
    ) -> Self {
        let limit = match page_size {
            0 => DEFAULT_SIZE,
            size => size.min(MAX_SIZE),
        };
        let fingerprint = fingerprint(request);
        let after = match page_token {
            "" => None,
            text => {
                let token = decode(text).filter(|token| token.v == 1 && token.f == fingerprint);
                if token.is_none() {
                    violations.add(
                        "page_token",
                        "is not a token of this request; begin again without one",
                    );
                }
                token.map(|token| token.a)
            }
        };
        Self {
            limit: u64::from(limit),
            fingerprint,
            after,
        }
    }

    /// Most rows of the page; fetch one more, so that [`Page::cut`] can tell whether there is another page.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Sort values of the last row of the page before.
    pub fn after(&self) -> Option<&[String]> {
        self.after.as_deref()
    }

    /// Cuts the rows to the page, and gives the token of the next one (empty on the last).
    pub fn cut<T>(&self, rows: &mut Vec<T>, sort_values: impl FnOnce(&T) -> Vec<String>) -> String {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if rows.len() <= limit {
            return String::new();
        }
        rows.truncate(limit);
        rows.last()
            .map_or_else(String::new, |last| self.token_after(sort_values(last)))
    }

    /// The token of a page that goes on after the row with these sort values.
    pub fn token_after(&self, sort_values: Vec<String>) -> String {
        encode(&Token {
            v: 1,
            f: self.fingerprint.clone(),
            a: sort_values,
        })
    }
}

fn fingerprint(request: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in request {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..6])
}

fn encode(token: &Token) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(token).unwrap_or_default())
}

fn decode(text: &str) -> Option<Token> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: u32, token: &str, request: &[&str]) -> (Page, bool) {
        let mut violations = Violations::new();
        let page = Page::parse(&mut violations, size, token, request);
        (page, violations.is_empty())
    }

    #[test]
    fn a_token_leads_on() {
        let (first, _) = page(2, "", &["a"]);
        let mut rows = vec![1, 2, 3];
        let token = first.cut(&mut rows, |last| vec![last.to_string()]);
        assert_eq!(rows, [1, 2]);
        let (second, fine) = page(2, &token, &["a"]);
        assert!(fine);
        assert_eq!(second.after(), Some(&["2".to_owned()][..]));
        assert_eq!(second.cut(&mut vec![3], |last| vec![last.to_string()]), "");
    }

    #[test]
    fn foreign_and_damaged_tokens_are_refused() {
        let token = page(1, "", &["a"])
            .0
            .cut(&mut vec![1, 2], |last| vec![last.to_string()]);
        assert!(!page(1, &token, &["b"]).1);
        assert!(!page(1, "garbage!", &["a"]).1);
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(page(0, "", &[]).0.limit(), 100);
        assert_eq!(page(u32::MAX, "", &[]).0.limit(), 1000);
    }
}
