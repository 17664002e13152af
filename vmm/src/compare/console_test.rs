use super::*;

fn feed(text: &str) -> Vec<Event> {
    Console::default().feed(text.as_bytes())
}

const GOOD: &str = r#"vtmem-result: {"workload":"scan","nanoseconds":5,"operations":2,"bytes_verified":8,"bytes_corrupt":1}"#;

#[test]
fn finds_results_among_other_lines() {
    let outcome = Outcome {
        nanoseconds: 5,
        operations: 2,
        bytes_verified: 8,
        bytes_corrupt: 1,
    };
    let text = format!("[    1.2] boot\r\nvtmem-start: scan\r\n[   2] noise {GOOD}\r\nbye");
    assert_eq!(
        feed(&text),
        [
            Event::Started(Workload::Scan),
            Event::Finished(Workload::Scan, outcome)
        ]
    );
}

#[test]
fn pieces_may_be_cut_anywhere() {
    let text = format!("{GOOD}\n");
    let mut console = Console::default();
    let events: Vec<Event> = text
        .bytes()
        .flat_map(|byte| console.feed(&[byte]))
        .collect();
    assert_eq!(events, feed(&text));
    assert_eq!(events.len(), 1);
}

#[test]
fn a_result_without_its_newline_does_not_count() {
    assert_eq!(feed(GOOD), []);
}

#[test]
fn events_can_be_passed_on() {
    let pass = GOOD.replace(
        "result: {\"workload\":\"scan\"",
        "pass: {\"workload\":\"scan\",\"pass\":1",
    );
    let driver = r#"vtmem-driver: {"mark":17,"misses_local":1,"flushes_local":2,"puts_unworthy":3,"gets_ahead":4,"drains":5}"#;
    let lines = format!(
        "vtmem-start: swap\n{driver}\n{pass}\n{GOOD}\nvtmem-failure: swap: a: b\nvtmem-failure: x\n"
    );
    let events = feed(&lines);
    assert_eq!(events.len(), 6);
    assert!(matches!(events[1], Event::Counted(17, counters) if counters.puts_unworthy == 3));
    assert!(
        matches!(events[2], Event::Passed(Workload::Scan, 1, outcome) if outcome.operations == 2)
    );
    let again: String = events.iter().map(|event| event.line() + "\n").collect();
    assert_eq!(again, lines);
}

#[test]
fn malformed_results_are_failures() {
    for line in [
        "vtmem-result: ",
        "vtmem-result: {",
        "vtmem-result: {}",
        "vtmem-result: null",
        r#"vtmem-result: {"workload":"scan","nanoseconds":-5,"operations":2,"bytes_verified":8,"bytes_corrupt":1}"#,
        r#"vtmem-result: {"workload":"dance","nanoseconds":5,"operations":2,"bytes_verified":8,"bytes_corrupt":1}"#,
        r#"vtmem-result: {"workload":"scan","nanoseconds":99999999999999999999,"operations":2,"bytes_verified":8,"bytes_corrupt":1}"#,
    ] {
        let events = feed(&format!("{line}\n"));
        assert!(
            matches!(events.as_slice(), [Event::Failed(None, _)]),
            "{line}: {events:?}"
        );
    }
    assert_eq!(
        feed("vtmem-failure: swap: out of memory\n"),
        [Event::Failed(
            Some(Workload::Swap),
            "out of memory".to_owned()
        )]
    );
    assert_eq!(
        feed("vtmem-failure: init: no: disk\n"),
        [Event::Failed(None, "init: no: disk".to_owned())]
    );
    for line in ["", "{}", r#"{"mark":300}"#] {
        let events = feed(&format!("vtmem-driver: {line}\n"));
        assert!(
            matches!(events.as_slice(), [Event::Failed(None, _)]),
            "{line}"
        );
    }
    assert_eq!(feed("vtmem-start: dance\n"), []);
}

#[test]
fn hostile_output_is_bounded() {
    let mut console = Console::default();
    for _ in 0..1000 {
        assert_eq!(console.feed(&[0xff; 1000]), []);
    }
    assert!(console.line.len() <= LONGEST_LINE);
    console.feed(&b"\n".repeat(100));
    (0..100).for_each(|n| drop(console.feed(format!("line {n}\n").as_bytes())));
    assert_eq!(
        console.last_lines().last().map(String::as_str),
        Some("line 99")
    );
    assert_eq!(console.last_lines().len(), LAST_LINES);
}
