//! HTTP/1.1 messages as bytes, without mercy or mending: what tests send and what they saw.

use std::io::{self, BufRead, Read, Write};

use sha2::{Digest, Sha256};

/// Kept of a body; the rest is only counted and hashed.
const KEPT: usize = 1 << 20;

/// Start line and fields, bytes read as Latin-1.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// At most 1 MiB of it.
    pub(crate) start: Vec<u8>,
    pub(crate) length: u64,
    pub(crate) sha256: String,
    /// It ended as its framing said.
    pub(crate) whole: bool,
}

/// An answer as the agent saw it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Body,
}

impl Head {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        find(&self.fields, name)
    }
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

impl Answer {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        find(&self.fields, name)
    }
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.start).into_owned()
    }
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body.start).unwrap_or(serde_json::Value::Null)
    }
    /// The reason code of a refusal or of trouble on the way, when this is one of ours.
    pub(crate) fn reason(&self) -> Option<String> {
        let ours = self
            .one("content-type")
            .is_some_and(|t| t.starts_with("application/problem+json"))
            && self
                .one("proxy-status")
                .is_some_and(|s| s.starts_with("farepass"));
        ours.then(|| self.json()["reason"].as_str().map(str::to_owned))
            .flatten()
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
        .collect()
}

/// Reads a head; `None` when the connection ended before it began.
pub(crate) fn read_head(from: &mut dyn BufRead) -> io::Result<Option<Head>> {
    let mut lines = vec![];
    loop {
        let mut line = vec![];
        from.take(1 << 20).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return match lines.is_empty() {
                true => Ok(None),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        let text: String = line.iter().map(|b| char::from(*b)).collect();
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        match (text.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => break,
            (false, _) => lines.push(text),
        }
    }
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    let field = |line: String| {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    Ok(Some(Head {
        first,
        fields: lines.map(field).collect(),
    }))
}

/// Counts, hashes and keeps the beginning.
#[derive(Default)]
struct Meter {
    hash: Sha256,
    body: Body,
}

impl Meter {
    fn copy(&mut self, from: &mut dyn Read, length: u64) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 16];
        let mut done = 0;
        while done < length {
            let most = usize::try_from(length - done)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let n = match from.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // A peer that closes TLS without saying so, or resets: what came still counts.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => break,
                Err(e) => return Err(e),
            };
            self.hash.update(&buffer[..n]);
            let keep = KEPT.saturating_sub(self.body.start.len()).min(n);
            self.body.start.extend_from_slice(&buffer[..keep]);
            done += n as u64;
        }
        self.body.length += done;
        Ok(done)
    }

    fn end(mut self, whole: bool) -> Body {
        self.body.whole = whole;
        self.body.sha256 = hex::encode(self.hash.finalize());
        self.body
    }
}

/// Reads a body: chunked, counted, or (`to_end`) until the connection closes.
pub(crate) fn read_body(head: &Head, from: &mut dyn BufRead, to_end: bool) -> io::Result<Body> {
    let mut meter = Meter::default();
    if head
        .all("transfer-encoding")
        .iter()
        .any(|v| v.to_ascii_lowercase().contains("chunked"))
    {
        let whole = read_chunks(&mut meter, from)?;
        return Ok(meter.end(whole));
    }
    let length = head
        .one("content-length")
        .and_then(|v| v.parse::<u64>().ok());
    let whole = match (length, to_end) {
        (Some(length), _) => meter.copy(from, length)? == length,
        (None, true) => meter.copy(from, u64::MAX).map(|_| true)?,
        (None, false) => true,
    };
    Ok(meter.end(whole))
}

fn read_chunks(meter: &mut Meter, from: &mut dyn BufRead) -> io::Result<bool> {
    loop {
        let mut line = String::new();
        if (&mut *from).take(256).read_line(&mut line).unwrap_or(0) == 0 {
            return Ok(false);
        }
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if size > 0 && meter.copy(from, size)? < size {
            return Ok(false);
        }
        let mut end = String::new();
        // The empty line after a chunk, or trailers up to an empty line after the last one.
        while (&mut *from).take(1 << 16).read_line(&mut end)? > 2 && size == 0 {
            end.clear();
        }
        if size == 0 {
            return Ok(true);
        }
    }
}

/// Reads an answer to `method`, interim answers skipped.
pub(crate) fn read_answer(from: &mut dyn BufRead, method: &str) -> io::Result<Answer> {
    loop {
        let head = read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status: u16 =
            status.ok_or_else(|| io::Error::other(format!("not HTTP: {}", head.first)))?;
        if (100..200).contains(&status) && status != 101 {
            continue;
        }
        let none = method == "HEAD"
            || method == "CONNECT" && status == 200
            || matches!(status, 101 | 204 | 304);
        let body = match none {
            true => Meter::default().end(true),
            false => read_body(&head, from, true)?,
        };
        return Ok(Answer {
            status,
            fields: head.fields,
            body,
        });
    }
}

/// Writes a head; names and values go out as Latin-1 when they can, else as UTF-8.
pub(crate) fn write_head(
    to: &mut dyn Write,
    first: &str,
    fields: &[(String, String)],
) -> io::Result<()> {
    let mut out = format!("{first}\r\n").into_bytes();
    for (name, value) in fields {
        let line = format!("{name}: {value}\r\n");
        match line
            .chars()
            .map(|c| u8::try_from(u32::from(c)))
            .collect::<Result<Vec<_>, _>>()
        {
            Ok(latin) => out.extend(latin),
            Err(_) => out.extend(line.into_bytes()),
        }
    }
    out.extend(b"\r\n");
    to.write_all(&out)
}
