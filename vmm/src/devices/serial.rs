//! COM1, a 16550A whose other end is this process's standard input and output.

use std::io::{self, Read, Stdout};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use vm_superio::Trigger;
use vm_superio::serial::NoEvents;
use vmm_sys_util::eventfd::EventFd;

use crate::confine::{self, Thread};
use crate::machine::bus::BusDevice;
use crate::machine::exit::{Exit, ExitSlot};

/// Ctrl-A, then x: stop the guest, as in QEMU. Ctrl-A twice sends one.
const ESCAPE: u8 = 0x01;
const ESCAPE_STOP: u8 = b'x';
/// How long to wait for room in the guest's receive buffer before looking again, in milliseconds.
const FULL_WAIT_MS: i32 = 10;

/// An interrupt line by eventfd.
struct Line(EventFd);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

type Uart = vm_superio::Serial<Line, NoEvents, Stdout>;

/// The serial port.
pub struct Serial {
    uart: Mutex<Uart>,
}

impl Serial {
    /// A port that raises `line`.
    pub fn new(line: EventFd) -> Self {
        Serial {
            uart: Mutex::new(vm_superio::Serial::new(Line(line), io::stdout())),
        }
    }

    fn uart(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands `bytes` to the guest; returns how many found room.
    fn enqueue(&self, bytes: &[u8]) -> usize {
        let mut uart = self.uart();
        let room = uart.fifo_capacity().min(bytes.len());
        if room == 0 {
            return 0;
        }
        // In loopback mode the port takes nothing from outside, and the bytes are lost, as on a wire.
        uart.enqueue_raw_bytes(&bytes[..room]).unwrap_or(room)
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let [byte] = data {
            *byte = self.uart().read(offset as u8);
        } else {
            data.fill(0xff);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        for &byte in data {
            // A closed standard output loses what the guest prints; the guest goes on.
            if let Err(error) = self.uart().write(offset as u8, byte) {
                tracing::debug!(?error, "serial output lost");
            }
        }
    }
}

/// Carries standard input to `serial` until `exit` is set or the input ends.
pub fn spawn_input(serial: Arc<Serial>, exit: Arc<ExitSlot>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("serial-input".into())
        .spawn(move || {
            confine::enter(Thread::SerialInput);
            if let Err(error) = carry_input(&serial, &exit) {
                tracing::debug!(%error, "standard input ended");
            }
        })
}

fn carry_input(serial: &Serial, exit: &ExitSlot) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let mut pending: Vec<u8> = vec![];
    let mut escaped = false;
    loop {
        let sent = serial.enqueue(&pending);
        pending.drain(..sent);
        let full = !pending.is_empty();
        let mut fds = [
            libc::pollfd {
                fd: exit.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: if full { -1 } else { libc::STDIN_FILENO },
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        // SAFETY: the array outlives the call, and its length is passed with it.
        let ready =
            unsafe { libc::poll(fds.as_mut_ptr(), 2, if full { FULL_WAIT_MS } else { -1 }) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if fds[0].revents != 0 {
            return Ok(());
        }
        if fds[1].revents == 0 {
            continue;
        }
        let mut buffer = [0; 64];
        let count = stdin.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        for &byte in &buffer[..count] {
            match (escaped, byte) {
                (true, ESCAPE_STOP) => {
                    exit.set(Exit::Stopped);
                    return Ok(());
                }
                (false, ESCAPE) if terminal() => escaped = true,
                _ => {
                    escaped = false;
                    pending.push(byte);
                }
            }
        }
    }
}

/// Whether standard input is a terminal; only there has the escape key a meaning.
fn terminal() -> bool {
    // SAFETY: isatty only looks at the descriptor.
    unsafe { libc::isatty(libc::STDIN_FILENO) == 1 }
}
