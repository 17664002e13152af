//! What a driver believes to have of credit is what the device has promised, whatever happens in between.

use std::sync::Arc;

use proptest::prelude::*;
use tmem_device::pool::{HostPool, PoolConfig, WORST_PAGE};
use tmem_device::wire::{self, EV_CREDIT};

use super::driver::{ALL_FEATURES, Driver, Request};

const PAGES: u64 = 600;
const CREDIT: u32 = 123;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many puts, as far as there is credit for them.
    Put(u32),
    /// So many pages that were put first of those that are there.
    Flush(u32),
    Freeze(bool),
    /// To so many pages.
    Resize(u64),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u32..65).prop_map(Step::Put),
        3 => (1u32..65).prop_map(Step::Flush),
        2 => any::<bool>().prop_map(Step::Freeze),
        1 => (0..PAGES + 1).prop_map(Step::Resize),
        1 => Just(Step::Reset),
    ]
}

/// The credit of a driver that does as `guest-driver/swapdev.c`.
struct Swap {
    pool: Arc<HostPool>,
    driver: Driver,
    id: u32,
    credit: u64,
    event: u64,
    /// Indexes that may be there.
    puts: std::ops::Range<u64>,
}

impl Swap {
    fn new() -> Self {
        let pool = HostPool::new(PoolConfig {
            credit: CREDIT,
            ..PoolConfig::new(PAGES * WORST_PAGE)
        });
        let driver = Driver::new(&pool, ALL_FEATURES);
        let mut swap = Swap {
            pool,
            driver,
            id: 0,
            credit: 0,
            event: 0,
            puts: 0..0,
        };
        swap.begin();
        swap
    }

    fn begin(&mut self) {
        self.credit = self.driver.first_credit();
        self.puts = 0..0;
        self.event = self.driver.offer_event_buffer();
        self.id = {
            let new = Request::new().op(wire::OP_NEW_POOL, 0, 0, 0, wire::POOL_PERSISTENT);
            self.call(&new)[0].1
        };
    }

    fn call(&mut self, request: &Request) -> Vec<(u32, u32)> {
        let response = self.driver.call(request);
        self.credit += u64::from(response.credit);
        self.take_event();
        response.results
    }

    fn take_event(&mut self) {
        self.driver.device.serve_event_queue().expect("sound rings");
        while let Some((kind, value)) = self.driver.take_event(self.event) {
            assert_eq!(kind, EV_CREDIT);
            self.credit += value;
            self.event = self.driver.offer_event_buffer();
            self.driver.device.serve_event_queue().expect("sound rings");
        }
    }

    fn put(&mut self, count: u32) {
        let count = u64::from(count).min(self.credit);
        if count == 0 {
            return;
        }
        self.credit -= count;
        let first = self.puts.end;
        let indexes = first..first + count;
        let request = indexes.fold(Request::new(), |request, index| {
            request.put(self.id, 1, index, index as u8)
        });
        self.puts.end += count;
        let frozen = self.driver.device.guest().is_frozen();
        for (status, _) in self.call(&request) {
            assert_eq!(
                status == wire::S_OK,
                !frozen,
                "a promise, and its only exception"
            );
        }
    }

    fn flush(&mut self, count: u32) {
        let count = u64::from(count).min(self.puts.end - self.puts.start);
        if count > 0 {
            let first = self.puts.start;
            self.puts.start += count;
            self.call(&Request::new().op(wire::OP_FLUSH_RANGE, self.id, 1, first, count));
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Put(count) => self.put(count),
            Step::Flush(count) => self.flush(count),
            Step::Freeze(frozen) => self.driver.device.guest().freeze(frozen),
            Step::Resize(pages) => self.pool.set_size(pages * WORST_PAGE),
            Step::Reset => {
                self.driver.device.reset();
                self.driver.start(ALL_FEATURES);
                self.begin();
            }
        }
        self.take_event();
        let promised = self.driver.device.guest().credit();
        assert_eq!(self.credit, u64::from(promised), "after {step:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn driver_and_host_agree_on_credit(steps in prop::collection::vec(step(), 1..60)) {
        let mut swap = Swap::new();
        for step in steps {
            swap.apply(step);
        }
        // Whatever happened, swap works again once there is room.
        swap.apply(Step::Freeze(false));
        swap.apply(Step::Resize(PAGES));
        while !swap.puts.is_empty() {
            swap.apply(Step::Flush(64));
        }
        prop_assert!(swap.credit > 0, "swap is dead until the device is reset");
        swap.apply(Step::Put(64));
    }
}

/// 123 puts were refused, and 123 pages of credit that the driver did not have were kept for it.
#[test]
fn a_frozen_guest_has_its_credit_after_the_thaw() {
    let mut swap = Swap::new();
    swap.apply(Step::Freeze(true));
    for _ in 0..10 {
        swap.apply(Step::Put(64));
    }
    swap.apply(Step::Freeze(false));
    swap.apply(Step::Put(1));
    assert!(swap.credit >= 64, "{}", swap.credit);
}
