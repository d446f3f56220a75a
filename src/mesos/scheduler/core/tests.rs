//! Single decisions: which agent an instance gets, when it is launched again, what is sent
//! meanwhile.

use std::collections::BTreeMap;

use super::{
    agent::Offer,
    amounts::{Amounts, Ports, UNLIMITED},
    core::SchedulerCore,
    decision::{Call, Decision, Event, StatusUpdate},
    request::{Answer, Refusal, RefusalKind, Request},
    settings::Settings,
    state::State,
    task_ids::task_id,
};
use crate::{config::JobSource, mesos::protocol::messages::TaskState, task::Job};

/// A job of one small service, with these fields more.
pub(super) fn job(more: &str) -> Job {
    let text = format!(
        "name: web\nservice: true\n{more}\ntask: {{resources: {{cpu: 1, ram: 128MiB, disk: 64MiB}}, processes: [{{name: a, cmdline: sleep 1}}]}}\n"
    );
    let source = JobSource {
        job: &text,
        role: "www",
        ..JobSource::default()
    };
    match Job::read(&source) {
        Ok((job, _)) => job,
        Err(mistakes) => panic!("{}", mistakes.diagnostics.render(&text, "job", false)),
    }
}

const KEY: &str = "www/devel/web";

/// An agent's name, cores, devices and attributes.
type Offered<'a> = (&'a str, u64, u64, &'a [(&'a str, &'a str)]);

struct Play {
    core: SchedulerCore,
    now: u64,
    offers: u32,
}

impl Play {
    fn new() -> Play {
        let mut play = Play {
            core: SchedulerCore::new(Settings::default(), State::default(), 0),
            now: 1_000_000,
            offers: 0,
        };
        play.handle(Event::Subscribed("f".to_owned()));
        play
    }

    fn handle(&mut self, event: Event) -> Decision {
        self.core.handle(event, self.now)
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Refusal> {
        self.core.request(request, self.now).0
    }

    fn create(&mut self, job: Job) {
        self.ask(Request::Create(Box::new(job))).expect("a job");
    }

    fn offer(&mut self, agents: &[Offered<'_>]) -> Decision {
        let offers = agents.iter().map(|(name, cpus, gpus, attributes)| {
            self.offers += 1;
            let attributes = attributes.iter();
            Offer {
                id: format!("o{}", self.offers),
                agent: (*name).into(),
                hostname: (*name).into(),
                attributes: attributes
                    .map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]))
                    .collect::<BTreeMap<_, _>>(),
                amounts: Amounts::of([cpus * 1000, 8_000_000, 8_000_000, gpus * 1000]),
                ports: Ports::default(),
            }
        });
        let offers = offers.collect();
        self.handle(Event::Offers(offers))
    }

    /// The agents of the job's instances.
    fn places(&self) -> Vec<String> {
        let job = self.core.job(KEY).expect("the job");
        let hosts = job.instances.into_iter().map(|one| one.host);
        hosts.map(Option::unwrap_or_default).collect()
    }

    fn news(&mut self, serial: u64, state: TaskState) -> Decision {
        let task = &self.core.state().tasks[&serial];
        let heard = StatusUpdate {
            task: task_id(serial, task),
            state,
            agent: Some(task.agent.to_string()),
            uuid: Some(vec![1]),
            healthy: None,
            message: "as told".to_owned(),
            reason: String::new(),
        };
        self.handle(Event::Update(heard))
    }

    fn state(&self, instance: usize) -> &'static str {
        self.core.job(KEY).expect("the job").instances[instance]
            .state
            .name()
    }
}

const PLAIN: &[(&str, &str)] = &[];

#[test]
fn instances_are_spread_and_then_packed() {
    let mut play = Play::new();
    play.create(job("instances: 4"));
    play.offer(&[
        ("big", 16, 0, PLAIN),
        ("small", 4, 0, PLAIN),
        ("tiny", 1, 0, PLAIN),
    ]);
    // One core is not enough for an instance and its executor; the fuller one comes first.
    assert_eq!(play.places(), ["small", "big", "small", "big"]);
}

