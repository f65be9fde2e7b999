//! Who asks Amazon, and where that is found: in the order of Amazon's own tools.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use secrecy::zeroize::Zeroizing;

use super::super::credentials::{self as files, Credentials, Overlap, Picked, Texts, is_visible};
use super::super::remote::{ANSWER_MAX, DEADLINE, Failure};
use super::super::secret_file;
use super::{Where, container, profiles, public};
use crate::clock::{self, Timestamp};
use crate::fetch::Fetch;
use crate::section::{Section, SectionError};

/// Those with an end are renewed so many seconds before it.
const EARLY: u64 = 300;

/// An access key. No `Debug`.
pub(in crate::wallet) struct Keys {
    id: String,
    secret: Zeroizing<String>,
    token: Option<Zeroizing<String>>,
    until: Option<Timestamp>,
}

impl Keys {
    pub(super) fn new(
        id: String,
        secret: String,
        token: Option<String>,
        until: Option<Timestamp>,
    ) -> Self {
        Self {
            id,
            secret: Zeroizing::new(secret),
            token: token.map(Zeroizing::new),
            until,
        }
    }

    /// Its public half.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &Zeroizing<String> {
        &self.secret
    }

    /// What goes with an access key that ends.
    pub(super) fn token(&self) -> Option<Zeroizing<String>> {
        self.token.clone()
    }

    /// When it ends.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

/// An access key of texts that can be sent. `None` when one cannot.
pub(super) fn visible(
    id: String,
    secret: String,
    token: Option<String>,
    until: Option<Timestamp>,
) -> Option<Keys> {
    let sent = is_visible(&id) && is_visible(&secret);
    let fits = sent && token.as_deref().is_none_or(is_visible);
    fits.then(|| Keys::new(id, secret, token, until))
}

/// Where credentials come from.
pub(in crate::wallet) struct Source {
    from: From,
    kept: Mutex<Option<Arc<Keys>>>,
}

enum From {
    /// The environment, as it was at the start.
    Environment(Arc<Keys>),
    /// A file of Amazon's tools, read again when it changes.
    File(Credentials<Keys, 1>),
    /// A token of the cluster, and a service that takes it.
    Web {
        url: String,
        role: String,
        token: PathBuf,
    },
    /// An endpoint beside the process.
    Container { uri: Uri, token: Token },
}

/// What the endpoint wants to see.
enum Token {
    None,
    Text(Zeroizing<String>),
    File(PathBuf),
}

/// Looks a variable up.
pub(in crate::wallet) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Source {
    /// [`Source::find`] with the environment of this process.
    ///
    /// # Errors
    /// Those of `find`.
    pub(in crate::wallet) fn here(
        section: &Section,
        place: Where,
        region: &str,
    ) -> Result<Self, SectionError> {
        Self::find(section, place, region, &|name| std::env::var(name).ok())
    }

    /// A file that the configuration names; else the variables; a token of the cluster; the usual file;
    /// the endpoint beside the process.
    ///
    /// # Errors
    /// When there is none of them, or the first that is there cannot be used.
    pub(in crate::wallet) fn find(
        section: &Section,
        place: Where,
        region: &str,
        environment: Environment<'_>,
    ) -> Result<Self, SectionError> {
        let given = |name: &str| environment(name).filter(|text| !text.is_empty());
        let profile = place.profile.or_else(|| given("AWS_PROFILE"));
        let profile = profile.unwrap_or_else(|| "default".into());
        let from = match place.file {
            Some((key, path)) => from_file(key, path, profile)?,
            None => match from_variables(section, region, &given)? {
                Some(from) => from,
                None => match usual_file(&given) {
                    Some(path) => from_file(section.clone(), path, profile)?,
                    None => from_container(section, &given)?,
                },
            },
        };
        Ok(Self {
            from,
            kept: Mutex::new(None),
        })
    }

    /// Those of now, fetched if they must be.
    ///
    /// # Errors
    /// When there are none.
    pub(in crate::wallet) async fn now(&self, fetch: &Fetch) -> Result<Picked<Keys>, Failure> {
        match &self.from {
            From::Environment(keys) => Ok(Picked::only(Arc::clone(keys))),
            From::File(files) => Ok(files.now()),
            From::Web { .. } | From::Container { .. } => {
                self.fetched(fetch).await.map(Picked::only)
            }
        }
    }

    /// Those in a file, which can change.
    pub(in crate::wallet) fn overlap(&self) -> Option<&dyn Overlap> {
        match &self.from {
            From::File(files) => Some(files),
            From::Environment(_) | From::Web { .. } | From::Container { .. } => None,
        }
    }

    /// Old ones serve until they end, when there are no new ones.
    async fn fetched(&self, fetch: &Fetch) -> Result<Arc<Keys>, Failure> {
        let kept = || {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.clone()
        };
        let lives = |keys: &Arc<Keys>, early: u64| {
            let soon = clock::wall().after_secs(early);
            keys.until().is_none_or(|until| soon < until)
        };
        if let Some(keys) = kept().filter(|keys| lives(keys, EARLY)) {
            return Ok(keys);
        }
        match self.fetch(fetch).await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = Some(Arc::clone(&keys));
                Ok(keys)
            }
            Err(failure) => kept().filter(|keys| lives(keys, 0)).ok_or(failure),
        }
    }

    async fn fetch(&self, fetch: &Fetch) -> Result<Keys, Failure> {
        let none = |why: &str| Failure::Uncredentialed(why.into());
        match &self.from {
            From::Environment(_) | From::File(_) => Err(none("they are not fetched")),
            From::Web { url, role, token } => {
                let token = secret(token)?;
                let request = container::exchange(url, role, token.trim())?;
                let answer = ask(fetch, request).await?;
                container::exchanged(answer.body()).ok_or_else(|| none("an answer without them"))
            }
            From::Container { uri, token } => {
                let token = match token {
                    Token::None => None,
                    Token::Text(text) => Some(text.clone()),
                    Token::File(path) => Some(secret(path)?),
                };
                let token = token.as_ref().map(|text| text.trim());
                let answer = ask(fetch, container::question(uri, token)?).await?;
                container::answer(answer.body()).ok_or_else(|| none("an answer without them"))
            }
        }
    }
}

