//! The operator's pages: a few files in the binary, which hold no data. What they show they ask of the API.

use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::problem::{Answer, typed};
use crate::payment::ApprovalId;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, kind, text.
const FILES: [(&str, &str, &str); 10] = [
    ("/", HTML, include_str!("dashboard/index.html")),
    (
        "/style.css",
        "text/css; charset=utf-8",
        include_str!("dashboard/style.css"),
    ),
    (
        "/icon.svg",
        "image/svg+xml",
        include_str!("dashboard/icon.svg"),
    ),
    ("/app.js", SCRIPT, include_str!("dashboard/app.js")),
    ("/api.js", SCRIPT, include_str!("dashboard/api.js")),
    ("/dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("/chart.js", SCRIPT, include_str!("dashboard/chart.js")),
    (
        "/sequence.js",
        SCRIPT,
        include_str!("dashboard/sequence.js"),
    ),
    ("/limits.js", SCRIPT, include_str!("dashboard/limits.js")),
    ("/tables.js", SCRIPT, include_str!("dashboard/tables.js")),
];

/// Nothing from elsewhere, nothing written into the page, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The file at this path.
pub(super) fn file(path: &str) -> Option<Answer> {
    let (_, kind, text) = FILES.iter().find(|(at, ..)| *at == path)?;
    let mut answer = typed(StatusCode::OK, kind, (*text).to_owned());
    let headers = answer.headers_mut();
    let fields: [(HeaderName, &str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fields {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

/// Where the dashboard is, or one question of it.
pub(super) fn is_page(path: &str) -> bool {
    let id = path.strip_prefix("/approvals/");
    path == "/" || id.is_some_and(|id| id.parse::<ApprovalId>().is_ok())
}

/// What a person sees who follows an `approve_url`: the pages, or a text where no browser asks. It holds
/// no data, so it needs no token.
pub(super) fn question(headers: &HeaderMap) -> Answer {
    const TEXT: &str = "A payment waits for your answer. The end of this URL is its id:\n\n  \
        farepass approve            what waits\n  farepass approve apr_…      yes, once, to the whole id\n  \
        farepass deny apr_…         no\n";
    let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
    let page = accept
        .filter(|kinds| kinds.contains("text/html"))
        .and_then(|_| file("/"));
    page.unwrap_or_else(|| typed(StatusCode::OK, "text/plain; charset=utf-8", TEXT.to_owned()))
}
