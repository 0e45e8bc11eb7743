# spool.sh: what the tests of the spool share. Source it after lib.sh.

SPOOL=$WORK/spool
mkdir "$SPOOL"

# spool_files [DIR]: how many files with records are in it.
spool_files() { find "${1:-$SPOOL}" -name '*.spool' | wc -l; }
spool_bytes() { find "${1:-$SPOOL}" -name '*.spool' -printf '%s\n' | awk '{ s += $1 } END { print s + 0 }'; }
spool_is_empty() { [[ $(spool_files "$@") == 0 ]]; }

# spool_rests: nothing more was written since the last look.
spool_rests() {
    local now
    now=$(spool_bytes)
    [[ $now -gt 0 && $now == "${spool_before:-}" ]] && return 0
    spool_before=$now
    return 1
}

# A second sink: its own store and endpoint.
OTHER_STORE=$WORK/other
OTHER_ENDPOINT=ipc://$WORK/other.sock
start_other() {
    : >"$WORK/other.log"
    start other "$BIN/recoveryd" --store "$OTHER_STORE" --listen "$OTHER_ENDPOINT"
    wait_until 60 "the other recoveryd is ready" recoveryd_is_ready_or_dead other ready
    is_running other || fail "the other recoveryd did not start: $(tail -n 2 "$WORK/other.log")"
}
ctl_other() { "$BIN/recoveryctl" --server "$OTHER_ENDPOINT" "$@"; }
