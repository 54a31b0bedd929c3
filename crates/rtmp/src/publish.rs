//! What a publisher asks for: which broadcast, and with which key.
//!
//! The address is `rtmp://HOST/live/BROADCAST?key=KEY`. Encoders cut it in different places: OBS sends what stands in its
//! field "Stream Key" as the name, ffmpeg what follows the last slash; the key may also stand behind the application.
//! No text of the peer is in an error: any part of an address may be a secret that was put in the wrong place.

use std::fmt;

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

/// The application: the part of the address before the broadcast.
pub(crate) const APPLICATION: &str = "live";
/// The parameter with the key.
const KEY_PARAMETER: &str = "key";
/// Longest name of a broadcast, in bytes; longer than any that exists.
const NAME_BYTES_MAX: usize = 256;
/// Longest key, in bytes: a JSON Web Token with many claims.
const KEY_BYTES_MAX: usize = 8192;

/// What to tell somebody whose address is wrong.
const FORM: &str = "the address is rtmp://HOST/live/BROADCAST?key=KEY (in OBS: server rtmp://HOST/live, stream key \
                    BROADCAST?key=KEY)";

/// Why an address names no broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Another application than `live`.
    #[error("there is no such application on this server; {FORM}")]
    Application,
    /// No name, or none that could be one.
    #[error("the name of the broadcast is missing or malformed; {FORM}")]
    Name,
    /// A key that is too long or not text.
    #[error("the key in the address is malformed or has more than {KEY_BYTES_MAX} bytes")]
    Key,
}

/// The key of a publisher. `Debug` shows `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey(Zeroizing<String>);

impl StreamKey {
    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Somebody wants to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// Name of the broadcast as the peer wrote it; whether it is one is for the shell to see.
    pub broadcast: String,
    /// The key, if there is one.
    pub key: Option<StreamKey>,
    /// What the encoder calls itself, in printable characters, at most 64.
    pub encoder: Option<String>,
}

/// What the command `connect` said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Application {
    key: Option<StreamKey>,
    encoder: Option<String>,
}

impl Application {
    /// Checks application and address of a `connect`.
    pub(crate) fn new(
        application: &str,
        address: Option<&str>,
        encoder: Option<&str>,
    ) -> Result<Self, AddressError> {
        let (name, query) = split_query(application);
        if name.trim_matches('/') != APPLICATION {
            return Err(AddressError::Application);
        }
        let key = match key(query)? {
            Some(key) => Some(key),
            None => key(address.and_then(|address| split_query(address).1))?,
        };
        Ok(Self { key, encoder: encoder.and_then(printable) })
    }

    /// Takes the name of a `publish`.
    pub(crate) fn request(&self, name: &str) -> Result<PublishRequest, AddressError> {
        let (name, query) = split_query(name);
        let name = name.trim_matches('/');
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(AddressError::Name);
        }
        let key = key(query)?.or_else(|| self.key.clone());
        Ok(PublishRequest { broadcast: name.to_owned(), key, encoder: self.encoder.clone() })
    }
}

fn split_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (text, None),
    }
}

fn key(query: Option<&str>) -> Result<Option<StreamKey>, AddressError> {
    let parameters = query.into_iter().flat_map(|query| query.split('&'));
    let found = parameters
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, value)| *name == KEY_PARAMETER && !value.is_empty());
    let Some((_, value)) = found else { return Ok(None) };
    if value.len() > KEY_BYTES_MAX {
        return Err(AddressError::Key);
    }
    let decoded = percent_decode_str(value).decode_utf8().map_err(|_| AddressError::Key)?;
    if decoded.chars().any(char::is_control) {
        return Err(AddressError::Key);
    }
    Ok(Some(StreamKey(Zeroizing::new(decoded.into_owned()))))
}

/// The text without what a log should not have; `None` if nothing is left.
pub(crate) fn printable(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(64).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        application: &str,
        address: &str,
        name: &str,
    ) -> Result<(String, Option<String>), AddressError> {
        let request = Application::new(application, Some(address), None)?.request(name)?;
        Ok((request.broadcast, request.key.map(|key| key.expose().to_owned())))
    }

    #[test]
    fn the_key_is_found_wherever_an_encoder_puts_it() {
        let with_key = Ok(("show".to_owned(), Some("s3cret".to_owned())));
        assert_eq!(request("live", "rtmp://host/live", "show?key=s3cret"), with_key);
        assert_eq!(request("live/", "rtmp://host/live/", "/show?a=1&key=s3cret&b"), with_key);
        assert_eq!(request("live?key=s3cret", "rtmp://host/live", "show"), with_key);
        assert_eq!(request("live", "rtmp://host/live?key=s3cret", "show"), with_key);
        assert_eq!(request("live?key=other", "rtmp://host/live?key=third", "show?key=s3cret"), with_key);
        assert_eq!(request("live", "rtmp://host/live", "show?key=s3%63ret"), with_key);
        assert_eq!(request("live", "rtmp://host/live", "show?key="), Ok(("show".to_owned(), None)));
    }

    #[test]
    fn what_names_no_broadcast_is_refused_without_being_repeated() {
        assert_eq!(request("secret", "", "show"), Err(AddressError::Application));
        assert_eq!(request("live", "", "?key=secret"), Err(AddressError::Name));
        assert_eq!(request("live", "", "a\nb"), Err(AddressError::Name));
        assert_eq!(request("live", "", "show?key=%ff"), Err(AddressError::Key));
        let long = format!("show?key={}", "a".repeat(KEY_BYTES_MAX + 1));
        assert_eq!(request("live", "", &long), Err(AddressError::Key));
        for error in [AddressError::Application, AddressError::Name, AddressError::Key] {
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let application =
            Application::new("live?key=s3cret", None, Some("FMLE/3.0\u{7}")).expect("an application");
        let request = application.request("show").expect("a name");
        assert_eq!(request.encoder.as_deref(), Some("FMLE/3.0"));
        assert!(!format!("{application:?} {request:?}").contains("s3cret"));
    }
}
