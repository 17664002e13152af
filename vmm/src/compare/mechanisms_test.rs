use super::*;
use crate::compare::policy::Policy;
use crate::compare::result::tests::sample_with_policies;

#[test]
fn what_is_off_is_set_against_everything_on() {
    let comparison = sample_with_policies();
    let rows = policy_rows(&comparison, Workload::Reread);
    assert_eq!(rows.len(), 1 + Policy::ALL.len());
    assert_eq!(rows[0][..3], ["all on", "1.50 s", ""]);
    assert_eq!(rows[1][..3], ["  no-presence", "3.00 s", "x2.00"]);
    assert_eq!(rows[1][3..5], ["60,000", "x3.00"]);
    for row in &rows {
        assert_eq!(row.len(), POLICIES.len());
    }
}

#[test]
fn without_policies_there_is_nothing_to_set_against() {
    let mut comparison = sample_with_policies();
    comparison.runs.retain(|run| run.policy.is_none());
    assert!(policy_rows(&comparison, Workload::Reread).is_empty());
    let rows = work_rows(&comparison, Workload::Reread);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].len(), WORK.len());
    assert_eq!(
        rows[0][..6],
        ["all of it", "40,000", "500", "29,000", "60", "1,000"]
    );
    comparison.runs.retain(|run| run.mode == "none");
    assert!(work_rows(&comparison, Workload::Reread).is_empty());
}
