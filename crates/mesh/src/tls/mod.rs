//! TLS: which files a process has its certificates in, what is in them at the moment, and what both ends of a connection
//! make of it. New files are taken up without a restart, and every connection is made with what holds when it begins.
//! Nothing here listens or connects: `serve` and `dial` do.

mod current;
mod files;
mod material;
mod settings;

use std::fmt;

pub(crate) use self::{current::Handshake, material::client};
pub use self::{
    current::{Client, Server, Tls},
    settings::Settings,
};

/// Everything that is wrong with certificates and keys. Names settings and files, never what is in them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Error(Vec<Problem>);

/// One thing that is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The key under `tls`.
    setting: &'static str,
    what: String,
    expected: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Problem { setting, what, expected }) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}tls.{setting}: {what}; expected {expected}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
