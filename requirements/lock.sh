#!/bin/sh
# Pins every requirement with its hashes, for all systems that pyproject.toml speaks of, without naming where it came from.
# Usage: requirements/lock.sh [PYTHON]. Add UPGRADE=1 to the environment to take newer versions.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${1:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip --disable-pip-version-check install --quiet uv

lock() { # lock OUTPUT SOURCE [OPTION...]: what dev.txt holds, the others hold in the same version
    output=requirements/$1 source=$2
    shift 2
    # shellcheck disable=SC2086
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        ${UPGRADE:+--upgrade} "$@" --output-file "$output" "$source" >/dev/null
}

lock dev.txt pyproject.toml --extra dev
sed -n 's/^\([A-Za-z0-9_.-]*==[^ ;]*\).*/\1/p' requirements/dev.txt >"$tools/pins.txt"
lock hub.txt pyproject.toml --extra hub --constraint "$tools/pins.txt"
lock agent.txt pyproject.toml --constraint "$tools/pins.txt"
printf 'hatchling\neditables\n' >"$tools/build.in"
lock build.txt "$tools/build.in" --constraint "$tools/pins.txt"
if grep -nE '://|file:|^--(extra-)?index|^--find' requirements/*.txt; then
    echo "a requirement names where it comes from: remove that line" >&2
    exit 1
fi
