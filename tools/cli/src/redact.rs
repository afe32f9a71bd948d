//! What of a URL may be shown: who and where, never a secret.

/// `url` with its user information and the values of its query replaced.
pub(crate) fn url(url: &str) -> String {
    let (front, secret_query) = match url.split_once('?') {
        Some((front, query)) => (front, Some(query)),
        None => (url, None),
    };
    let mut shown = match front.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host =
                authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("***@{host}"));
            format!("{scheme}://{host}{path}")
        }
        None => front.to_owned(),
    };
    if secret_query.is_some() {
        shown.push_str("?***");
    }
    shown
}

/// What a destination may echo and nobody shall see: its query, each value in it, and user information.
pub(crate) fn secrets_of(url: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    let (front, query) = url.split_once('?').unwrap_or((url, ""));
    secrets.push(query.to_owned());
    secrets
        .extend(query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned()));
    if let Some((_, rest)) = front.split_once("://")
        && let Some((user, _)) = rest.split('/').next().unwrap_or("").rsplit_once('@')
    {
        secrets.push(user.to_owned());
        secrets.extend(user.split(':').map(str::to_owned));
    }
    // Shorter ones are words that stand in every answer.
    secrets.retain(|secret| secret.len() >= 4);
    secrets
}

/// `text` without any of `secrets`.
pub(crate) fn scrub(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_and_query_are_hidden_and_the_rest_is_shown() {
        for (given, shown) in [
            ("http://h:1/p", "http://h:1/p"),
            ("http://user:tok@h:1/p", "http://***@h:1/p"),
            ("http://h/p?token=tok&x=1", "http://h/p?***"),
            ("http://a@b@h", "http://***@h"),
            ("no url", "no url"),
        ] {
            assert_eq!(url(given), shown);
        }
    }

    #[test]
    fn what_a_destination_echoes_is_scrubbed() {
        let secrets = secrets_of("http://user:s3cret@h/p?token=abcdef&x=1");
        let text = scrub("no /p?token=abcdef&x=1 for s3cret, abcdef".into(), &secrets);
        assert!(!text.contains("abcdef") && !text.contains("s3cret"), "{text}");
        assert_eq!(scrub("503".into(), &secrets), "503");
    }
}
