//! HTTP/1.1 messages as they are on the wire: nothing mended, nothing guessed.

use super::wire::Wire;

/// A start line, fields in their order and case, and a body without its framing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) first: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The body ended as its framing says.
    pub(crate) whole: bool,
}

impl Message {
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        let fields = self.fields.iter().filter(named);
        fields.map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    pub(crate) fn status(&self) -> u16 {
        let word = self.first.split(' ').nth(1);
        word.and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason code of a document of ours.
    pub(crate) fn reason(&self) -> String {
        let document: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        document["reason"].as_str().unwrap_or_default().to_owned()
    }
}

impl Wire {
    /// A head; `None` when the connection ends before it does.
    pub(crate) async fn head(&mut self) -> Option<Message> {
        let text = self.until(b"\r\n\r\n").await?;
        let text: String = text.iter().map(|b| char::from(*b)).collect();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        Some(Message {
            first: lines.next().unwrap_or_default().to_owned(),
            fields: lines.map(field).collect(),
            ..Message::default()
        })
    }

    /// A request with its body; `None` when it does not come whole.
    pub(crate) async fn request(&mut self) -> Option<Message> {
        let mut message = self.head().await?;
        self.body(&mut message, false).await;
        message.whole.then_some(message)
    }

    /// An answer to `method`, interim answers skipped.
    pub(crate) async fn response(&mut self, method: &str) -> Option<Message> {
        loop {
            let mut message = self.head().await?;
            let status = message.status();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let empty = method == "HEAD" || matches!(status, 101 | 204 | 304);
            match empty {
                true => message.whole = true,
                false => self.body(&mut message, true).await,
            }
            return Some(message);
        }
    }

    /// What follows a head, by its framing.
    pub(crate) async fn body(&mut self, message: &mut Message, to_end: bool) {
        if message.one("transfer-encoding").is_some() {
            return self.chunks(message).await;
        }
        let length = message.one("content-length").map(str::parse::<usize>);
        match length {
            Some(Ok(length)) => {
                if let Some(body) = self.exact(length).await {
                    message.body = body;
                    message.whole = true;
                }
            }
            Some(Err(_)) => {}
            None => {
                message.whole = true;
                if to_end {
                    message.body = self.rest().await;
                }
            }
        }
    }

    async fn chunks(&mut self, message: &mut Message) {
        loop {
            let Some(line) = self.until(b"\r\n").await else {
                return;
            };
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = line.trim_end().split(';').next().unwrap_or_default();
            let Ok(size) = usize::from_str_radix(size, 16) else {
                return;
            };
            if size == 0 {
                break;
            }
            let Some(chunk) = self.exact(size + 2).await else {
                return;
            };
            message.body.extend_from_slice(&chunk[..size]);
        }
        loop {
            let Some(line) = self.until(b"\r\n").await else {
                return;
            };
            let line: String = line.iter().map(|b| char::from(*b)).collect();
            match line.trim_end_matches("\r\n") {
                "" => break,
                trailer => message.trailers.push(field(trailer)),
            }
        }
        message.whole = true;
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or((line, ""));
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}
