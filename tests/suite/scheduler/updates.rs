//! Updates of jobs: batches, rollbacks, pauses, and those that change nothing.

use std::collections::BTreeSet;

use super::cluster::{Cluster, KEY, bad, job, options};
use crate::support::code;

#[test]
fn an_update_that_fails_is_undone_in_reverse() {
    let cluster = Cluster::new(options());
    let good = job(6);
    cluster.create(&good);
    let before: BTreeSet<String> = cluster.tasks().into_iter().map(|(id, _)| id).collect();
    let file = cluster.file("bad.yaml", &bad(&good));
    let output = cluster.dewar(&["job", "update", &file]);
    assert_eq!(code(&output), 1);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("update rolled back"), "{told}");
    cluster.has_exactly(KEY, 6);
    cluster.is_settled(KEY, 6);
    // The first batch was replaced and put back; the others were never touched.
    let after: BTreeSet<String> = cluster.tasks().into_iter().map(|(id, _)| id).collect();
    assert_eq!(before.intersection(&after).count(), 3);
    let view = cluster.view(KEY).expect("the job");
    assert!(
        view["instances"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["version"] == 0)
    );
}

#[test]
fn only_what_differs_is_replaced() {
    let cluster = Cluster::new(options());
    let first = job(4);
    cluster.create(&first);
    let before = cluster.tasks();
    // The same in other words, and with what is the default anyway.
    let same = first
        .replace(
            "{name: a, cmdline: 'sleep 1000'}",
            "{cmdline: 'sleep 1000', name: a, max_failures: '1'}",
        )
        .replace("batch_size: 3", "batch_size: 2");
    let told = cluster.job(&["update", &cluster.file("same.yaml", &same)]);
    assert!(
        told.contains("www/prod/web: nothing that runs changes"),
        "{told}"
    );
    assert_eq!(cluster.tasks(), before);
    // Only instance 0 sees a difference.
    let by_number = first.replace("sleep 1000", "sleep 100{{mesos.instance}}");
    let told = cluster.job(&["update", &cluster.file("number.yaml", &by_number)]);
    assert!(told.contains("3 to change, 1 unchanged"), "{told}");
    // A canary, and one instance more.
    let more = job(5).replace("sleep 1000", "sleep 2000");
    let told = cluster.job(&[
        "update",
        &cluster.file("more.yaml", &more),
        "--instances",
        "1",
    ]);
    assert!(told.contains("1 to change"), "{told}");
    let told = cluster.job(&["update", &cluster.file("more.yaml", &more)]);
    assert!(
        told.contains("3 to change, 1 to add, 1 unchanged"),
        "{told}"
    );
    cluster.has_exactly(KEY, 5);
}

#[test]
fn an_update_waits_goes_on_and_ends_where_it_is() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    let slow = job(6)
        .replace("sleep 1000", "sleep 1001")
        .replace("watch_secs: 0", "watch_secs: 300");
    cluster.job(&["update", &cluster.file("slow.yaml", &slow), "--detach"]);
    let update = |what: &str| {
        let view = cluster.view(KEY).expect("the job");
        view["update"][what].clone()
    };
    assert_eq!(update("state"), "ROLLING_FORWARD");
    cluster.job(&["pause", KEY]);
    assert_eq!(update("state"), "ROLL_FORWARD_PAUSED");
    let output = cluster.dewar(&["job", "scale", KEY, "9"]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("an update of www/prod/web is under way"),
        "{said}"
    );
    cluster.job(&["resume", KEY]);
    assert_eq!(update("state"), "ROLLING_FORWARD");
    cluster.job(&["abort", KEY]);
    assert_eq!(update("state"), "ABORTED");
    cluster.is_settled(KEY, 6);
    cluster.has_exactly(KEY, 6);
    let view = cluster.view(KEY).expect("the job");
    let new = view["instances"].as_array().expect("a list");
    assert_eq!(new.iter().filter(|one| one["version"] == 1).count(), 3);
}

#[test]
fn an_update_that_can_never_fit_touches_nothing() {
    let cluster = Cluster::new(options());
    cluster.create(&job(4));
    let before = cluster.tasks();
    let huge = job(4).replace("cpu: 0.5", "cpu: 50");
    let output = cluster.dewar(&["job", "update", &cluster.file("huge.yaml", &huge)]);
    assert_eq!(code(&output), 2);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("it can never fit: cpus: it needs 50.05"),
        "{said}"
    );
    assert_eq!(cluster.tasks(), before);
}

#[test]
fn a_failed_update_is_forgotten_when_nothing_is_to_change() {
    let cluster = Cluster::new(options());
    cluster.create(&job(2));
    let failed = cluster.dewar(&["job", "update", &cluster.file("bad.yaml", &bad(&job(2)))]);
    assert_eq!(code(&failed), 1);
    let told = cluster.job(&["update", &cluster.file("same.yaml", &job(2))]);
    assert_eq!(told, "www/prod/web: nothing that runs changes\n");
}
