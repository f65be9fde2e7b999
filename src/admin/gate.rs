//! Who may ask: whoever brings the token, or a page that the token opened.
//!
//! Browsers give the cookies of a machine to every port of it, so an agent's web server beside us would be
//! sent ours. The cookie is therefore half of the key. The other half is in the fragment of the page's
//! address once and then in its own storage, which no other port reads; each request brings it in a field
//! that no form and no page of another origin can send.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::header::{COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use super::problem::{Answer, typed};
use super::query::decoded;
use super::token::Token;

const COOKIE_NAME: &str = "farepass_admin";
const PAGE: HeaderName = HeaderName::from_static("farepass-page");
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names of the halves, as they are drawn from the token.
const HALVES: (&str, &str) = ("dashboard cookie", "dashboard page");

impl Token {
    /// May whoever sent these fields ask the API?
    pub(super) fn opens(&self, headers: &HeaderMap) -> bool {
        self.admits(headers) || (is_own_page(headers) && self.halves(headers))
    }

    fn halves(&self, headers: &HeaderMap) -> bool {
        let fields = headers.get_all(COOKIE).iter();
        let pairs = fields
            .filter_map(|f| f.to_str().ok())
            .flat_map(|f| f.split(';'));
        let named = pairs.filter_map(|pair| pair.trim().split_once('='));
        // Another port may have put one of the same name beside ours.
        let mut cookies = named.filter(|(name, _)| *name == COOKIE_NAME);
        let cookie = cookies.any(|(_, value)| self.is(HALVES.0, value.as_bytes()));
        let page = headers.get(PAGE);
        cookie && page.is_some_and(|value| self.is(HALVES.1, value.as_bytes()))
    }

    fn is(&self, half: &str, shown: &[u8]) -> bool {
        let own = self.derived(half);
        verify_slices_are_equal(own.expose_secret().as_bytes(), shown).is_ok()
    }

    /// `?token=…`: the two halves for the right one, and back to this page. `None`: nobody asks to be let in.
    pub(super) fn login(&self, page: &str, query: Option<&str>) -> Option<Answer> {
        let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
        let (_, shown) = pairs.find(|(name, _)| *name == "token")?;
        let shown = Zeroizing::new(decoded(shown).unwrap_or_default());
        Some(match self.matches(shown.trim().as_bytes()) {
            true => self.let_in(page),
            false => to(&format!("{page}#wrong")),
        })
    }

    fn let_in(&self, at: &str) -> Answer {
        let (cookie, page) = (self.derived(HALVES.0), self.derived(HALVES.1));
        let mut answer = to(&format!("{at}#page={}", page.expose_secret()));
        let cookie = format!(
            "{COOKIE_NAME}={}; HttpOnly; SameSite=Strict; Path=/",
            cookie.expose_secret()
        );
        if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
            cookie.set_sensitive(true);
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        answer
    }
}

/// Browsers say whose page it is that asks.
fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name: &HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let host = text(&HOST).unwrap_or_default();
    text(&SITE).is_none_or(|site| site == "same-origin")
        && text(&ORIGIN).is_none_or(|origin| origin == format!("http://{host}"))
}

fn to(place: &str) -> Answer {
    let mut answer = typed(StatusCode::SEE_OTHER, "text/plain", String::new());
    let headers = answer.headers_mut();
    if let Ok(place) = HeaderValue::from_str(place) {
        headers.insert(LOCATION, place);
    }
    // The token is in this page's address.
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    answer
}
