//! The terminal on standard input: raw while a guest owns it, restored on every way out.

use std::io;
use std::sync::Mutex;

/// What the terminal was like before; `None` when it is not ours to restore.
static SAVED: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Raw mode for as long as it lives.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Switches standard input to raw mode when it is a terminal, and has a panic restore it too.
    pub fn enter() -> io::Result<Option<Self>> {
        // SAFETY: isatty only looks at the descriptor.
        if unsafe { libc::isatty(libc::STDIN_FILENO) } == 0 {
            return Ok(None);
        }
        // SAFETY: all-zero bytes are a valid termios, which tcgetattr then fills.
        let mut termios: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is to a termios of our own.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &raw mut termios) } != 0 {
            return Err(io::Error::last_os_error());
        }
        *SAVED.lock().expect("nothing panics under this lock") = Some(termios);
        // SAFETY: as above; cfmakeraw changes that termios only.
        unsafe { libc::cfmakeraw(&raw mut termios) };
        // Output keeps its newline translation: our own messages go to the same terminal.
        termios.c_oflag |= libc::OPOST | libc::ONLCR;
        apply(&termios)?;
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        Ok(Some(RawMode(())))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn apply(termios: &libc::termios) -> io::Result<()> {
    // SAFETY: the pointer is to a valid termios.
    if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, termios) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Restores the terminal if it is in raw mode.
fn restore() {
    let Ok(mut saved) = SAVED.try_lock() else {
        return;
    };
    if let Some(termios) = saved.take()
        && let Err(error) = apply(&termios)
    {
        tracing::warn!(%error, "cannot restore the terminal; `stty sane` does");
    }
}

/// What a terminal that does not know its size, such as a serial line, is taken to have.
const USUAL_SIZE: (u16, u16) = (24, 80);

/// Rows and columns of the terminal that is both standard input and standard output, if there is one.
pub fn size() -> Option<(u16, u16)> {
    // SAFETY: isatty only looks at the descriptors.
    let both =
        unsafe { libc::isatty(libc::STDIN_FILENO) != 0 && libc::isatty(libc::STDOUT_FILENO) != 0 };
    if !both {
        return None;
    }
    // SAFETY: all-zero bytes are a valid winsize, which the call fills.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a winsize of our own, which is what this request writes.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    let known = done == 0 && size.ws_row > 0 && size.ws_col > 0;
    Some(if known {
        (size.ws_row, size.ws_col)
    } else {
        USUAL_SIZE
    })
}
