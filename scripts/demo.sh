#!/usr/bin/env bash
# Builds `agent` and runs its demo. Needs git and Rust; installs a C compiler if there is none.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh

install_build_needs
say "building agent (a few minutes the first time)"
cargo build --quiet --locked --bin agent
exec target/debug/agent demo "$@"
