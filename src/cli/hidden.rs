//! Subcommands that the program calls itself by; no person types them.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::Place;
use crate::domain::SessionName;
use crate::guest::{self, GuestSetup, SETUP_VAR};
use crate::sandbox::{self, docker, local};

/// Runs a hidden subcommand if `args` (without the program's name) name one.
pub(super) fn dispatch(args: &[std::ffi::OsString], place: &Place) -> Option<ExitCode> {
    let done = match args.first()?.to_str()? {
        "__guest" => serve_guest(place),
        "__relay" => relay(args.get(1).map(Path::new)),
        "__view" => view_session(args),
        sandbox::SUBCOMMAND => local::serve(),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("agent: {error}\n"));
            ExitCode::FAILURE
        }
    })
}

fn relay(socket: Option<&Path>) -> io::Result<()> {
    let Some(socket) = socket else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket is named"));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(docker::relay(socket));
    // Standard input is read by a thread that nothing can wake.
    runtime.shutdown_background();
    done
}

fn serve_guest(place: &Place) -> io::Result<()> {
    let setup = place.vars.get(OsStr::new(SETUP_VAR)).and_then(|json| json.to_str());
    let Some(json) = setup else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{SETUP_VAR} is not set")));
    };
    guest::serve(GuestSetup::read(json)?)
}

fn view_session(args: &[std::ffi::OsString]) -> io::Result<()> {
    let [_, socket, session] = args else { return Err(io::ErrorKind::InvalidInput.into()) };
    let session = session.to_str().and_then(|name| SessionName::new(name).ok());
    guest::view(Path::new(socket), session.ok_or(io::ErrorKind::InvalidInput)?)
}
