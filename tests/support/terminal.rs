//! A terminal that a program runs on: a pseudo-terminal, and a screen that understands what is written to it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::deadline::{eventually, eventually_some};

/// A terminal, and the program that runs on it. That is ended when dropped.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// Everything that was written to it.
    written: Arc<Mutex<Vec<u8>>>,
    program: Child,
}

impl Terminal {
    /// Runs `command` on one of so many columns and rows.
    #[track_caller]
    pub(crate) fn run(command: &Command, (columns, rows): (u16, u16)) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let open = || {
            let path = name.to_str().unwrap();
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap()
        };
        let keyboard = File::from(master);
        tcsetwinsize(&keyboard, size((columns, rows))).unwrap();
        // util-linux: makes it the controlling terminal, so that its signals come.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program());
        on_terminal.args(command.get_args());
        let set = command.get_envs();
        on_terminal.envs(set.filter_map(|(key, value)| Some((key, value?))));
        let program = on_terminal
            .env("TERM", "xterm-256color")
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            cells(rows),
            cells(columns),
            0,
        )));
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut output = keyboard.try_clone().unwrap();
        let (shown, kept) = (screen.clone(), written.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Fails when nobody has it open any more.
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..length]);
                shown.lock().unwrap().process(&bytes[..length]);
            }
        });
        Self {
            keyboard,
            screen,
            written,
            program,
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives it another size, as who drags at a window does.
    pub(crate) fn resize(&self, (columns, rows): (u16, u16)) {
        let mut screen = self.screen.lock().unwrap();
        screen.screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.keyboard, size((columns, rows))).unwrap();
    }

    /// What it shows.
    pub(crate) fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Everything that was written to it.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Whether anything on it has a colour.
    pub(crate) fn is_coloured(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        let (rows, columns) = screen.screen().size();
        let mut cells =
            (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        cells.any(|(row, column)| {
            let cell = screen.screen().cell(row, column);
            cell.is_some_and(|cell| cell.fgcolor() != vt100::Color::Default)
        })
    }

    /// Waits until it shows `text`.
    #[track_caller]
    pub(crate) fn await_text(&self, text: &str) {
        let deadline = std::panic::catch_unwind(|| eventually("", || self.text().contains(text)));
        assert!(deadline.is_ok(), "{text:?} is not shown:\n{}", self.text());
    }

    /// Whether it is as a shell wants it: lines are edited and echoed, the cursor is seen, on the usual screen.
    pub(crate) fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.keyboard).unwrap().local_modes;
        let screen = self.screen.lock().unwrap();
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            && !screen.screen().alternate_screen()
            && !screen.screen().hide_cursor()
    }

    /// Whether a program has it for itself: keys come one by one, on a screen of its own.
    pub(crate) fn is_taken(&self) -> bool {
        let modes = tcgetattr(&self.keyboard).unwrap().local_modes;
        let screen = self.screen.lock().unwrap();
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
            && screen.screen().alternate_screen()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// Whether the program is stopped, as Ctrl-Z does it.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.program.id())).unwrap();
        let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets");
        rest.starts_with('T')
    }

    /// Waits for the program to end by itself.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        eventually_some("the program ends", || self.program.try_wait().unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn size((columns, rows): (u16, u16)) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn cells(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal has rows and columns")
}
