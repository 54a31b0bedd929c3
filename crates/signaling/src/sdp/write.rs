//! [`Session`] to text, with CRLF line ends (RFC 8866, section 5).

use std::fmt;

use super::{Attribute, Media, Session};

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=0\r\no={}\r\ns={}\r\n", self.origin, self.name)?;
        if let Some(connection) = self.connection {
            write!(f, "c={connection}\r\n")?;
        }
        f.write_str("t=0 0\r\n")?;
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))?;
        self.media.iter().try_for_each(|media| media.fmt(f))
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} {} {} {}\r\n", self.kind, self.port, self.protocol, self.formats.join(" "))?;
        match self.connection {
            Some(connection) => write!(f, "c={connection}\r\n")?,
            // The address is in the candidates (RFC 8829, section 5.3.1).
            None => f.write_str("c=IN IP4 0.0.0.0\r\n")?,
        }
        self.attributes.iter().try_for_each(|attribute| attribute.fmt(f))
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "a={}:{value}\r\n", self.name),
            None => write!(f, "a={}\r\n", self.name),
        }
    }
}
