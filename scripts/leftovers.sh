#!/usr/bin/env bash
# Lists what runs leave on a machine while they go, one thing a line: containers, images, networks, volumes, control
# groups, mounts, processes, temporary directories. Called before and after the tests, it tells what they have left.
set -euo pipefail

for engine in docker podman; do
    command -v "$engine" >/dev/null 2>&1 && timeout 20 "$engine" info >/dev/null 2>&1 || continue
    "$engine" ps -aq --filter label=longhaul.run | sed "s/^/$engine container /"
    "$engine" images -q --filter label=longhaul.run | sort -u | sed "s/^/$engine image /"
    "$engine" network ls -q --filter label=longhaul.run | sed "s/^/$engine network /"
    "$engine" volume ls -q --filter label=longhaul.run | sed "s/^/$engine volume /"
done
# A control group in which nothing is any more is one that somebody forgot.
find /sys/fs/cgroup -maxdepth 4 -type d -name 'longhaul-*' 2>/dev/null | sed 's/^/cgroup /'
awk '$5 ~ /longhaul-/ { print "mount " $5 }' /proc/self/mountinfo
for comm in /proc/[0-9]*/comm; do
    if [ "$(cat "$comm" 2>/dev/null)" = longhaul-guest ]; then
        echo "process ${comm//[!0-9]/}"
    fi
done
find /tmp /var/tmp -maxdepth 1 -name 'longhaul-*' 2>/dev/null | sed 's/^/file /'
exit 0
