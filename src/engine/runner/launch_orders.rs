//! From a process of the task to the order that has the keeper launch it.
//!
//! The environment is clean: HOME (the sandbox), LOGNAME, USER, PATH, what `--preserve-env` kept,
//! the process' `env_file` and `env`, and BASH_ENV once the sandbox has a `.thermos_profile`.
//! Nothing is launched here.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::{
    error::IsolationError,
    log_order::log_order,
    promises::{Bound, keep_promises},
};
use crate::{
    engine::keeper::try_private,
    journal::Header,
    protocols::dewar::{
        link as wire,
        link::{Identity, Launch, Rlimit, StopSignal},
    },
    resources::{Limits, NO_GPU, check_rlimits, rlimit_numbers},
    sandbox::{self, Account, EnvFileError, Reader},
    task::{Level, Process, Resources, Rlimits, Task, VolumeKind},
};

type Variables = BTreeMap<String, String>;

/// The file that every later bash of the sandbox reads first.
const PROFILE: &str = ".thermos_profile";
const SHELL: &str = "/bin/bash";

/// Builds launch orders. It remembers accounts, because looking one up may ask a network.
#[derive(Debug)]
pub(super) struct LaunchOrders {
    header: Header,
    accounts: HashMap<String, (Account, Vec<u32>)>,
    /// Output for a console goes to the container's output too, because no client follows the task.
    echoes: bool,
    bound: Bound,
    /// What is not enforced, by process; true: it has been told.
    lifted: BTreeMap<(u32, String), bool>,
}

impl LaunchOrders {
    /// For the task of `header`.
    pub fn new(mut header: Header, echoes: bool, bound: Bound) -> LaunchOrders {
        // The task is known in its decoded form; its text may be most of the header.
        header.task = String::new();
        LaunchOrders {
            header,
            accounts: HashMap::new(),
            echoes,
            bound,
            lifted: BTreeMap::new(),
        }
    }

    /// What of processes is not enforced although they say it, once each: the process and the text.
    pub fn take_lifted(&mut self) -> Vec<(u32, String)> {
        let untold = self.lifted.iter_mut().filter(|(_, is_told)| !**is_told);
        untold
            .map(|(what, is_told)| {
                *is_told = true;
                what.clone()
            })
            .collect()
    }

