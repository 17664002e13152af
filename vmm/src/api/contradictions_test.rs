use std::path::Path;

use super::*;
use crate::api::boot_source::BootSourceSettings;
use crate::api::disks::{DiskId, DiskSettings};
use crate::api::quantity::Bytes;
use crate::api::spill_settings::SpillSettings;
use crate::api::tmem_settings::TmemSettings;
use crate::disk::Cache;

fn disk(id: &str, path: &str, readonly: bool) -> NamedDisk {
    NamedDisk {
        id: DiskId::try_from(id.to_owned()).expect("an id"),
        disk: DiskSettings {
            path: path.into(),
            cache: Cache::None,
            readonly,
        },
    }
}

fn spilling(path: &str) -> TmemSettings {
    TmemSettings {
        spill: Some(SpillSettings {
            path: path.into(),
            size: Bytes(8 << 20),
            dirty: None,
            cache: false,
            overwrite: false,
        }),
        ..TmemSettings::new(64 << 20)
    }
}

/// The refusal, which names all of `words`.
#[track_caller]
fn assert_refused(config: &VmConfig, words: &[&str]) {
    let error = config.check().expect_err("contradictory");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn one_file_has_one_writer_and_then_no_other_user() {
    let mut config = VmConfig {
        disks: vec![disk("root", "/x/a", true), disk("data", "/x/./a", true)],
        ..VmConfig::default()
    };
    assert_eq!(config.check(), Ok(()), "readers share");
    config.disks[1].disk.readonly = false;
    assert_refused(
        &config,
        &["disk root", "disk data", "/x/./a", "disk data is written"],
    );

    config.disks = vec![disk("swap", "/x/s", false)];
    config.tmem = Some(spilling("/x/s"));
    assert_refused(&config, &["disk swap", "tmem's spill", "/x/s"]);

    config.tmem = Some(spilling("/x/k"));
    config.boot_source = Some(BootSourceSettings {
        kernel: "/x/k".into(),
        initrd: None,
        cmdline: String::new(),
    });
    assert_refused(&config, &["the kernel", "tmem's spill"]);
    config.tmem = Some(spilling("/x/t"));
    assert_eq!(config.check(), Ok(()));
    let marks = FileUse::written("--marks", Path::new("/x/s"));
    let error = config.check_with(&[marks]).expect_err("the guest's disk");
    assert!(
        error.contains("disk swap") && error.contains("--marks"),
        "{error}"
    );
}

#[test]
fn devices_are_counted_together() {
    let disks = |count: usize| -> Vec<_> {
        (0..count)
            .map(|n| disk(&format!("d{n}"), &format!("/x/{n}"), false))
            .collect()
    };
    let mut config = VmConfig {
        disks: disks(layout::MAX_VIRTIO),
        ..VmConfig::default()
    };
    assert_eq!(config.check(), Ok(()));
    config.tmem = Some(TmemSettings::new(0));
    assert_refused(&config, &["disks and tmem"]);
    config.disks.pop();
    assert_eq!(config.check(), Ok(()));
    config = VmConfig {
        disks: disks(layout::MAX_VIRTIO + 1),
        ..VmConfig::default()
    };
    assert_refused(&config, &["devices fit"]);
}

#[test]
fn an_id_is_one_disks() {
    let config = VmConfig {
        disks: vec![disk("a", "/x/a", true), disk("a", "/x/b", true)],
        ..VmConfig::default()
    };
    assert_refused(&config, &["\"a\""]);
}

#[test]
fn what_tmem_says_of_itself_counts() {
    let mut settings = spilling("/x/t");
    if let Some(spill) = &mut settings.spill {
        spill.dirty = Some(Bytes(65 << 20));
    }
    let config = VmConfig {
        tmem: Some(settings),
        ..VmConfig::default()
    };
    assert_refused(&config, &["68157440", "67108864"]);
}