#[test]
fn devices_are_spared_for_those_who_want_them() {
    let mut play = Play::new();
    play.create(job("instances: 3"));
    play.offer(&[("gpu", 16, 4, PLAIN), ("plain", 3, 0, PLAIN)]);
    assert_eq!(play.places(), ["plain", "plain", "gpu"]);
}

#[test]
fn a_dedicated_agent_is_for_its_job_only() {
    let mut play = Play::new();
    let dedicated: &[(&str, &str)] = &[("dedicated", "db")];
    play.create(job("instances: 1"));
    let decision = play.offer(&[("d", 16, 0, dedicated)]);
    assert!(matches!(decision.calls.as_slice(), [Call::Decline { .. }]));
    let why = play.core.job(KEY).expect("the job").why;
    assert_eq!(
        why.as_deref(),
        Some("no agent may have it: 1 agent dedicated to other jobs")
    );
    play.create(Job {
        name: "db".to_owned(),
        ..job("constraints: {dedicated: db}")
    });
    let decision = play.offer(&[("d", 16, 0, dedicated)]);
    assert!(matches!(decision.calls.as_slice(), [Call::Accept { .. }]));
    assert_eq!(play.places(), [""]);
}

#[test]
fn who_matters_more_comes_first() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.create(Job {
        name: "zeus".to_owned(),
        ..job("priority: 10")
    });
    play.offer(&[("one", 2, 0, PLAIN)]);
    assert_eq!(play.places(), [""]);
    assert_eq!(
        play.core
            .job("www/devel/zeus")
            .expect("zeus")
            .totals
            .starting,
        1
    );
}

#[test]
fn pauses_grow_while_it_keeps_ending_and_begin_anew_when_it_lasted() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    let mut pauses = Vec::new();
    for round in 0..5 {
        play.offer(&[("one", 4, 0, PLAIN)]);
        let serial = play.core.state().serial;
        play.news(serial, TaskState::TaskRunning);
        play.now += if round == 3 { 400_000 } else { 10 };
        play.news(serial, TaskState::TaskFailed);
        let view = play.core.job(KEY).expect("the job");
        pauses.push(view.instances[0].until.unwrap_or(play.now) - play.now);
        // It is the only agent, so the instance does not wait for another one.
        play.now += 400_000;
        play.handle(Event::Tick);
    }
    assert_eq!(pauses, [1_000, 2_000, 4_000, 0, 1_000]);
}

#[test]
fn another_agent_is_preferred_to_one_that_it_failed_on() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.offer(&[("a", 4, 0, PLAIN), ("b", 8, 0, PLAIN)]);
    assert_eq!(play.places(), ["a"]);
    play.news(1, TaskState::TaskFailed);
    play.now += 1_000;
    play.handle(Event::Tick);
    // The other agent is known to be large enough: the instance waits for it, but not for ever.
    play.offer(&[("a", 4, 0, PLAIN)]);
    assert_eq!(play.state(0), "PENDING");
    let due = play.core.next_due().expect("something");
    assert_eq!(due, play.now + 3_000);
    play.offer(&[("a", 4, 0, PLAIN), ("b", 8, 0, PLAIN)]);
    assert_eq!(play.places(), ["b"]);
    play.news(2, TaskState::TaskFailed);
    play.now += 60_000;
    play.handle(Event::Tick);
    play.offer(&[("a", 4, 0, PLAIN)]);
    assert_eq!(play.places(), ["a"], "it failed everywhere, and has waited");
}

