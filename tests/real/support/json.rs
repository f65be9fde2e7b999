//! JSON as it was written: members in order, duplicates kept, numbers as text, lone surrogates
//! allowed. Hostile cases need all four, and no ordinary parser keeps them.

/// A value. Strings are WTF-8: UTF-8, but a lone surrogate is allowed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(Vec<u8>),
    Array(Vec<Json>),
    Object(Vec<(Vec<u8>, Json)>),
}

/// How an encoder writes: Python's `json.dumps`, with its usual separators or compact.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Style {
    Spaced,
    Compact,
    CompactSorted,
}

impl Json {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader {
            text: text.as_bytes(),
            at: 0,
        };
        let value = reader.value()?;
        reader.space();
        match reader.at == text.len() {
            true => Ok(value),
            false => Err(reader.error("something after the end")),
        }
    }

    /// A member of an object; the last one when there are several.
    pub(crate) fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members
                .iter()
                .rev()
                .find(|(k, _)| k == key.as_bytes())
                .map(|(_, v)| v),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::String(s) => Some(String::from_utf8_lossy(s).into_owned()),
            Self::Number(n) => Some(n.clone()),
            _ => None,
        }
    }

    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Number(n) => n.parse().ok().or_else(|| n.split('.').next()?.parse().ok()),
            _ => None,
        }
    }

    /// Seconds, possibly with a fraction.
    pub(crate) fn duration(&self) -> Option<std::time::Duration> {
        match self {
            Self::Number(n) => n.parse().ok().map(std::time::Duration::from_secs_f64),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Json] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn members(&self) -> &[(Vec<u8>, Json)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// Every string, member names excepted, changed by `f`.
    pub(crate) fn map(&self, f: &dyn Fn(&[u8]) -> Vec<u8>) -> Self {
        match self {
            Self::String(s) => Self::String(f(s)),
            Self::Array(items) => Self::Array(items.iter().map(|v| v.map(f)).collect()),
            Self::Object(m) => Self::Object(m.iter().map(|(k, v)| (k.clone(), v.map(f))).collect()),
            other => other.clone(),
        }
    }

    pub(crate) fn write(&self, style: Style) -> String {
        let mut out = String::new();
        self.write_into(style, &mut out);
        out
    }

    fn write_into(&self, style: Style, out: &mut String) {
        let (comma, colon) = match style {
            Style::Spaced => (", ", ": "),
            Style::Compact | Style::CompactSorted => (",", ":"),
        };
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Number(n) => out.push_str(n),
            Self::String(s) => quote(s, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { comma } else { "" });
                    item.write_into(style, out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if style == Style::CompactSorted {
                    members.sort_by(|a, b| a.0.cmp(&b.0));
                }
                out.push('{');
                for (i, (key, value)) in members.into_iter().enumerate() {
                    out.push_str(if i > 0 { comma } else { "" });
                    quote(key, out);
                    out.push_str(colon);
                    value.write_into(style, out);
                }
                out.push('}');
            }
        }
    }
}

/// Only ASCII comes out; everything else is escaped.
fn quote(wtf8: &[u8], out: &mut String) {
    out.push('"');
    for code in code_points(wtf8) {
        match char::from_u32(code) {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) if (' '..='~').contains(&c) => out.push(c),
            Some(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            None => out.push_str(&format!("\\u{code:04x}")),
        }
    }
    out.push('"');
}

