//! The `balancer` command.

use std::process::ExitCode;

/// Costs less per request than the system's own, and the same on every C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    balancer::cli::run()
}
