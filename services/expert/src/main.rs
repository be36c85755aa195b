//! The program `consilium-expert`. Everything is in the library's `program`.

use std::process::ExitCode;

use clap::Parser as _;
use consilium_expert::program::{self, Args};
use consilium_mesh::process;

fn main() -> ExitCode {
    process::main(program::run(Args::parse()))
}
