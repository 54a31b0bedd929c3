//! `Link` headers (RFC 8288), as far as WHIP and WHEP use them.

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) target: String,
    parameters: Vec<(String, String)>,
}

impl Link {
    /// The links of one header value, in order; what is no link is left out.
    pub(crate) fn all_of(value: &str) -> Vec<Self> {
        split(value, ',').iter().filter_map(|part| Self::parse(part)).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let (target, rest) = text.trim().strip_prefix('<')?.split_once('>')?;
        let parameter = |part: &String| {
            let (name, value) = part.split_once('=')?;
            Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
        };
        let parameters = split(rest, ';').iter().filter_map(parameter).collect();
        Some(Self { target: target.to_owned(), parameters })
    }

    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn relation(&self) -> &str {
        self.parameter("rel").unwrap_or_default()
    }
}

/// Parts between separators that stand neither in quotes nor in angle brackets.
fn split(text: &str, separator: char) -> Vec<String> {
    let (mut parts, mut is_quoted, mut is_target) = (vec![String::new()], false, false);
    for character in text.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '<' if !is_quoted => is_target = true,
            '>' if !is_quoted => is_target = false,
            _ => {}
        }
        if character == separator && !is_quoted && !is_target {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(character);
        }
    }
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_with_their_parameters() {
        let value =
            "<https://a.example/s/1,2?x=;>; rel=\"urn:x\"; events=\"a,b\", <stun:b.example>;rel=ice-server";
        let links = Link::all_of(value);
        assert_eq!(links.len(), 2);
        assert_eq!((links[0].target.as_str(), links[0].relation()), ("https://a.example/s/1,2?x=;", "urn:x"));
        assert_eq!(links[0].parameter("events"), Some("a,b"));
        assert_eq!((links[1].target.as_str(), links[1].relation()), ("stun:b.example", "ice-server"));
        assert_eq!(Link::all_of("nonsense"), []);
    }
}
