//! What `--disk` takes and what it refuses.

use super::{Cache, DiskOptions, DiskOptionsError};

fn parse(text: &str) -> Result<DiskOptions, DiskOptionsError> {
    text.parse()
}

fn options(path: &str, cache: Cache, readonly: bool) -> DiskOptions {
    DiskOptions {
        path: path.into(),
        cache,
        readonly,
    }
}

#[test]
fn all_that_can_be_said() {
    for (text, expected) in [
        ("path=/a", options("/a", Cache::Writeback, false)),
        ("path=/a,cache=none", options("/a", Cache::None, false)),
        (
            "cache=writethrough,path=/a",
            options("/a", Cache::Writethrough, false),
        ),
        (
            "path=a,cache=writeback,readonly",
            options("a", Cache::Writeback, true),
        ),
        ("path=a,readonly=on", options("a", Cache::Writeback, true)),
        ("path=a,readonly=off", options("a", Cache::Writeback, false)),
        (
            "path=a,,b,,,readonly",
            options("a,b,", Cache::Writeback, true),
        ),
        ("path=a=b", options("a=b", Cache::Writeback, false)),
    ] {
        assert_eq!(parse(text), Ok(expected.clone()), "{text}");
        assert_eq!(parse(&expected.to_string()), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("", "unknown disk option ''"),
        ("cache=none", "no path given"),
        ("path=", "'path' needs a value"),
        ("path", "'path' needs a value"),
        ("path=a,cache", "'cache' needs a value"),
        ("path=a,path=b", "'path' is given twice"),
        ("path=a,readonly=yes", "not 'yes'"),
        ("path=a,cach=none", "'cach' (did you mean 'cache'?)"),
        ("file=a", "unknown disk option 'file';"),
        ("path=a,read-only", "'read-only' (did you mean 'readonly'?)"),
        (
            "path=a,cache=writethru",
            "'writethru' (did you mean 'writethrough'?)",
        ),
        ("path=a,cache=unsafe", "unknown cache mode 'unsafe';"),
        ("/disk.img", "unknown disk option '/disk.img';"),
    ] {
        let message = parse(text).expect_err(text).to_string();
        assert!(message.contains(expected), "{text}: {message}");
        assert!(!message.contains('\n'), "{text}: {message}");
    }
}
