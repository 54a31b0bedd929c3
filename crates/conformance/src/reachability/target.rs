//! Which endpoints are tried.

use reqwest::Url;

use crate::offer::random;
use crate::run::{RunError, parse};

/// The endpoints of one server.
#[derive(Debug)]
pub(super) struct Target {
    pub whip: Url,
    pub whep: Url,
}

impl Target {
    /// From the address of a server, or the URL of one of its endpoints. What the URL names is watched, and published to
    /// only if `broadcast` names it: there may be somebody on air.
    pub(super) fn parse(url: &str, broadcast: Option<&str>) -> Result<Self, RunError> {
        let parsed = parse(url)?;
        let segments: Vec<&str> =
            parsed.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty()).collect();
        let endpoint = segments.iter().position(|segment| matches!(*segment, "whip" | "whep"));
        let (before, named) = match endpoint {
            Some(at) => (&segments[..at], segments.get(at + 1).copied()),
            None => (&segments[..], None),
        };
        let own = format!("check-{:08x}", u32::from_be_bytes(random()));
        let place = |protocol: &str, name: &str| {
            let mut url = parsed.clone();
            let path: Vec<&str> = before.iter().copied().chain([protocol, name]).collect();
            url.set_path(&path.join("/"));
            url.set_query(None);
            url.set_fragment(None);
            url
        };
        let whip = place("whip", broadcast.unwrap_or(&own));
        let whep = place("whep", broadcast.or(named).unwrap_or(&own));
        Ok(Self { whip, whep })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_broadcast_is_published_to_unless_it_is_named() {
        let paths = |url: &str, broadcast| {
            let target = Target::parse(url, broadcast).expect("a URL");
            (target.whip.path().to_owned(), target.whep.path().to_owned())
        };
        let (whip, whep) = paths("https://a.example/", None);
        assert!(whip.starts_with("/whip/check-") && whep.starts_with("/whep/check-"), "{whip} {whep}");
        assert_eq!(whip.replace("whip", "whep"), whep);
        for url in ["https://a.example/media/whep/show", "https://a.example/media/whip/show?x=1"] {
            let (whip, whep) = paths(url, None);
            assert!(whip.starts_with("/media/whip/check-"), "{whip}");
            assert_eq!(whep, "/media/whep/show");
        }
        let named = ("/whip/idle".to_owned(), "/whep/idle".to_owned());
        assert_eq!(paths("https://a.example/whep/show", Some("idle")), named);
        assert!(Target::parse("a.example", None).is_err());
    }
}
