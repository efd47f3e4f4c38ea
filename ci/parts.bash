# Sourced by the scripts beside it: runs named parts one after another, times each, and sums them up in a table.
# shellcheck shell=bash

# Where tools are kept between runs; used by the scripts that source this.
# shellcheck disable=SC2034
cache=${VEDETTE_CACHE:-${HOME:-/root}/.cache/vedette}
part_lines=()
part_failures=()

say() { printf '\n== %s\n' "$*" >&2; }

# part NAME COMMAND...: runs the command, remembers how long it took and whether it held, and goes on either way.
part() {
    local name=$1 start=$SECONDS outcome=ok
    shift
    say "$name: $*"
    "$@" || { outcome=FAILED && part_failures+=("$name"); }
    part_lines+=("$(printf '%-12s %6d s   %s' "$name" $((SECONDS - start)) "$outcome")")
}

# Prints the table; the exit code says whether all parts held.
summary() {
    printf '\n%-12s %8s   %s\n' part time outcome
    printf '%s\n' "${part_lines[@]}"
    printf '%-12s %6d s\n' total "$SECONDS"
    if ((${#part_failures[@]})); then
        printf 'failed: %s\n' "${part_failures[*]}"
        return 1
    fi
}

# need PACKAGE...: installs Debian packages that are missing, as root or with sudo, and says so first.
need() {
    local missing=() name sudo=() policy=/usr/sbin/policy-rc.d ours='' outcome=0
    for name in "$@"; do
        dpkg --status "$name" 2>/dev/null | grep -q '^Status: install ok installed' || missing+=("$name")
    done
    ((${#missing[@]})) || return 0
    if ((EUID)); then
        command -v sudo >/dev/null || { echo "install these first: ${missing[*]}" >&2 && return 1; }
        sudo=(sudo)
    fi
    echo "installing with apt-get: ${missing[*]}" >&2
    # The tests start what they need themselves: no service of a package may start here.
    if [[ ! -e $policy ]]; then
        ours=$policy
        printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
        "${sudo[@]}" chmod +x "$policy"
    fi
    { "${sudo[@]}" apt-get update -q &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } >&2 ||
        outcome=$?
    [[ -z $ours ]] || "${sudo[@]}" rm -f "$ours"
    return "$outcome"
}

# The three checks that need no program to run.
check_parts() {
    part format cargo fmt --all --check
    part clippy cargo clippy --release --locked --workspace --all-targets -- -D warnings
    part docs env RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --workspace --no-deps
}
