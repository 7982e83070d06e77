//! `balancer completions` and `balancer man`: what a shell and `man` are told of the command line.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print completions for a shell.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Which one.
    shell: Shell,
}

/// Completions, on standard output.
pub fn completions(args: &Args) -> ExitCode {
    let mut text = Vec::new();
    let mut command = super::Command::command();
    clap_complete::generate(args.shell, &mut command, "balancer", &mut text);
    printed(io::stdout().write_all(&text))
}

/// The manual page, on standard output.
pub fn man() -> ExitCode {
    let mut text = Vec::new();
    let page = clap_mangen::Man::new(super::Command::command());
    let rendered = page.render(&mut text).and_then(|()| {
        // Commands have options of their own, which the page of the whole does not list.
        for command in super::Command::command().get_subcommands() {
            writeln!(text, ".SH BALANCER {}", command.get_name().to_uppercase())?;
            let page = clap_mangen::Man::new(command.clone());
            page.render_description_section(&mut text)?;
            page.render_options_section(&mut text)?;
        }
        io::stdout().write_all(&text)
    });
    printed(rendered)
}

fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("balancer: {error}");
            ExitCode::FAILURE
        }
    }
}
