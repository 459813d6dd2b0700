//! Patterns of LIKE and ILIKE. Both databases have them, with different rules; here is one meaning and how each says it.
//! Pure.

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Any text, the empty one too.
    Any,
    /// One character.
    One,
    /// This character.
    Is(char),
}

impl Pattern {
    /// Reads `%`, `_`, and `\` before either of them or itself.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                // A row of them means the same as one, and costs the database more.
                '%' if parts.last() == Some(&Part::Any) => {}
                '%' => parts.push(Part::Any),
                '_' => parts.push(Part::One),
                '\\' => match chars.next() {
                    Some(c @ ('%' | '_' | '\\')) => parts.push(Part::Is(c)),
                    _ => {
                        return Err(
                            r"a `\` in a pattern stands before `%`, `_` or another `\`".to_owned()
                        );
                    }
                },
                c => parts.push(Part::Is(c)),
            }
        }
        Ok(Self(parts))
    }

    /// For `LIKE … ESCAPE '\'`.
    pub(super) fn like(&self) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Any => text.push('%'),
                Part::One => text.push('_'),
                Part::Is(c @ ('%' | '_' | '\\')) => text.extend(['\\', *c]),
                Part::Is(c) => text.push(*c),
            }
        }
        text
    }

    /// For `GLOB` of SQLite, whose LIKE ignores case.
    pub(super) fn glob(&self) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Any => text.push('*'),
                Part::One => text.push('?'),
                Part::Is(c @ ('*' | '?' | '[')) => text.extend(['[', *c, ']']),
                Part::Is(c) => text.push(*c),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_get_the_same_meaning() {
        let pattern = Pattern::parse(r"a%%_\%[*\\").expect("a pattern");
        assert_eq!(pattern.like(), r"a%_\%[*\\");
        assert_eq!(pattern.glob(), r"a*?%[[][*]\");
    }

    #[test]
    fn a_lonely_backslash_is_refused() {
        assert!(Pattern::parse(r"a\").is_err());
        assert!(Pattern::parse(r"a\b").is_err());
    }
}
