//! `/proc/[pid]/environ`: a job can write anything into its own.
#![no_main]

use collector::attribute::ci_job::{Named, identity};
use collector::config::node::JobVariables;
use collector::run_identity::RunIdentity;
use collector::sample::environ::variable;
use wire::normal_name;

libfuzzer_sys::fuzz_target!(|content: &[u8]| {
    let variables = JobVariables {
        organization: Some("O".to_owned()),
        repository: "R".to_owned(),
        workflow: "W".to_owned(),
        job: "J".to_owned(),
        run_id: "I".to_owned(),
        run_attempt: Some("A".to_owned()),
    };
    let Named::Run(run) = identity(content, &[variables]) else { return };
    assert_eq!(variable(content, "I").map(normal_name).as_ref(), Some(&run.run_id));
    // The identity can be pushed, and every reader gets the same one back.
    let attempt = run.run_attempt;
    let again = RunIdentity::new(
        Some(&run.organization),
        &run.repository,
        &run.workflow,
        &run.job,
        &run.run_id,
        attempt,
    );
    let mut again = again.expect("an identity");
    again.ci = run.ci.clone();
    assert_eq!(again, *run);
    let context = collector::attribute::ci_job::context(content);
    assert_eq!(context.variant, run.ci.variant);
    for text in context.texts().into_iter().filter_map(|(_, text)| text) {
        assert_eq!(wire::name_fault(text), None);
    }
    assert_eq!(context.url.as_deref().and_then(wire::url_fault), None);
});
