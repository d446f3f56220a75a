//! What a master does to its scheduler: news and calls are lost, doubled, late or refused, streams
//! break, and agents come back.

use std::time::Duration;

use dewar::mesos::{
    fakes::master::{FakeMaster, Fault, Options},
    protocol::messages::scheduler::call,
};

use super::cluster::{Cluster, KEY, job, options};
use crate::support::{Bench, code, finish, wait_for};

#[test]
fn nothing_is_wanted_when_nothing_waits() {
    let cluster = Cluster::new(options());
    cluster.create(&job(2));
    let last = |calls: &[call::Type], wanted| calls.iter().rposition(|one| *one == wanted);
    let calls = wait_for("the offers to be suppressed", || {
        let calls = cluster.master.calls();
        let suppressed = last(&calls, call::Type::Suppress);
        (suppressed > last(&calls, call::Type::Revive)).then_some(calls)
    });
    assert!(calls.contains(&call::Type::Revive), "{calls:?}");
    cluster.job(&["scale", KEY, "3"]);
    let count = |calls: &[call::Type], wanted| calls.iter().filter(|one| **one == wanted).count();
    let later = cluster.master.calls();
    assert!(count(&later, call::Type::Revive) > count(&calls, call::Type::Revive));
}

#[test]
fn news_that_come_twice_and_out_of_order() {
    let cluster = Cluster::new(options());
    cluster.master.inflict(Fault::Duplicate);
    cluster.master.inflict(Fault::Reorder);
    cluster.create(&job(10));
    cluster.job(&["restart", KEY]);
    cluster.has_exactly(KEY, 10);
    cluster.is_settled(KEY, 10);
}

#[test]
fn lost_acknowledgements_are_asked_for_again() {
    let cluster = Cluster::new(Options {
        heartbeat: Duration::from_millis(100),
        ..options()
    });
    cluster.master.inflict(Fault::LoseAcknowledgements(15));
    // RUNNING is not sent before STARTING is acknowledged.
    cluster.create(&job(10));
    cluster.has_exactly(KEY, 10);
    wait_for("all acknowledgements, and those that were lost", || {
        let calls = cluster.master.calls();
        let acks = calls
            .iter()
            .filter(|call| **call == call::Type::Acknowledge);
        (acks.count() >= 35).then_some(())
    });
}

#[test]
fn a_kill_that_is_lost_on_the_way_is_repeated() {
    let cluster = Cluster::new(options());
    cluster.create(&job(3));
    cluster.master.inflict(Fault::LoseKills(2));
    cluster.job(&["scale", KEY, "1"]);
    cluster.has_exactly(KEY, 1);
}

#[test]
fn streams_that_break() {
    let cluster = Cluster::new(options());
    cluster.job(&["create", &cluster.file("job.yaml", &job(20)), "--detach"]);
    for _ in 0..5 {
        cluster.master.inflict(Fault::Drop);
        let before = cluster.master.subscriptions();
        wait_for("another subscription", || {
            (cluster.master.subscriptions() > before).then_some(())
        });
    }
    cluster
        .master
        .inflict(Fault::Down(Duration::from_millis(200)));
    cluster.is_settled(KEY, 20);
    cluster.has_exactly(KEY, 20);
}

#[test]
fn a_stream_id_that_is_wrong_means_another_subscription() {
    let cluster = Cluster::new(options());
    cluster.create(&job(1));
    let before = cluster.master.subscriptions();
    cluster.master.inflict(Fault::WrongStreamId(1));
    cluster.job(&["scale", KEY, "4"]);
    assert!(cluster.master.subscriptions() > before);
    cluster.has_exactly(KEY, 4);
}

#[test]
fn a_master_that_says_nothing_is_gone() {
    let cluster = Cluster::new(Options {
        heartbeat: Duration::from_millis(100),
        ..options()
    });
    cluster.create(&job(1));
    cluster.master.inflict(Fault::Silence);
    let before = cluster.master.subscriptions();
    wait_for("another subscription", || {
        (cluster.master.subscriptions() > before).then_some(())
    });
    cluster.job(&["scale", KEY, "3"]);
    cluster.has_exactly(KEY, 3);
}

#[test]
fn offers_that_are_rescinded_while_they_are_accepted() {
    let cluster = Cluster::new(options());
    cluster.master.inflict(Fault::RescindAccepted(3));
    cluster.create(&job(6));
    cluster.has_exactly(KEY, 6);
}

#[test]
fn the_leading_master_is_found() {
    let leader = FakeMaster::start(options()).expect("a master");
    let follower = FakeMaster::start(Options {
        leader: Some(leader.address()),
        ..Options::default()
    });
    let follower = follower.expect("a master");
    // The first one of the list is not even there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let dead_address = dead.local_addr().expect("an address").to_string();
    drop(dead);
    let masters = format!("{dead_address},{}", follower.address());
    let cluster = Cluster::with(Options::default(), &["--master", &masters]);
    cluster.create(&job(2));
    assert_eq!(leader.look(|master| master.tasks().len()), 2);
    drop(cluster);
    leader.look(|master| assert_eq!(master.violations(), &[] as &[String]));
}

#[test]
fn an_agent_that_was_away_comes_back_to_find_itself_replaced() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    cluster.master.change(|master| master.lose("one"));
    // Within its first seconds a scheduler waits for news before it gives anything up.
    wait_for("the replacements", || {
        let on_two = cluster
            .tasks()
            .iter()
            .filter(|(_, agent)| agent == "two")
            .count();
        (on_two == 6).then_some(())
    });
    assert_eq!(cluster.tasks().len(), 9, "the lost ones are still there");
    cluster.master.change(|master| master.reregister("one"));
    cluster.has_exactly(KEY, 6);
    cluster.is_settled(KEY, 6);
}

#[test]
fn a_master_that_forgot_everything_is_told_nothing_new() {
    let cluster = Cluster::new(options());
    cluster.create(&job(6));
    let before = cluster.tasks();
    cluster.master.change(|master| {
        master.fail_over();
        Vec::new()
    });
    cluster.master.inflict(Fault::Drop);
    wait_for("the questions", || {
        let view = cluster.view(KEY)?;
        (view["totals"]["unreachable"] == 6).then_some(())
    });
    for name in ["one", "two"] {
        cluster.master.change(|master| master.reregister(name));
    }
    cluster.is_settled(KEY, 6);
    assert_eq!(cluster.tasks(), before);
}

#[test]
fn the_master_may_want_to_know_who_we_are() {
    let basic = "Basic d3d3OnNlY3JldA==".to_owned();
    let guarded = || Options {
        authorization: Some(basic.clone()),
        ..options()
    };
    let bench = Bench::new();
    let good = bench.file("good", "www secret\n").display().to_string();
    let wrong = bench.file("wrong", "www nonsense\n").display().to_string();
    let cluster = Cluster::with(guarded(), &["--credential", &good]);
    cluster.create(&job(1));
    let mut cluster = Cluster::with(guarded(), &["--credential", &wrong]);
    let output = finish(cluster.scheduler.take().expect("a scheduler"));
    assert_eq!(code(&output), 1);
}
