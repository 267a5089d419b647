#!/usr/bin/env bash
# Makes a Debian 12 machine ready for the tests: packages, cargo-nextest, a Docker engine and a Podman API service that
# answer, and two test images in both. Run it as often as you like; it does only what is missing.
#
#   scripts/setup.sh [--packages]     --packages: stop after the packages
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh

readonly suite=bookworm
readonly debian_image=longhaul-test:bookworm
readonly busybox_image=longhaul-test:busybox
readonly docker_socket=/var/run/docker.sock
readonly podman_socket=/run/podman/podman.sock
readonly path_env='ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# program:package that provides it. Programs, not packages, are looked for: another vendor's engine is as good.
needed_programs=(
    tmux:tmux
    ps:procps
    dockerd:docker.io
    podman:podman
    runc:runc
    mmdebstrap:mmdebstrap
    busybox:busybox-static
    # Programs that ask a person: how they are recognised is tested with them.
    python3:python3
    less:less
    vim:vim
    sudo:sudo
    ssh:openssh-client
    sshd:openssh-server
)

install_test_needs() {
    local missing=() pair
    for pair in "${needed_programs[@]}"; do
        has "${pair%%:*}" || missing+=("${pair#*:}")
    done
    # The image is made from busybox alone, so it has to be the static one.
    if has busybox && ldd "$(command -v busybox)" >/dev/null 2>&1; then
        missing+=(busybox-static)
    fi
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
    if ! cargo nextest --version >/dev/null 2>&1; then
        say "building cargo-nextest (several minutes, once)"
        cargo install --quiet --locked --no-default-features --features default-no-update cargo-nextest
    fi
}

# Waits until a command succeeds while a process lives: wait_for PID COMMAND...
wait_for() {
    local pid=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ -e "/proc/$pid" ] && [ $SECONDS -lt $deadline ] || return 1
        sleep 0.1
    done
}

# Starts a program as root that goes on after this script, its words in a log: start_service LOG COMMAND...
# Sets `service` to its process id.
start_service() {
    local log=$1
    shift
    # Not from here: an engine's monitors leave files where they were started.
    as_root sh -c 'cd / && log=$1; shift; setsid "$@" >"$log" 2>&1 </dev/null & echo $!' sh "$log" "$@" >"$work/pid"
    service=$(cat "$work/pid")
}


engine_answers() { # SOCKET
    as_root docker -H "unix://$1" version --format '{{.Server.Version}}'
}

# Takes away what an engine that was killed left behind: its pid may be another program's by now, which dockerd would
# take for its own and end.
forget_dead() { # PID_FILE PROGRAM
    local pid
    pid=$(as_root cat "$1" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || as_root rm -f "$1"
}

start_docker() {
    engine_answers "$docker_socket" >/dev/null 2>&1 && return
    if [ -d /run/systemd/system ]; then
        say "starting docker.service"
        as_root systemctl start docker
        return
    fi
    forget_dead /var/run/docker.pid dockerd
    forget_dead /var/run/docker/containerd/containerd.pid containerd
    local log=/var/log/longhaul-dockerd.log
    say "starting dockerd (log: $log)"
    start_service "$log" dockerd
    wait_for "$service" engine_answers "$docker_socket" && return
    say "dockerd did not come up with a network bridge; trying without: containers get no network"
    start_service "$log" dockerd --iptables=false --ip6tables=false --bridge=none
    wait_for "$service" engine_answers "$docker_socket" && return
    as_root tail -n 20 "$log" >&2
    die "dockerd does not come up"
}

start_podman() {
    engine_answers "$podman_socket" >/dev/null 2>&1 && return
    if [ -d /run/systemd/system ]; then
        say "starting podman.socket"
        as_root systemctl start podman.socket
        return
    fi
    local log=/var/log/longhaul-podman.log
    say "starting the Podman API service (log: $log)"
    as_root mkdir -p "$(dirname "$podman_socket")"
    # runc, because crun refuses machines that have both cgroup versions mounted.
    start_service "$log" podman --runtime runc system service --time=0 "unix://$podman_socket"
    wait_for "$service" engine_answers "$podman_socket" && return
    as_root tail -n 20 "$log" >&2
    die "the Podman API service does not come up"
}

make_debian_root() { # TAR
    say "making the root of $debian_image from Debian's packages"
    local sources
    sources=$(debian_sources)
    as_root mmdebstrap --quiet --variant=minbase --include=tmux,procps \
        --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$1" ${sources:+"$sources"} >&2
}

make_busybox_root() { # TAR
    say "making the root of $busybox_image"
    local root=$work/busybox applet
    mkdir -p "$root"/{bin,etc,root,tmp}
    chmod 1777 "$root/tmp"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list); do
        [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
    done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    tar --numeric-owner --owner=0 --group=0 -C "$root" -cf "$1" .
}

# Makes an image in both engines from one root: import_image NAME MAKER
import_image() {
    local name=$1 maker=$2 tar=$work/root.tar engine
    for engine in docker podman; do
        as_root "$engine" image inspect "$name" >/dev/null 2>&1 && continue
        [ -s "$tar" ] || "$maker" "$tar"
        as_root "$engine" import --change "$path_env" --change 'CMD ["/bin/sh"]' "$tar" "$name" >"$work/log" 2>&1 ||
            { cat "$work/log" >&2; die "$engine could not import $name"; }
    done
    rm -f "$tar"
}

summary() {
    say "ready: $(cargo nextest --version | head -n 1), $(tmux -V), docker $(engine_answers "$docker_socket"), podman $(engine_answers "$podman_socket"), images $debian_image $busybox_image"
}

install_build_needs
install_test_needs
[ "${1:-}" != --packages ] || { say "packages are installed"; exit 0; }
start_docker
start_podman
import_image "$debian_image" make_debian_root
import_image "$busybox_image" make_busybox_root
summary
