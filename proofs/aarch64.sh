#!/usr/bin/env bash
# fastnn on 64-bit Arm, emulated: makes a Debian root with an arm64 Python, installs the working tree
# and its tests' packages there, and runs pytest.
#
#   proofs/aarch64.sh FOLDER [ARGUMENT OF PYTEST...]
#
# FOLDER is made once and may be used again.  Needs Debian's packages debootstrap, qemu-user-static,
# gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and root for debootstrap.  The compiler is a cross
# compiler, so that it need not be emulated; everything else is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$1" && folder=$(cd "$1" && pwd) && shift
root=$folder/root

[ -e "$root/usr/bin/python3" ] || {
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -1)
    # not run inside: nothing needs to be configured, and unpacking needs no emulation
    debootstrap --foreign --arch=arm64 --variant=minbase \
        --include=python3,python3-venv,python3-dev,libgomp1 bookworm "$root" "$mirror"
    for package in "$root"/var/cache/apt/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
}

# An interpreter that looks as if the machine were an Arm, also to the processes that tests start.
wrap() { # WHERE: a script there that runs the arm64 Python under that name
    rm -f "$1"
    printf '#!/bin/sh\nexec qemu-aarch64-static -L %q -0 %q %q "$@"\n' \
        "$root" "$1" "$(readlink -f "$root/usr/bin/python3")" >"$1"
    chmod +x "$1"
}
bin=$folder/environment/bin
[ -e "$bin/python3" ] || {
    wrap "$folder/python3"
    "$folder/python3" -m venv --without-pip "$folder/environment"
    wrap "$bin/python3"
}

# what is tracked, or would be, as it stands now
mkdir -p "$folder/tree"
git ls-files -z --cached --others --exclude-standard |
    tar --create --null --ignore-failed-read --files-from=- | tar --extract --directory="$folder/tree"
cd "$folder/tree"

# Wheels of that architecture are unpacked by this machine's pip, and Cython runs here: emulated, both
# would take most of an hour.
packages=$folder/environment/lib/python3.11/site-packages
[ -e "$packages/numpy" ] || {
    "$bin/python3" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print(*project["dependencies"], *project["optional-dependencies"]["test"], sep="\n")' >"$folder/needed"
    python3 -m pip install --quiet --target "$packages" --only-binary=:all: --python-version 3.11 \
        --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 -r "$folder/needed"
}
mkdir -p build/cython/csrc
PYTHONPATH=$packages python3 -m cython -3 csrc/_kernels.pyx -o build/cython/csrc/_kernels.c
export CFLAGS="-I$root/usr/include -I$root/usr/include/python3.11"
"$bin/python3" setup.py --quiet build_ext --inplace
"$bin/python3" -c 'import fastnn; print(fastnn.build_info())'
"$bin/python3" -m pytest "$@"
