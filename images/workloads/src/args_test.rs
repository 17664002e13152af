use super::*;

fn parse(arguments: &[&str]) -> Result<Args, String> {
    Args::parse(arguments.iter().map(|a| (*a).to_owned()))
}

#[test]
fn takes_both_spellings_and_the_last_value() {
    let mut args = parse(&["--seed", "3", "--mem=128", "--seed=4"]).unwrap();
    assert_eq!(args.take("seed", 1u64), Ok(4));
    assert_eq!(args.take("mem", 0u64), Ok(128));
    assert_eq!(args.take("threads", 2u32), Ok(2));
    assert_eq!(args.finish(), Ok(()));
}

#[test]
fn refuses_what_it_does_not_know() {
    assert!(parse(&["seed"]).is_err());
    assert!(parse(&["--seed"]).is_err());
    assert!(parse(&["--seed", "x"]).unwrap().take("seed", 1u64).is_err());
    assert!(
        parse(&["--sed", "1"])
            .unwrap()
            .finish()
            .unwrap_err()
            .contains("--sed")
    );
}
