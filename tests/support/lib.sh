# lib.sh: what the test scripts share. Source it first:
#
#   . "$(dirname "$0")/../support/lib.sh"
#
# It gives each script a folder of its own in $WORK, which goes away at the end together with every
# process that start() has started. A script ends with 0 (passed), 77 (cannot run here: requires),
# or anything else (failed; the logs of the processes are shown).
#
# Programs are taken from $SANREWIND_BIN, else build/bin.
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BIN=${SANREWIND_BIN:-$ROOT/build/bin}
TOOLS=${SANREWIND_TOOLS:-$BIN}
TEST_NAME=$(basename "$0")
WORK=$(mktemp -d "${TMPDIR:-/tmp}/sanrewind-test.XXXXXX") || exit 1
export TZ=${TZ:-UTC} LC_ALL=C
# Sanitizers stop a program at the first finding, with a status that no program here uses.
export ASAN_OPTIONS=${ASAN_OPTIONS:-exitcode=86}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=86:suppressions=$ROOT/tests/support/tsan.supp}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

declare -A PIDS=()
cleanup_functions=()

# --- the end -----------------------------------------------------------------------------------------

at_end() { cleanup_functions=("$1" "${cleanup_functions[@]}"); }

show_logs() {
    local log
    for log in "$WORK"/*.log "$WORK"/err; do
        [[ -s $log ]] || continue
        echo "--- ${log##*/} (its last lines)" >&2
        tail -n 25 "$log" >&2
    done
}

finish() {
    local status=$? name function
    trap - EXIT
    for name in "${!PIDS[@]}"; do
        kill -9 "${PIDS[$name]}" 2>/dev/null
        wait "${PIDS[$name]}" 2>/dev/null
    done
    for function in "${cleanup_functions[@]}"; do
        "$function"
    done
    ((status == 0 || status == 77)) || show_logs
    rm -rf "$WORK"
    exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

fail() {
    echo "$TEST_NAME: FAILED: $*" >&2
    exit 1
}

skip() {
    echo "$TEST_NAME: skipped: $*" >&2
    exit 77
}

# requires PROGRAM...: what cannot be installed with the other packages is no failure.
requires() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "needs $program"
    done
}

requires_root() { ((EUID == 0)) || skip "needs root"; }

for program in tapd recoveryd recoveryctl; do
    [[ -x $BIN/$program ]] || fail "no $BIN/$program: build first, or set SANREWIND_BIN"
done

# --- chance ------------------------------------------------------------------------------------------

# A seed that is printed, so that a failure can be had again with SANREWIND_SEED.
take_seed() {
    SEED=${SANREWIND_SEED:-$((RANDOM * 32768 + RANDOM))}
    echo "$TEST_NAME: SANREWIND_SEED=$SEED"
    RANDOM=$((SEED & 32767))
}

# A number from 0 to below $1.
chance() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

# --- processes ---------------------------------------------------------------------------------------

# start NAME COMMAND...: runs in the background; its output goes to $WORK/NAME.log.
start() {
    local name=$1
    shift
    "$@" >>"$WORK/$name.log" 2>&1 &
    PIDS[$name]=$!
}

is_running() { kill -0 "${PIDS[$1]}" 2>/dev/null; }

# wait_until SECONDS WHAT COMMAND...: polls the command; never sleeps for luck.
wait_until() {
    local seconds=$1 what=$2 deadline=$((SECONDS + $1))
    shift 2
    until "$@"; do
        ((SECONDS <= deadline)) || fail "$what: not within $seconds seconds"
        sleep 0.05
    done
}

# ended_with NAME STATUS: waits for the process by itself.
ended_with() {
    local name=$1 expected=$2 status=0
    wait "${PIDS[$name]}" || status=$?
    unset "PIDS[$name]"
    ((status == expected)) || fail "$name ended with $status, expected $expected: $(tail -n 1 "$WORK/$name.log")"
}

stop_cleanly() {
    kill -TERM "${PIDS[$1]}" || fail "$1 is not running any more"
    ended_with "$1" 0
}

kill_hard() {
    kill -9 "${PIDS[$1]}" 2>/dev/null
    wait "${PIDS[$1]}" 2>/dev/null
    unset "PIDS[$1]"
}

# run STATUS COMMAND...: the command ends with STATUS; its output is in $WORK/out and $WORK/err.
run() {
    local expected=$1 status=0
    shift
    "$@" >"$WORK/out" 2>"$WORK/err" </dev/null || status=$?
    ((status == expected)) ||
        fail "'${*##*/}' ended with $status, expected $expected: $(tail -n 2 "$WORK/err" "$WORK/out")"
}

# A refusal is one line on standard error, and says WHAT (an extended regular expression).
says_once() {
    local lines
    lines=$(wc -l <"$WORK/err")
    ((lines == 1)) || fail "expected one line, got $lines: $(cat "$WORK/err")"
    grep -Eiq -- "$1" "$WORK/err" || fail "the line does not say '$1': $(cat "$WORK/err")"
}

# --- sanrewind ---------------------------------------------------------------------------------------

STORE=$WORK/store
ENDPOINT=ipc://$WORK/recoveryd.sock

log_says() { grep -Eq -- "$2" "$WORK/$1.log" 2>/dev/null; }

recoveryd_is_ready_or_dead() {
    log_says "$1" "$2" || ! is_running "$1"
}

# Nth start of the same log must not be satisfied with the line of the one before.
start_recoveryd() {
    : >"$WORK/recoveryd.log"
    start recoveryd "$BIN/recoveryd" --store "$STORE" --listen "$ENDPOINT" "$@"
    wait_until 60 "recoveryd is ready" recoveryd_is_ready_or_dead recoveryd ready
    is_running recoveryd || fail "recoveryd did not start: $(tail -n 2 "$WORK/recoveryd.log")"
}

ctl() { "$BIN/recoveryctl" --server "$ENDPOINT" "$@"; }
ctl_store() { "$BIN/recoveryctl" --store "$STORE" "$@"; }

# replay NAME FILE...: one tapd over all files, up to the acknowledgement of its last record.
replay() {
    local monitor=$1 file files=()
    shift
    for file; do
        files+=(-r "$file")
    done
    "$BIN/tapd" "${files[@]}" --to "${TAPD_ENDPOINT:-$ENDPOINT}" --monitor "$monitor" >>"$WORK/tapd-$monitor.log" 2>&1
}

sha_of() { sha256sum "$1" | cut -c1-64; }

# Nanoseconds as TIME: 1795404207438474540 -> @1795404207.438474540
at_time() { echo "@${1:0:-9}.${1: -9}"; }

index_is_sorted() { "$BIN/recoveryctl" --store "$STORE" status --json | jq -e '.index.unmerged_blocks == 0' >/dev/null; }

# A number of the store that changes when anything in it does. recoveryd sorts the index's journal beside
# everything else: first that comes to rest.
store_fingerprint() {
    if ! flock -n "$STORE/lock" true; then
        wait_until 60 "the index is sorted" index_is_sorted
    fi
    (cd "$STORE" && find . -type f ! -name 'lock*' ! -name '*.lock' -exec sha256sum {} + | sort | sha256sum)
}
