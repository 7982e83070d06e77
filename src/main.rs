//! The `balancer` command.

use std::process::ExitCode;

/// Gives memory back sooner and costs less per request than the system's own (measured in the README's comparison).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    balancer::cli::run()
}