#[test]
fn what_a_master_does_not_know_is_lost_only_after_a_while() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskRunning);
    play.news(1, TaskState::TaskUnknown);
    assert_eq!(play.state(0), "UNREACHABLE");
    play.now += 59_000;
    play.handle(Event::Tick);
    assert_eq!(play.state(0), "UNREACHABLE");
    play.now += 2_000;
    play.handle(Event::Tick);
    assert_eq!(play.state(0), "PENDING");
    // It comes back after all: it is not wanted any more.
    let decision = play.news(1, TaskState::TaskRunning);
    let kills = decision
        .calls
        .iter()
        .filter(|call| matches!(call, Call::Kill { .. }));
    assert_eq!(kills.count(), 1);
    assert_eq!(play.state(0), "PENDING");
}

#[test]
fn a_running_task_that_nobody_launched_is_ended() {
    let mut play = Play::new();
    let heard = |state| StatusUpdate {
        task: "www-devel-web-0-77".to_owned(),
        state,
        agent: Some("a".to_owned()),
        uuid: None,
        healthy: None,
        message: String::new(),
        reason: String::new(),
    };
    let decision = play.handle(Event::Update(heard(TaskState::TaskRunning)));
    assert!(matches!(decision.calls.as_slice(), [Call::Kill { .. }]));
    let decision = play.handle(Event::Update(heard(TaskState::TaskFailed)));
    assert_eq!(decision.calls, []);
}

#[test]
fn news_are_acknowledged_with_what_they_changed() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    let first = play.news(1, TaskState::TaskRunning);
    assert_eq!((first.facts.len(), first.calls.len()), (1, 1));
    let again = play.news(1, TaskState::TaskRunning);
    assert_eq!((again.facts.len(), again.calls.len()), (0, 1));
}

#[test]
fn refusals_say_what_is_the_matter() {
    let mut play = Play::new();
    play.create(job("instances: 2"));
    let refused = |answer: Result<Answer, Refusal>| {
        let refusal = answer.expect_err("a refusal");
        (refusal.kind, refusal.message)
    };
    let some = |number| std::collections::BTreeSet::from([number]);
    let cases = [
        (
            Request::Create(Box::new(job(""))),
            (
                RefusalKind::Conflict,
                "there is a job www/devel/web already",
            ),
        ),
        (
            Request::Kill(KEY.to_owned(), some(7)),
            (RefusalKind::Unknown, "there is no instance 7"),
        ),
        (
            Request::Scale(KEY.to_owned(), 0),
            (RefusalKind::Invalid, "0 instances: 1 to 100000 can be"),
        ),
        (
            Request::Abort(KEY.to_owned()),
            (
                RefusalKind::Conflict,
                "no update of www/devel/web is under way",
            ),
        ),
        (
            Request::Undrain {
                host: "nowhere".to_owned(),
            },
            (RefusalKind::Conflict, "nowhere is not drained"),
        ),
    ];
    for (request, (sort, message)) in cases {
        assert_eq!(refused(play.ask(request)), (sort, message.to_owned()));
    }
}

fn reconciles(decision: &Decision) -> usize {
    let asks = decision.calls.iter();
    asks.filter(|call| matches!(call, Call::Reconcile(_)))
        .count()
}

#[test]
fn a_master_that_knows_nothing_is_not_asked_again_at_once() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskRunning);
    play.now += 100_000;
    let mut asked = reconciles(&play.news(1, TaskState::TaskUnknown));
    for _ in 0..10 {
        asked += reconciles(&play.news(1, TaskState::TaskUnknown));
    }
    assert_eq!(asked, 1);
}

#[test]
fn one_chain_of_questions_however_often_it_subscribes() {
    let mut play = Play::new();
    for _ in 0..5 {
        play.handle(Event::Subscribed("f".to_owned()));
    }
    play.now += 700_000;
    assert_eq!(reconciles(&play.handle(Event::Tick)), 1);
}

#[test]
fn a_job_is_gone_although_nobody_hears_of_its_old_agent() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskRunning);
    play.news(1, TaskState::TaskUnreachable);
    play.now += 10_000;
    play.handle(Event::Tick);
    play.offer(&[("b", 4, 0, PLAIN)]);
    play.news(2, TaskState::TaskRunning);
    play.ask(Request::Kill(KEY.to_owned(), [].into()))
        .expect("a kill");
    play.news(2, TaskState::TaskKilled);
    assert!(play.core.job(KEY).is_none());
    play.create(job("instances: 1"));
}

