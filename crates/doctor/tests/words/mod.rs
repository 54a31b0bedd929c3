//! The sentences that the pages have for advice in languages other than the server's own.

use std::collections::{BTreeMap, BTreeSet};

/// What a page says of one code.
pub struct Said {
    /// Alternatives for what it is; the first one counts whose figures there are.
    pub what: Vec<String>,
    /// What helps.
    pub remedy: String,
}

/// What the pages say of each code.
pub type Table = BTreeMap<String, Said>;

/// The tables of all languages.
pub fn tables() -> Vec<(&'static str, Table)> {
    let de = include_str!("../../../../web/advice-words-de.js");
    let it = include_str!("../../../../web/advice-words-it.js");
    vec![("de", table(de)), ("it", table(it))]
}

/// The names of the figures in a sentence.
pub fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

/// Reads a module: the code stands alone before what is said of it, every sentence in double quotes.
fn table(source: &str) -> Table {
    let (_, body) = source.split_once("export default {\n").unwrap();
    let entries = body.split("\n  },\n").filter_map(|entry| entry.split_once(": {\n"));
    let said = |entry: &str| {
        let (what, remedy) = entry.split_once("remedy: ").unwrap();
        assert!(what.trim_start().starts_with("what: ["), "{entry}");
        let [remedy] = &quoted(remedy)[..] else { panic!("one remedy, not {remedy}") };
        Said { what: quoted(what), remedy: remedy.clone() }
    };
    entries.map(|(code, entry)| (code.trim().trim_matches('"').to_owned(), said(entry))).collect()
}

fn quoted(text: &str) -> Vec<String> {
    assert!(!text.contains('\\'), "escapes are not read here: {text}");
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
