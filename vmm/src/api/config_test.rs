use super::*;
use crate::disk::Cache;

#[test]
fn a_file_says_what_the_api_says() {
    let text = r#"
        [machine]
        memory = "512M"
        cpus = 2
        [boot-source]
        kernel = "/boot/vmlinuz"
        cmdline = "console=ttyS0 root=/dev/vda"
        [[disks]]
        id = "root"
        path = "root.img"
        cache = "none"
        [[disks]]
        id = "swap"
        path = "swap.img"
        readonly = true
        [tmem]
        size = "1G"
        compression = false
        [tmem.governor]
        minimum = "64M"
    "#;
    let config = VmConfig::parse(text).expect("a machine");
    assert_eq!(config.machine.memory.0, 512 << 20);
    assert_eq!(config.machine.cpus, 2);
    let ids: Vec<_> = config.disks.iter().map(|disk| disk.id.as_str()).collect();
    assert_eq!(ids, ["root", "swap"]);
    assert_eq!(config.disks[0].disk.cache, Cache::None);
    assert_eq!(config.disks[1].disk.cache, Cache::Writeback);
    let tmem = config.tmem.clone().expect("tmem");
    assert_eq!(tmem.size.0, 1 << 30);
    assert!(!tmem.compression);
    assert_eq!(tmem.governor.expect("a governor").minimum.0, 64 << 20);
    let json = serde_json::to_string(&config).expect("JSON");
    assert_eq!(
        serde_json::from_str::<VmConfig>(&json).expect("the same"),
        config
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_one() {
    for (text, hint) in [
        ("[machine]\nmemroy = 5", "did you mean 'memory'?"),
        ("[mashine]\ncpus = 5", "did you mean 'machine'?"),
        ("[tmem]\nsise = \"1G\"", "did you mean 'size'?"),
        (
            "[[disks]]\nid = \"a\"\npath = \"x\"\ncashe = \"none\"",
            "did you mean 'cache'?",
        ),
        (
            "[[disks]]\nid = \"a\"\npath = \"x\"\ncache = \"nonne\"",
            "did you mean 'none'?",
        ),
        (
            "[tmem]\nsize = \"1G\"\n[tmem.governor]\nminimun = 3",
            "did you mean 'minimum'?",
        ),
    ] {
        let error = VmConfig::parse(text).expect_err(text);
        assert!(error.contains(hint), "{text}: {error}");
    }
}

#[test]
fn values_out_of_bounds_are_refused() {
    for wrong in [
        "[machine]\ncpus = 9",
        "[machine]\ncpus = 0",
        "[machine]\nmemory = \"15M\"",
        "[tmem]\ncompression = true",
        "[tmem]\nsize = 5\n[tmem.share]\nminimum = 4\nmaximum = 3",
        "[tmem]\nsize = 5\n[tmem.governor]\nminimum = 6",
        "[[disks]]\nid = \"A b\"\npath = \"x\"",
        "[[disks]]\nid = \"a\"\npath = \"x\"\n[[disks]]\nid = \"a\"\npath = \"y\"",
    ] {
        assert!(VmConfig::parse(wrong).is_err(), "{wrong}");
    }
}
