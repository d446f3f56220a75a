//! The core alone: its actions after records, events and time.

use std::collections::BTreeMap;

use super::{
    core::ExecutorCore,
    interface::{Action, AgentEvent, Setting, TaskProgress, TaskView, UpdateText},
};
use crate::{
    journal::{Kind, Record},
    mesos::protocol::messages::{
        AgentId, AgentInfo, ExecutorId, ExecutorInfo, FrameworkInfo, TaskId, TaskInfo, TaskState,
        executor::{Call, Event, event},
    },
    sys::clock::Moment,
};

const SECOND: u64 = 1_000_000;

#[derive(Default)]
struct Tasks {
    progress: BTreeMap<u32, TaskProgress>,
    uuids: u8,
}

impl TaskView for Tasks {
    fn progress(&self, task: u32) -> Option<TaskProgress> {
        self.progress.get(&task).copied()
    }

    fn update_text(&self, _: u32, _: TaskState) -> UpdateText {
        UpdateText::default()
    }

    fn uuid(&mut self) -> [u8; 16] {
        self.uuids += 1;
        [self.uuids; 16]
    }
}

/// The core with a disk that writes when the test says so, and the test as its agent.
struct Play {
    core: ExecutorCore,
    tasks: Tasks,
    clock: u64,
    /// Noted, not yet on disk.
    notes: Vec<Kind>,
    journal: Vec<Kind>,
    posted: Vec<(Vec<u8>, TaskState)>,
    subscribed: Vec<Call>,
    killed: Vec<(u32, Option<u64>)>,
    forgotten: Vec<u32>,
    left: bool,
}

fn setting() -> Setting {
    Setting {
        framework_id: "f".to_owned(),
        executor_id: "e".to_owned(),
        recovery_us: Some(60 * SECOND),
        backoff_max_us: 2 * SECOND,
        grace_us: 5 * SECOND,
    }
}

impl Play {
    fn new(setting: Setting) -> Play {
        Play {
            core: ExecutorCore::new(setting, 0),
            tasks: Tasks::default(),
            clock: 0,
            notes: Vec::new(),
            journal: Vec::new(),
            posted: Vec::new(),
            subscribed: Vec::new(),
            killed: Vec::new(),
            forgotten: Vec::new(),
            left: false,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            boot_us: self.clock,
            wall_us: self.clock,
        }
    }

    /// Decides until nothing is left to decide; nothing reaches the disk.
    fn settle(&mut self) -> Option<u64> {
        loop {
            let moment = self.moment();
            let (actions, wake_at) = self.core.decide(moment, &mut self.tasks);
            if actions.is_empty() {
                return wake_at;
            }
            for action in actions {
                match action {
                    Action::Note(kind) => self.notes.push(*kind),
                    Action::Open(task) => {
                        self.tasks.progress.insert(task, TaskProgress::default());
                    }
                    Action::Kill { task, budget_us } => self.killed.push((task, budget_us)),
                    Action::Forget(task) => {
                        self.tasks.progress.remove(&task);
                        self.forgotten.push(task);
                    }
                    Action::Subscribe(call) => self.subscribed.push(*call),
                    Action::Post { uuid, call } => {
                        let status = call.update.expect("an update").status;
                        self.posted.push((uuid, status.state()));
                    }
                    Action::Leave => self.left = true,
                }
            }
        }
    }

    /// All records that the core has noted reach the disk.
    fn sync(&mut self) {
        for kind in std::mem::take(&mut self.notes) {
            let record = Record::new(self.moment(), kind.clone());
            self.core.recorded(&record);
            self.journal.push(kind);
        }
        self.settle();
    }

    fn news(&mut self, news: AgentEvent) {
        self.core.on_agent_event(news, self.clock);
        self.settle();
    }

    fn event(&mut self, event: Event) {
        self.news(AgentEvent::Event(Box::new(event)));
    }

