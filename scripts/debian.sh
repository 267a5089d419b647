# What the other scripts share: saying a step, and installing what is missing. Sourced, not run.
# shellcheck shell=bash

# Says a step on standard error, where all talk goes.
say() {
    printf '== %s\n' "$*" >&2
}

# Ends the script with a reason.
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "this needs root: run it as root, or install sudo (as root: apt-get install sudo)"
        sudo "$@"
    fi
}

# Whether a program can be found, also where an ordinary user's PATH does not look.
has() {
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1
}

# Installs Debian packages by name; prints apt's own words only when it fails.
install_packages() {
    has apt-get || die "no apt-get here: install these yourself: $*"
    say "installing: $*"
    local log
    log=$(mktemp)
    if ! { as_root apt-get update -qq &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
        </dev/null >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: $*"
    fi
    rm -f "$log"
}

# What a build of the crate needs besides Rust and git: a C compiler and the C library's headers.
install_build_needs() {
    local missing=()
    has cc || missing+=(gcc)
    [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
    if ! has cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    has cargo || die "no cargo here: install Rust first (https://rustup.rs)"
}

# Where Debian's packages come from on this machine, as far as it is written down in the usual places.
debian_sources() {
    if [ -s /etc/apt/sources.list.d/debian.sources ]; then
        echo /etc/apt/sources.list.d/debian.sources
    elif grep -qs '^deb ' /etc/apt/sources.list; then
        echo /etc/apt/sources.list
    fi
}

# The first mirror that is named there; nothing where none is.
debian_mirror() {
    local sources
    sources=$(debian_sources)
    [ -z "$sources" ] || sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]+).*/\3/p' "$sources" | head -n 1
}
