//! The rules of the contract for keys, names and labels, as the server enforces them and as a client that answers before
//! any server has seen the call must know them. Pure.

/// Longest metric key, in characters.
pub const MAX_METRIC_KEY: usize = 250;
/// Longest name of a run, in characters.
pub const MAX_RUN_NAME: usize = 250;
/// Longest name of an experiment, in characters.
pub const MAX_EXPERIMENT_NAME: usize = 250;
/// Longest description, note or status message, in characters.
pub const MAX_DESCRIPTION: usize = 10_000;
/// Longest key of a label or param, in characters.
pub const MAX_LABEL_KEY: usize = 250;
/// Longest value of a label or param, in bytes.
pub const MAX_LABEL_VALUE: usize = 64 * 1024;
/// Most labels or params of one resource.
pub const MAX_LABELS: usize = 10_000;

/// Whether this can be the key of a metric.
///
/// # Errors
/// What is wrong with it.
pub fn metric_key(key: &str) -> Result<(), String> {
    let length = key.chars().count();
    if !(1..=MAX_METRIC_KEY).contains(&length) {
        return Err(format!(
            "must have 1 to {MAX_METRIC_KEY} characters, has {length}"
        ));
    }
    // Backquotes are what any key can be written in, where it is searched for.
    match key.chars().find(|c| c.is_control() || *c == '`') {
        Some(bad) => Err(format!(
            "{} holds {bad:?}; all but control characters and backquotes is possible",
            quoted(key)
        )),
        None => Ok(()),
    }
}

/// Whether this can be a name: 1 to `max` characters, none of them control characters, no blanks around it.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str, max: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length == 0 {
        return Err("must not be empty".to_owned());
    }
    if length > max {
        return Err(format!("must have at most {max} characters, has {length}"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    if text.trim() != text {
        return Err("must not begin or end with a blank".to_owned());
    }
    Ok(())
}

/// Whether this can be a free text of at most `max` characters. NUL is refused, for PostgreSQL cannot store it.
///
/// # Errors
/// What is wrong with it.
pub fn text(text: &str, max: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length > max {
        return Err(format!("must have at most {max} characters, has {length}"));
    }
    if text.contains('\0') {
        return Err("must not hold NUL characters".to_owned());
    }
    Ok(())
}

/// Whether this can be the value of a label or param.
///
/// # Errors
/// What is wrong with it.
pub fn label_value(value: &str) -> Result<(), String> {
    if value.len() > MAX_LABEL_VALUE {
        return Err(format!(
            "must have at most {MAX_LABEL_VALUE} bytes, has {}",
            value.len()
        ));
    }
    if value.contains('\0') {
        return Err("must not hold NUL characters".to_owned());
    }
    Ok(())
}

/// A text from outside, cut to what is fit to be shown in a message.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 100;
    if text.chars().count() <= SHOWN {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_metrics() {
        for good in ["loss", "ndcg@5", "f1[macro] (%)", "größe 1:2.x-y_z"] {
            assert_eq!(metric_key(good), Ok(()), "{good}");
        }
        for bad in ["", "a`b", "a\n", &"x".repeat(251)] {
            assert!(metric_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_and_values() {
        assert!(name("a b", 3).is_ok());
        assert!(name(" a", 3).is_err() && name("", 3).is_err() && name("abcd", 3).is_err());
        assert!(label_value(&"x".repeat(MAX_LABEL_VALUE)).is_ok());
        assert!(label_value("\0").is_err() && text("\0", 9).is_err());
    }
}