    fn connect(&mut self) {
        self.news(AgentEvent::Connected);
        self.event(Event {
            r#type: Some(event::Type::Subscribed.into()),
            subscribed: Some(event::Subscribed {
                executor_info: ExecutorInfo {
                    executor_id: ExecutorId {
                        value: "e".to_owned(),
                    },
                    ..ExecutorInfo::default()
                },
                framework_info: FrameworkInfo::default(),
                agent_info: AgentInfo {
                    hostname: "h".to_owned(),
                    id: Some(AgentId {
                        value: "a".to_owned(),
                    }),
                    ..AgentInfo::default()
                },
            }),
            ..Event::default()
        });
    }

    fn launch(&mut self, id: &str) {
        self.event(Event {
            r#type: Some(event::Type::Launch.into()),
            launch: Some(event::Launch {
                task: TaskInfo {
                    task_id: TaskId {
                        value: id.to_owned(),
                    },
                    ..TaskInfo::default()
                },
            }),
            ..Event::default()
        });
    }

    fn acknowledge(&mut self, uuid: &[u8]) {
        self.event(Event {
            r#type: Some(event::Type::Acknowledged.into()),
            acknowledged: Some(event::Acknowledged {
                task_id: TaskId::default(),
                uuid: uuid.to_vec(),
            }),
            ..Event::default()
        });
    }

    fn stand(&mut self, task: u32, has_started: bool, end: Option<TaskState>) {
        self.tasks.progress.insert(
            task,
            TaskProgress {
                has_started,
                end,
                checked: None,
            },
        );
        self.settle();
    }

    fn states(&self) -> Vec<&'static str> {
        self.posted
            .iter()
            .map(|(_, state)| state.as_str_name())
            .collect()
    }

    /// What a new runner knows: the journal, and the tasks that live on.
    fn reborn(self) -> Play {
        let mut play = Play::new(setting());
        play.clock = self.clock;
        play.core = ExecutorCore::new(setting(), self.clock);
        play.tasks.progress = self.tasks.progress;
        play.tasks.uuids = self.tasks.uuids;
        for kind in self.journal {
            let record = Record::new(play.moment(), kind.clone());
            play.core.recorded(&record);
            play.journal.push(kind);
        }
        play.settle();
        play
    }
}

fn with_a_task() -> Play {
    let mut play = Play::new(setting());
    play.settle();
    play.connect();
    play.launch("t");
    play
}

#[test]
fn nothing_is_sent_before_it_is_on_disk_and_one_at_a_time() {
    let mut play = with_a_task();
    play.stand(1, true, Some(TaskState::TaskFinished));
    assert_eq!(play.states(), [""; 0]);
    play.sync();
    assert_eq!(play.states(), ["TASK_STARTING"]);
    let first = play.posted[0].0.clone();
    play.news(AgentEvent::Posted {
        uuid: first.clone(),
        refused: None,
    });
    assert_eq!(
        play.states().len(),
        1,
        "the next one waits for the acknowledgement"
    );
    play.acknowledge(&first);
    assert_eq!(play.states(), ["TASK_STARTING", "TASK_RUNNING"]);
    let second = play.posted[1].0.clone();
    play.acknowledge(&second);
    assert_eq!(
        play.states(),
        ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    );
    assert!(play.forgotten.is_empty() && !play.left);
    let third = play.posted[2].0.clone();
    play.acknowledge(&third);
    assert_eq!(play.forgotten, [1]);
    // It lingers for a second.
    play.clock += SECOND - 1;
    play.settle();
    assert!(!play.left);
    play.clock += 1;
    play.settle();
    assert!(play.left);
}

