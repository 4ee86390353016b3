//! The settings of the commands that look at jobs and dead letters, and change them.

use clap::{ArgGroup, Args, Subcommand, builder::PossibleValuesParser};

use super::Operator;
use crate::wire::job::{JobId, JobState};

/// Forward chains, and requests that are answered later.
#[derive(Debug, Clone, Args)]
pub struct JobsTool {
    /// What to do.
    #[command(subcommand)]
    pub command: JobsCommand,
}

/// What is to be done with jobs.
#[derive(Debug, Clone, Subcommand)]
pub enum JobsCommand {
    /// List the jobs that are kept, oldest first
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay jobs ls --state failed")]
    Ls(JobsLs),
    /// Show one job: its hops, what became of each, and why it failed
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay jobs show ID")]
    Show(JobsShow),
    /// Cancel jobs: what is under way may still run, nothing after it does
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay jobs cancel ID")]
    Cancel(JobsCancel),
}

/// Which jobs are listed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is shown")]
pub struct JobsLs {
    /// Print JSON, one document
    #[arg(long)]
    pub json: bool,
    /// Only jobs in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(JobState::ALL.map(JobState::as_str)))]
    pub state: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// Which job is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is shown")]
pub struct JobsShow {
    /// The job, as `relay jobs ls` and the Location of its 202 have it
    #[arg(value_name = "ID")]
    pub id: JobId,
    /// Print JSON, one document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// Which jobs are cancelled.
#[derive(Debug, Clone, Args)]
pub struct JobsCancel {
    /// The jobs
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<JobId>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// Jobs that finally failed.
#[derive(Debug, Clone, Args)]
pub struct DlqTool {
    /// What to do.
    #[command(subcommand)]
    pub command: DlqCommand,
}

/// What is to be done with dead letters.
#[derive(Debug, Clone, Subcommand)]
pub enum DlqCommand {
    /// List the dead letters, oldest first
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay dlq ls --json")]
    Ls(DlqLs),
    /// Show one dead letter: its hops, which one failed and why
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay dlq show ID --body")]
    Show(DlqShow),
    /// Let jobs go on from where they failed, with a new lifetime
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay dlq replay ID")]
    Replay(DlqSome),
    /// Forget dead letters and their bodies
    #[command(mut_arg("prefix", |arg| arg.env("RELAY_PREFIX")))]
    #[command(after_help = "Example:\n  relay dlq purge --all")]
    Purge(DlqSome),
}

/// How dead letters are listed.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is shown")]
pub struct DlqLs {
    /// Print JSON, one document
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// Which dead letter is shown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is shown")]
pub struct DlqShow {
    /// The job, as `relay dlq ls` has it
    #[arg(value_name = "ID")]
    pub id: JobId,
    /// Print JSON, one document
    #[arg(long)]
    pub json: bool,
    /// Print the bodies too: what the hop that failed is sent, and what it answered
    #[arg(long)]
    pub body: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["ids", "all"]))]
#[command(next_help_heading = "Which dead letters")]
pub struct DlqSome {
    /// The jobs
    #[arg(value_name = "ID")]
    pub ids: Vec<JobId>,
    /// All dead letters
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub operator: Operator,
}
