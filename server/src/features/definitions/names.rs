//! How features are referred to: `view:feature`.

/// The parts of `view:feature`; `None` when it is not of that form. A feature may have colons in its name, a view not.
pub(in crate::features) fn split(reference: &str) -> Option<(&str, &str)> {
    reference
        .split_once(':')
        .filter(|(view, feature)| !view.is_empty() && !feature.is_empty())
}

/// Names for a message, shortened where there are many.
pub(in crate::features) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 30;
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_two_parts() {
        assert_eq!(split("weather:temp"), Some(("weather", "temp")));
        assert_eq!(split("weather:a:b"), Some(("weather", "a:b")));
        assert_eq!(split("weather"), None);
        assert_eq!(split(":temp"), None);
        assert_eq!(split("weather:"), None);
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"]), "`a`, `b`");
        assert_eq!(listed([]), "none");
        assert!(listed(["x"; 40]).ends_with("and 10 more"));
    }
}