fn running(play: &mut Play) {
    let serials: Vec<u64> = play.core.state().tasks.keys().copied().collect();
    for serial in serials {
        match play.core.state().tasks[&serial].kill_requested {
            true => play.news(serial, TaskState::TaskKilled),
            false => play.news(serial, TaskState::TaskRunning),
        };
    }
}

fn with_command(command: &str, more: &str) -> Job {
    let mut job = job(more);
    job.task = job.task.replace("sleep 1", command);
    job
}

/// Kills, launches and runs everything until nothing changes any more.
fn calm_down(play: &mut Play) {
    for _ in 0..20 {
        running(play);
        play.now += 6_000;
        play.handle(Event::Tick);
        play.offer(&[("a", 16, 0, PLAIN), ("b", 16, 0, PLAIN)]);
    }
}

#[test]
fn a_restart_after_a_canary_and_its_whole() {
    let mut play = Play::new();
    let quick = "instances: 3\nupdate_config: {watch_secs: 0, batch_size: 3}";
    play.create(job(quick));
    calm_down(&mut play);
    let next = with_command("sleep 2", quick);
    play.ask(Request::Update {
        job: Box::new(next.clone()),
        only: [0].into(),
        force: false,
    })
    .expect("a canary");
    calm_down(&mut play);
    play.ask(Request::Update {
        job: Box::new(next),
        only: [].into(),
        force: false,
    })
    .expect("the whole");
    calm_down(&mut play);
    play.ask(Request::Restart(KEY.to_owned(), [].into()))
        .expect("a restart");
    calm_down(&mut play);
    let view = play.core.job(KEY).expect("the job");
    assert_eq!(
        view.update.expect("an update").state.name(),
        "ROLLED_FORWARD"
    );
    assert_eq!(view.totals.running, 3);
}