fn code_points(wtf8: &[u8]) -> Vec<u32> {
    let mut out = vec![];
    let mut at = 0;
    while let Some(&first) = wtf8.get(at) {
        let (length, bits) = match first {
            0..=0x7f => (1, u32::from(first)),
            0x80..=0xdf => (2, u32::from(first & 0x1f)),
            0xe0..=0xef => (3, u32::from(first & 0x0f)),
            _ => (4, u32::from(first & 0x07)),
        };
        let rest = wtf8.iter().skip(at + 1).take(length - 1);
        out.push(rest.fold(bits, |code, b| (code << 6) | u32::from(b & 0x3f)));
        at += length;
    }
    out
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn error(&self, what: &str) -> String {
        let line = self
            .text
            .iter()
            .take(self.at)
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        format!("line {line}: {what}")
    }

    fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, String> {
        match self.text.get(self.at..self.at + word.len()) == Some(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(value)
            }
            false => Err(self.error("not a value")),
        }
    }

    fn value(&mut self) -> Result<Json, String> {
        self.space();
        match self.peek() {
            b'{' => self.object(),
            b'[' => self.array(),
            b'"' => self.string().map(Json::String),
            b't' => self.word("true", Json::Bool(true)),
            b'f' => self.word("false", Json::Bool(false)),
            b'n' => self.word("null", Json::Null),
            b'-' | b'0'..=b'9' => {
                let from = self.at;
                while matches!(self.peek(), b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    self.at += 1;
                }
                Ok(Json::Number(
                    String::from_utf8_lossy(&self.text[from..self.at]).into_owned(),
                ))
            }
            _ => Err(self.error("not a value")),
        }
    }

    /// After an item: more, or the end.
    fn more(&mut self, end: u8) -> Result<bool, String> {
        self.space();
        let found = self.peek();
        self.at += 1;
        match found {
            b',' => Ok(true),
            _ if found == end => Ok(false),
            _ => Err(self.error("expected a comma or the end")),
        }
    }

    fn empty(&mut self, end: u8) -> bool {
        self.at += 1;
        self.space();
        let empty = self.peek() == end;
        self.at += usize::from(empty);
        empty
    }

    fn array(&mut self) -> Result<Json, String> {
        let mut items = vec![];
        if self.empty(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            if !self.more(b']')? {
                return Ok(Json::Array(items));
            }
        }
    }

    fn object(&mut self) -> Result<Json, String> {
        let mut members = vec![];
        if self.empty(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            if self.peek() != b':' {
                return Err(self.error("expected a colon"));
            }
            self.at += 1;
            members.push((key, self.value()?));
            if !self.more(b'}')? {
                return Ok(Json::Object(members));
            }
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, String> {
        if self.peek() != b'"' {
            return Err(self.error("expected a string"));
        }
        self.at += 1;
        let mut units: Vec<u8> = vec![];
        loop {
            let byte = *self
                .text
                .get(self.at)
                .ok_or_else(|| self.error("the string does not end"))?;
            self.at += 1;
            match byte {
                b'"' => return Ok(units),
                b'\\' => self.escape(&mut units)?,
                _ => units.push(byte),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        let byte = self.peek();
        self.at += 1;
        let plain = match byte {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'"' | b'\\' | b'/' => byte,
            b'u' => {
                let mut code = self.hex()?;
                let low = self.text.get(self.at..self.at + 2) == Some(b"\\u");
                if (0xd800..0xdc00).contains(&code) && low {
                    let back = self.at;
                    self.at += 2;
                    match self.hex()? {
                        low @ 0xdc00..=0xdfff => {
                            code = 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00
                        }
                        _ => self.at = back,
                    }
                }
                encode(code, out);
                return Ok(());
            }
            _ => return Err(self.error("no such escape")),
        };
        out.push(plain);
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, String> {
        let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
        let code = std::str::from_utf8(digits)
            .ok()
            .and_then(|d| u32::from_str_radix(d, 16).ok());
        self.at += 4;
        code.ok_or_else(|| self.error("not four hexadecimal digits"))
    }
}

fn encode(code: u32, out: &mut Vec<u8>) {
    match char::from_u32(code) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            let part =
                |shift: u32, mark: u32| u8::try_from(mark | ((code >> shift) & 0x3f)).unwrap();
            out.extend([part(12, 0xe0) & 0xef, part(6, 0x80), part(0, 0x80)]);
        }
    }
}

#[test]
fn keeps_what_was_written() {
    let text = r#"{"b":1,"a":[1e400,123456789012345678901234567890,-0.0],"a":"\ud800x\u00e9\ud83d\ude00\"","n":null}"#;
    let value = Json::parse(text).unwrap();
    let compact = value.write(Style::Compact);
    assert_eq!(compact, text);
    assert_eq!(Json::parse(&compact).unwrap(), value);
    assert_eq!(value.members().len(), 4);
    assert!(value.write(Style::CompactSorted).starts_with(r#"{"a":["#));
    assert_eq!(
        Json::parse(r#"{"a": [1, {}]}"#)
            .unwrap()
            .write(Style::Spaced),
        r#"{"a": [1, {}]}"#
    );
    for broken in ["", "{", "[1,]", "{\"a\"}", "\"x", "[1] 2", "\"\\q\""] {
        assert!(Json::parse(broken).is_err(), "{broken}");
    }
}
