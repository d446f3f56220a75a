//! `dewar scheduler`: runs the scheduler, which keeps jobs of many instances running on a Mesos
//! cluster.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;

use crate::{
    cli::{
        failure::{Code, Failure, Outcome},
        task_file::hostname,
        terminal::complain,
    },
    mesos::{
        protocol::Wire,
        scheduler::{
            self, ExecutorCommand, Framework, Options, SOCKET, SchedulerError, StartupNotice,
            core::{Amounts, Flapping, Settings, mib, thousandths},
        },
    },
    sandbox::Account,
    task::{Bytes, Period},
    web::Address,
};

#[derive(Debug, Args)]
pub(crate) struct SchedulerArgs {
    /// Mesos masters; any of them knows the leading one
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    pub master: Vec<String>,
    /// Serve the API here too, for those who say the token in DIR/scheduler/token
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<Address>,
    /// Another name under which the API may be called (repeatable)
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// What clients must say, instead of a token that is made
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What the master shows of us
    #[arg(long, default_value = "dewar", value_name = "NAME")]
    pub name: String,
    /// Whose share of the cluster is used
    #[arg(long, default_value = "*", value_name = "ROLE")]
    pub mesos_role: String,
    /// Who runs executors on the agents [default: you]
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// A file with `PRINCIPAL SECRET`, for a master that wants to know
    #[arg(long, value_name = "FILE")]
    pub credential: Option<PathBuf>,
    /// Without a scheduler for so long, the master ends everything
    #[arg(long, default_value = "7d", value_name = "TIME")]
    pub failover_timeout: Period,
    /// What agents start [default: exec THIS-BINARY executor]
    #[arg(long, value_name = "COMMAND")]
    pub executor: Option<String>,
    /// A file that agents fetch before, and make executable (repeatable)
    #[arg(long = "executor-uri", value_name = "URI")]
    pub executor_uris: Vec<String>,
    /// Cores of each executor, beside its task's
    #[arg(long, default_value_t = 0.05, value_name = "CORES")]
    pub executor_cpu: f64,
    /// Memory of each executor, beside its task's
    #[arg(long, default_value = "32MiB", value_name = "SIZE")]
    pub executor_ram: Bytes,
    /// The first pause after a short run; it doubles
    #[arg(long, default_value = "1s", value_name = "TIME")]
    pub backoff: Period,
    /// The longest pause
    #[arg(long, default_value = "5m", value_name = "TIME")]
    pub backoff_max: Period,
    /// After a run of this length the pause begins anew
    #[arg(long, default_value = "5m", value_name = "TIME")]
    pub backoff_reset_after: Period,
    /// Tasks that a master does not know count as lost after so long
    #[arg(long, default_value = "1m", value_name = "TIME")]
    pub unknown_after: Period,
    /// How to talk to the master
    #[arg(long, value_enum, default_value = "protobuf")]
    pub wire: Wire,
    /// The master has removed the framework: begin as another one, with the same jobs
    #[arg(long)]
    pub forget_framework: bool,
}

pub(crate) fn scheduler(args: SchedulerArgs, root: &Path) -> Outcome {
    for master in &args.master {
        if !matches!(master.parse(), Ok(Address::Tcp(_))) {
            let text = format!("--master {master:?}: expected HOST:PORT");
            return Err(Failure::rejected(text).hint("as in --master 10.0.0.1:5050"));
        }
    }
    let token = args.token_file.as_deref().map(first_line).transpose()?;
    let credential = args.credential.as_deref().map(first_line).transpose()?;
    let (principal, authorization) = credentials(credential)?;
    let ms = |period: Period| period.as_micros() / 1000;
    let executable = crate::sys::executable::executable();
    let executor = args
        .executor
        .unwrap_or_else(|| match args.executor_uris.is_empty() {
            true => format!("exec '{executable}' executor"),
            false => "exec ./dewar executor".to_owned(),
        });
    let options = Options {
        masters: args.master,
        root: root.to_path_buf(),
        listen: args.listen,
        hosts: args.hosts,
        token,
        framework: Framework {
            id: None,
            name: args.name,
            user: args.user.unwrap_or_else(|| Account::own().name),
            role: args.mesos_role,
            principal,
            hostname: hostname(),
            failover_timeout: args.failover_timeout.duration().as_secs_f64(),
        },
        authorization,
        wire: args.wire,
        executor: ExecutorCommand {
            value: executor,
            uris: args.executor_uris,
        },
        settings: Settings {
            overhead: Amounts {
                cpus: thousandths(args.executor_cpu),
                mem: mib(args.executor_ram),
                ..Amounts::default()
            },
            flapping: Flapping {
                initial_ms: ms(args.backoff),
                max_ms: ms(args.backoff_max),
                stable_ms: ms(args.backoff_reset_after),
            },
            unknown_ms: ms(args.unknown_after),
            ..Settings::default()
        },
        forget_framework: args.forget_framework,
    };
    let ended = scheduler::run(options, |notice| match notice {
        StartupNotice::Waits => {
            complain("another scheduler has this directory; waiting to take its place");
        }
        StartupNotice::Listens(addresses) => {
            for address in addresses {
                complain(&format!("listening at {address}"));
            }
        }
    });
    match ended {
        Ok(()) => Ok(Code::Success),
        Err(error) => {
            let failure = Failure::new(Code::Failed, &error);
            Err(match error {
                SchedulerError::Refused(why) => failure.hint(hint(&why)),
                _ => failure,
            })
        }
    }
}

/// The socket at which clients find the scheduler with this root directory.
pub(crate) fn socket(root: &Path) -> PathBuf {
    scheduler::directory(root).join(SOCKET)
}

fn hint(why: &str) -> &'static str {
    let why = why.to_ascii_lowercase();
    match () {
        () if why.contains("removed") || why.contains("completed") => {
            "its tasks are gone; --forget-framework begins anew with the same jobs"
        }
        () if why.contains("failed over") => {
            "another scheduler with this framework's id is at work"
        }
        () => "is --credential right, and may this principal register with --mesos-role?",
    }
}

fn first_line(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::rejected(format!("{}: {error}", path.display())))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_ascii() => Err(Failure::rejected(format!(
            "{}: its first line is not plain ASCII",
            path.display()
        ))),
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Failure::rejected(format!("{} is empty", path.display()))),
    }
}

/// The principal of a credential, and the header of Basic authentication.
fn credentials(line: Option<String>) -> Result<(Option<String>, Option<String>), Failure> {
    let Some(line) = line else {
        return Ok((None, None));
    };
    let Some((principal, secret)) = line.split_once(char::is_whitespace) else {
        return Err(Failure::rejected("the credential is no `PRINCIPAL SECRET`"));
    };
    let basic = STANDARD.encode(format!("{principal}:{}", secret.trim()));
    Ok((Some(principal.to_owned()), Some(format!("Basic {basic}"))))
}
