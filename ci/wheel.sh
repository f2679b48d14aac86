#!/usr/bin/env bash
# Build a wheel, install it in a bare environment in which no compiler can be found, and train three neurons there.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PIP_CONSTRAINT="$PWD/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1
python=${PYTHON:-python3}

"$python" -m pip wheel --quiet --no-deps --wheel-dir "$scratch" --config-settings "build-dir=$scratch/build" .
"$python" -m venv "$scratch/bare"
bare() { env PATH="$scratch/bare/bin" CC=false CXX=false "$scratch/bare/bin/python" "$@"; }
bare -m pip install --quiet --only-binary :all: "$scratch"/spikeloop-*.whl
cd "$scratch" && bare - < "$OLDPWD/ci/smoke.py"
