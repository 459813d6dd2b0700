# Sourced by the scripts beside it: steps that are timed, logged, and go on after a failure, so that one run shows everything.
logs=.cache/logs
mkdir -p $logs

# step NAME COMMAND...: runs the command, keeps its output in a log, notes how it went.
step() {
    local name=$1 began=$SECONDS status=0
    shift
    echo "--- $name"
    "$@" 2>&1 | tee "$logs/$name.log" || status=1
    echo "$name $((SECONDS - began)) $status" >>"$logs/steps"
    [ $status = 0 ] || echo "--- $name FAILED"
    return $status
}

# seconds 125 -> 2m05s
duration() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# Prints each step with its time; fails if one of them failed.
summary() {
    local name took status failed=0
    while read -r name took status; do
        [ "$status" = 0 ] && status=ok || { status=FAILED && failed=1; }
        printf '%-22s %7s  %s\n' "$name" "$(duration "$took")" $status
    done <"$logs/steps"
    return $failed
}

# tests FILES...: adds up what cargo test and pytest say at their ends, in a line on its own.
tests() {
    awk '
        /^test result:/ { passed += $4; failed += $6; skipped += $8 }
        /^=.* in [0-9.]+s/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^(failed|error)/) failed += $(i - 1)
                if ($i ~ /^skipped/) skipped += $(i - 1)
            }
        }
        END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$@"
}
