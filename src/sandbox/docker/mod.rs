//! Boxes from a container engine: Docker or Podman.

mod bundle;
mod connect;
