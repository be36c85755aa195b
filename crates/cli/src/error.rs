//! How a command ends when it does not end well: what is shown, and which exit code that is.

use std::io;

use consilium_mesh::config::Mistakes;

use crate::view;

/// Why a command did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Asked or configured wrongly; the same command will fail again.
    #[error("{}", .0.headline)]
    Usage(Trouble),
    /// What was asked for failed.
    #[error("{}", .0.headline)]
    Failed(Trouble),
    /// A router said no, or nobody did.
    #[error("{}", .0.trouble.headline)]
    Answered(Box<Answered>),
    #[error("the result cannot be written")]
    Output(#[from] io::Error),
}

/// How a call to a router ended.
#[derive(Debug)]
pub struct Answered {
    /// The same call will fail again.
    pub(crate) is_usage: bool,
    pub(crate) trouble: Trouble,
    pub(crate) failure: view::CallFailure,
}

/// Something for a person to read: what is wrong, the particulars, and what to do about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    pub headline: String,
    pub details: Vec<String>,
    pub hint: Option<String>,
}

impl Trouble {
    pub fn new(headline: impl Into<String>) -> Self {
        Self { headline: headline.into(), ..Self::default() }
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of another crate with everything that caused it.
    pub fn of(headline: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
        // Some libraries repeat their source in their own text.
        let mut details: Vec<String> = Vec::new();
        for cause in causes {
            if !details.iter().any(|said| said.contains(&cause)) {
                details.push(cause);
            }
        }
        Self { headline: headline.into(), details, hint: None }
    }
}

impl Error {
    /// Wrong files; `what` they are about.
    pub(crate) fn mistakes(what: &str, mistakes: &Mistakes) -> Self {
        let details: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let headline = match details.len() {
            1 => format!("there is a mistake in {what}"),
            many => format!("there are {many} mistakes in {what}"),
        };
        Error::Usage(Trouble { headline, details, hint: None })
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Answered(answered) if answered.is_usage => 2,
            Error::Failed(_) | Error::Answered(_) | Error::Output(_) => 1,
        }
    }

    /// There is no router, or nobody behind it, yet: the same call may well be answered later.
    pub(crate) fn is_unavailable(&self) -> bool {
        matches!(self, Error::Answered(answered) if answered.failure.code.as_deref() == Some("UNAVAILABLE"))
    }

    /// Whoever read the output has seen enough, as in `consilium ask … | head -1`. Nothing to complain about.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub fn trouble(&self) -> Trouble {
        match self {
            Error::Usage(trouble) | Error::Failed(trouble) => trouble.clone(),
            Error::Answered(answered) => answered.trouble.clone(),
            Error::Output(error) => Trouble::new(self.to_string()).with_detail(error.to_string()),
        }
    }

    /// The same for programs.
    pub(crate) fn failure(&self) -> view::CallFailure {
        match self {
            Error::Answered(answered) => answered.failure.clone(),
            Error::Usage(_) | Error::Failed(_) | Error::Output(_) => view::CallFailure::here(&self.trouble()),
        }
    }
}

impl From<Mistakes> for Error {
    fn from(mistakes: Mistakes) -> Self {
        Error::mistakes("the configuration", &mistakes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_and_nothing_is_said_twice() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner(#[source] io::Error);

        let error = Outer(Inner(io::Error::other("disk on fire")));
        assert_eq!(Trouble::of("no", &error).details, ["outer: inner", "disk on fire"]);
    }

    #[test]
    fn a_reader_that_left_is_no_trouble_and_a_full_disk_is() {
        assert!(Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_broken_pipe());
        let full = Error::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!full.is_broken_pipe());
        assert_eq!(full.exit_code(), 1);
    }
}
