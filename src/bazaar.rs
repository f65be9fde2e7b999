//! Catalogues of things that can be bought: facilitators' Bazaars, and what a host says of itself. All of
//! it is what merchants write about themselves: shown, judged by the policy, never believed.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fetch::{Fetch, FetchError};
use crate::payment::Challenge;
use crate::protocol;

/// For one answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Most bytes of one answer.
const ANSWER_MAX: usize = 4 << 20;

/// Entries of one page of a list.
const PAGE: usize = 100;

/// Pages of a list that are looked through for words.
const PAGES: usize = 10;

/// Characters of a text that are shown.
const TEXT_MAX: usize = 300;

/// Something that is offered.
#[derive(Debug)]
pub struct Listing {
    /// Its URL, or its name where it is none.
    pub resource: String,
    /// `http`, `mcp`, or what the catalogue says.
    pub kind: String,
    /// The HTTP method, where it is said.
    pub method: Option<String>,
    /// What it is, in the merchant's words.
    pub description: String,
    /// Ways to pay, read as a 402 is; none where no price is said.
    pub offers: Challenge,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub enum BazaarError {
    /// No answer.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Another answer than expected.
    #[error("{host} answers with status {status}")]
    Status {
        /// Who.
        host: String,
        /// With what.
        status: StatusCode,
    },
    /// An answer that is no catalogue.
    #[error("what {0} answers is no catalogue")]
    Unreadable(String),
}

/// One entry, as catalogues write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(alias = "url")]
    resource: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    x402_version: Option<u64>,
    #[serde(borrow)]
    accepts: Option<&'a RawValue>,
    description: Option<String>,
    service_name: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    method: Option<String>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

/// A page of a catalogue: `items` of a list, `resources` of a search or of a host.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, alias = "items")]
    resources: Option<Vec<&'a RawValue>>,
}

/// What a facilitator has for these words: what its search finds, or where it has none, those of its list
/// that have all of them in their names or descriptions.
///
/// # Errors
/// [`BazaarError`].
pub async fn search(
    fetch: &Fetch,
    facilitator: &Uri,
    words: &str,
    most: usize,
) -> Result<Vec<Listing>, BazaarError> {
    let base = facilitator.to_string();
    let base = base.trim_end_matches('/');
    let query = escaped(words);
    let found = get(
        fetch,
        &format!("{base}/discovery/search?query={query}&limit={most}"),
    )
    .await;
    match found {
        Ok(body) => return Ok(page(&body, facilitator)?.into_iter().take(most).collect()),
        Err(BazaarError::Status { status, .. }) if is_missing(status) => {}
        Err(problem) => return Err(problem),
    }
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut all = vec![];
    for number in 0..PAGES {
        let offset = number.saturating_mul(PAGE);
        let url = format!("{base}/discovery/resources?limit={PAGE}&offset={offset}");
        let listed = page(&get(fetch, &url).await?, facilitator)?;
        let full = listed.len() >= PAGE;
        all.extend(listed.into_iter().filter(|one| one.has(&words)));
        if all.len() >= most || !full {
            break;
        }
    }
    all.truncate(most);
    Ok(all)
}

/// What a host says that it sells (`/.well-known/x402`).
///
/// # Errors
/// [`BazaarError`].
pub async fn of_host(fetch: &Fetch, host: &Uri, most: usize) -> Result<Vec<Listing>, BazaarError> {
    let authority = host.authority().map_or("", |a| a.as_str());
    let scheme = host.scheme_str().unwrap_or("https");
    let url = format!("{scheme}://{authority}/.well-known/x402");
    let listed = page(&get(fetch, &url).await?, host)?;
    Ok(listed.into_iter().take(most).collect())
}

/// Has it no such endpoint?
fn is_missing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    )
}

async fn get(fetch: &Fetch, url: &str) -> Result<Bytes, BazaarError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
    let host = uri.host().unwrap_or_default().to_owned();
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    let answer = fetch.send(request, DEADLINE, ANSWER_MAX).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(BazaarError::Status { host, status }),
    }
}

fn page(body: &[u8], from: &Uri) -> Result<Vec<Listing>, BazaarError> {
    let host = from.host().unwrap_or_default();
    read(body).ok_or_else(|| BazaarError::Unreadable(host.to_owned()))
}

/// Reads one page. An entry that cannot be read hides no other.
#[must_use]
pub fn read(body: &[u8]) -> Option<Vec<Listing>> {
    let page: Page<'_> = serde_json::from_slice(body).ok()?;
    let entries = page.resources?.into_iter();
    Some(entries.filter_map(|raw| listing(raw.get())).collect())
}

fn listing(raw: &str) -> Option<Listing> {
    if let Ok(url) = serde_json::from_str::<String>(raw) {
        return Some(Listing {
            resource: short(&url),
            kind: "http".into(),
            method: None,
            description: String::new(),
            offers: Challenge::default(),
        });
    }
    let item: Item<'_> = serde_json::from_str(raw).ok()?;
    let said = item
        .service_name
        .into_iter()
        .chain(item.description)
        .chain(item.tags);
    let said = said.filter(|text| !text.is_empty()).collect::<Vec<_>>();
    let mut offers = Challenge::default();
    if let Some(accepts) = item.accepts {
        offers = protocol::listed(item.x402_version.unwrap_or(1), accepts);
    }
    let bazaar = item.extensions.and_then(method);
    Some(Listing {
        resource: short(&item.resource?),
        kind: short(item.kind.as_deref().unwrap_or("http")),
        method: item.method.or(bazaar).map(|m| short(&m)),
        description: short(&said.join(" · ")),
        offers,
    })
}

/// `bazaar.info.input.method` of the entry's extensions.
fn method(extensions: &RawValue) -> Option<String> {
    let all: serde_json::Value = serde_json::from_str(extensions.get()).ok()?;
    let method = all.pointer("/bazaar/info/input/method")?;
    method.as_str().map(str::to_owned)
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

impl Listing {
    /// Are all of these words, lower case, in what it says of itself?
    fn has(&self, words: &[String]) -> bool {
        let said = format!("{} {}", self.resource, self.description).to_lowercase();
        words.iter().all(|word| said.contains(word))
    }
}

/// Percent-encoded for a query (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
