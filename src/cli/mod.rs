//! Arguments in, wiring, words and exit code out.

mod failure;
mod hidden;
mod place;

pub use failure::Failure;
pub use place::Place;

/// The program: reads its surroundings once, does what its arguments say, and returns the exit code.
pub fn main() -> std::process::ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let Ok(place) = Place::of_this_process() else { return std::process::ExitCode::FAILURE };
    hidden::dispatch(&args, &place).unwrap_or(std::process::ExitCode::FAILURE)
}
