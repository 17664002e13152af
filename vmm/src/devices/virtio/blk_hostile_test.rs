//! What a driver may do wrong, and a disk that is not as it was: refused request by request, and the device goes on.

use proptest::prelude::*;

use super::*;

#[test]
fn requests_that_cannot_be_done_are_errors_of_their_own() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::Writeback, false, engine);
        let space = guest();
        let guard = space.memory();
        let mut driver = Driver::start(&blk, &space, &guard);
        let sectors = DISK_SIZE / 512;
        for (kind, sector, data, expected) in [
            (IN, sectors, vec![(DATA, 512)], IOERR),
            (IN, sectors - 1, vec![(DATA, 1024)], IOERR),
            (OUT, sectors - 1, vec![(DATA, 1024)], IOERR),
            (IN, u64::MAX, vec![(DATA, 512)], IOERR),
            (OUT, u64::MAX / 512, vec![(DATA, 512)], IOERR),
            (IN, 1 << 55, vec![(DATA, 512)], IOERR),
            (IN, 0, vec![(DATA, 511)], IOERR),
            (OUT, 0, vec![(DATA, 513)], IOERR),
            (IN, 0, vec![(MEMORY_SIZE, 512)], IOERR),
            (IN, 0, vec![(DATA, 512), (MEMORY_SIZE - 256, 512)], IOERR),
            (OUT, 0, vec![(u64::MAX - 100, 512)], IOERR),
            (IN, 0, vec![(DATA, u32::MAX - 511)], IOERR),
            (2, 0, vec![(DATA, 512)], UNSUPP),
            (11, 0, vec![(DATA, 16)], UNSUPP),
            (u32::MAX, 0, vec![], UNSUPP),
            (GET_ID, 0, vec![(MEMORY_SIZE, 20)], IOERR),
        ] {
            let what = format!("{engine:?} {kind} {sector} {data:?}");
            assert_eq!(driver.run(kind, sector, &data), expected, "{what}");
            assert_eq!(driver.run(IN, 1, &[(DATA, 512)]), OK, "after {what}");
        }
        assert_eq!(image.as_file().metadata().expect("stat").len(), DISK_SIZE);
        assert!(disk_bytes(image.as_file(), 0, 512) == (0..512).map(original).collect::<Vec<_>>());
        assert_eq!(driver.line.needs_reset.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn descriptors_may_be_cut_anywhere() {
    let image = image();
    let blk = open(image.path(), Cache::Writeback, false, EngineKind::Plain);
    let space = guest();
    let guard = space.memory();
    let mut driver = Driver::start(&blk, &space, &guard);
    driver.fill(DATA, &[5; 512]);
    // The header in two, the data in the same descriptor as its end.
    let (header, status) = driver.header(OUT, 3);
    driver.fill(DATA - 6, &driver.bytes(header + 10, 6));
    let parts = [(header, 10, 0), (DATA - 6, 518, 0), (status, 1, WRITE)];
    assert_eq!(driver.run_parts(&parts, status), OK);
    assert!(disk_bytes(image.as_file(), 3 * 512, 512) == [5; 512]);
    // The status behind the data, in the same descriptor.
    let (header, _) = driver.header(IN, 3);
    let parts = [(header, 16, 0), (DATA + 0x1000, 513, WRITE)];
    assert_eq!(driver.run_parts(&parts, DATA + 0x1000 + 512), OK);
    assert!(driver.bytes(DATA + 0x1000, 512) == [5; 512]);
    // Descriptors without bytes, before and after.
    let (header, status) = driver.header(IN, 3);
    let parts = [
        (0, 0, 0),
        (header, 16, 0),
        (status, 1, WRITE),
        (0, 0, WRITE),
    ];
    assert_eq!(driver.run_parts(&parts, status), OK);
}

#[test]
fn indirect_tables_are_followed_once() {
    let image = image();
    let blk = open(image.path(), Cache::Writeback, false, EngineKind::Plain);
    let space = guest();
    let guard = space.memory();
    let mut driver = Driver::start(&blk, &space, &guard);
    let table = 0x18_0000;
    let (header, status) = driver.header(IN, 2);
    let entries = [
        (header, 16, NEXT, 1),
        (DATA, 512, NEXT | WRITE, 2),
        (status, 1, WRITE, 0),
    ];
    for (i, (address, length, flags, next)) in (0u64..).zip(entries) {
        let descriptor = RawDescriptor::from(Descriptor::new(address, length, flags, next));
        guard
            .write_obj(descriptor, GuestAddress(table + i * 16))
            .expect("in memory");
    }
    assert_eq!(driver.run_parts(&[(table, 48, INDIRECT)], status), OK);
    assert!(driver.bytes(DATA, 512) == (1024..1536).map(original).collect::<Vec<_>>());
    // Tables of a wrong size, outside of memory, and one that names itself.
    let (_, status) = driver.header(IN, 2);
    let this = RawDescriptor::from(Descriptor::new(table, 16, INDIRECT, 0));
    guard
        .write_obj(this, GuestAddress(table))
        .expect("in memory");
    for (address, length) in [
        (table, 47),
        (MEMORY_SIZE, 48),
        (table, 16),
        (table, u32::MAX),
    ] {
        assert_eq!(
            driver.run_parts(&[(address, length, INDIRECT)], status),
            NONE
        );
    }
    assert_eq!(driver.run(IN, 2, &[(DATA, 512)]), OK);
}

#[test]
fn malformed_chains_come_back() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::Writeback, false, engine);
        let space = guest();
        let guard = space.memory();
        let mut driver = Driver::start(&blk, &space, &guard);
        let (header, status) = driver.header(IN, 0);
        for (parts, expected) in [
            // No status byte at all.
            (vec![(header, 16, 0)], NONE),
            (vec![(header, 16, 0), (DATA, 512, 0)], NONE),
            // A status byte that is not in memory.
            (
                vec![(header, 16, 0), (DATA, 512, WRITE), (MEMORY_SIZE, 1, WRITE)],
                NONE,
            ),
            // Readable after writable.
            (
                vec![(DATA, 512, WRITE), (header, 16, 0), (status, 1, WRITE)],
                NONE,
            ),
            // A header that is too short, missing, or not in memory.
            (vec![(header, 15, 0), (status, 1, WRITE)], IOERR),
            (vec![(status, 1, WRITE)], IOERR),
            (vec![(MEMORY_SIZE - 8, 16, 0), (status, 1, WRITE)], IOERR),
            (vec![(u64::MAX, 16, 0), (status, 1, WRITE)], IOERR),
            // A read that brings data.
            (
                vec![(header, 16, 0), (DATA, 512, 0), (status, 1, WRITE)],
                IOERR,
            ),
        ] {
            driver.fill(status, &[NONE]);
            assert_eq!(
                driver.run_parts(&parts, status),
                expected,
                "{engine:?} {parts:x?}"
            );
        }
        // A chain that bites its tail.
        driver.describe(200, header, 16, NEXT, 201);
        driver.describe(201, DATA, 512, NEXT | WRITE, 201);
        driver.make_available(200);
        driver.ring_doorbell();
        assert_eq!(driver.collect(1), [0]);
        // A chain that leaves the table.
        driver.describe(200, header, 16, NEXT, QUEUE_SIZE);
        driver.make_available(200);
        driver.ring_doorbell();
        assert_eq!(driver.collect(1), [0]);
        assert_eq!(driver.run(IN, 0, &[(DATA, 512)]), OK);
        assert_eq!(driver.line.needs_reset.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_broken_ring_needs_a_reset_and_gets_over_it() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::Writeback, false, engine);
        let space = guest();
        let guard = space.memory();
        for jump in [300u16, u16::MAX] {
            let mut driver = Driver::start(&blk, &space, &guard);
            assert_eq!(driver.run(IN, 0, &[(DATA, 512)]), OK);
            driver
                .avail
                .idx()
                .store(driver.made_available.wrapping_add(jump));
            driver.ring_doorbell();
            let deadline = Instant::now() + Duration::from_secs(20);
            while driver.line.needs_reset.load(Ordering::SeqCst) == 0 {
                assert!(Instant::now() < deadline, "no reset asked for");
                std::thread::sleep(Duration::from_millis(1));
            }
            driver.ring_doorbell();
            blk.reset();
            assert_eq!(driver.line.needs_reset.load(Ordering::SeqCst), 1);
        }
        // A head outside of the table cannot even be given back.
        let mut driver = Driver::start(&blk, &space, &guard);
        driver.make_available(QUEUE_SIZE);
        driver.ring_doorbell();
        while driver.line.needs_reset.load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut driver = Driver::start(&blk, &space, &guard);
        assert_eq!(driver.run(IN, 0, &[(DATA, 512)]), OK);
    }
}

