//! What kind of failure it was: a class with its evidence, and a mark by which it is known again.

use serde::{Deserialize, Serialize};

/// What a failure comes from. Decides what may be done about it; never guessed: without evidence it is `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// A host, a name or a connection was not to be had for the moment.
    Network,
    /// Too many requests: the other side says to come back later.
    RateLimit,
    /// What is allowed is used up: credit, a plan, a disk quota.
    Quota,
    /// Credentials are missing, wrong or over.
    Auth,
    /// What it runs as may not do this.
    Permission,
    /// The kernel or a limit took its memory away.
    Oom,
    /// A GPU has no memory left.
    CudaOom,
    /// A GPU or the way between GPUs is broken.
    GpuFault,
    /// No room or no inodes.
    DiskFull,
    /// A limit of processes, files or sizes.
    ResourceLimit,
    /// A program, module, library or package is not there.
    MissingDependency,
    /// Versions that do not go together.
    VersionConflict,
    /// The same input fails again: syntax, compiler, arguments, configuration.
    Build,
    /// A file, a directory, a page or a database object is not there.
    NotFound,
    /// The engine or the image of the container.
    Environment,
    /// It died of a fault of its own: an invalid address, an abort.
    Crash,
    /// It ran out of the time it was given.
    Timeout,
    /// It waits for something that does not come: a key, a lock.
    Hang,
    /// It ran and its result is wrong: tests, assertions, checks, metrics.
    WrongResult,
    /// The machine it ran on is gone.
    LostHost,
    /// A person or the harness ended it.
    Interrupted,
    /// No evidence says.
    Unknown,
}

impl FailureClass {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::Network,
        Self::RateLimit,
        Self::Quota,
        Self::Auth,
        Self::Permission,
        Self::Oom,
        Self::CudaOom,
        Self::GpuFault,
        Self::DiskFull,
        Self::ResourceLimit,
        Self::MissingDependency,
        Self::VersionConflict,
        Self::Build,
        Self::NotFound,
        Self::Environment,
        Self::Crash,
        Self::Timeout,
        Self::Hang,
        Self::WrongResult,
        Self::LostHost,
        Self::Interrupted,
        Self::Unknown,
    ];

    /// Its name, as it stands in transcripts and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::RateLimit => "rate_limit",
            Self::Quota => "quota",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::Oom => "oom",
            Self::CudaOom => "cuda_oom",
            Self::GpuFault => "gpu_fault",
            Self::DiskFull => "disk_full",
            Self::ResourceLimit => "resource_limit",
            Self::MissingDependency => "missing_dependency",
            Self::VersionConflict => "version_conflict",
            Self::Build => "build",
            Self::NotFound => "not_found",
            Self::Environment => "environment",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::Hang => "hang",
            Self::WrongResult => "wrong_result",
            Self::LostHost => "lost_host",
            Self::Interrupted => "interrupted",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the same command may succeed later without any change.
    pub fn may_pass(self) -> bool {
        match self {
            Self::Network | Self::RateLimit | Self::LostHost => true,
            Self::Quota
            | Self::Auth
            | Self::Permission
            | Self::Oom
            | Self::CudaOom
            | Self::GpuFault
            | Self::DiskFull
            | Self::ResourceLimit
            | Self::MissingDependency
            | Self::VersionConflict
            | Self::Build
            | Self::NotFound
            | Self::Environment
            | Self::Crash
            | Self::Timeout
            | Self::Hang
            | Self::WrongResult
            | Self::Interrupted
            | Self::Unknown => false,
        }
    }
}

impl std::fmt::Display for FailureClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure that was classified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it comes from.
    pub class: FailureClass,
    /// What says so: a counter, a signal, a line of the output.
    pub evidence: String,
    /// Class, shape of the command and last error without what changes each time: the same failure has the same mark.
    pub fingerprint: String,
}
