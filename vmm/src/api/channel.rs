//! Many streams over the one line between a lab and this host.
//!
//! A frame is a stream's number (32 bits), a kind (8 bits), a length (16 bits), little-endian, and that many bytes. Each end
//! sends one piece of a stream and waits until the other end has passed it on: so neither needs room for more than one
//! piece of a stream, and a stream that nobody reads holds up no other.

use std::collections::HashMap;
use std::io;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf,
};
use tokio::sync::mpsc;

/// Bytes of a frame at most.
pub const PIECE: usize = 8 << 10;

/// Streams that one end opens at most at once.
const STREAMS: usize = 256;

/// Frames that wait for the line.
const WAITING: usize = 64;

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// There is a new stream.
    Open = 0,
    /// Its next bytes.
    Data = 1,
    /// The bytes have been passed on.
    Taken = 2,
    /// There will be no more.
    End = 3,
}

struct Frame {
    stream: u32,
    kind: Kind,
    bytes: Vec<u8>,
}

const HEADER: usize = 7;

impl Frame {
    fn new(stream: u32, kind: Kind) -> Self {
        Frame {
            stream,
            kind,
            bytes: vec![],
        }
    }

    async fn read(line: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
        let mut header = [0; HEADER];
        line.read_exact(&mut header).await?;
        let [a, b, c, d, kind, low, high] = header;
        let kind = match kind {
            0 => Kind::Open,
            1 => Kind::Data,
            2 => Kind::Taken,
            3 => Kind::End,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length > PIECE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; length];
        line.read_exact(&mut bytes).await?;
        let stream = u32::from_le_bytes([a, b, c, d]);
        Ok(Frame {
            stream,
            kind,
            bytes,
        })
    }

    async fn write(&self, line: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let length = u16::try_from(self.bytes.len()).map_err(io::Error::other)?;
        let mut whole = Vec::with_capacity(HEADER + self.bytes.len());
        whole.extend(self.stream.to_le_bytes());
        whole.push(self.kind as u8);
        whole.extend(length.to_le_bytes());
        whole.extend(&self.bytes);
        line.write_all(&whole).await
    }
}

/// What the far end says of a stream.
struct Stream {
    data: mpsc::Sender<Vec<u8>>,
    taken: mpsc::Sender<()>,
}

impl Stream {
    fn is_open(&self) -> bool {
        !self.data.is_closed() || !self.taken.is_closed()
    }
}

/// The end that opens streams: those that come by `opened`. Ends with the line, or when nobody can open one any more.
pub async fn open_over(
    line: impl AsyncRead + AsyncWrite + Send + 'static,
    mut opened: mpsc::Receiver<DuplexStream>,
) {
    let (reader, writer) = tokio::io::split(line);
    let (frames, written) = mpsc::channel(WAITING);
    tokio::spawn(write(writer, written));
    let (heard, mut incoming) = mpsc::channel(1);
    let reading = tokio::spawn(read(reader, heard));
    let mut streams = HashMap::new();
    let mut next = 0_u32;
    loop {
        tokio::select! {
            stream = opened.recv() => {
                let Some(stream) = stream else { break };
                streams.retain(|_, stream: &mut Stream| stream.is_open());
                if streams.len() >= STREAMS {
                    continue;
                }
                let number = next;
                next = next.wrapping_add(1);
                streams.insert(number, carry(number, stream, &frames));
                if frames.send(Frame::new(number, Kind::Open)).await.is_err() {
                    break;
                }
            }
            frame = incoming.recv() => {
                let Some(frame) = frame else { break };
                take(&mut streams, frame);
            }
        }
    }
    reading.abort();
}

