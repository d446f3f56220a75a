//! What may be written after `dewar job`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::{task::Bytes, web::Address};

#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Where the scheduler listens: HOST:PORT, or a socket [default: the socket in --root]
    #[arg(long, global = true, env = "DEWAR_SCHEDULER", value_name = "ADDR")]
    pub scheduler: Option<Address>,
    /// The scheduler's token, for HOST:PORT
    #[arg(long, global = true, env = "DEWAR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(subcommand)]
    pub verb: JobVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// Run a job, and follow it until all its instances run (or, of a batch job, have ended)
    #[command(after_help = "Examples:
  dewar job create web.job.yaml
  dewar job create web.job.yaml --detach

Ctrl-C ends the watching, not the job. Exit codes: 0 as wanted, 1 not so, 2 rejected.")]
    Create(FileArgs),
    /// Replace what differs, a batch at a time; undone when it fails
    #[command(after_help = "Examples:
  dewar job update web.job.yaml
  dewar job update web.job.yaml --instances 0-1      # a canary
  dewar job pause www/prod/web; dewar job resume www/prod/web; dewar job abort www/prod/web

Exit codes: 0 rolled forward, 1 rolled back or failed, 2 rejected.")]
    Update(UpdateArgs),
    /// Show jobs, or the instances of one
    #[command(after_help = "Examples:
  dewar job status
  dewar job status www/prod/web
  dewar job status www/prod/web --format json | jq '.instances[] | select(.state != \"RUNNING\")'")]
    Status(StatusArgs),
    /// Follow a job line by line
    #[command(after_help = "Examples:
  dewar job watch www/prod/web
  dewar job watch web --format json | jq .totals")]
    Watch(WatchArgs),
    /// End a job, or some of its instances
    #[command(after_help = "Examples:
  dewar job kill www/prod/web
  dewar job kill www/prod/web --instances 3,7-9")]
    Kill(SomeArgs),
    /// Replace instances by the same, a batch at a time
    #[command(after_help = "Examples:
  dewar job restart www/prod/web
  dewar job restart web --instances 3")]
    Restart(SomeArgs),
    /// Have so many instances
    #[command(after_help = "Examples:
  dewar job scale www/prod/web 30")]
    Scale(ScaleArgs),
    /// Let an update wait
    #[command(after_help = "Examples:
  dewar job pause www/prod/web")]
    Pause(KeyArgs),
    /// Let an update go on
    #[command(after_help = "Examples:
  dewar job resume www/prod/web")]
    Resume(KeyArgs),
    /// End an update where it is
    #[command(after_help = "Examples:
  dewar job abort www/prod/web")]
    Abort(KeyArgs),
    /// Move everything off a host, and keep it empty
    #[command(after_help = "Examples:
  dewar job drain agent7
  dewar job agents              # how far it is
  dewar job drain agent7 --over")]
    Drain(DrainArgs),
    /// Show the agents that have offered something
    #[command(after_help = "Examples:
  dewar job agents
  dewar job agents --format json | jq '.agents[] | {host, used}'")]
    Agents(ShowArgs),
    /// Show what roles may have and have, or set it
    #[command(after_help = "Examples:
  dewar job quota
  dewar job quota www --cpu 20 --ram 64GiB --disk 100GiB
  dewar job quota www --remove")]
    Quota(QuotaArgs),
}

impl JobVerb {
    /// The job that it names.
    pub fn job_mut(&mut self) -> Option<&mut String> {
        match self {
            JobVerb::Status(args) => args.job.as_mut(),
            JobVerb::Watch(args) => Some(&mut args.job),
            JobVerb::Kill(args) | JobVerb::Restart(args) => Some(&mut args.job),
            JobVerb::Scale(args) => Some(&mut args.job),
            JobVerb::Pause(args) | JobVerb::Resume(args) | JobVerb::Abort(args) => {
                Some(&mut args.job)
            }
            JobVerb::Create(_)
            | JobVerb::Update(_)
            | JobVerb::Drain(_)
            | JobVerb::Agents(_)
            | JobVerb::Quota(_) => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum JobFormat {
    /// Text for people
    Text,
    /// One JSON object (of what is followed: one a line)
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct FollowArgs {
    /// Return when the request is accepted
    #[arg(long)]
    pub detach: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: JobFormat,
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The job file, YAML or JSON
    pub file: PathBuf,
    #[command(flatten)]
    pub follow: FollowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The job file, YAML or JSON
    pub file: PathBuf,
    /// Only these, as in 0-2,5
    #[arg(long, value_name = "NUMBERS")]
    pub instances: Option<String>,
    /// Also when no agent that is known could have it
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub follow: FollowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// One job only: ROLE/ENVIRONMENT/NAME, or just NAME where there is only one
    pub job: Option<String>,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: JobFormat,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// ROLE/ENVIRONMENT/NAME, or just NAME where there is only one
    pub job: String,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: JobFormat,
}

#[derive(Debug, Args)]
pub(crate) struct SomeArgs {
    /// ROLE/ENVIRONMENT/NAME, or just NAME where there is only one
    pub job: String,
    /// Only these, as in 0-2,5
    #[arg(long, value_name = "NUMBERS")]
    pub instances: Option<String>,
    #[command(flatten)]
    pub follow: FollowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// ROLE/ENVIRONMENT/NAME, or just NAME where there is only one
    pub job: String,
    /// How many instances it is to have
    pub count: u32,
    #[command(flatten)]
    pub follow: FollowArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// ROLE/ENVIRONMENT/NAME, or just NAME where there is only one
    pub job: String,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The agent's host
    pub host: String,
    /// It may be used again
    #[arg(long)]
    pub over: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: JobFormat,
}

#[derive(Debug, Args)]
pub(crate) struct QuotaArgs {
    /// The role that the quota is for
    pub role: Option<String>,
    /// Cores that the role may use
    #[arg(long, requires = "role")]
    pub cpu: Option<f64>,
    /// As in 8GiB
    #[arg(long, requires = "role")]
    pub ram: Option<Bytes>,
    /// As in 8GiB
    #[arg(long, requires = "role")]
    pub disk: Option<Bytes>,
    /// GPUs that the role may use
    #[arg(long, requires = "role")]
    pub gpu: Option<u32>,
    /// No limit any more
    #[arg(long, requires = "role", conflicts_with_all = ["cpu", "ram", "disk", "gpu"])]
    pub remove: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value = "text")]
    pub format: JobFormat,
}
