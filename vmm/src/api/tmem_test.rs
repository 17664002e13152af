use std::time::{Duration, Instant};

use tmem_device::tier::disk::DiskConfig;

use super::*;
use crate::devices::virtio::tmem::{SpillConfig, TmemConfig};
use crate::metrics::Exposition;

/// Contents that do not compress.
pub(in crate::api) fn page(number: u64) -> [u8; 4096] {
    let mut state = number.wrapping_mul(2) | 1;
    std::array::from_fn(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

#[test]
fn what_was_spilled_is_a_tier_and_pages_are_counted_by_pool() {
    const SPILLED: u64 = 64 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let config = TmemConfig {
        size: 8 << 20,
        spill: Some(SpillConfig {
            disk: DiskConfig::new(directory.path().join("spill"), SPILLED),
            dirty: Some(1 << 20),
            ephemeral: false,
        }),
        ..TmemConfig::default()
    };
    let service = TmemService::open(&config, true).expect("a pool above a file");
    let guest = service.device().guest();
    let ephemeral = guest.new_pool(PoolKind::Ephemeral).expect("a pool");
    let persistent = guest.new_pool(PoolKind::Persistent).expect("a pool");
    for number in 0..300 {
        let put = guest.put(ephemeral, &[1; _], number, &page(number));
        put.expect("room");
    }
    // Two thirds of what may be in memory alone: so much is written that half of it remains.
    for number in 0..160 {
        let put = guest.put(persistent, &[2; _], number, &page(number));
        put.expect("room");
    }
    let start = Instant::now();
    while service.pool().stats().written_pages == 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing spilled");
        std::thread::yield_now();
    }
    // It goes on meanwhile; what is in it is the same, whenever it is asked for.
    let now = TmemNow::of(&service);
    let pools: Vec<_> = now.guests[0].pools.iter().collect();
    let counted = pools.iter().map(|pool| (pool.id, pool.kind, pool.pages));
    assert_eq!(
        counted.collect::<Vec<_>>(),
        [
            (ephemeral, "ephemeral", 300),
            (persistent, "persistent", 160)
        ]
    );
    let [memory, disk] = &now.tiers[..] else {
        panic!("{:?}", now.tiers);
    };
    assert_eq!((memory.kind, disk.kind), ("ram", "disk"));
    assert_eq!(memory.size_bytes, 8 << 20);
    assert!(disk.size_bytes <= SPILLED && disk.size_bytes > SPILLED / 2);
    assert!(disk.pages > 0 && disk.pages <= 160);
    assert!(disk.data_bytes >= disk.pages * 4096 && disk.used_bytes >= disk.data_bytes);
    assert_eq!(disk.counts["refused"], 0);

    let mut exposition = Exposition::default();
    service.expose(&mut exposition);
    let metrics = exposition.into_text();
    let value = |name: &str| -> u64 {
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no {name}"));
        value.parse().expect("a number")
    };
    assert_eq!(value("vtmem_spill_size_bytes"), disk.size_bytes);
    assert!(value("vtmem_spill_pages") >= disk.pages);
    assert!(value("vtmem_pool_spilled_pages_total") > 0);
    assert!(value("vtmem_pool_data_bytes{tier=\"disk\"}") >= disk.data_bytes);
}

#[test]
fn without_a_disk_memory_is_the_only_tier() {
    let config = TmemConfig {
        size: 1 << 20,
        ..TmemConfig::default()
    };
    let service = TmemService::open(&config, true).expect("a pool");
    let now = TmemNow::of(&service);
    assert_eq!(now.tiers.len(), 1);
    let json = serde_json::to_value(&now.tiers[0]).expect("JSON");
    assert!(json.get("counts").is_none(), "{json}");
    let mut exposition = Exposition::default();
    service.expose(&mut exposition);
    assert!(!exposition.into_text().contains("spill"));
}
