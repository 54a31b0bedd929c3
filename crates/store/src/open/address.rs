//! URLs of stores, taken apart. Several hosts may stand in one, which ordinary URL parsers do not know.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Why a URL names no store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The part before `:` is unknown.
    #[error(
        "a store is `embedded`, `embedded:/path/to/file`, `redis://`, `rediss://`, `redis+sentinel://`, \
         `rediss+sentinel://`, `http://` or `https://`"
    )]
    Scheme,
    /// A host is missing or malformed.
    #[error("host {position} of the store's URL is not `host` or `host:port`")]
    Host {
        /// Which, from 1.
        position: usize,
    },
    /// More hosts than the scheme takes.
    #[error("a store's URL of this scheme has one host")]
    Hosts,
    /// User or password are not percent-encoded text.
    #[error("user or password in the store's URL is not percent-encoded UTF-8")]
    User,
    /// User or password where the scheme has none.
    #[error("a controller's URL has neither user nor password: the right comes from the cluster key")]
    Credentials,
    /// The path says nothing that the scheme knows.
    #[error("the path of the store's URL is not {expected}")]
    Path {
        /// What it should be.
        expected: &'static str,
    },
    /// An option after `?` that the scheme does not know.
    #[error("option {position} after `?` in the store's URL is not one of: {known}")]
    Option {
        /// Which, from 1.
        position: usize,
        /// What there is.
        known: &'static str,
    },
}

/// User and password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_empty = self.user.is_none() && self.password.is_none();
        f.write_str(if is_empty { "Credentials(none)" } else { "Credentials(***)" })
    }
}

/// What stands behind `scheme://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub credentials: Credentials,
    pub hosts: Vec<(String, u16)>,
    /// Without slashes at either end.
    pub path: String,
    pub options: Vec<(String, String)>,
}

impl Address {
    /// Takes `rest` apart: `[user[:password]@]host[:port][,host[:port]]...[/path][?name=value[&name=value]...]`.
    pub fn parse(rest: &str, default_port: u16) -> Result<Self, UrlError> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let credentials = user.map(credentials).transpose()?.unwrap_or_default();
        let hosts = hosts
            .split(',')
            .enumerate()
            .map(|(index, text)| host(text, default_port).ok_or(UrlError::Host { position: index + 1 }))
            .collect::<Result<_, _>>()?;
        let options = query
            .split('&')
            .filter(|option| !option.is_empty())
            .map(|option| {
                let (name, value) = option.split_once('=').unwrap_or((option, ""));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { credentials, hosts, path: path.trim_matches('/').into(), options })
    }

    /// The only host.
    pub fn only_host(&self) -> Result<&(String, u16), UrlError> {
        match self.hosts.as_slice() {
            [host] => Ok(host),
            _ => Err(UrlError::Hosts),
        }
    }
}

fn credentials(text: &str) -> Result<Credentials, UrlError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (text, None),
    };
    let user = decode(user)?;
    Ok(Credentials { user: (!user.is_empty()).then_some(user), password })
}

fn decode(text: &str) -> Result<String, UrlError> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| UrlError::User)
}

fn host(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_name =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port > 0))?;
    is_name.then(|| (name.into(), port))
}

/// The URL without user, password and options: what may stand in a log.
#[must_use]
pub fn redacted(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, ""), |(url, _)| (url, "?***"));
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, rest)) => format!("{scheme}://***@{rest}{query}"),
            None => format!("{scheme}://{rest}{query}"),
        },
        None => format!("{url}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hosts_credentials_path_and_options_are_told_apart() {
        let address = Address::parse("me:p%40ss@a:1,[::1]:2,b.example/main/3?x=%26", 6379).expect("good");
        assert_eq!(address.credentials.user.as_deref(), Some("me"));
        assert_eq!(address.credentials.password.as_deref(), Some("p@ss"));
        assert_eq!(address.hosts, [("a".into(), 1), ("::1".into(), 2), ("b.example".into(), 6379)]);
        assert_eq!(address.path, "main/3");
        assert_eq!(address.options, [("x".into(), "&".into())]);
        assert_eq!(Address::parse(":secret@h", 1).expect("good").credentials.user, None);
    }

    #[test]
    fn a_bad_host_is_named() {
        for (rest, position) in
            [("", 1), ("a,", 2), ("a:0", 1), ("a,b:99999", 2), ("[x]", 1), ("[::1]9", 1), ("a b", 1)]
        {
            assert_eq!(Address::parse(rest, 1), Err(UrlError::Host { position }), "{rest}");
        }
        assert_eq!(Address::parse("%ff@h", 1), Err(UrlError::User));
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = "redis+sentinel://user:hidden@a:1,b:2/main?sentinel_password=hidden";
        assert_eq!(redacted(url), "redis+sentinel://***@a:1,b:2/main?***");
        assert_eq!(redacted("embedded:/var/lib/x"), "embedded:/var/lib/x");
        assert_eq!(redacted("redis://:hid@den@h/"), "redis://***@h/");
        let address = Address::parse("user:hidden@a:1/main", 1).expect("good");
        assert!(!format!("{:?}", address.credentials).contains("hidden"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = (Address::parse(&text, 1), redacted(&text));
        }
    }
}
