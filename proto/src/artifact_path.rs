//! The rule for paths of artifacts, which servers and clients apply alike, each for itself. Pure.
//!
//! Invariant: a path that [`parse`] returns leads nowhere else than below the folder it is joined to, on any system, and has
//! one spelling: it is relative, has `/` between its parts, and is composed (NFC), so that two paths which look the same to a
//! file system that normalizes names are the same path here.

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

/// Longest path, in bytes.
pub const MAX_BYTES: usize = 1000;
/// Longest part of it, in bytes: what file systems take.
pub const MAX_PART_BYTES: usize = 255;

/// Characters that some systems or people take for `/` or `\`, beyond those that compatibility normalization makes one.
const LOOK_LIKE_SEPARATORS: [char; 8] = [
    '\u{2044}', '\u{2215}', '\u{2216}', '\u{27cb}', '\u{27cd}', '\u{29f5}', '\u{29f8}', '\u{29f9}',
];

/// The path in its one spelling, or why it cannot be one.
pub fn parse(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let path = if is_nfc(text) {
        text.to_owned()
    } else {
        text.nfc().collect()
    };
    if path.len() > MAX_BYTES {
        let has = path.len();
        return Err(format!("must have at most {MAX_BYTES} bytes, has {has}"));
    }
    if path.chars().any(char::is_control) {
        return Err("must not hold control characters".to_owned());
    }
    if let Some(hidden) = path.chars().find(|c| is_hidden(*c)) {
        return Err(format!(
            "must not hold the invisible character U+{:04X}",
            u32::from(hidden)
        ));
    }
    if path.contains('\\') {
        return Err("must not hold `\\`; parts are separated by `/`".to_owned());
    }
    if path.starts_with('/') {
        return Err("must be relative, without `/` at the beginning".to_owned());
    }
    if has_drive(&path) {
        return Err("must not begin with a drive such as `C:`".to_owned());
    }
    path.split('/').try_for_each(check_part)?;
    Ok(path)
}

/// Why a path that is fine here cannot be a file on Windows: characters, names and endings that it does not take.
pub fn refused_by_windows(path: &str) -> Option<String> {
    path.split('/').find_map(|part| {
        let stem = part.split('.').next().unwrap_or(part).trim_end();
        let device = matches!(
            stem.to_ascii_uppercase().as_str(),
            "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$"
        ) || is_numbered_device(stem);
        if device {
            Some(format!("`{part}` is the name of a device"))
        } else if part.contains(['<', '>', ':', '"', '|', '?', '*']) {
            Some(format!(
                "`{part}` has a character that Windows does not take"
            ))
        } else if part.ends_with(['.', ' ']) {
            Some(format!("`{part}` ends in a dot or a blank"))
        } else {
            None
        }
    })
}

/// Two paths with one key are one file where the file system does not tell upper from lower case.
pub fn case_key(path: &str) -> String {
    // Twice, for lower case alone leaves pairs such as `ß` and `ẞ`, or final sigmas, apart.
    path.to_uppercase().to_lowercase().nfc().collect()
}

fn check_part(part: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err("must not hold empty parts".to_owned());
    }
    if part.len() > MAX_PART_BYTES {
        let has = part.len();
        return Err(format!(
            "must have at most {MAX_PART_BYTES} bytes between two `/`, has {has}"
        ));
    }
    // What some systems make of a name: wide and compatibility forms as the plain ones, nothing of dots and blanks at the end.
    let plain: String = part.nfkc().collect();
    if plain.trim_end_matches(['.', ' ']).is_empty() {
        return Err(format!("must not hold the part `{part}`"));
    }
    if plain.contains(['/', '\\']) || part.contains(LOOK_LIKE_SEPARATORS) {
        return Err(format!(
            "must not hold characters that look like a separator, as in `{part}`"
        ));
    }
    Ok(())
}

/// Characters without a shape that reorder, join or hide what is around them. Those that scripts and emoji need to join or
/// part letters (U+200C, U+200D) stay.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    ) || u32::from(c) & 0xfffe == 0xfffe
}

fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

fn is_numbered_device(stem: &str) -> bool {
    let mut characters = stem.chars();
    let Some(number) = characters.next_back() else {
        return false;
    };
    let kind = characters.as_str().to_ascii_uppercase();
    matches!(kind.as_str(), "COM" | "LPT")
        && matches!(number, '0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}')
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_real_files_pass() {
        for good in [
            "model.pkl",
            "a/b c/ö.txt",
            "a/.hidden",
            "..a",
            "a..",
            "weights/epoch=1:loss=0.5.pt",
            "日本語/模型.bin",
            "👩\u{200d}🔬.png",
            &"x".repeat(MAX_PART_BYTES),
            &format!("{}{}", "x/".repeat(372), "y".repeat(MAX_PART_BYTES)),
        ] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x/".repeat(MAX_BYTES / 2) + "x";
        let part = "x".repeat(MAX_PART_BYTES + 1);
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "...",
            ".. ",
            " ",
            "a/../b",
            "./a",
            "a\\b",
            "a\nb",
            "a\0",
            "C:",
            "C:/x",
            "c:x",
            &long,
            &part, // wide and compatibility forms
            "a／b",
            "a＼b",
            "．．/x",
            "‥/x",
            "․․/x",
            "℀",
            "a\u{2215}b",
            "a\u{2044}b",
            // invisible
            "a\u{202e}gnp.exe",
            "a\u{200b}",
            "\u{feff}a",
            "a\u{2028}b",
            "a\u{ffff}",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn one_spelling() {
        assert_eq!(parse("u\u{308}"), parse("ü"));
        assert_eq!(parse("\u{212b}"), parse("A\u{30a}"));
        assert_eq!(case_key("Straße/ΣΑΣ"), case_key("STRASSE/σας"));
        assert_ne!(case_key("a"), case_key("b"));
    }

    #[test]
    fn windows_has_its_own_rules() {
        for bad in [
            "con",
            "a/NUL.txt",
            "com1",
            "LPT9.log",
            "a:b",
            "x?",
            "end.",
            "end ",
            "com¹",
        ] {
            assert!(refused_by_windows(bad).is_some(), "{bad:?}");
        }
        for good in ["console", "com", "a.b/c", "nul_", "com10"] {
            assert_eq!(refused_by_windows(good), None);
        }
    }

    /// Pieces from which trouble is made, among letters.
    fn nasty() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            Just("/"),
            Just("\\"),
            Just(".."),
            Just("."),
            Just(" "),
            Just("\0"),
            Just("／"),
            Just("．"),
            Just("․"),
            Just("C:"),
            Just("a"),
            Just("ü"),
            Just("u\u{308}"),
            Just("\u{202e}"),
            Just("\u{2215}"),
            Just("~"),
            Just("\n")
        ];
        prop_oneof![
            proptest::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat()),
            any::<String>(),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_passes_stays_below_its_folder(text in nasty()) {
            if let Ok(path) = parse(&text) {
                prop_assert_eq!(parse(&path), Ok(path.clone()));
                let inside = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
                prop_assert!(inside(&path));
                // Also on a file system that makes compatible characters one, and after it dropped what it does not take.
                let plain: String = path.nfkc().collect();
                prop_assert!(inside(&plain) && !plain.contains('\\'));
                prop_assert_eq!(plain.split('/').count(), path.split('/').count());
                prop_assert!(plain.split('/').all(|part| !part.trim_end_matches(['.', ' ']).is_empty()));
            }
        }
    }
}
