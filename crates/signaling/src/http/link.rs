//! `Link` headers (RFC 8288): ICE servers and protocol extensions, one header for each.

use std::fmt;

/// The value of one `Link` header.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    target: String,
    relation: String,
    parameters: Vec<(&'static str, String)>,
}

/// A text cannot stand in a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The target.
    #[error("'{0}' is not a URI that can stand in a Link header")]
    Target(String),
    /// The value of a parameter.
    #[error("the value of '{0}' has characters that cannot stand in a header")]
    Parameter(&'static str),
}

impl Link {
    /// A STUN server, for instance `stun:stun.example.net` (RFC 9725, section 4.6).
    ///
    /// # Errors
    /// [`LinkError`] if the target is not plain ASCII.
    pub fn ice_server(target: &str) -> Result<Self, LinkError> {
        Self::new(target, "ice-server")
    }

    /// A TURN server with its credentials.
    ///
    /// # Errors
    /// [`LinkError`] if target, user name or password cannot stand in a header.
    pub fn turn_server(target: &str, username: &str, credential: &str) -> Result<Self, LinkError> {
        let link = Self::ice_server(target)?;
        link.with("username", username)?.with("credential", credential)?.with("credential-type", "password")
    }

    /// An extension of WHEP, for instance `core:server-sent-events`; none is ever required of a client.
    ///
    /// # Errors
    /// [`LinkError`] if the target is not plain ASCII.
    pub fn whep_extension(target: &str, name: &str) -> Result<Self, LinkError> {
        Self::new(target, &format!("urn:ietf:params:whep:ext:{name}"))
    }

    fn new(target: &str, relation: &str) -> Result<Self, LinkError> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"');
        if target.is_empty() || !target.bytes().all(is_plain) {
            return Err(LinkError::Target(target.escape_debug().to_string()));
        }
        Ok(Self { target: target.to_owned(), relation: relation.to_owned(), parameters: Vec::new() })
    }

    /// The same link with one more parameter.
    ///
    /// # Errors
    /// [`LinkError`] if the value has control characters or is not ASCII.
    pub fn with(mut self, name: &'static str, value: &str) -> Result<Self, LinkError> {
        if !value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(LinkError::Parameter(name));
        }
        self.parameters.push((name, value.to_owned()));
        Ok(self)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>; rel=\"{}\"", self.target, self.relation)?;
        for (name, value) in &self.parameters {
            write!(f, "; {name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))?;
        }
        Ok(())
    }
}

/// Parameters may be secrets.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link(<{}>; rel=\"{}\")", self.target, self.relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w37_ice_servers_are_quoted() {
        let stun = Link::ice_server("stun:stun.example.net").expect("link");
        assert_eq!(stun.to_string(), r#"<stun:stun.example.net>; rel="ice-server""#);
        let turn = Link::turn_server("turn:turn.example.net?transport=udp", "user", "pa\"ss").expect("link");
        assert_eq!(
            turn.to_string(),
            r#"<turn:turn.example.net?transport=udp>; rel="ice-server"; username="user"; credential="pa\"ss"; credential-type="password""#
        );
        assert!(!format!("{turn:?}").contains("ss"), "a log shows no credentials");
    }

    #[test]
    fn w41_an_extension_is_one_link_with_its_urn() {
        let link = Link::whep_extension("https://a.example/sse/1", "core:server-sent-events")
            .and_then(|link| link.with("events", "active,inactive"))
            .expect("link");
        assert_eq!(
            link.to_string(),
            r#"<https://a.example/sse/1>; rel="urn:ietf:params:whep:ext:core:server-sent-events"; events="active,inactive""#
        );
    }

    #[test]
    fn nothing_breaks_out_of_the_header() {
        for bad in ["", "stun:a>b", "stun:a\r\nX: y", "stun:a b", "stun:\u{e4}"] {
            assert!(Link::ice_server(bad).is_err(), "{bad:?}");
        }
        assert!(Link::turn_server("turn:a", "u\r\nX: y", "p").is_err());
    }
}
