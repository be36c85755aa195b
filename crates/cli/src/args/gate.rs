//! The command line of `consilium gate`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Etcd, Log};

#[derive(Debug, Args)]
pub(crate) struct Gate {
    #[command(subcommand)]
    pub(crate) command: GateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GateCommand {
    /// Measure how well a gate tells experts apart, on labelled queries and without a mesh
    #[command(after_help = ROWS)]
    Eval(Eval),
    /// Hold a mesh's gate to its file of expected routes
    Probe(Probe),
    /// Set the gates of all of a mesh's routers through etcd, without a restart
    Apply(Apply),
    /// Print what was applied
    Show(Show),
    /// Let each router go by its own file again
    Reset(Reset),
}

const ROWS: &str = "Each file has a query a line: {\"text\": \"…\", \"expert\": \"name\" or null, \"dimensions\": {…}?}. Null means \
                    that nobody should get it; in the training file those rows are background, beside the texts that \
                    are shipped. Other keys are ignored.";

#[derive(Debug, Args)]
pub(crate) struct Eval {
    /// What the gate learns from
    #[arg(long, value_name = "FILE")]
    pub(crate) train: PathBuf,
    /// What it calibrates on; folds of what it learns from when not given
    #[arg(long, value_name = "FILE")]
    pub(crate) val: Option<PathBuf>,
    /// What it is asked
    #[arg(long, value_name = "FILE")]
    pub(crate) test: PathBuf,
    /// Learn only the first so many queries of each expert, to see how far few examples reach
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) first: Option<u32>,
    /// A file with a section `gate`, such as a mesh's own; files that it names are not read, the three sets stand in for them
    #[arg(long, value_name = "FILE")]
    pub(crate) options: Option<PathBuf>,
    /// Change a setting of the gate, for example gate.max_error=0.02; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Ask the encoder every time, as if there were no cheaper way to an answer
    #[arg(long)]
    pub(crate) encoder_only: bool,
    /// The encoder, instead of the one that the options name; minilm-l6-int8 where they name none
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Where the models are
    #[arg(long, value_name = "DIRECTORY", default_value = "models/build")]
    pub(crate) models: PathBuf,
    /// Keep here what was encoded to learn from it, for the next time; what is asked is always encoded anew
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) cache: Option<PathBuf>,
    /// Draw how far stated confidences hold, and what being careful brings
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
    /// The ONNX Runtime library, libonnxruntime.so; found beside this program or in .tools/lib when not given
    #[arg(long, value_name = "FILE", env = "CONSILIUM_ONNXRUNTIME")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The mesh
    pub(crate) mesh: PathBuf,
    /// The file of expected routes, instead of the one that gate.probes names or probes.jsonl beside the mesh
    #[arg(long, value_name = "FILE")]
    pub(crate) probes: Option<PathBuf>,
    /// Only this tier of it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) tier: Vec<String>,
    /// Change a setting of the mesh file, for example gate.min_confidence=0.6; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The ONNX Runtime library, libonnxruntime.so; found beside this program or in .tools/lib when not given
    #[arg(long, value_name = "FILE", env = "CONSILIUM_ONNXRUNTIME")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// The settings: what stands under `gate` in a mesh's file, by itself or in such a file; in place of all of it but the
    /// encoder
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) place: Place,
}

/// Where a mesh meets.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The mesh; its file says which etcd it meets at
    #[arg(long, value_name = "FILE")]
    pub(crate) mesh: PathBuf,
    #[command(flatten)]
    pub(crate) etcd: Etcd,
    /// Change a setting of the mesh file, for example registry.etcd.tls.ca=ca.pem; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) log: Log,
}