#[test]
fn queues_that_are_not_set_up_do_not_activate() {
    let image = image();
    let blk = open(image.path(), Cache::Writeback, false, EngineKind::Plain);
    let space = guest();
    let activate = |queues: Vec<Queue>| {
        let doorbells = queues
            .iter()
            .map(|_| EventFd::new(0).expect("an eventfd"))
            .collect();
        blk.activate(Activation {
            memory: space.clone(),
            queues,
            doorbells,
            interrupt: Arc::new(Line::default()),
            features: blk.device_features(),
        })
    };
    let mut outside = Queue::new(QUEUE_SIZE).expect("a queue");
    outside.set_used_ring_address(Some(MEMORY_SIZE as u32), None);
    outside.set_ready(true);
    for queues in [
        vec![],
        vec![Queue::new(QUEUE_SIZE).expect("a queue")],
        vec![outside],
    ] {
        assert!(matches!(
            activate(queues),
            Err(ActivateError::QueueNotReady(0))
        ));
    }
}

#[test]
fn reset_waits_and_the_device_comes_back() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::None, false, engine);
        let space = guest();
        let guard = space.memory();
        for _ in 0..20 {
            let mut driver = Driver::start(&blk, &space, &guard);
            for i in 0..32 {
                driver.request(IN, i * 8, &[(DATA + i * 4096, 4096)]);
            }
            driver.ring_doorbell();
            blk.reset();
            let used = driver.used_ring.idx().load();
            driver.fill(DATA, &[0xaa; 32 * 4096]);
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(
                driver.used_ring.idx().load(),
                used,
                "touched after the reset"
            );
            assert!(
                driver
                    .bytes(DATA, 32 * 4096)
                    .iter()
                    .all(|&byte| byte == 0xaa)
            );
        }
        blk.reset();
    }
}

