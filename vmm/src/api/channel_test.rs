use std::time::Duration;

use super::*;

/// Both ends, over a line that holds little.
fn ends() -> (mpsc::Sender<DuplexStream>, mpsc::Receiver<DuplexStream>) {
    let (here, there) = tokio::io::duplex(100);
    let (streams, opened) = mpsc::channel(1);
    let (accepted, incoming) = mpsc::channel(1);
    tokio::spawn(open_over(here, opened));
    tokio::spawn(accept_over(there, accepted));
    (streams, incoming)
}

async fn stream(
    streams: &mpsc::Sender<DuplexStream>,
    incoming: &mut mpsc::Receiver<DuplexStream>,
) -> (DuplexStream, DuplexStream) {
    let (near, far) = tokio::io::duplex(PIECE);
    streams.send(far).await.expect("the channel is there");
    (near, incoming.recv().await.expect("a stream"))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let limited = tokio::time::timeout(Duration::from_secs(60), test);
        limited.await.expect("nothing hangs");
    });
}

fn bytes(count: usize, seed: usize) -> Vec<u8> {
    (0..count)
        .map(|at| (at * 31 + seed + at / 256) as u8)
        .collect()
}

#[test]
fn streams_carry_their_own_bytes_both_ways_at_once() {
    run(async {
        let (streams, mut incoming) = ends();
        let mut tasks = vec![];
        for seed in 0..20 {
            let (near, far) = stream(&streams, &mut incoming).await;
            for (end, own, other) in [(near, seed, seed + 100), (far, seed + 100, seed)] {
                tasks.push(tokio::spawn(async move {
                    let (mut reader, mut writer) = tokio::io::split(end);
                    let write = async {
                        writer
                            .write_all(&bytes(50_000, own))
                            .await
                            .expect("written");
                        writer.shutdown().await.expect("ended");
                    };
                    let mut got = vec![];
                    let read = reader.read_to_end(&mut got);
                    let (_, read) = tokio::join!(write, read);
                    read.expect("read");
                    assert!(got == bytes(50_000, other));
                }));
            }
        }
        for task in tasks {
            task.await.expect("right");
        }
    });
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    run(async {
        let (streams, mut incoming) = ends();
        let (_unread, mut stuck) = stream(&streams, &mut incoming).await;
        let fill = tokio::spawn(async move { stuck.write_all(&bytes(1 << 20, 0)).await });
        let (mut near, mut far) = stream(&streams, &mut incoming).await;
        far.write_all(b"hello").await.expect("written");
        let mut got = [0; 5];
        near.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"hello");
        assert!(!fill.is_finished());
    });
}

#[test]
fn nonsense_on_the_line_ends_it_and_harms_nothing() {
    run(async {
        for nonsense in [vec![0xff; 4096], vec![0; 3], {
            // Data and ends for streams that are not there, and one that is too long.
            let mut frames = vec![];
            for kind in [1, 2, 3] {
                frames.extend([9, 0, 0, 0, kind, 0, 0]);
            }
            frames.extend([9, 0, 0, 0, 1, 0xff, 0xff]);
            frames
        }] {
            let (mut here, there) = tokio::io::duplex(8192);
            let (accepted, mut incoming) = mpsc::channel(1);
            let served = tokio::spawn(accept_over(there, accepted));
            here.write_all(&nonsense).await.expect("written");
            drop(here);
            served.await.expect("no panic");
            assert!(incoming.recv().await.is_none());
        }
    });
}

#[test]
fn many_streams_one_after_the_other_leave_nothing_behind() {
    run(async {
        let (streams, mut incoming) = ends();
        for _ in 0..2 * STREAMS {
            let (near, far) = stream(&streams, &mut incoming).await;
            drop(near);
            drop(far);
        }
    });
}
