#!/usr/bin/env bash
# Sets the machine up (scripts/setup.sh), then checks and tests everything. Any failure ends it with a code other than
# zero; the runner's summary is the last thing printed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh

scripts/setup.sh
scripts/servers.sh
install_build_needs
profile=default
[ "${CI:-}" != true ] || profile=ci

say "format"
cargo fmt --check
say "lints"
cargo clippy --quiet --locked --all-targets -- -D warnings
say "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps
if cargo deny --version >/dev/null 2>&1; then
    say "dependencies: licences, sources, bans"
    cargo deny --offline --log-level warn check licenses sources bans
else
    say "dependencies: not checked, cargo-deny is not installed (cargo install --locked cargo-deny)"
fi
say "documentation's examples"
cargo test --quiet --locked --doc >&2
say "tests"
before=$(mktemp) after=$(mktemp)
trap 'rm -f "$before" "$after"' EXIT
scripts/leftovers.sh | sort >"$before"
tests=0
# Where nobody waits for it, there is more time for damaged bytes.
[ "${CI:-}" != true ] || export LONGHAUL_FUZZ_S="${LONGHAUL_FUZZ_S:-30}"
cargo nextest run --locked --profile "$profile" --no-tests=fail </dev/null || tests=$?
scripts/leftovers.sh | sort >"$after"
if left=$(comm -13 "$before" "$after") && [ -n "$left" ]; then
    say "the tests have left something behind"
    printf '%s\n' "$left" >&2
    [ "$tests" != 0 ] || tests=1
fi
exit "$tests"