#[test]
fn a_disk_cut_short_fails_only_what_it_lost() {
    for engine in engines() {
        let image = image();
        let blk = open(image.path(), Cache::Writeback, false, engine);
        let space = guest();
        let guard = space.memory();
        let mut driver = Driver::start(&blk, &space, &guard);
        image.as_file().set_len(DISK_SIZE / 2).expect("cut");
        let lost = driver.request(IN, DISK_SIZE / 1024, &[(DATA, 4096)]);
        let kept = driver.request(IN, 0, &[(DATA + 4096, 4096)]);
        driver.ring_doorbell();
        driver.collect(2);
        assert_eq!((driver.byte(lost), driver.byte(kept)), (IOERR, OK));
        assert_eq!(blk.counters().read_ops, 1);
    }
}

/// An address that is in memory, at its edges, or nowhere.
fn any_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => HEADERS..HEADERS + 64,
        4 => DATA..DATA + 0x1_0000,
        1 => MEMORY_SIZE - 600..MEMORY_SIZE + 600,
        1 => any::<u64>(),
    ]
}

fn any_length() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(16u32),
        3 => Just(1u32),
        4 => (0u32..20).prop_map(|sectors| sectors * 512),
        2 => 0u32..2000,
        1 => any::<u32>(),
    ]
}

type AnyDescriptor = (u64, u32, u16, u16);

fn any_chains() -> impl Strategy<Value = (Vec<AnyDescriptor>, Vec<u16>)> {
    let flags = prop_oneof![6 => 0u16..4, 1 => any::<u16>()];
    let descriptor = (any_address(), any_length(), flags, 0u16..40);
    (
        prop::collection::vec(descriptor, 32),
        prop::collection::vec(0u16..32, 1..16),
    )
}

fn any_headers() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let kind = prop_oneof![Just(IN), Just(OUT), Just(FLUSH), Just(GET_ID), any::<u32>()];
    let sector = prop_oneof![4 => 0..DISK_SIZE / 512 + 4, 1 => any::<u64>()];
    prop::collection::vec((kind, sector), 4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the guest puts into its descriptors: every chain comes back, the disk keeps its
    /// size, and the next well-formed request is served.
    #[test]
    fn any_chains_come_back_and_harm_nothing(
        (descriptors, heads) in any_chains(),
        headers in any_headers(),
        uring in any::<bool>(),
        cache in prop::sample::select(CACHES.to_vec()),
    ) {
        let engine = if uring { *engines().last().expect("one") } else { EngineKind::Plain };
        let image = image();
        let blk = open(image.path(), cache, false, engine);
        let space = guest();
        let guard = space.memory();
        let mut driver = Driver::start(&blk, &space, &guard);
        for (i, (kind, sector)) in (0u64..).zip(headers) {
            driver.fill(HEADERS + i * 16, &kind.to_le_bytes());
            driver.fill(HEADERS + i * 16 + 8, &sector.to_le_bytes());
        }
        for (i, (address, length, flags, next)) in (0u16..).zip(descriptors) {
            driver.describe(i, address, length, flags, next);
        }
        for head in &heads {
            driver.make_available(*head);
        }
        driver.ring_doorbell();
        driver.collect(heads.len());
        prop_assert_eq!(image.as_file().metadata().expect("stat").len(), DISK_SIZE);
        prop_assert_eq!(driver.line.needs_reset.load(Ordering::SeqCst), 0);
        driver.chains = 100;
        let status = driver.request(IN, 0, &[(DATA, 512)]);
        driver.ring_doorbell();
        driver.collect(1);
        prop_assert_eq!(driver.byte(status), OK);
    }
}
