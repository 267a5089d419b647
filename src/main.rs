//! The `agent` binary: hands its arguments to the library.

fn main() -> std::process::ExitCode {
    longhaul::cli::main()
}