    /// The launch of a run. A process whose files of variables cannot be read, or that needs what
    /// the keeper cannot enforce, gets a launch that the keeper refuses, with the reason.
    pub fn of(&mut self, task: &Task, process: usize, run: u32) -> Launch {
        let spec = &task.processes[process];
        let identity = self.identity(spec);
        let sandbox = self.sandbox();
        let directory = match &spec.working_dir {
            Some(directory) => sandbox.join(directory),
            None => sandbox.to_path_buf(),
        };
        let mut refusal = None;
        let mut environment = match self.environment(task, spec, identity.as_ref()) {
            Ok(environment) => environment,
            Err(error) => {
                refusal = Some(error.to_string());
                BTreeMap::new()
            }
        };
        let profile = sandbox.join(PROFILE);
        if is_there(&profile, task) {
            environment.insert("BASH_ENV".to_owned(), profile.display().to_string());
        }
        let mut launch = Launch {
            process: process as u32,
            run,
            name: spec.name.clone(),
            argv: argv(spec).into_iter().map(String::into_bytes).collect(),
            environment: environment
                .into_iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes())
                .collect(),
            directory: directory.display().to_string().into_bytes(),
            sandbox: self.header.sandbox.clone().into_bytes(),
            identity,
            umask: spec.umask,
            log: Some(log_order(spec, self.echoes)),
            refusal,
            ..bounds(task, spec)
        };
        let best_effort = spec.resources.as_ref().is_some_and(|one| one.best_effort);
        for lifted in keep_promises(&mut launch, self.bound, best_effort) {
            self.lifted.entry((process as u32, lifted)).or_insert(false);
        }
        launch
    }

    /// The task's own directory.
    pub fn sandbox(&self) -> &Path {
        Path::new(&self.header.sandbox)
    }

    /// The launch of a health check's script, as the user of the process that it is about, or of
    /// the task. One that this keeper must not start has a refusal.
    pub fn of_probe(&mut self, task: &Task, subject: Option<(usize, u32)>, script: &str) -> Launch {
        let own = Process::named("health".to_owned());
        let spec = match subject {
            Some((process, _)) => &task.processes[process],
            None => &own,
        };
        let (process, run) = subject.map_or((0, 0), |(process, run)| (process as u32, run));
        let identity = self.identity(spec);
        // A script that lacks a variable fails, and the check reports that.
        let environment = self.environment(task, spec, identity.as_ref());
        let mut launch = Launch {
            process,
            run,
            name: spec.name.clone(),
            argv: [SHELL, "-c", script]
                .map(|word| word.as_bytes().to_vec())
                .to_vec(),
            environment: environment
                .unwrap_or_else(|_| self.own_environment(spec))
                .into_iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes())
                .collect(),
            directory: self.header.sandbox.clone().into_bytes(),
            sandbox: self.header.sandbox.clone().into_bytes(),
            identity,
            private: (task.isolation.level == Level::Private).then(|| private(task)),
            ..Launch::default()
        };
        // A script that cannot be private is refused: nothing is spared.
        keep_promises(&mut launch, self.bound, false);
        launch
    }

    /// The signals that ask processes to stop, where it is not SIGTERM.
    pub fn stop_signals(&self, task: &Task) -> Vec<StopSignal> {
        let numbered = task.processes.iter().enumerate();
        numbered
            .filter_map(|(process, spec)| {
                Some(StopSignal {
                    process: process as u32,
                    signal: spec.stop_signal?.number(),
                })
            })
            .collect()
    }

    /// The variables that a process gets, those of its files included.
    fn environment(
        &self,
        task: &Task,
        spec: &Process,
        identity: Option<&Identity>,
    ) -> Result<Variables, EnvFileError> {
        let mut environment = self.own_environment(spec);
        let reader = identity.map(|identity| Reader {
            uid: identity.uid,
            gid: identity.gid,
            groups: &identity.groups,
        });
        let tops = self.writable(task);
        for file in &spec.env_file {
            let path = self.sandbox().join(file);
            environment.extend(sandbox::read_env_file(&path, reader, &tops)?);
        }
        environment.extend(spec.env.clone());
        Ok(environment)
    }

    /// The directories in which a private task could make links to files that it does not see.
    fn writable(&self, task: &Task) -> Vec<PathBuf> {
        if task.isolation.level == Level::Directory {
            return Vec::new();
        }
        let volumes = task.volumes.iter().filter_map(|volume| match &volume.kind {
            VolumeKind::Host {
                host_path,
                writable: true,
            } => Some(PathBuf::from(host_path)),
            _ => None,
        });
        volumes.chain([self.sandbox().to_path_buf()]).collect()
    }

    fn own_environment(&self, spec: &Process) -> Variables {
        let kept = self.header.environment.iter();
        let mut environment: Variables = kept
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if let Some(user) = &spec.user {
            for name in ["USER", "LOGNAME"] {
                environment.insert(name.to_owned(), user.clone());
            }
        }
        environment.extend(spec.env.clone());
        environment
    }

    fn identity(&mut self, spec: &Process) -> Option<Identity> {
        let own = nix::unistd::geteuid().as_raw();
        if spec.user.is_none() && self.header.uid == own {
            // The process stays the runner's own user, so no account is looked up.
            return None;
        }
        let name = spec.user.as_ref().unwrap_or(&self.header.user);
        let (account, groups) = match self.accounts.get(name) {
            Some(known) => known.clone(),
            None => {
                let account = Account::named(name).unwrap_or_else(|_| Account {
                    name: name.clone(),
                    uid: self.header.uid,
                    gid: self.header.gid,
                });
                let groups = account.groups();
                let known = (account, groups);
                self.accounts.insert(name.clone(), known.clone());
                known
            }
        };
        (account.uid != own).then_some(Identity {
            uid: account.uid,
            gid: account.gid,
            groups,
        })
    }
}

