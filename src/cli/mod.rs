//! Arguments in, wiring, words and exit code out.

mod failure;
mod hidden;
mod output;
mod place;
mod replay;
mod runs;
mod target;
mod verify;

pub use failure::Failure;
pub use place::Place;
pub use replay::ReplayArgs;
pub use runs::RunsCommand;
pub use verify::VerifyArgs;

/// The program: reads its surroundings once, does what its arguments say, and returns the exit code.
pub fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let Ok(place) = Place::of_this_process() else { return std::process::ExitCode::FAILURE };
    hidden::dispatch(&args, &place).unwrap_or(std::process::ExitCode::FAILURE)
}
