#!/usr/bin/env bash
# Prepare a machine for mos: system packages, then a virtual environment with mos in it.
#
#   tools/bootstrap.sh VENV [lint]
#
# Installs only what is missing, with apt-get.  PYTHON chooses the interpreter.
set -euo pipefail

venv=$1
extra=${2:-test}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
missing=()

say() {
    printf 'mos: %s\n' "$*" >&2
}

die() {
    say "$*"
    exit 1
}

# want PACKAGE COMMAND...: note PACKAGE as missing when COMMAND fails.
want() {
    local package=$1
    shift
    if ! "$@" >/dev/null 2>&1; then
        missing+=("$package")
    fi
}

has_command() {
    command -v "$1" || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]]
}

has_libc_headers() {
    [[ -e /usr/include/stdio.h ]]
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

# Print the interpreter to use, or nothing.
find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if command -v "$name" >/dev/null && is_new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
}

has_ensurepip() {
    "$1" -c 'import ensurepip, venv'
}

has_python_h() {
    "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'
}

# Packages of the interpreter itself; apt-get can mend only the system's own.
want_python_parts() {
    local python=$1 version
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    want "$version-venv" has_ensurepip "$python"
    want "$version-dev" has_python_h "$python"
}

install_missing() {
    local sudo=()
    if ((${#missing[@]} == 0)); then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        die "please install these (Debian names), then call again: ${missing[*]}"
    fi
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "please run as root, then call again: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing ${missing[*]}"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
        die "apt-get could not install ${missing[*]}; mos needs Debian 12 or Ubuntu 24.04, or newer"
    missing=()
}

install_system() {
    want gcc has_command gcc
    want libc6-dev has_libc_headers
    want pkg-config has_command pkg-config
    want iproute2 has_command ip
    want dpdk-dev pkg-config --exists libdpdk
    want libpcap-dev pkg-config --exists libpcap
    want zlib1g-dev pkg-config --exists zlib
    want libzstd-dev pkg-config --exists libzstd
    want libssl-dev pkg-config --exists libcrypto
    if [[ -n $python ]]; then
        want_python_parts "$python"
    elif [[ -z ${PYTHON:-} ]]; then
        missing+=(python3 python3-venv python3-dev)
    else
        die "PYTHON=$PYTHON is not a Python 3.10 or newer"
    fi
    install_missing
    pkg-config --atleast-version=22.11 libdpdk ||
        die "DPDK $(pkg-config --modversion libdpdk) is too old: mos needs 22.11 (Debian 12, Ubuntu 24.04) or newer"
}

# Make the environment, unless it is there and belongs to the same interpreter.
make_venv() {
    local base='import os, sys; print(os.path.realpath(sys.executable))'
    if [[ -x $venv/bin/python && -x $venv/bin/pip ]] && "$venv/bin/pip" --version >/dev/null 2>&1 &&
        [[ -z ${PYTHON:-} || $("$venv/bin/python" -c "$base") == $("$python" -c "$base") ]]; then
        return
    fi
    say "making $venv with $("$python" --version) ($python)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

install_python_packages() {
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
    say "installing the Python packages for building and for $extra"
    "${pip[@]}" install 'setuptools>=77' 'cffi>=1.16'
    "${pip[@]}" install --no-build-isolation --editable ".[$extra]"
}

python=$(find_python)
if [[ $extra == lint ]]; then
    want clang-format has_command clang-format
    install_missing
else
    install_system
    python=${python:-$(find_python)}
    [[ -n $python ]] || die "no Python 3.10 or newer found; mos needs Debian 12 or Ubuntu 24.04, or newer"
    make_venv
fi
install_python_packages
