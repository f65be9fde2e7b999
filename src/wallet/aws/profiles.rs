//! The shared credentials file of Amazon's tools: parts in brackets, each with keys.

use super::credentials::Keys;

/// The keys of one part of a credentials file.
///
/// # Errors
/// What is wrong with it. Quotes nothing.
pub(super) fn keys(text: &str, profile: &str) -> Result<Keys, &'static str> {
    let mut inside = false;
    let (mut found, mut id, mut secret, mut token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = name.trim() == profile;
            found |= inside;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| inside) else {
            continue;
        };
        let value = Some(value.trim().to_owned());
        match key.trim() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            // Amazon's tools take an empty one for none.
            "aws_session_token" => token = value.filter(|token| !token.is_empty()),
            "credential_process" | "role_arn" | "sso_session" | "sso_start_url" => {
                return Err("its profile takes credentials from elsewhere, which is not supported");
            }
            _ => {}
        }
    }
    let visible = |text: &String| super::super::credentials::is_visible(text);
    match (id.filter(visible), secret.filter(visible)) {
        (Some(id), Some(secret)) if token.as_ref().is_none_or(visible) => {
            Ok(Keys::new(id, secret, token, None))
        }
        _ if !found => Err("it has no such profile"),
        _ => Err("expected aws_access_key_id and aws_secret_access_key below the profile's name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# two\n[default]\naws_access_key_id = one\naws_secret_access_key=s+/=\n\n\
                        [ other ]\naws_access_key_id=two\naws_secret_access_key=t\naws_session_token = u==\n\
                        [sso]\nsso_session = x\n[half]\naws_access_key_id=three\n[odd]\naws_access_key_id=\u{e9}\naws_secret_access_key=x\n\
                        [bare]\naws_access_key_id=four\naws_secret_access_key=f\naws_session_token =\n";

    #[test]
    fn a_part_is_read_by_its_name() {
        let one = keys(FILE, "default").ok().unwrap();
        assert_eq!((one.id(), one.secret().as_str()), ("one", "s+/="));
        assert!(one.token().is_none());
        let two = keys(FILE, "other").ok().unwrap();
        assert_eq!((two.id(), two.secret().as_str()), ("two", "t"));
        assert_eq!(two.token().map(|t| (*t).clone()).as_deref(), Some("u=="));
        let bare = keys(FILE, "bare").ok().unwrap();
        assert!(bare.token().is_none(), "an empty one is none");
    }

    #[test]
    fn what_is_not_there_is_told() {
        let wrong = |profile: &str| keys(FILE, profile).err().unwrap();
        assert!(wrong("third").contains("no such profile"));
        assert!(wrong("sso").contains("not supported"));
        assert!(wrong("half").contains("expected aws_access_key_id"));
        assert!(wrong("odd").contains("expected aws_access_key_id"));
        assert!(keys("", "default").is_err());
    }
}
