use super::*;

const GUEST: u32 = 7;

#[test]
fn a_promise_takes_room_from_persistent_puts_without_credit() {
    let ledger = Ledger::new(4 * WORST_PAGE, 3);
    assert_eq!(ledger.grant(GUEST), 3);
    assert_eq!(ledger.grant(GUEST), 0, "the limit of one guest");
    assert!(ledger.admit_persistent(1, WORST_DATA));
    assert!(!ledger.admit_persistent(1, 0), "the rest is promised");
    for _ in 0..3 {
        assert!(ledger.admit_persistent(GUEST, WORST_DATA));
    }
    assert!(!ledger.admit_persistent(GUEST, 0), "the credit is spent");
    assert!(!ledger.is_over());
}

#[test]
fn ephemeral_pages_are_room_for_promises() {
    let ledger = Ledger::new(2 * WORST_PAGE, 10);
    assert_eq!(
        ledger.admit_ephemeral(Load::page(WORST_DATA, true)),
        Admission::Granted
    );
    assert_eq!(
        ledger.admit_ephemeral(Load::page(WORST_DATA, true)),
        Admission::Granted
    );
    assert_eq!(ledger.grant(GUEST), 2);
    assert!(ledger.admit_persistent(GUEST, WORST_DATA));
    assert!(ledger.is_over());
    assert_eq!(
        ledger.admit_ephemeral(Load::page(0, true)),
        Admission::NeedsEviction
    );
    ledger.evicted(Load::page(WORST_DATA, true));
    assert!(!ledger.is_over());
    assert_eq!(ledger.stats().evictions, 1);
}

#[test]
fn guests_share_what_can_be_promised() {
    let ledger = Ledger::new(5 * WORST_PAGE, 3);
    assert_eq!(
        (ledger.grant(1), ledger.grant(2), ledger.grant(3)),
        (3, 2, 0)
    );
    ledger.revoke(1);
    assert_eq!(ledger.promised_to(1), 0);
    assert_eq!(ledger.grant(3), 3);
}

#[test]
fn an_empty_pool_promises_and_admits_nothing() {
    for size in [0, 1, PAGE_METADATA - 1] {
        let ledger = Ledger::new(size, 1024);
        assert_eq!(ledger.grant(GUEST), 0);
        assert_eq!(
            ledger.admit_ephemeral(Load::page(0, true)),
            Admission::Impossible
        );
        assert!(!ledger.admit_persistent(GUEST, 0));
    }
}

#[test]
fn pages_of_an_object_that_is_there_cost_less() {
    let ledger = Ledger::new(WORST_PAGE + PAGE_METADATA, 0);
    assert!(ledger.admit_persistent(GUEST, WORST_DATA));
    assert!(!ledger.admit_persistent(GUEST, 0), "no room for an object");
    ledger.object_was_there();
    assert!(ledger.admit_persistent(GUEST, 0));
    let load = Load {
        pages: 2,
        objects: 1,
        data_bytes: WORST_DATA,
    };
    ledger.release(PoolKind::Persistent, load);
    assert_eq!(ledger.stats().used_bytes, 0);
    assert_eq!(ledger.stats().stored_pages, 0);
}
