//! The command line of `consilium slo`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct Slo {
    #[command(subcommand)]
    pub(crate) command: SloCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SloCommand {
    /// Print Prometheus rules that watch the objectives of a mesh's experts, and the mesh itself
    Rules(Rules),
}

#[derive(Debug, Args)]
pub(crate) struct Rules {
    /// The mesh
    pub(crate) mesh: PathBuf,
    /// For whom: a rule file for Prometheus, an object for its operator, or objectives from which Sloth makes rules
    #[arg(long, value_enum, default_value_t = Format::Prometheus)]
    pub(crate) format: Format,
    /// The page with an entry for each alert
    #[arg(long, value_name = "URL", default_value = "docs/slo.md")]
    pub(crate) runbook_url: String,
    /// Grafana, for links to its dashboards; links are paths when not given
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(crate) dashboard_url: String,
    /// Shares of fewer bad calls than this raise no alert; where there is little traffic, one call is a large share
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) least_bad: u32,
    /// Look only at what has this label, where one Prometheus has several meshes; may be repeated
    #[arg(long = "where", value_name = "LABEL=VALUE", value_parser = label)]
    pub(crate) scope: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Prometheus,
    Sloth,
    Operator,
}

/// A label that Prometheus takes without quotes.
fn label(text: &str) -> Result<(String, String), String> {
    let (label, value) = super::pair(text).map_err(|_| "expected LABEL=VALUE".to_owned())?;
    let begins = label.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if begins && label.chars().all(|char| char.is_ascii_alphanumeric() || char == '_') {
        Ok((label, value))
    } else {
        Err("expected a label of letters, digits and _ before the =".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_prometheus() {
        assert_eq!(label("namespace=a=b"), Ok(("namespace".to_owned(), "a=b".to_owned())));
        for wrong in ["namespace", "=clinic", "name-space=clinic", "9=clinic", "a b=c", "ä=b"] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }
}
