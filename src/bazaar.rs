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

/// Most that a search gives; more makes it answer 400.
const SEARCH_MAX: usize = 20;

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
    /// The MCP tool that it is, if it is one.
    pub tool: Option<String>,
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

/// How a merchant says that it is asked.
#[derive(Default)]
struct Input {
    method: Option<String>,
    tool_name: Option<String>,
}

/// A page of a catalogue: `items` of a list, `resources` of a search or of a host.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, alias = "items")]
    resources: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    pagination: Option<&'a RawValue>,
}

impl Page<'_> {
    /// How many entries the whole list has, if that is said.
    fn total(&self) -> Option<usize> {
        let all: serde_json::Value = serde_json::from_str(self.pagination?.get()).ok()?;
        usize::try_from(all.get("total")?.as_u64()?).ok()
    }
}

/// What is in a page.
struct Found {
    /// What can be read of it.
    listings: Vec<Listing>,
    /// How many entries it has, readable or not.
    entries: usize,
    /// How many the whole list has, if that is said.
    total: Option<usize>,
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
    let (query, limit) = (escaped(words), most.min(SEARCH_MAX));
    let found = get(
        fetch,
        &format!("{base}/discovery/search?query={query}&limit={limit}"),
    )
    .await;
    match found {
        Ok(body) => {
            let found = page(&body, facilitator)?.listings;
            return Ok(found.into_iter().take(most).collect());
        }
        Err(BazaarError::Status { status, .. }) if is_missing(status) => {}
        Err(problem) => return Err(problem),
    }
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let (mut all, mut offset, mut before) = (vec![], 0_usize, Bytes::new());
    for _ in 0..PAGES {
        let url = format!("{base}/discovery/resources?limit={PAGE}&offset={offset}");
        let body = match get(fetch, &url).await {
            Ok(body) => body,
            // Behind its end some have no page.
            Err(_) if offset > 0 => break,
            Err(problem) => return Err(problem),
        };
        let found = page(&body, facilitator)?;
        // Who has no pages says the same again.
        if found.entries == 0 || body == before {
            break;
        }
        offset = offset.saturating_add(found.entries);
        let fitting = found.listings.into_iter().filter(|one| one.has(&words));
        all.extend(fitting);
        if all.len() >= most || found.total.is_some_and(|total| offset >= total) {
            break;
        }
        before = body;
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
    let listed = page(&get(fetch, &url).await?, host)?.listings;
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

fn page(body: &[u8], from: &Uri) -> Result<Found, BazaarError> {
    let host = from.host().unwrap_or_default();
    found(body).ok_or_else(|| BazaarError::Unreadable(host.to_owned()))
}

/// Reads one page. An entry that cannot be read hides no other.
#[must_use]
pub fn read(body: &[u8]) -> Option<Vec<Listing>> {
    found(body).map(|found| found.listings)
}

fn found(body: &[u8]) -> Option<Found> {
    let page: Page<'_> = serde_json::from_slice(body).ok()?;
    let total = page.total();
    let entries = page.resources?;
    Some(Found {
        total,
        entries: entries.len(),
        listings: entries
            .iter()
            .filter_map(|raw| listing(raw.get()))
            .collect(),
    })
}

fn listing(raw: &str) -> Option<Listing> {
    if let Ok(url) = serde_json::from_str::<String>(raw) {
        return Some(Listing {
            resource: short(&url),
            kind: "http".into(),
            method: None,
            tool: None,
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
    let input = item.extensions.map(input).unwrap_or_default();
    let kind = item.kind.as_deref().unwrap_or("http");
    let tool = input.tool_name.filter(|_| kind == "mcp");
    Some(Listing {
        resource: short(&item.resource?),
        kind: short(kind),
        method: item.method.or(input.method).map(|m| short(&m)),
        // Whole: rules compare it.
        tool,
        // Of letters that tables show as they are.
        description: short(&said.join(" – ")),
        offers,
    })
}

/// `bazaar.info.input` of the entry's extensions, as far as it can be read.
fn input(extensions: &RawValue) -> Input {
    let read = |raw: &RawValue| {
        let all: serde_json::Value = serde_json::from_str(raw.get()).ok()?;
        let text = |name: &str| {
            let value = all.pointer("/bazaar/info/input")?.get(name)?;
            value.as_str().map(str::to_owned)
        };
        Some(Input {
            method: text("method"),
            tool_name: text("toolName"),
        })
    };
    read(extensions).unwrap_or_default()
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
