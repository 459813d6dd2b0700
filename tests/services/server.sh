#!/usr/bin/env bash
# bin/mlplat-server for as long as a command runs.
#   tests/services/server.sh run [--data-dir DIR] [--listen ADDRESS] COMMAND...
# COMMAND sees MLPLAT_URL. The server is stopped with SIGTERM afterwards, also on failure, and must then end well.
# Without --listen: 127.0.0.1:5000, the default of server and clients, or a free port when that one is taken.
set -euo pipefail
[ "${1:-}" = run ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2 && exit 2; }
shift
server=$(cd "$(dirname "$0")/../.." && pwd)/bin/mlplat-server
options=()
listen=
while [[ ${1:-} == --* ]]; do
    case $1 in
    --listen) listen=$2 ;;
    *) options+=("$1" "$2") ;;
    esac
    shift 2
done
log=$(mktemp "${TMPDIR:-/tmp}/mlplat-server.XXXXXX")

[ -n "$listen" ] || listen=127.0.0.1:$(python3 - <<'EOF'
import socket

with socket.socket() as wanted, socket.socket() as other:
    wanted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        wanted.bind(("127.0.0.1", 5000))
        print(5000)
    except OSError:
        other.bind(("127.0.0.1", 0))
        print(other.getsockname()[1])
EOF
)

ready() {
    python3 - "$1" <<'EOF' 2>/dev/null
import sys, urllib.request

urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1] + "/readyz", timeout=1)
EOF
}

"$server" --listen "$listen" ${options[@]+"${options[@]}"} >"$log" 2>&1 &
pid=$!

stop() {
    local status=$?
    trap - EXIT
    kill -TERM $pid 2>/dev/null || true
    for _ in $(seq 150); do
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    if kill -9 $pid 2>/dev/null; then
        echo "the server did not stop within 15 s of SIGTERM" >&2
        status=1
    fi
    wait $pid || {
        echo "the server ended badly; its last lines:" >&2
        tail -n 20 "$log" >&2
        status=1
    }
    rm -f "$log"
    exit $status
}
trap stop EXIT
trap 'exit 130' INT TERM

for _ in $(seq 300); do
    ready "http://$listen" && break
    kill -0 $pid 2>/dev/null || exit 1
    sleep 0.1
done
ready "http://$listen" || { echo "the server was not ready within 30 s" >&2 && exit 1; }
MLPLAT_URL=http://$listen "$@"
