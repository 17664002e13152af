use super::*;
use crate::progress::Silent;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

fn cache() -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cache = Cache::open(Some(directory.path().join("cache"))).expect("open");
    (directory, cache)
}

fn key(value: &str) -> Key {
    KeyBuilder::new().add("input", value).finish()
}

/// Builds an entry with one file.
fn build(cache: &Cache, content: &str) -> Result<PathBuf> {
    cache.entry("thing", &key("a"), &mut Silent, |directory, _| {
        fs::write(directory.join("file"), content).map_err(ImagesError::io("write", directory))
    })
}

fn content(entry: &Path) -> String {
    fs::read_to_string(entry.join("file")).expect("the entry's file")
}

#[test]
fn keys_differ_with_every_input() {
    let make = |inputs: &[(&str, &str)]| {
        let mut builder = KeyBuilder::new();
        for (name, value) in inputs {
            builder.add(name, value);
        }
        builder.finish()
    };
    let keys = [
        make(&[]),
        make(&[("a", "")]),
        make(&[("a", "b")]),
        make(&[("ab", "")]),
        make(&[("b", "a")]),
        make(&[("a", "b"), ("c", "d")]),
        make(&[("c", "d"), ("a", "b")]),
        make(&[("a", "bcd")]),
        KeyBuilder::new().add_recipe(&["x"]).finish(),
        KeyBuilder::new().add_recipe(&["y"]).finish(),
    ];
    for (i, one) in keys.iter().enumerate() {
        for other in &keys[..i] {
            assert_ne!(one, other);
        }
    }
    assert_eq!(make(&[("a", "b")]), make(&[("a", "b")]));
}

#[test]
fn keys_follow_the_content_of_files() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let of = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("write");
        let mut builder = KeyBuilder::new();
        builder.add_file("file", &path).expect("readable").finish()
    };
    assert_eq!(of("one", "same"), of("two", "same"));
    assert_ne!(of("one", "same"), of("one", "other"));
    let error = KeyBuilder::new()
        .add_file("file", &directory.path().join("none"))
        .err();
    assert!(error.expect("no such file").to_string().contains("none"));
}

#[test]
fn builds_once() {
    let (_directory, cache) = cache();
    let first = build(&cache, "first").expect("built");
    let second = build(&cache, "second").expect("found");
    assert_eq!(first, second);
    assert_eq!(content(&second), "first");
    let entries = cache.list().expect("listed");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(entries[0].complete);
    assert!(entries[0].bytes > 0);
}

#[test]
fn failed_builds_leave_nothing() {
    let (_directory, cache) = cache();
    let failed = cache.entry("thing", &key("a"), &mut Silent, |directory, _| {
        fs::write(directory.join("file"), "half").expect("write");
        Err(ImagesError::Other("no luck".to_owned()))
    });
    assert_eq!(failed.expect_err("failed").to_string(), "no luck");
    assert_eq!(cache.list().expect("listed"), []);
    assert_eq!(content(&build(&cache, "whole").expect("built")), "whole");
}

#[test]
fn full_disks_are_called_so() {
    let (_directory, cache) = cache();
    let failed = cache.entry("thing", &key("a"), &mut Silent, |directory, _| {
        Err(ImagesError::io("write", directory)(
            std::io::ErrorKind::StorageFull.into(),
        ))
    });
    let message = failed.expect_err("failed").to_string();
    assert!(message.contains("no space left"), "{message}");
    assert!(message.contains("XDG_CACHE_HOME"), "{message}");
}

/// What a killed builder leaves: a directory beside the entries' places, and files that its orphans still write.
#[test]
fn killed_builds_are_not_taken_for_complete() {
    let (_directory, cache) = cache();
    let place = build(&cache, "whole").expect("built");
    let name = place.file_name().expect("a name").to_str().expect("ASCII");
    let partial = cache.root().join(format!("{PARTIAL}{name}-abc"));
    fs::rename(&place, &partial).expect("rename");
    let listed = cache.list().expect("listed");
    assert_eq!(listed.len(), 1);
    assert!(listed[0].name.starts_with(PARTIAL));

    assert_eq!(content(&build(&cache, "new").expect("built")), "new");
    assert!(!partial.exists(), "left-overs go with the next build");
}

