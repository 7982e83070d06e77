//! The terminal: taken, given back in every way out, and read.

use std::io::{self, Stdout, Write, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc::Sender;

/// The terminal, as long as it is ours. Given back when dropped, and before a panic is told.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes it.
    pub(super) fn take() -> io::Result<Self> {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back();
            tell(panic);
        }));
        Ok(Self {
            terminal: taken().inspect_err(|_| give_back())?,
        })
    }

    pub(super) fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.terminal
    }

    /// Gives it back, stops the process as Ctrl-Z does, and takes it again when it goes on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        // Nobody can keep a process from stopping by this one, and so it has stopped when this returns.
        kill_process(getpid(), Signal::STOP)?;
        self.take_again()
    }

    /// Takes it as it is by now: somebody else may have had it, and have drawn on it.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        // What it was like is looked at anew only where it was given back.
        give_back();
        self.terminal = taken()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether it is ours. Written by whoever takes or gives back, read by those who give back: only the first one does.
static TAKEN: AtomicBool = AtomicBool::new(false);

fn taken() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)?;
    Terminal::new(CrosstermBackend::new(stdout()))
}

fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // A terminal that is gone needs nothing.
        let _ = execute!(stdout(), Show, LeaveAlternateScreen);
        let _ = stdout().flush();
        let _ = disable_raw_mode();
    }
}

/// Sends what is typed, and that the size has changed, until the terminal is gone or nobody reads.
pub(super) fn read_keys(sender: Sender<Event>) -> io::Result<()> {
    let read = move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("keys".to_owned());
    thread.spawn(read).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::env::current_exe;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[ignore = "takes the terminal it is run on, and panics: the test below gives it one of its own"]
    fn screen_before_a_panic() {
        let _screen = Screen::take().unwrap();
        panic!("told on the usual screen");
    }

    #[test]
    fn terminal_is_given_back_before_a_panic_is_told() {
        let this = current_exe().unwrap();
        let test = "--ignored --nocapture --exact cli::top::terminal::tests::screen_before_a_panic";
        let commands = format!("stty cols 80 rows 24; {} {test}; stty -a", this.display());
        let script = Command::new("script")
            .args(["--quiet", "--command", &commands, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&script.stdout).into_owned();
        let at = |text: &str| {
            said.find(text)
                .unwrap_or_else(|| panic!("{text:?}: {said:?}"))
        };
        let (taken, back) = (at("\x1b[?1049h"), at("\x1b[?1049l"));
        assert!(
            taken < back && back < at("told on the usual screen"),
            "{said:?}"
        );
        assert_eq!(said.matches("\x1b[?1049l").count(), 1, "{said:?}");
        let after = &said[back..];
        assert!(after.contains("\x1b[?25h") || said[..back].contains("\x1b[?25h"));
        assert!(
            after.contains(" icanon") && after.contains(" echo "),
            "{after}"
        );
    }
}
