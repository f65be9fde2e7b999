//! Requests to services of Amazon: signed with Signature Version 4, by credentials from the usual places.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, Uri};

use super::credentials::Picked;
use super::remote::{Failure, secret_value, unmade};
use crate::clock::Timestamp;
use crate::section::{Section, SectionError};
use crate::settings;

mod container;
pub(super) mod credentials;
mod profiles;
mod sigv4;

use credentials::Keys;

/// The most that a region's name has.
const REGION_MAX: usize = 32;

/// One call to a service.
pub(super) struct Call<'a> {
    /// The service's name in a signature: `kms`.
    pub(super) service: &'a str,
    /// Where it is.
    pub(super) region: &'a str,
    /// In full, without a query.
    pub(super) url: &'a str,
    /// Of the body.
    pub(super) content_type: &'static str,
    /// Other fields, lower case: all are signed.
    pub(super) headers: Vec<(&'static str, String)>,
    /// What is said.
    pub(super) body: Vec<u8>,
}

impl Call<'_> {
    /// The request, signed for this moment.
    ///
    /// # Errors
    /// When the URL or a field cannot be sent.
    pub(super) fn signed(
        self,
        keys: &Picked<Keys>,
        now: Timestamp,
    ) -> Result<Request<Bytes>, Failure> {
        let uri: Uri = self.url.parse().map_err(unmade)?;
        let host = uri.authority().map_or("", |a| a.as_str()).to_owned();
        let mut headers = self.headers;
        let date = sigv4::date(now);
        headers.push(("content-type", self.content_type.into()));
        headers.push(("host", host));
        headers.push(("x-amz-date", date.clone()));
        let token = keys.token();
        if let Some(token) = &token {
            headers.push(("x-amz-security-token", (**token).clone()));
        }
        headers.sort();
        let scope = sigv4::Scope {
            date: &date,
            region: self.region,
            service: self.service,
        };
        let authorization = sigv4::authorization(keys, &scope, uri.path(), &headers, &self.body);
        let mut request = Request::post(uri)
            .extension(keys.used())
            .header(AUTHORIZATION, secret_value(&authorization)?);
        for (name, value) in &headers {
            // The client writes it from the URL, the same.
            if *name == HOST.as_str() {
                continue;
            }
            let mut value = HeaderValue::from_str(value).map_err(unmade)?;
            value.set_sensitive(*name != CONTENT_TYPE.as_str());
            request = request.header(*name, value);
        }
        request.body(self.body.into()).map_err(unmade)
    }
}

/// `region:`, which becomes a part of a host's name.
pub(super) fn region(section: Section) -> Result<String, SectionError> {
    let text = section.clone().text()?;
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let plain = !text.starts_with('-') && !text.ends_with('-');
    match !text.is_empty() && text.len() <= REGION_MAX && plain && text.bytes().all(fits) {
        true => Ok(text),
        false => Err(section.expected("the name of a region, as eu-central-1")),
    }
}

/// Where the service is: `url:` if it is written (an endpoint of your own network), else its public name.
pub(super) fn url(
    section: Option<Section>,
    service: &str,
    region: &str,
) -> Result<String, SectionError> {
    let Some(section) = section else {
        return Ok(public(service, region));
    };
    let base = super::remote::secure_base(section.clone())?;
    let path = base.parse::<Uri>().ok().map(|uri| uri.path().to_owned());
    match path.as_deref() {
        Some("" | "/") => Ok(base),
        _ => Err(section.error("expected a URL without a path")),
    }
}

/// The public name of a service. Those in China have a domain of their own.
fn public(service: &str, region: &str) -> String {
    let suffix = match region.starts_with("cn-") {
        true => "amazonaws.com.cn",
        false => "amazonaws.com",
    };
    format!("https://{service}.{region}.{suffix}")
}

/// `credentials_file:` and `profile:`.
pub(super) struct Where {
    /// The file, and the key that names it.
    pub(super) file: Option<(Section, PathBuf)>,
    /// Its part, and that of the usual file.
    pub(super) profile: Option<String>,
}

/// Does an access key itself stand in the environment, and would a wallet with these settings take it?
pub(super) fn is_exposed(section: &Section, environment: credentials::Environment<'_>) -> bool {
    let given = |name: &&str| environment(name).is_some_and(|text| !text.is_empty());
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    section.peek("credentials_file").is_none() && keys.iter().all(given)
}

/// Reads where credentials are, if that is said.
///
/// # Errors
/// When it is no path or no name.
pub(super) fn place(section: &mut Section, base: &Path) -> Result<Where, SectionError> {
    let file = section.take("credentials_file");
    let file = file.map(|file| Ok((file.clone(), settings::path(file, base)?)));
    let profile = section.take("profile").map(Section::text);
    Ok(Where {
        file: file.transpose()?,
        profile: profile.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_is_exposed_where_it_is_taken_from_a_variable() {
        let section = |text: &str| Section::file("farepass.yaml", text).unwrap();
        let both = |name: &str| name.starts_with("AWS_").then(|| "x".to_owned());
        let half = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "x".to_owned());
        let empty = |_: &str| Some(String::new());
        let plain = section("{ region: eu-central-1 }");
        assert!(is_exposed(&plain, &both));
        assert!(!is_exposed(&plain, &half) && !is_exposed(&plain, &empty));
        assert!(!is_exposed(&section("{ credentials_file: a }"), &both));
    }
}