/// The end that takes streams up, and hands them to `accepted`. Ends with the line; or when nobody takes streams any more,
/// and what was written to them has been sent.
pub async fn accept_over(
    line: impl AsyncRead + AsyncWrite + Send + 'static,
    accepted: mpsc::Sender<DuplexStream>,
) {
    let (reader, writer) = tokio::io::split(line);
    let (frames, written) = mpsc::channel(WAITING);
    let writing = tokio::spawn(write(writer, written));
    let (heard, mut incoming) = mpsc::channel(1);
    let reading = tokio::spawn(read(reader, heard));
    let mut streams = HashMap::new();
    loop {
        let frame = tokio::select! {
            frame = incoming.recv() => frame,
            () = accepted.closed() => None,
        };
        let Some(frame) = frame else { break };
        if frame.kind != Kind::Open {
            take(&mut streams, frame);
            continue;
        }
        streams.retain(|_, stream: &mut Stream| stream.is_open());
        if streams.len() >= STREAMS || streams.contains_key(&frame.stream) {
            continue;
        }
        let (near, far) = tokio::io::duplex(PIECE);
        streams.insert(frame.stream, carry(frame.stream, near, &frames));
        if accepted.send(far).await.is_err() {
            break;
        }
    }
    reading.abort();
    // Who carries a stream sends the piece that it has, and ends; then so does who writes.
    drop((streams, frames));
    let _ = writing.await;
}

async fn write(mut line: WriteHalf<impl AsyncWrite>, mut frames: mpsc::Receiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        if let Err(error) = frame.write(&mut line).await {
            tracing::debug!(%error, "the lab's channel has ended");
            return;
        }
    }
}

async fn read(mut line: ReadHalf<impl AsyncRead>, heard: mpsc::Sender<Frame>) {
    while let Ok(frame) = Frame::read(&mut line).await {
        if heard.send(frame).await.is_err() {
            return;
        }
    }
}

/// Hands a frame to its stream. One that is not there any more, or is sent more than it has asked for, loses it.
fn take(streams: &mut HashMap<u32, Stream>, frame: Frame) {
    let Some(stream) = streams.get_mut(&frame.stream) else {
        return;
    };
    match frame.kind {
        Kind::Open => {}
        Kind::Data => drop(stream.data.try_send(frame.bytes)),
        Kind::Taken => drop(stream.taken.try_send(())),
        // No bytes stand for no more of them.
        Kind::End => drop(stream.data.try_send(vec![])),
    }
}

/// Carries a stream's bytes both ways, until both have ended.
fn carry(number: u32, stream: DuplexStream, frames: &mpsc::Sender<Frame>) -> Stream {
    let (reader, writer) = tokio::io::split(stream);
    let (data, received) = mpsc::channel(2);
    let (taken, acknowledged) = mpsc::channel(1);
    tokio::spawn(send(number, reader, frames.clone(), acknowledged));
    tokio::spawn(receive(number, writer, frames.clone(), received));
    Stream { data, taken }
}

async fn send(
    number: u32,
    mut stream: ReadHalf<DuplexStream>,
    frames: mpsc::Sender<Frame>,
    mut acknowledged: mpsc::Receiver<()>,
) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let frame = Frame {
            stream: number,
            kind: Kind::Data,
            bytes: buffer[..count].to_vec(),
        };
        if frames.send(frame).await.is_err() || acknowledged.recv().await.is_none() {
            return;
        }
    }
    // Fails when the line has ended.
    let _ = frames.send(Frame::new(number, Kind::End)).await;
}

async fn receive(
    number: u32,
    mut stream: WriteHalf<DuplexStream>,
    frames: mpsc::Sender<Frame>,
    mut received: mpsc::Receiver<Vec<u8>>,
) {
    while let Some(bytes) = received.recv().await
        && !bytes.is_empty()
    {
        // Who does not read any more is not told of; the far end goes on to its own end.
        let _ = stream.write_all(&bytes).await;
        if frames.send(Frame::new(number, Kind::Taken)).await.is_err() {
            break;
        }
    }
    // Fails when nobody reads.
    let _ = stream.shutdown().await;
}

#[cfg(test)]
#[path = "channel_test.rs"]
mod tests;
