use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;

const MIB: u64 = 1 << 20;

/// A machine that goes through a list of samples, one a second.
struct Script {
    samples: VecDeque<Sample>,
}

impl Source for Script {
    fn sample(&mut self) -> Sample {
        self.samples.pop_front().expect("not after the last")
    }

    fn wait(&mut self, timeout: Duration) -> Wake {
        assert_eq!(timeout, INTERVAL);
        if self.samples.is_empty() {
            Wake::Stop
        } else {
            Wake::Timer
        }
    }

    fn lacks(&self) -> &[String] {
        &[]
    }
}

/// A pool that is full of what the kernel may take.
#[derive(Default)]
struct Pool {
    sizes: Mutex<Vec<u64>>,
    looks: Mutex<u32>,
}

impl Governed for Pool {
    fn usage(&self) -> Usage {
        let size = self
            .sizes
            .lock()
            .expect("no panic")
            .last()
            .copied()
            .unwrap_or(1 << 30);
        Usage {
            used: size,
            reclaimable: size,
        }
    }

    fn set_size(&self, bytes: u64) {
        self.sizes.lock().expect("no panic").push(bytes);
    }

    fn find_taken(&self) {
        *self.looks.lock().expect("no panic") += 1;
    }
}

fn run(available: impl IntoIterator<Item = u64>) -> (Vec<u64>, u32, Vec<Event>) {
    let samples = available.into_iter().map(|mib| Sample {
        available: Some(mib * MIB),
        ..Sample::default()
    });
    let mut script = Script {
        samples: samples.collect(),
    };
    let (pool, events, now) = (Pool::default(), Events::default(), Cell::new(0));
    let orders = Orders::new(Some(Settings::new(1 << 30)));
    govern(&mut script, &pool, &orders, &events, || {
        now.set(now.get() + 1);
        Duration::from_secs(now.get())
    });
    let sizes = pool.sizes.into_inner().expect("no panic");
    let looks = pool.looks.into_inner().expect("no panic");
    (sizes, looks, events.after(0, Duration::ZERO))
}

#[test]
fn decisions_are_applied_and_told_once() {
    let steady = std::iter::repeat_n(8000, 60);
    let (sizes, looks, events) = run(steady
        .chain([328, 328])
        .chain(std::iter::repeat_n(8000, 40)));
    assert_eq!(sizes[0], 200 * MIB);
    assert_eq!(sizes.last(), Some(&(1 << 30)));
    assert!(sizes.is_sorted());
    // Three times in some 100 quiet seconds, and once as memory was short.
    assert_eq!(looks, 3 + 1);
    let reasons: Vec<_> = events.iter().map(|event| event.reason).collect();
    let (first, rest) = reasons.split_at(3);
    assert_eq!(first, [Reason::Steady, Reason::HostShort, Reason::Waiting]);
    let (last, rest) = rest.split_last().expect("more than three");
    assert_eq!(*last, Reason::Steady);
    assert!(rest.iter().all(|reason| *reason == Reason::Quiet));
    assert_eq!(rest.len(), sizes.len() - 1);
    assert_eq!(events[1].from - events[1].to, (1 << 30) - 200 * MIB);
    let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
}

/// A machine that runs short of memory, second by second, and whose governor is told something meanwhile.
struct Told<'a> {
    orders: &'a Orders,
    settings: VecDeque<Option<Settings>>,
    looks: u64,
}

impl Source for Told<'_> {
    fn sample(&mut self) -> Sample {
        self.looks += 1;
        Sample {
            available: Some(1000 * MIB - self.looks * 200 * MIB),
            ..Sample::default()
        }
    }

    fn wait(&mut self, _: Duration) -> Wake {
        match self.settings.pop_front() {
            None => Wake::Stop,
            Some(settings) => {
                *self.orders.settings.lock().expect("no panic") = settings;
                Wake::Timer
            }
        }
    }

    fn lacks(&self) -> &[String] {
        &[]
    }
}

#[test]
fn without_settings_the_pool_is_left_alone() {
    let settings = Some(Settings::new(1 << 30));
    let orders = Orders::new(None);
    let mut told = Told {
        orders: &orders,
        settings: [None, None, settings.clone(), settings, None, None].into(),
        looks: 0,
    };
    let (pool, events, now) = (Pool::default(), Events::default(), Cell::new(0));
    govern(&mut told, &pool, &orders, &events, || {
        now.set(now.get() + 1);
        Duration::from_secs(now.get())
    });
    assert_eq!(told.looks, 2);
    let sizes = pool.sizes.into_inner().expect("no panic");
    assert!(!sizes.is_empty() && sizes.len() <= 2, "{sizes:?}");
    let events = events.after(0, Duration::ZERO);
    assert!(events.iter().all(|event| event.number <= 2), "{events:?}");
}

#[test]
fn events_are_kept_up_to_a_number_and_waited_for() {
    let swings = (0..2000).map(|second| 4000 - second);
    let (sizes, _, events) = run(swings);
    assert!(sizes.len() < 300, "{}", sizes.len());
    assert!(events.len() <= 256);

    let events = Arc::<Events>::default();
    assert!(events.after(0, Duration::ZERO).is_empty());
    let reader = {
        let events = Arc::clone(&events);
        std::thread::spawn(move || events.after(0, Duration::from_secs(1000)))
    };
    events.add(Event {
        number: 0,
        at: Duration::ZERO,
        from: 1,
        to: 2,
        reason: Reason::Quiet,
        sample: Sample::default(),
        usage: Usage::default(),
    });
    assert_eq!(reader.join().expect("no panic")[0].number, 1);
}

#[test]
fn a_governor_of_this_machine_begins_and_ends() {
    let pool = Arc::new(Pool::default());
    let (begun, begin) = std::sync::mpsc::channel();
    let governor = Governor::start(
        Arc::clone(&pool) as Arc<dyn Governed>,
        Some(Settings::new(64 * MIB)),
        move || {
            begun
                .send(std::thread::current().name().map(str::to_owned))
                .expect("waited for")
        },
    )
    .expect("a thread");
    assert_eq!(begin.recv().expect("called").as_deref(), Some("governor"));
    let first = governor.events().after(0, Duration::from_secs(1000));
    assert_eq!(first[0].from, 64 * MIB);
    assert!(first[0].sample.available.is_some());
    governor.set_settings(None);
    assert_eq!(governor.settings(), None);
    drop(governor);
    assert_eq!(Arc::strong_count(&pool), 1);
}
