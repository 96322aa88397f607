//! A terminal that is drawn over again and again, and is as it was in the end.

use std::io::{self, IsTerminal, StdoutLock, Write};
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::process;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use libc::{ECHO, ICANON, STDIN_FILENO, STDOUT_FILENO, TCSANOW, VSUSP, termios, winsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What a terminal that does not tell its size is taken for.
const USUAL_WIDTH: usize = 80;
const USUAL_HEIGHT: usize = 24;

/// A screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Drawn at once by terminals that know these, so that none shows half a picture.
const BEGIN: &str = "\x1b[?2026h\x1b[H";
const END: &str = "\x1b[J\x1b[?2026l";

/// The end of a line: nothing stays of what was there before.
const LINE_END: &str = "\x1b[K\r\n";

/// See the module. It ends with the process, at `q` or a signal, or when it is dropped.
pub struct Screen {
    before: Option<termios>,
    resized: Receiver<()>,
}

/// Columns of the terminal that standard output is, if it is one.
pub fn width() -> Option<usize> {
    io::stdout().is_terminal().then(|| size().0)
}

impl Screen {
    /// The terminal that standard output is; none where it is not one.
    ///
    /// # Errors
    /// When its keys and its end cannot be waited for.
    pub fn open() -> io::Result<Option<Screen>> {
        if !io::stdout().is_terminal() {
            return Ok(None);
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let before = silence_keys();
        let (news, resized) = channel();
        let screen = Screen { before, resized };
        write!(io::stdout(), "{ENTER}")?;
        // It ends with the process.
        thread::Builder::new().name("keys".to_owned()).spawn(move || {
            let told = runtime.block_on(until_told_to_end(&news));
            // Under the lock: nothing is drawn after it.
            let mut stdout = io::stdout().lock();
            restore(&mut stdout, before.as_ref());
            process::exit(i32::from(told.is_err()));
        })?;
        Ok(Some(screen))
    }

    /// Draws what fits of these lines over what is there.
    pub fn draw(&self, lines: &[String]) -> io::Result<()> {
        let (_, height) = size();
        let mut picture = BEGIN.to_owned();
        let shown = match lines.len() > height.saturating_sub(1) {
            true => height.saturating_sub(2),
            false => lines.len(),
        };
        for line in &lines[..shown] {
            picture += line;
            picture += LINE_END;
        }
        if shown < lines.len() {
            picture += &format!("… {} more lines{LINE_END}", lines.len() - shown);
        }
        picture += END;
        let mut stdout = io::stdout().lock();
        stdout.write_all(picture.as_bytes())?;
        stdout.flush()
    }

    /// Waits for so long, or until the terminal has another size.
    pub fn pause(&self, time: Duration) {
        match self.resized.recv_timeout(time) {
            Ok(()) => while self.resized.try_recv().is_ok() {},
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(time),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore(&mut io::stdout().lock(), self.before.as_ref());
    }
}

/// Columns and lines.
fn size() -> (usize, usize) {
    let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the call writes to what it is given and keeps no pointer to it.
    unsafe { libc::ioctl(STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    match (size.ws_col, size.ws_row) {
        (0, _) | (_, 0) => (USUAL_WIDTH, USUAL_HEIGHT),
        (columns, lines) => (columns.into(), lines.into()),
    }
}

/// Keys come at once and are not shown. Returns how it was; none where there are no keys.
fn silence_keys() -> Option<termios> {
    // SAFETY: all of it may be zero, as C has it; the call writes to it and keeps no pointer to it.
    let mut before: termios = unsafe { mem::zeroed() };
    // SAFETY: as above.
    if unsafe { libc::tcgetattr(STDIN_FILENO, &raw mut before) } != 0 {
        return None;
    }
    let mut silent = before;
    silent.c_lflag &= !(ICANON | ECHO);
    // Nobody would clean up the screen for the shell.
    silent.c_cc[VSUSP] = 0;
    set_keys(&silent);
    Some(before)
}

fn set_keys(how: &termios) {
    // SAFETY: the call reads what it is given and keeps no pointer to it.
    unsafe { libc::tcsetattr(STDIN_FILENO, TCSANOW, how) };
}

fn restore(stdout: &mut StdoutLock<'_>, before: Option<&termios>) {
    let _ = stdout.write_all(LEAVE.as_bytes());
    let _ = stdout.flush();
    if let Some(before) = before {
        set_keys(before);
    }
}

/// Waits for `q`, or for a signal that ends a program; tells of another size meanwhile.
async fn until_told_to_end(resized: &Sender<()>) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut window = signal(SignalKind::window_change())?;
    // SAFETY: nobody closes standard input.
    let keys = unsafe { AsyncFd::register_with_interest(Keys, Interest::READABLE) }.ok();
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            _ = window.recv() => drop(resized.send(())),
            is_end = pressed(keys.as_ref()) => if is_end? { return Ok(()) },
        }
    }
}

/// Standard input without the lines that std waits for.
struct Keys;

impl AsRawFd for Keys {
    fn as_raw_fd(&self) -> RawFd {
        STDIN_FILENO
    }
}

/// Waits for keys, and says whether `q` is among them.
async fn pressed(keys: Option<&AsyncFd<Keys>>) -> io::Result<bool> {
    let Some(keys) = keys else { return std::future::pending().await };
    let mut ready = keys.readable().await?;
    let mut buffer = [0_u8; 64];
    // SAFETY: the call writes no more than there is room for. It is ready, so it does not wait.
    let read = unsafe { libc::read(STDIN_FILENO, buffer.as_mut_ptr().cast(), buffer.len()) };
    ready.clear_ready();
    match usize::try_from(read) {
        Err(_) => Err(io::Error::last_os_error()),
        // The keyboard is gone, and the screen with it as a rule.
        Ok(0) => Ok(true),
        Ok(read) => Ok(buffer[..read].iter().any(|key| matches!(key, b'q' | b'Q'))),
    }
}
