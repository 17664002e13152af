use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings() -> Settings {
    Settings {
        minimum: 64 * MIB,
        ..Settings::new(GIB)
    }
}

fn host(available: u64) -> Sample {
    Sample {
        available: Some(available),
        ..Sample::default()
    }
}

/// A full pool whose pages the kernel may all take.
fn full(target: u64) -> Usage {
    Usage {
        used: target,
        reclaimable: target,
    }
}

#[test]
fn it_shrinks_at_once_and_grows_slowly() {
    let mut decider = Decider::new(settings(), seconds(0));
    let decision = decider.step(seconds(1), &host(400 * MIB), full(GIB));
    assert_eq!(decision.target, 400 * MIB - (64 + 64) * MIB);
    assert_eq!(decision.reason, Reason::HostShort);
    // Room again: for ten seconds nothing, then 64 MiB a second.
    let mut targets = Vec::new();
    for now in 2..40 {
        targets.push(decider.step(seconds(now), &host(4 * GIB), full(272 * MIB)));
    }
    assert!(
        targets[..9]
            .iter()
            .all(|decision| decision.reason == Reason::Waiting)
    );
    assert_eq!(
        targets[9],
        Decision {
            target: 336 * MIB,
            reason: Reason::Quiet
        }
    );
    assert_eq!(targets[10].target, 400 * MIB);
    assert_eq!(
        *targets.last().expect("many"),
        Decision {
            target: GIB,
            reason: Reason::Steady
        }
    );
}

#[test]
fn other_settings_hold_at_once_however_little_they_differ() {
    let mut decider = Decider::new(settings(), seconds(0));
    decider.set_settings(Settings {
        maximum: GIB - MIB,
        ..settings()
    });
    let smaller = decider.step(seconds(1), &host(4 * GIB), full(GIB));
    assert_eq!(smaller.target, GIB - MIB);
    // A larger maximum is grown into, like any room.
    decider.set_settings(settings());
    let larger = decider.step(seconds(2), &host(4 * GIB), full(GIB));
    assert_eq!(larger.target, GIB - MIB);
    decider.set_settings(Settings {
        minimum: 2 * GIB,
        maximum: GIB,
        ..settings()
    });
    assert_eq!(decider.target(), GIB);
}

#[test]
fn persistent_pages_are_not_counted_as_available() {
    let usage = Usage {
        used: 800 * MIB,
        reclaimable: 100 * MIB,
    };
    let mut decider = Decider::new(settings(), seconds(0));
    let decision = decider.step(seconds(1), &host(228 * MIB), usage);
    // 700 stay, and 100 of the 228 are beyond the reserve.
    assert_eq!(decision.target, 800 * MIB);
}

#[test]
fn the_tighter_limit_counts_and_is_named() {
    let mut decider = Decider::new(settings(), seconds(0));
    let sample = Sample {
        available: Some(8 * GIB),
        cgroup_available: Some(300 * MIB),
        ..Sample::default()
    };
    let decision = decider.step(seconds(1), &sample, full(GIB));
    assert_eq!(
        (decision.target, decision.reason),
        (172 * MIB, Reason::CgroupShort)
    );
}

#[test]
fn pressure_takes_an_eighth_at_a_time_even_where_memory_is_said_to_be_available() {
    let mut decider = Decider::new(settings(), seconds(0));
    let sample = Sample {
        triggered: true,
        ..host(8 * GIB)
    };
    let first = decider.step(seconds(1), &sample, full(GIB));
    assert_eq!(
        (first.target, first.reason),
        (GIB * 7 / 8, Reason::Pressure)
    );
    let sample = Sample {
        pressure: Some(20.0),
        ..host(8 * GIB)
    };
    let second = decider.step(seconds(2), &sample, full(GIB));
    assert_eq!(second.target, GIB * 7 / 8 * 7 / 8);
    for now in 3..100 {
        decider.step(seconds(now), &sample, full(GIB));
    }
    assert_eq!(decider.target(), 64 * MIB, "not below the minimum");
}

#[test]
fn a_governor_that_sees_nothing_does_not_grow() {
    let mut decider = Decider::new(settings(), seconds(0));
    decider.step(seconds(1), &host(400 * MIB), full(GIB));
    let target = decider.target();
    for now in 2..100 {
        let decision = decider.step(seconds(now), &Sample::default(), full(target));
        assert_eq!(
            decision,
            Decision {
                target,
                reason: Reason::Blind
            }
        );
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    let bytes = || prop::option::weighted(0.8, 0..4 * GIB);
    let pressure = prop::option::weighted(0.5, 0.0..100.0f64);
    (bytes(), bytes(), pressure, any::<bool>()).prop_map(
        |(available, cgroup_available, pressure, triggered)| Sample {
            available,
            cgroup_available,
            pressure,
            triggered,
        },
    )
}

proptest! {
    /// Within the limits, growing only in quiet times and by the rate, and shrinking to what fits in the same step.
    #[test]
    fn it_keeps_to_its_rules(
        steps in prop::collection::vec((1u64..5000, samples(), 0..GIB, 0..GIB), 1..100),
    ) {
        let settings = settings();
        let mut decider = Decider::new(settings.clone(), Duration::ZERO);
        let (mut now, mut before, mut short) = (Duration::ZERO, GIB, Duration::ZERO);
        for (milliseconds, sample, used, reclaimable) in steps {
            let passed = Duration::from_millis(milliseconds);
            now += passed;
            let usage = Usage { used: used.max(reclaimable), reclaimable };
            let Decision { target, reason } = decider.step(now, &sample, usage);
            prop_assert!((settings.minimum..=settings.maximum).contains(&target));
            prop_assert_eq!(target, decider.target());
            if target < before {
                short = now;
            }
            if target > before {
                prop_assert_eq!(reason, Reason::Quiet);
                prop_assert!(now - short >= settings.quiet);
                prop_assert!(sample.room().is_some() && !sample.triggered);
                let growth = u128::from(settings.growth) * passed.as_millis() / 1000;
                prop_assert!(u128::from(target - before) <= growth);
            }
            if let Some(room) = sample.room() {
                let kept = usage.used - usage.reclaimable;
                let fits = kept + room.saturating_sub(settings.reserve);
                let fits = fits.max(settings.minimum);
                prop_assert!(target <= fits + fits / DEADBAND + 1, "{} does not fit {}", target, fits);
            }
            before = target;
        }
    }

    /// Memory that comes and goes every few seconds makes the pool small, not restless.
    #[test]
    fn it_does_not_swing(period in 1u64..9, low in 200u64..600, high in 2u64..8) {
        let mut decider = Decider::new(settings(), seconds(0));
        let (mut changes, mut before) = (0, decider.target());
        for now in 1..300 {
            let available = if now / period % 2 == 0 { low * MIB } else { high * GIB };
            let target = decider.step(seconds(now), &host(available), full(before)).target;
            changes += u32::from(target != before);
            before = target;
        }
        prop_assert_eq!(changes, 1);
    }
}
