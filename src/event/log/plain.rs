//! Text that cannot pretend: no terminal codes, no line breaks, nothing that turns the reading
//! direction or is not seen at all.

use std::fmt::Write as _;

/// JSON in plain ASCII: everything else becomes `\uXXXX`. The text is JSON already, so what is not
/// ASCII stands inside of strings.
pub(in crate::event) fn json(json: String) -> String {
    if json.bytes().all(|b| b.is_ascii() && !b.is_ascii_control()) {
        return json;
    }
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            plain.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(plain, "\\u{unit:04x}");
        }
    }
    plain
}

/// One line for people: letters of all scripts stay, what could mislead is written out.
pub(in crate::event) fn text(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if misleads(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Control characters (C0, DEL, C1), line and paragraph separators, bidirectional controls
/// (Unicode UAX #9), characters without width, and tags.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}
