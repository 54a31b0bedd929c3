//! Log set-up: human on a terminal, JSON otherwise, on standard error.

mod identified;

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::Identity;
use identified::{Identified, Who};

/// Who writes the log of this process.
static WHO: Who = Who::unknown();

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line, its fields flat.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The filter cannot be understood.
    #[error("the log filter {filter:?} cannot be understood: {reason}")]
    Filter {
        /// The text.
        filter: String,
        /// Why.
        reason: String,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice,
}

/// Sets up the log of this process, on standard error.
///
/// # Errors
/// If the filter cannot be understood, or there is a log already.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let is_terminal = io::stderr().is_terminal();
    let subscriber = subscriber(format, filter, is_terminal, (io::stderr, &WHO))?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)
}

/// From now on each JSON line says which node has written it.
pub fn identify(identity: &Identity) {
    WHO.identify(identity);
}

/// Whether a filter can be understood.
///
/// # Errors
/// [`LogError::Filter`] says why not.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(|_| ())
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter { filter: filter.into(), reason: error.to_string() })
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    is_terminal: bool,
    (writer, who): (W, &'static Who),
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parse(filter)?;
    let is_human = match format {
        Format::Auto => is_terminal,
        Format::Human => true,
        Format::Json => false,
    };
    let lines = if is_human {
        fmt::layer().with_writer(writer).with_ansi(is_terminal).boxed()
    } else {
        let writer = Identified { inner: writer, who };
        fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
    };
    Ok(Registry::default().with(filter).with(lines))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use model::{NodeId, Role, TreeId};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("lock").clone()).expect("text")
        }
    }

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, is_terminal: bool, act: impl FnOnce()) -> String {
        static NOBODY: Who = Who::unknown();
        logged_by(&NOBODY, format, is_terminal, act)
    }

    fn logged_by(who: &'static Who, format: Format, is_terminal: bool, act: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let writer = (move || writer.clone(), who);
        let subscriber = subscriber(format, "info", is_terminal, writer).expect("set up");
        tracing::subscriber::with_default(subscriber, act);
        written.text()
    }

    #[test]
    fn without_a_terminal_every_line_is_a_json_object() {
        let text = logged(Format::Auto, false, || tracing::info!(broadcast = "demo", "published"));
        let line = text.trim();
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        for part in [r#""level":"INFO""#, r#""message":"published""#, r#""broadcast":"demo""#] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn a_json_line_says_who_has_written_it_as_soon_as_that_is_known() {
        static WHO: Who = Who::unknown();
        let identity = |node: &str| Identity {
            tree: TreeId::new("main").expect("id"),
            node: NodeId::new(node).expect("id"),
            role: Role::Egress,
        };
        let text = logged_by(&WHO, Format::Json, false, || {
            tracing::info!("early");
            WHO.identify(&identity("out-1"));
            WHO.identify(&identity("out-2"));
            tracing::info!("late");
        });
        let [early, late] = text.lines().collect::<Vec<_>>()[..] else { panic!("two lines, not {text}") };
        assert!(early.starts_with(r#"{"timestamp""#) && !early.contains("out-1"), "{early}");
        let who = r#"{"tree_id":"main","node_id":"out-1","node_type":"egress","timestamp":""#;
        assert!(late.starts_with(who) && late.contains(r#""message":"late""#), "{late}");
        let human = logged_by(&WHO, Format::Human, false, || tracing::info!("{{late}}"));
        assert!(!human.contains("out-1"), "{human}");
    }

    #[test]
    fn on_a_terminal_or_by_order_lines_are_for_people() {
        for (format, is_terminal) in [(Format::Auto, true), (Format::Human, false)] {
            let text = logged(format, is_terminal, || tracing::info!("published"));
            assert!(text.contains("INFO") && !text.starts_with('{'), "{text}");
        }
        let piped = logged(Format::Human, false, || tracing::info!("published"));
        assert!(!piped.contains('\u{1b}'), "colours in a pipe: {piped}");
    }

    #[test]
    fn what_the_filter_leaves_out_is_not_written_and_a_bad_filter_is_refused() {
        let text = logged(Format::Json, false, || {
            tracing::debug!("one");
            tracing::info!("two");
        });
        assert!(!text.contains("one") && text.contains("two"), "{text}");
        assert!(matches!(check_filter("no=such=thing"), Err(LogError::Filter { .. })));
    }
}
