//! Which kind of box to take: pure, from what was asked and what was found.

use std::fmt;

use super::{Probe, SandboxError};
use crate::domain::SandboxKind;

/// What the person asked for with `--sandbox`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever suits.
    #[default]
    Auto,
    /// This kind or none.
    Only(SandboxKind),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(kind) => write!(f, "{}", Word(*kind)),
        }
    }
}

impl std::str::FromStr for Wanted {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<Self, SandboxError> {
        match text {
            "auto" => Ok(Self::Auto),
            "docker" | "podman" => Ok(Self::Only(SandboxKind::Docker)),
            "local" => Ok(Self::Only(SandboxKind::Local)),
            "host" => Ok(Self::Only(SandboxKind::Host)),
            other => Err(SandboxError {
                what: format!("`{other}` is no kind of sandbox"),
                because: None,
                hint: Some("use `--sandbox auto`, `docker`, `local` or `host`".to_owned()),
            }),
        }
    }
}

/// The kind that was taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The kind.
    pub kind: SandboxKind,
    /// One line for people and for the record.
    pub why: String,
}

/// The kinds that may be taken, best first. Whoever probes may stop at the first that works; `host` is in the list only
/// when it was asked for.
pub fn candidates(wanted: Wanted, image_named: ImageNamed) -> &'static [SandboxKind] {
    match (wanted, image_named) {
        (Wanted::Only(SandboxKind::Docker), _) | (Wanted::Auto, ImageNamed::Yes) => &[SandboxKind::Docker],
        (Wanted::Only(SandboxKind::Local), _) => &[SandboxKind::Local],
        (Wanted::Only(SandboxKind::Host), _) => &[SandboxKind::Host],
        (Wanted::Auto, ImageNamed::No) => &[SandboxKind::Local, SandboxKind::Docker],
    }
}

/// Whether an image was named by flag, configuration or workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageNamed {
    /// One was.
    Yes,
    /// None was.
    No,
}

/// Takes the best of the `candidates` that was probed and lacks nothing.
///
/// # Errors
/// When none will do: names for each what is missing and its remedy. An image together with `local` or `host` is
/// refused too, since neither could honour it.
pub fn choose(wanted: Wanted, image_named: ImageNamed, probes: &[Probe]) -> Result<Choice, SandboxError> {
    if let (Wanted::Only(kind @ (SandboxKind::Local | SandboxKind::Host)), ImageNamed::Yes) = (wanted, image_named) {
        return Err(SandboxError {
            what: format!("a `{}` box has no image", Word(kind)),
            because: Some("it shows this machine's own files; images are for containers".to_owned()),
            hint: Some("leave `--image` out, or use `--sandbox docker`".to_owned()),
        });
    }
    let order = candidates(wanted, image_named);
    let found = |kind: &SandboxKind| probes.iter().find(|probe| probe.kind == *kind);
    let mut refusals = Vec::new();
    for kind in order {
        match found(kind).map(|probe| &probe.missing) {
            Some(None) => return Ok(Choice { kind: *kind, why: why(wanted, image_named, *kind, &refusals) }),
            Some(Some(missing)) => refusals.push((*kind, missing.clone())),
            None => refusals.push((*kind, unprobed())),
        }
    }
    Err(none_will_do(&refusals))
}

fn unprobed() -> SandboxError {
    SandboxError { what: "not tried".to_owned(), because: None, hint: None }
}

fn why(wanted: Wanted, image_named: ImageNamed, kind: SandboxKind, refusals: &[(SandboxKind, SandboxError)]) -> String {
    match (wanted, image_named) {
        (Wanted::Only(_), _) => format!("`--sandbox {}` was asked for", Word(kind)),
        (Wanted::Auto, ImageNamed::Yes) => "an image was named".to_owned(),
        (Wanted::Auto, ImageNamed::No) => match refusals {
            [] => "auto: this kernel allows a box over the machine's own tools".to_owned(),
            [(other, missing), ..] => {
                let because = missing.because.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
                format!("auto: no `{}` box: {}{because}", Word(*other), missing.what)
            }
        },
    }
}

