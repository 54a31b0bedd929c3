//! Whoever publishes is told in the language of the page.

#![allow(clippy::unwrap_used, reason = "a test that meets what cannot be may panic")]

mod words;

use std::collections::BTreeSet;

use doctor::{Entry, FIGURES};

#[test]
fn every_code_has_words_in_every_language_and_no_others_have() {
    let codes: BTreeSet<&str> = Entry::ALL.iter().map(|entry| entry.name).collect();
    let figures: BTreeSet<&str> = FIGURES.iter().map(|(name, _)| *name).collect();
    let mut named = BTreeSet::new();
    let tables = words::tables();
    for (language, table) in &tables {
        assert_eq!(table.keys().map(String::as_str).collect::<BTreeSet<_>>(), codes, "{language}");
        for (code, said) in table {
            let sentences = said.what.iter().chain([&said.remedy]);
            assert!(!said.what.is_empty(), "{language}: {code}");
            for sentence in sentences {
                assert!(sentence.ends_with('.'), "{language}: {code}: {sentence}");
            }
            assert!(words::placeholders(&said.remedy).is_empty(), "{language}: {code}");
            named.extend(said.what.iter().flat_map(|what| words::placeholders(what)));
        }
    }
    assert_eq!(named, figures, "the figures that there are, and no others");
    let (_, first) = &tables[0];
    for (language, table) in &tables {
        for (code, said) in table {
            let of = |what: &[String]| -> Vec<BTreeSet<String>> {
                let names =
                    |text: &String| words::placeholders(text).into_iter().map(str::to_owned).collect();
                what.iter().map(names).collect()
            };
            assert_eq!(of(&said.what), of(&first[code].what), "{language}: {code}");
        }
    }
}
