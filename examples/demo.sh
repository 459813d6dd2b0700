#!/usr/bin/env bash
# examples/demo.sh: what `make demo` runs against its server (MLPLAT_URL): the examples, then what the command line shows of it.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
# The journal of what the examples log, away from that of whoever runs them.
export MLPLAT_HOME=$PWD/.cache/demo-home

echo "=== examples/flight_delays: from raw tables to a model with its lineage"
.venv/bin/python examples/flight_delays/main.py

echo
echo "=== examples/pipeline: the same features from Rust"
"$target/debug/flight-pipeline"

echo
echo "=== examples/late_flights: a training in Rust, a point per batch"
"$target/debug/late-flights"

echo
echo "=== the command line: mlplat runs list, mlplat models list"
.venv/bin/mlplat runs list
.venv/bin/mlplat models list

echo
echo "To look around: bin/mlplat-server --data-dir .cache/demo, and in another terminal"
echo "  .venv/bin/mlplat models show arrival-delay"
echo "  .venv/bin/mlplat lineage show model:arrival-delay@1"
