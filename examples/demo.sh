#!/usr/bin/env bash
# examples/demo.sh: `make demo`. A server on its embedded default with a data folder of its own, the main example and the Rust
# example on real data, and what an operator would look at. The server is stopped at the end, also after a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
home=$PWD/.cache/demo

.ci/venv .venv requirements/runtime.txt requirements/demo.txt
rm -rf "$home"
mkdir -p "$home"

# Port 0: the system chooses a free one; the server prints its address when it is ready.
bin/mlplat-server --listen 127.0.0.1:0 --data-dir "$home/data" >"$home/server.out" 2>"$home/server.log" &
server=$!
stop() {
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" || { echo "the server ended badly; its log:" >&2 && cat "$home/server.log" >&2 && exit 1; }
    echo "server stopped"
}
trap stop EXIT
for _ in $(seq 100); do
    grep -q http "$home/server.out" && break
    kill -0 "$server" 2>/dev/null || exit 1
    sleep 0.1
done
MLPLAT_URL=$(awk '{ print $NF }' "$home/server.out")
export MLPLAT_URL
echo "mlplat-server on $MLPLAT_URL, data in $home/data"

echo
echo "=== examples/flight_delays: from raw tables to a model with its lineage"
.venv/bin/python examples/flight_delays/main.py

echo
echo "=== examples/pipeline: the same features from Rust"
"$target/debug/flight-pipeline"

echo
echo "=== the command line"
.venv/bin/mlplat runs list
.venv/bin/mlplat models list

echo
echo "Look around on your own: bin/mlplat-server --data-dir $home/data, then"
echo "  .venv/bin/mlplat models show arrival-delay"
echo "  .venv/bin/mlplat lineage show model:arrival-delay@1"