async fn ask(fetch: &Fetch, request: Request<Bytes>) -> Result<Response<Bytes>, Failure> {
    let failed = |why: String| Failure::Uncredentialed(why);
    let answer = fetch.send(request, DEADLINE, ANSWER_MAX).await;
    let answer = answer.map_err(|e| failed(e.to_string()))?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(failed(format!("whoever has them answers with {status}"))),
    }
}

/// Tokens that the cluster writes are often readable by others in the container, who could ask for them too.
fn secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = secret_file::read_token(path);
    text.map_err(|e| Failure::Uncredentialed(e.to_string()))
}

fn from_file(key: Section, path: PathBuf, profile: String) -> Result<From, SectionError> {
    let read = move |[text]: &Texts<1>| profiles::keys(text, &profile).map_err(|why| (0, why));
    let files = Credentials::open([files::at(key, path)], read);
    Ok(From::File(files?))
}

fn from_variables(
    section: &Section,
    region: &str,
    given: Environment<'_>,
) -> Result<Option<From>, SectionError> {
    let pair = given("AWS_ACCESS_KEY_ID").zip(given("AWS_SECRET_ACCESS_KEY"));
    if let Some((id, secret)) = pair {
        let keys = visible(id, secret, given("AWS_SESSION_TOKEN"), None);
        let keys = keys.ok_or_else(|| section.error("the variables AWS_… hold no access key"))?;
        return Ok(Some(From::Environment(Arc::new(keys))));
    }
    let web = given("AWS_WEB_IDENTITY_TOKEN_FILE").zip(given("AWS_ROLE_ARN"));
    Ok(web.map(|(token, role)| From::Web {
        url: given("AWS_ENDPOINT_URL_STS").unwrap_or_else(|| public("sts", region) + "/"),
        role,
        token: token.into(),
    }))
}

/// Where Amazon's tools keep it, if it is there.
fn usual_file(given: Environment<'_>) -> Option<PathBuf> {
    let named = given("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let usual = || Some(PathBuf::from(given("HOME")?).join(".aws/credentials"));
    named.or_else(|| usual().filter(|path| path.is_file()))
}

fn from_container(section: &Section, given: Environment<'_>) -> Result<From, SectionError> {
    let full = given("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let relative = given("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let url = full.or_else(|| relative.map(|path| format!("http://169.254.170.2{path}")));
    let Some(url) = url else {
        let error = section.error("there are no credentials for Amazon's services");
        return Err(error
            .hint("write `credentials_file`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
    };
    let uri: Option<Uri> = url.parse().ok().filter(container::is_near);
    let uri = uri.ok_or_else(|| {
        section.error("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https:// nor beside us")
    })?;
    let file = given("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
    let text = given("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Zeroizing::new);
    let token = match (file, text) {
        (Some(file), _) => Token::File(file),
        (None, Some(text)) => Token::Text(text),
        (None, None) => Token::None,
    };
    Ok(From::Container { uri, token })
}
