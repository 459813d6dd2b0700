//! HTML for notebooks: escaped text and plain tables.

use std::fmt::Write as _;

/// Text that cannot be taken for markup.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A table with a heading.
pub(crate) fn table(columns: &[String], rows: &[Vec<String>], note: &str) -> String {
    let mut html = String::from("<table><thead><tr>");
    for column in columns {
        let _ = write!(html, "<th>{}</th>", escaped(column));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escaped(cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
    if !note.is_empty() {
        let _ = write!(html, "<p>{}</p>", escaped(note));
    }
    html
}
