//! The program `consilium-router`. Everything is in the library's `program`.

use std::process::ExitCode;

use clap::Parser as _;
use consilium_mesh::process;
use consilium_router::program::{self, Args};

fn main() -> ExitCode {
    process::main(program::run(Args::parse()))
}
