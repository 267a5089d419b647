//! Finding the container of a run whose driver has gone, and taking charge of it.

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum};

use super::engine::{Engine, RUN_LABEL, refusal, status};
use super::greet::Door;
use super::record::{ContainerRecord, boot};
use super::running::{Container, Parts, Running};
use super::shape::{Dirs, GUEST};
use super::sidecars::Companions;
use super::token::Starting;
use crate::domain::{BoxFacts, SandboxKind};
use crate::guest::Client;
use crate::sandbox::{BoxSpec, Found, SandboxError, leave_token};

/// How a container stands.
enum Standing {
    Up,
    Held,
    /// Why it had ended.
    Ended(String),
    /// Made and never started.
    HalfMade,
}

/// Looks for the container that this record tells of.
///
/// # Errors
/// What stands in the way of having back what is there. Nothing is removed then.
pub(super) async fn find(engine: &Engine, spec: &BoxSpec, record: ContainerRecord) -> Result<Found, SandboxError> {
    let name = &record.container;
    let docker = &engine.docker;
    let cannot = format!("cannot take charge of the container {name} again");
    let found = match docker.inspect_container(name, None).await {
        Ok(found) => found,
        Err(error) if status(&error) == Some(404) => {
            return Ok(Found::Gone(format!("the container {name} is not there any more")));
        }
        Err(error) => return Err(refusal(&cannot, &error)),
    };
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    if labels.and_then(|labels| labels.get(RUN_LABEL)).map(String::as_str) != Some(spec.run.as_str()) {
        return Ok(Found::Gone(format!("the container {name} is another's")));
    }
    let why = match standing(&found, &record) {
        Standing::HalfMade => {
            let volume = record.volume(engine.make);
            Container::new(engine.clone(), name.clone(), volume).keep().remove().await;
            ContainerRecord::remove(&Dirs::of(&spec.run_dir).all);
            return Ok(Found::Gone(format!("the container {name} had not been started")));
        }
        Standing::Up => None,
        Standing::Held => {
            docker.unpause_container(name).await.map_err(|error| refusal(&cannot, &error))?;
            None
        }
        Standing::Ended(why) => {
            // Its guest has taken the one that it was started with first.
            let control = Dirs::of(&spec.run_dir).control;
            let starting = Starting { engine, container: name, way: record.way, control: &control };
            starting.bring(&record.token).await?;
            docker
                .start_container(name, None)
                .await
                .map_err(|error| start_again(&cannot, &refusal(&cannot, &error)))?;
            Some(why)
        }
    };
    let dirs = Dirs::of(&spec.run_dir);
    let guest = reach(engine, spec, &record, &found, &dirs).await?;
    // Whoever looks in from another terminal shows what this guest wants to be shown.
    let _ = leave_token(&spec.run_dir, &record.token);
    let facts = record.facts.clone().unwrap_or_else(|| facts_of(spec, &record, &found));
    let container = Container::new(engine.clone(), name.clone(), record.volume(engine.make)).keep();
    let companions = Companions::of(engine.clone(), spec, name.clone(), guest.clone());
    companions.take_back(why.is_some()).await;
    let parts = Parts { container, guest, facts, record, listing: None, companions };
    let running = Running::new(parts, spec);
    Ok(match why {
        None => Found::Alive(Box::new(running)),
        Some(why) => Found::Restarted(Box::new(running), why),
    })
}

async fn reach(
    engine: &Engine,
    spec: &BoxSpec,
    record: &ContainerRecord,
    found: &ContainerInspectResponse,
    dirs: &Dirs,
) -> Result<Client, SandboxError> {
    let config = found.config.as_ref();
    let words = config.into_iter().flat_map(|config| [&config.entrypoint, &config.cmd]).flatten().flatten();
    let program = words.filter(|word| !word.is_empty()).take_while(|word| *word != GUEST).cloned().collect();
    let door = Door {
        engine,
        container: &record.container,
        way: record.way,
        control: &dirs.control,
        sessions: spec.run_dir.join("sessions"),
        token: &record.token,
        program,
    };
    door.greet().await.map_err(|because| SandboxError {
        what: format!("the guest of the container {} does not answer", record.container),
        because: Some(because),
        hint: Some(format!("remove what is left with `agent runs rm {}`", spec.run)),
    })
}

fn start_again(what: &str, error: &SandboxError) -> SandboxError {
    SandboxError {
        what: what.to_owned(),
        because: error.because.clone(),
        hint: error.hint.clone().or_else(|| Some("`docker rm` it: the next driver makes a new one".to_owned())),
    }
}

fn standing(found: &ContainerInspectResponse, record: &ContainerRecord) -> Standing {
    let Some(state) = &found.state else { return Standing::Up };
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::RESTARTING) => Standing::Up,
        Some(ContainerStateStatusEnum::PAUSED) => Standing::Held,
        Some(ContainerStateStatusEnum::CREATED) => Standing::HalfMade,
        _ if state.running == Some(true) => Standing::Up,
        _ => Standing::Ended(if record.boot != boot() {
            "the machine was restarted".to_owned()
        } else if state.oom_killed == Some(true) {
            "its first process was killed for want of memory".to_owned()
        } else {
            format!("it had ended with code {}", state.exit_code.unwrap_or_default())
        }),
    }
}

/// What can be told of a container whose driver went before it had noted it.
fn facts_of(spec: &BoxSpec, record: &ContainerRecord, found: &ContainerInspectResponse) -> BoxFacts {
    BoxFacts {
        kind: SandboxKind::Docker,
        why: spec.why.clone(),
        id: record.container.clone(),
        image: found.config.as_ref().and_then(|config| config.image.clone()),
        image_digest: found.image.clone(),
        workspace: spec.workspace.display().to_string(),
        workspace_mode: record.keep.word().to_owned(),
        capabilities: Vec::new(),
    }
}