#[test]
fn a_refused_or_unacknowledged_update_is_sent_again_with_the_same_uuid() {
    let mut play = with_a_task();
    play.sync();
    let uuid = play.posted[0].0.clone();
    play.news(AgentEvent::Posted {
        uuid: uuid.clone(),
        refused: Some("503".to_owned()),
    });
    assert_eq!(play.posted.len(), 1, "not at once");
    let wake_at = play.settle().expect("a time");
    play.clock = wake_at;
    play.settle();
    play.news(AgentEvent::Posted {
        uuid: uuid.clone(),
        refused: None,
    });
    play.clock += 10 * SECOND;
    play.settle();
    assert_eq!(play.posted.len(), 3);
    assert!(play.posted.iter().all(|(other, _)| *other == uuid));
}

#[test]
fn a_subscription_names_what_the_agent_may_not_know() {
    let mut play = with_a_task();
    play.sync();
    play.stand(1, true, None);
    play.sync();
    play.news(AgentEvent::Disconnected("gone".to_owned()));
    let subscribe = play
        .subscribed
        .last()
        .and_then(|call| call.subscribe.clone());
    let subscribe = subscribe.expect("a subscription");
    assert_eq!(subscribe.unacknowledged_tasks.len(), 1);
    assert_eq!(subscribe.unacknowledged_updates.len(), 2);
    let starting = play.posted[0].0.clone();
    play.connect();
    play.acknowledge(&starting);
    play.news(AgentEvent::Disconnected("again".to_owned()));
    let subscribe = play
        .subscribed
        .last()
        .and_then(|call| call.subscribe.clone());
    let subscribe = subscribe.expect("a subscription");
    assert!(
        subscribe.unacknowledged_tasks.is_empty(),
        "the agent knows the task"
    );
    assert_eq!(subscribe.unacknowledged_updates.len(), 1);
}

#[test]
fn a_new_runner_goes_on_where_the_journal_ends() {
    let mut play = with_a_task();
    play.sync();
    play.stand(1, true, None);
    // RUNNING is noted and never reaches the disk: the new runner decides it again, once.
    let mut play = play.reborn();
    play.sync();
    play.connect();
    let updates = play
        .journal
        .iter()
        .filter(|kind| matches!(kind, Kind::Update(_)));
    assert_eq!(updates.count(), 2);
    play.launch("t");
    play.sync();
    let accepted = play
        .journal
        .iter()
        .filter(|kind| matches!(kind, Kind::Accepted(_)));
    assert_eq!(
        accepted.count(),
        1,
        "a launch that is known is not accepted again"
    );
}

#[test]
fn without_an_agent_everything_ends_at_the_recovery_timeout() {
    let mut play = with_a_task();
    play.sync();
    play.stand(1, true, None);
    play.news(AgentEvent::Disconnected("gone".to_owned()));
    play.clock += 60 * SECOND - 1;
    play.settle();
    assert!(play.killed.is_empty());
    play.clock += 1;
    play.settle();
    assert_eq!(play.killed, [(1, Some(4 * SECOND))]);
    play.stand(1, true, Some(TaskState::TaskKilled));
    assert!(play.left, "without an agent no update is acknowledged");
}

#[test]
fn a_shutdown_leaves_time_to_tell_and_takes_no_more_tasks() {
    let mut play = with_a_task();
    play.sync();
    play.stand(1, true, None);
    play.event(Event {
        r#type: Some(event::Type::Shutdown.into()),
        ..Event::default()
    });
    assert_eq!(play.killed, [(1, Some(4 * SECOND))]);
    play.launch("late");
    play.sync();
    assert!(play.tasks.progress(2).is_none(), "it was opened");
    play.stand(1, true, Some(TaskState::TaskKilled));
    assert!(!play.left);
    play.clock += 5 * SECOND;
    play.settle();
    assert!(play.left, "the agent kills us now anyway");
}

#[test]
fn an_executor_without_a_task_leaves_after_ten_seconds() {
    let mut play = Play::new(setting());
    play.settle();
    play.connect();
    play.clock = 10 * SECOND - 1;
    play.settle();
    assert!(!play.left);
    play.clock += 1;
    play.settle();
    assert!(play.left);
}
