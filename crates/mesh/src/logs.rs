//! Structured logs on standard error: text where a person looks at a terminal, JSON lines where a machine reads.
//! Content never gets into them; that is the business of whoever logs, and of the redacted `Debug` of messages.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::layer::panics;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    Text,
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log level {level:?} is none; expected error, warn, info, debug, trace or target=level, comma separated")]
    Level { level: String, source: tracing_subscriber::filter::ParseError },
    #[error("logs were set up twice")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Sets up the process's logs and takes over its panic hook, whose default would print a panic's message. `level` is
/// what `--log` or `CONSILIUM_LOG` say; an empty one means `info`.
///
/// # Errors
/// [`Error::Level`] when the level cannot be read, [`Error::Twice`] the second time.
pub fn init(level: &str, format: Format) -> Result<(), Error> {
    let filter = filter(level)?;
    let text = match format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if text {
        builder.with_target(false).compact().try_init().map_err(Error::Twice)?;
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init()
            .map_err(Error::Twice)?;
    }
    panics::install();
    Ok(())
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let wanted = if level.is_empty() { "info" } else { level };
    EnvFilter::builder().parse(wanted).map_err(|source| Error::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_or_named() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        filter("warn,consilium_mesh=debug").unwrap();
        let error = filter("consilium=loud").unwrap_err();
        assert!(error.to_string().contains("consilium=loud"), "{error}");
    }
}
