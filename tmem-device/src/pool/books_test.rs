use super::*;

const GUEST: u32 = 7;
const WHOLE: u64 = WORST_PAGE;

fn books(size: u64, credit: u32) -> Books {
    let books = Books::new(size, u64::MAX, credit);
    for guest in [1, 2, 3, GUEST] {
        books.open(guest);
    }
    books
}

#[test]
fn a_promise_takes_room_from_persistent_puts_without_credit() {
    let books = books(4 * WORST_PAGE, 3);
    assert_eq!(books.grant(GUEST), 3);
    assert_eq!(books.grant(GUEST), 0, "the limit of one guest");
    assert!(books.admit_persistent(1, WHOLE));
    assert!(!books.admit_persistent(1, 1), "the rest is promised");
    for _ in 0..3 {
        assert!(books.admit_persistent(GUEST, WHOLE));
    }
    assert!(!books.admit_persistent(GUEST, 1), "the credit is spent");
    assert_eq!(books.excess(GUEST), None);
}

#[test]
fn ephemeral_pages_are_room_for_promises() {
    let books = books(2 * WORST_PAGE, 10);
    for _ in 0..2 {
        assert_eq!(books.admit_ephemeral(1, WHOLE), Admission::Granted);
    }
    assert_eq!(books.grant(GUEST), 2);
    assert!(books.admit_persistent(GUEST, WHOLE));
    assert_eq!(books.excess(GUEST), Some(1));
    assert_eq!(books.admit_ephemeral(1, 1), Admission::NeedsEviction(1));
    books.release(1, PoolKind::Ephemeral, WHOLE);
    assert_eq!(books.excess(GUEST), None);
}

#[test]
fn guests_share_what_can_be_promised() {
    let books = books(5 * WORST_PAGE, 3);
    assert_eq!((books.grant(1), books.grant(2), books.grant(3)), (3, 2, 0));
    books.revoke(1);
    assert_eq!(books.promised_to(1), 0);
    assert_eq!(books.grant(3), 3);
}

#[test]
fn an_empty_pool_promises_and_admits_nothing() {
    for size in [0, 1, PAGE_METADATA - 1] {
        let books = books(size, 1024);
        assert_eq!(books.grant(GUEST), 0);
        assert_eq!(
            books.admit_ephemeral(GUEST, PAGE_METADATA),
            Admission::Impossible
        );
        assert!(!books.admit_persistent(GUEST, PAGE_METADATA));
    }
}

/// Of two guests that put all they can, each ends with its share by weight.
#[test]
fn who_holds_most_for_its_weight_makes_room() {
    let books = books(400 << 20, 0);
    let share = |weight| Share {
        weight,
        ..Share::default()
    };
    books.set_share(1, share(1));
    books.set_share(2, share(3));
    let mut held = [0u64; 4];
    for turn in 0..4000 {
        let guest = 1 + turn % 2;
        loop {
            match books.admit_ephemeral(guest, 1 << 20) {
                Admission::Granted => break held[guest as usize] += 1,
                Admission::NeedsEviction(victim) => {
                    held[victim as usize] -= 1;
                    books.release(victim, PoolKind::Ephemeral, 1 << 20);
                }
                Admission::Impossible => panic!("there is room to be made"),
            }
        }
    }
    assert!(
        (99..=101).contains(&held[1]) && held[1] + held[2] == 400,
        "{held:?}"
    );
}

#[test]
fn no_guest_is_pushed_below_its_minimum() {
    let books = books(100 << 20, 100);
    books.set_share(
        1,
        Share {
            minimum: 20 << 20,
            ..Share::default()
        },
    );
    books.set_share(
        2,
        Share {
            weight: 1000,
            ..Share::default()
        },
    );
    for _ in 0..30 {
        assert_eq!(books.admit_ephemeral(1, 1 << 20), Admission::Granted);
    }
    let mut left = 30u64;
    for _ in 0..200 {
        match books.admit_ephemeral(2, 1 << 20) {
            Admission::NeedsEviction(1) => {
                books.release(1, PoolKind::Ephemeral, 1 << 20);
                left -= 1;
            }
            Admission::NeedsEviction(2) => books.release(2, PoolKind::Ephemeral, 1 << 20),
            other => assert_eq!(other, Admission::Granted),
        }
    }
    // A segment more, as pages go by the segment.
    assert!((20..=21).contains(&left), "{left}");
    // Neither promises nor persistent puts reach it.
    books.release(
        2,
        PoolKind::Ephemeral,
        books.sums().ephemeral - (left << 20),
    );
    let mut persistent = 0;
    while books.admit_persistent(3, 1 << 20) {
        persistent += 1;
    }
    assert!((78..=80).contains(&persistent), "{persistent}");
    assert_eq!(books.grant(3), 0);
    assert_eq!(books.admit_ephemeral(3, 10 << 20), Admission::Impossible);
}

#[test]
fn a_guest_keeps_to_its_maximum() {
    let books = books(100 << 20, 1 << 20);
    books.set_share(
        1,
        Share {
            maximum: 10 << 20,
            ..Share::default()
        },
    );
    for _ in 0..10 {
        assert_eq!(books.admit_ephemeral(1, 1 << 20), Admission::Granted);
    }
    assert_eq!(books.admit_ephemeral(1, 1), Admission::NeedsEviction(1));
    assert!(!books.admit_persistent(1, 1));
    books.release(1, PoolKind::Ephemeral, 10 << 20);
    let granted = u64::from(books.grant(1));
    assert_eq!(granted, (10 << 20) / WORST_PAGE);
    for _ in 0..granted {
        assert!(
            books.admit_persistent(1, WORST_PAGE),
            "a promise was broken"
        );
    }
    assert_eq!(books.admit_ephemeral(1, WORST_PAGE), Admission::Impossible);
}