#[test]
fn damaged_entries_are_built_anew() {
    let damages: [fn(&Path); 5] = [
        |place| fs::remove_file(place.join(STAMP)).expect("remove"),
        |place| fs::write(place.join(STAMP), "vtmem-ima").expect("write"),
        |place| fs::remove_file(place.join("file")).expect("remove"),
        |place| fs::write(place.join("file"), "who").expect("write"),
        |place| fs::write(place.join(STAMP), format!("{FORMAT}\n5 fi")).expect("write"),
    ];
    for (number, damage) in damages.iter().enumerate() {
        let (_directory, cache) = cache();
        let place = build(&cache, "whole").expect("built");
        assert!(is_complete(&place));
        damage(&place);
        assert!(!is_complete(&place), "damage {number}");
        let again = build(&cache, "again").expect("built");
        assert_eq!(content(&again), "again", "damage {number}");
    }
}

#[test]
fn concurrent_builders_build_once() {
    const BUILDERS: u32 = 8;
    let (_directory, cache) = cache();
    let builds = AtomicU32::new(0);
    let start = Barrier::new(BUILDERS as usize);
    std::thread::scope(|scope| {
        for _ in 0..BUILDERS {
            scope.spawn(|| {
                start.wait();
                let entry = cache.entry("thing", &key("a"), &mut Silent, |directory, _| {
                    builds.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(50));
                    fs::write(directory.join("file"), "once").expect("write");
                    Ok(())
                });
                assert_eq!(content(&entry.expect("built or found")), "once");
            });
        }
    });
    assert_eq!(builds.load(Ordering::Relaxed), 1);
}

#[test]
fn who_waits_says_so() {
    struct Notes(mpsc::Sender<String>);
    impl Progress for Notes {
        fn step(&mut self, _what: &str) {}
        fn position(&mut self, _done: u64, _total: u64) {}
        fn note(&mut self, line: &str) {
            self.0.send(line.to_owned()).expect("somebody listens");
        }
        fn finish(&mut self) {}
    }
    let (_directory, cache) = cache();
    let (sender, notes) = mpsc::channel();
    let held = cache.lock("thing-x", &mut Silent).expect("free");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| cache.lock("thing-x", &mut Notes(sender)).map(drop));
        let note = notes
            .recv_timeout(Duration::from_secs(10))
            .expect("a waiter says so");
        assert!(note.contains("thing-x"), "{note}");
        drop(held);
        waiter
            .join()
            .expect("the waiter ends")
            .expect("with the lock");
    });
}

#[test]
fn clean_leaves_what_is_being_built_and_what_is_not_ours() {
    let (_directory, cache) = cache();
    let place = build(&cache, "x").expect("built");
    fs::create_dir(cache.root().join("not-ours")).expect("create");
    let busy = cache.root().join(format!("{PARTIAL}busy-{:020}-abc", 1));
    fs::create_dir(&busy).expect("create");
    let lock = cache
        .lock(&format!("busy-{:020}", 1), &mut Silent)
        .expect("free");

    assert!(cache.clean().expect("cleaned") > 0);
    assert!(!place.exists());
    assert!(busy.exists());
    drop(lock);
    cache.clean().expect("cleaned");
    assert!(!busy.exists());
    assert!(cache.root().join("not-ours").exists());
    assert_eq!(cache.list().expect("listed"), []);
}

#[test]
fn the_place_follows_the_xdg_specification() {
    let root = |xdg: Option<&str>, home: Option<&str>| {
        default_root(xdg.map(Into::into), home.map(Into::into))
    };
    let ok = |xdg, home| root(xdg, home).expect("a place");
    assert_eq!(ok(Some("/x"), Some("/h")), Path::new("/x/vtmem"));
    assert_eq!(ok(None, Some("/h")), Path::new("/h/.cache/vtmem"));
    assert_eq!(
        ok(Some("relative"), Some("/h")),
        Path::new("/h/.cache/vtmem")
    );
    assert_eq!(ok(Some(""), Some("/h")), Path::new("/h/.cache/vtmem"));
    let message = root(None, None).expect_err("no place").to_string();
    assert!(message.contains("XDG_CACHE_HOME"), "{message}");
}