fn none_will_do(refusals: &[(SandboxKind, SandboxError)]) -> SandboxError {
    if let [(_, only)] = refusals {
        return only.clone();
    }
    let causes = refusals.iter().map(|(kind, missing)| match &missing.because {
        Some(because) => format!("{}: {}: {because}", Word(*kind), missing.what),
        None => format!("{}: {}", Word(*kind), missing.what),
    });
    let hints =
        refusals.iter().filter_map(|(kind, missing)| Some(format!("{}: {}", Word(*kind), missing.hint.as_ref()?)));
    SandboxError {
        what: "no box can be made on this machine".to_owned(),
        because: Some(causes.collect::<Vec<_>>().join("; ")),
        hint: Some(
            hints.chain(["or, with nothing contained: `--sandbox host`".to_owned()]).collect::<Vec<_>>().join("; "),
        ),
    }
}

/// The word for a kind, as in `--sandbox`.
struct Word(SandboxKind);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SandboxKind::Docker => "docker",
            SandboxKind::Local => "local",
            SandboxKind::Host => "host",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kind: SandboxKind, missing: Option<&str>) -> Probe {
        let missing = missing.map(|what| SandboxError {
            what: what.to_owned(),
            because: Some("kernel said no".to_owned()),
            hint: Some(format!("mend {what}")),
        });
        Probe { kind, missing, capabilities: Vec::new() }
    }

    #[test]
    fn auto_takes_the_local_box_where_the_kernel_allows_it() {
        let probes = [probe(SandboxKind::Docker, None), probe(SandboxKind::Local, None)];
        assert_eq!(choose(Wanted::Auto, ImageNamed::No, &probes).map(|c| c.kind), Ok(SandboxKind::Local));
    }

    #[test]
    fn a_named_image_means_a_container_and_never_falls_back() {
        let probes = [probe(SandboxKind::Docker, None), probe(SandboxKind::Local, None)];
        assert_eq!(choose(Wanted::Auto, ImageNamed::Yes, &probes).map(|c| c.kind), Ok(SandboxKind::Docker));
        let probes = [probe(SandboxKind::Docker, Some("engine")), probe(SandboxKind::Local, None)];
        let refused = choose(Wanted::Auto, ImageNamed::Yes, &probes).expect_err("no engine");
        assert_eq!(refused.hint.as_deref(), Some("mend engine"));
    }

    #[test]
    fn auto_says_why_it_went_to_the_engine() {
        let probes = [probe(SandboxKind::Local, Some("user namespaces are off")), probe(SandboxKind::Docker, None)];
        let choice = choose(Wanted::Auto, ImageNamed::No, &probes).expect("docker is there");
        assert_eq!(choice.kind, SandboxKind::Docker);
        assert_eq!(choice.why, "auto: no `local` box: user namespaces are off (kernel said no)");
    }

    #[test]
    fn the_host_is_never_a_fall_back_and_the_error_names_each_remedy() {
        let probes = [
            probe(SandboxKind::Local, Some("namespaces")),
            probe(SandboxKind::Docker, Some("engine")),
            probe(SandboxKind::Host, None),
        ];
        let refused = choose(Wanted::Auto, ImageNamed::No, &probes).expect_err("neither works");
        let hint = refused.hint.expect("remedies");
        assert!(hint.contains("local: mend namespaces") && hint.contains("docker: mend engine"), "{hint}");
        assert!(hint.ends_with("`--sandbox host`"), "{hint}");
        assert_eq!(
            choose(Wanted::Only(SandboxKind::Host), ImageNamed::No, &probes).map(|c| c.kind),
            Ok(SandboxKind::Host)
        );
    }

    #[test]
    fn an_image_with_a_box_that_has_none_is_refused() {
        let probes = [probe(SandboxKind::Local, None)];
        let refused = choose(Wanted::Only(SandboxKind::Local), ImageNamed::Yes, &probes).expect_err("no image there");
        assert_eq!(refused.what, "a `local` box has no image");
    }
}