#[test]
fn a_batch_instance_that_failed_for_good_fails_its_update() {
    let mut play = Play::new();
    let batch = |command: &str| {
        let mut job = with_command(command, "update_config: {max_per_shard_failures: 5}");
        (job.service, job.max_task_failures) = (false, 1);
        job
    };
    play.create(batch("sleep 1"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskFinished);
    play.ask(Request::Update {
        job: Box::new(batch("exit 1")),
        only: [].into(),
        force: false,
    })
    .expect("an update");
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(2, TaskState::TaskFailed);
    let view = play.core.job(KEY).expect("the job");
    // An instance that was over is over again: it is not run twice.
    assert_eq!(view.update.expect("an update").state.name(), "ROLLED_BACK");
    assert_eq!(view.instances[0].state.name(), "FINISHED");
    assert_eq!(play.core.pending(), 0);
}

#[test]
fn an_update_stands_still_while_nobody_hears_us() {
    let mut play = Play::new();
    let slow = "instances: 2\nupdate_config: {watch_secs: 10}";
    play.create(job(slow));
    play.offer(&[("a", 16, 0, PLAIN)]);
    running(&mut play);
    let next = with_command("sleep 2", slow);
    play.ask(Request::Update {
        job: Box::new(next),
        only: [].into(),
        force: false,
    })
    .expect("an update");
    running(&mut play);
    play.offer(&[("a", 16, 0, PLAIN)]);
    play.news(3, TaskState::TaskRunning);
    play.handle(Event::Disconnected);
    play.now += 20_000;
    play.handle(Event::Tick);
    let done = |play: &Play| {
        play.core
            .job(KEY)
            .expect("the job")
            .update
            .expect("one")
            .done
    };
    assert_eq!(done(&play), 0);
    play.handle(Event::Subscribed("f".to_owned()));
    assert_eq!(done(&play), 0, "its state is not known yet");
    play.news(3, TaskState::TaskRunning);
    assert_eq!(done(&play), 1);
}

#[test]
fn a_drain_replaces_nothing_that_must_not_be_doubled() {
    let mut play = Play::new();
    play.create(job("instances: 1\npartition_policy: {reschedule: false}"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskRunning);
    play.news(1, TaskState::TaskUnreachable);
    play.ask(Request::Drain {
        host: "a".to_owned(),
    })
    .expect("a drain");
    play.now += 1_000_000;
    play.handle(Event::Tick);
    assert_eq!(play.state(0), "UNREACHABLE");
}

#[test]
fn a_limit_counts_what_is_still_there() {
    let mut play = Play::new();
    play.create(job("instances: 1\nconstraints: {host: 'limit:1'}"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskRunning);
    play.news(1, TaskState::TaskUnreachable);
    play.now += 10_000;
    play.handle(Event::Tick);
    play.news(1, TaskState::TaskRunning);
    // It is being killed, and until then there is one already.
    play.offer(&[("a", 4, 0, PLAIN)]);
    assert_eq!(play.places(), [""]);
    play.news(1, TaskState::TaskKilled);
    play.offer(&[("a", 4, 0, PLAIN)]);
    assert_eq!(play.places(), ["a"]);
}

#[test]
fn less_is_allowed_although_it_is_still_too_much() {
    let mut play = Play::new();
    play.create(job("instances: 8"));
    let quota = |cpus| Some(Amounts::of([cpus, UNLIMITED, UNLIMITED, UNLIMITED]));
    play.ask(Request::Quota("www".to_owned(), quota(4_000)))
        .expect("a quota");
    play.ask(Request::Scale(KEY.to_owned(), 6)).expect("less");
    let refused = play
        .ask(Request::Scale(KEY.to_owned(), 7))
        .expect_err("more");
    assert_eq!(refused.kind, RefusalKind::Quota);
}

#[test]
fn what_an_agent_has_is_not_known_before_it_offers() {
    let mut play = Play::new();
    let roomy = "instances: 1\nports: [http]\nconstraints: {rack: a}";
    let rack: &[(&str, &str)] = &[("rack", "a")];
    play.create(job("instances: 1"));
    play.offer(&[("a", 2, 0, rack)]);
    play.news(1, TaskState::TaskRunning);
    let facts = play.core.state().snapshot(play.now);
    let mut state = State::default();
    for (at, fact) in &facts {
        state.apply(fact, *at, &Settings::default().flapping);
    }
    // Another scheduler takes over; the agent is full, so it offers nothing.
    play.core = SchedulerCore::new(Settings::default(), state, play.now);
    play.handle(Event::Subscribed("f".to_owned()));
    play.news(1, TaskState::TaskRunning);
    let update = || Request::Update {
        job: Box::new(with_command("sleep 2", roomy)),
        only: [].into(),
        force: false,
    };
    play.ask(update())
        .expect("it is not known that it can never fit");
    play.ask(Request::Abort(KEY.to_owned())).expect("an end");
    play.offer(&[("a", 2, 0, PLAIN)]);
    let refused = play.ask(Request::Update {
        job: Box::new(with_command("sleep 3", roomy)),
        only: [].into(),
        force: false,
    });
    assert_eq!(
        refused.expect_err("it is known").kind,
        RefusalKind::Conflict
    );
}

#[test]
fn who_comes_back_has_a_moment_to_say_so_before_it_is_given_up() {
    let mut play = Play::new();
    play.create(job("instances: 1"));
    play.offer(&[("a", 4, 0, PLAIN)]);
    play.news(1, TaskState::TaskRunning);
    play.news(1, TaskState::TaskUnreachable);
    play.handle(Event::Disconnected);
    play.now += 100_000;
    play.handle(Event::Subscribed("f".to_owned()));
    assert_eq!(play.state(0), "UNREACHABLE");
    play.news(1, TaskState::TaskRunning);
    assert_eq!(play.state(0), "RUNNING");
}
