//! Text to [`Session`].

use super::{ATTRIBUTES_MAX, Attribute, BYTES_MAX, Connection, FORMATS_MAX, MEDIA_MAX, Media, Session};

/// Why a text is no session description. Line numbers start at 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Above [`BYTES_MAX`].
    #[error("the description has {bytes} bytes; at most {BYTES_MAX} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A description begins with its version.
    #[error("the description does not begin with the line v=0")]
    Version,
    /// Not `x=...`.
    #[error("line {line} is not of the form 'letter=value'")]
    Line {
        /// Where.
        line: usize,
    },
    /// A control character within a line.
    #[error("line {line} has a control character")]
    ControlCharacter {
        /// Where.
        line: usize,
    },
    /// The `o=` line is missing.
    #[error("the description has no o= line")]
    OriginMissing,
    /// The `o=` line has not six fields.
    #[error("line {line} is not an origin: user, session id, version, IN, IP4 or IP6, address")]
    Origin {
        /// Where.
        line: usize,
    },
    /// The `m=` line is wrong.
    #[error("line {line} is not a media line: kind, port, protocol, formats")]
    Media {
        /// Where.
        line: usize,
    },
    /// More sections than [`MEDIA_MAX`].
    #[error("the description has more than {MEDIA_MAX} media sections")]
    TooManyMedia,
    /// More attributes than [`ATTRIBUTES_MAX`].
    #[error("the description has more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
}

pub(super) fn session(text: &str) -> Result<Session, ParseError> {
    if text.len() > BYTES_MAX {
        return Err(ParseError::TooLong { bytes: text.len() });
    }
    let mut lines = numbered_lines(text);
    let Some((_, "v=0")) = lines.next() else { return Err(ParseError::Version) };

    let mut origin = None;
    let mut name = None;
    let mut connection = None;
    let mut attributes = Vec::new();
    let mut media: Vec<Media> = Vec::new();
    let mut attribute_count = 0;
    for (line, content) in lines {
        let (letter, value) = split_line(line, content)?;
        match letter {
            b'm' if media.len() == MEDIA_MAX => return Err(ParseError::TooManyMedia),
            b'm' => media.push(media_line(value).ok_or(ParseError::Media { line })?),
            b'a' => {
                attribute_count += 1;
                if attribute_count > ATTRIBUTES_MAX {
                    return Err(ParseError::TooManyAttributes);
                }
                let section = media.last_mut().map_or(&mut attributes, |media| &mut media.attributes);
                section.push(attribute_line(value).ok_or(ParseError::Line { line })?);
            }
            b'o' if media.is_empty() && origin.is_none() => {
                origin = Some(origin_line(value).ok_or(ParseError::Origin { line })?);
            }
            b's' if media.is_empty() && name.is_none() => name = Some(value.trim()),
            b'c' => {
                let of_section = media.last_mut().map_or(&mut connection, |media| &mut media.connection);
                *of_section = of_section.or_else(|| Connection::parse(value));
            }
            // Bandwidth, times and the rest do not matter to anybody here (RFC 8829, section 5.8).
            _ => {}
        }
    }
    let origin = origin.ok_or(ParseError::OriginMissing)?;
    let name = name.filter(|name| !name.is_empty()).unwrap_or("-").to_owned();
    Ok(Session { origin, name, connection, attributes, media })
}

/// Lines with their numbers; empty ones are left out (some clients end with several line ends).
fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.is_empty())
}

fn split_line(line: usize, content: &str) -> Result<(u8, &str), ParseError> {
    let [letter @ b'a'..=b'z', b'=', ..] = content.as_bytes() else { return Err(ParseError::Line { line }) };
    if content.chars().any(|character| character.is_control() && character != '\t') {
        return Err(ParseError::ControlCharacter { line });
    }
    Ok((*letter, &content[2..]))
}

fn origin_line(value: &str) -> Option<String> {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let [_, session_id, version, _, _, _] = words[..] else { return None };
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(session_id) && is_number(version)).then(|| words.join(" "))
}

/// The value of an `m=` line.
pub(crate) fn media_line(value: &str) -> Option<Media> {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next()?.to_owned();
    let port = words.next()?.parse().ok()?;
    let protocol = words.next()?.to_owned();
    let formats: Vec<String> = words.map(str::to_owned).collect();
    let fits = (1..=FORMATS_MAX).contains(&formats.len());
    fits.then_some(Media { kind, port, protocol, formats, connection: None, attributes: Vec::new() })
}

/// The value of an `a=` line.
pub(crate) fn attribute_line(value: &str) -> Option<Attribute> {
    let (name, value) = match value.split_once(':') {
        Some((name, value)) => (name, Some(value.trim().to_owned())),
        None => (value.trim(), None),
    };
    (!name.is_empty()).then(|| Attribute { name: name.to_owned(), value })
}
