//! Subcommands that the program calls itself by; no person types them.

use std::ffi::OsStr;
use std::io;
use std::process::ExitCode;

use super::Place;
use crate::guest::{self, GuestSetup, SETUP_VAR};

/// Runs a hidden subcommand if `args` (without the program's name) name one.
pub(super) fn dispatch(args: &[std::ffi::OsString], place: &Place) -> Option<ExitCode> {
    let done = match args.first()?.to_str()? {
        "__guest" => serve_guest(place),
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

fn serve_guest(place: &Place) -> io::Result<()> {
    let setup = place.vars.get(OsStr::new(SETUP_VAR)).and_then(|json| json.to_str());
    let Some(json) = setup else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{SETUP_VAR} is not set")));
    };
    let setup: GuestSetup = serde_json::from_str(json)?;
    guest::serve(setup)
}