/// Builds the namespaces of a private task and takes them away again, so that a machine where they
/// cannot be built is known before the task begins. Does nothing for a task that is not private.
///
/// # Errors
/// The step that failed, and on what.
pub fn check_isolation(task: &Task, sandbox: &Path) -> Result<(), IsolationError> {
    match task.isolation.level {
        Level::Directory => Ok(()),
        Level::Private => {
            try_private(sandbox, &private(task)).map_err(|why| IsolationError(why.to_string()))
        }
    }
}

/// The parts of a launch that say what a process may use, and what it may see.
fn bounds(task: &Task, spec: &Process) -> Launch {
    let of_task = task.resources.as_ref().filter(|_| task.enforce);
    let mut launch = Launch {
        task_limits: of_task.map(limits),
        private: (task.isolation.level == Level::Private).then(|| private(task)),
        ..Launch::default()
    };
    if let Some(resources) = &spec.resources {
        launch.limits = resources.need_a_group().then(|| limits(resources));
        own_limits(resources, &mut launch);
    }
    launch
}

/// Sets limits of the kernel's own kind. With `best_effort`, those that this user may not set are
/// left out.
fn own_limits(resources: &Resources, launch: &mut Launch) {
    let problems = match resources.best_effort {
        true => check_rlimits(resources),
        false => Vec::new(),
    };
    let may = |what: &str| !problems.iter().any(|problem| problem.what == what);
    let rlimits = rlimit_numbers(&resources.rlimits).into_iter();
    let rlimits = rlimits.filter(|(number, ..)| {
        let name = Rlimits::NAMES[*number as usize];
        may(&format!("rlimits.{name}"))
    });
    launch.rlimits = rlimits
        .map(|(resource, soft, hard)| Rlimit {
            resource,
            soft,
            hard,
        })
        .collect();
    launch.nice = resources.nice.filter(|_| may("nice"));
    launch.oom_score_adj = resources.oom_score_adj.filter(|_| may("oom_score_adj"));
    launch.unenforced = problems.iter().map(ToString::to_string).collect();
    if resources.gpu > 0 && resources.best_effort {
        launch.unenforced.push(NO_GPU.to_owned());
    }
}

fn limits(resources: &Resources) -> wire::Limits {
    let limits = Limits::of(resources);
    wire::Limits {
        cpu: limits.cpu,
        cpu_weight: limits.cpu_weight,
        ram: limits.ram,
        ram_high: limits.ram_high,
        swap: limits.swap,
        pids: limits.pids,
        io_weight: limits.io_weight,
        best_effort: resources.best_effort,
    }
}

fn private(task: &Task) -> wire::Private {
    let without = task.isolation.without.iter();
    let volumes = task.volumes.iter().map(|volume| match &volume.kind {
        VolumeKind::Host {
            host_path,
            writable,
        } => wire::Volume {
            container_path: volume.container_path.clone().into_bytes(),
            host_path: host_path.clone().into_bytes(),
            writable: *writable,
            size: 0,
        },
        VolumeKind::Tmpfs { size } => wire::Volume {
            container_path: volume.container_path.clone().into_bytes(),
            host_path: Vec::new(),
            writable: true,
            size: size.0,
        },
    });
    wire::Private {
        without: without.fold(0, |mask, one| mask | 1 << *one as u32),
        volumes: volumes.collect(),
    }
}

/// True when the file is there. For a private task links are not followed: it must not learn
/// through one whether a file is there that it does not see.
pub(super) fn is_there(path: &Path, task: &Task) -> bool {
    match task.isolation.level {
        Level::Directory => path.exists(),
        Level::Private => path.symlink_metadata().is_ok_and(|meta| meta.is_file()),
    }
}

fn argv(spec: &Process) -> Vec<String> {
    if let Some(argv) = &spec.argv {
        return argv.clone();
    }
    let shell = spec.shell.as_deref().unwrap_or(SHELL);
    let words = shell.split_whitespace().map(str::to_owned);
    let script = spec.cmdline.clone().unwrap_or_default();
    words.chain(["-c".to_owned(), script]).collect()
}
