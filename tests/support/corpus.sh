# corpus.sh: the captures with the truth beside them. Source it after lib.sh.
#
# The whole corpus when it lies beside the project, else the small part in tests/corpus; or whatever
# folder SANREWIND_CORPUS names. Each NAME.truth.json says for every volume what it held before
# (base) and the SHA-256 of the whole volume at several moments (marks).

if [[ -z ${SANREWIND_CORPUS:-} ]]; then
    SANREWIND_CORPUS=$ROOT/../shared/corpus
    [[ -d $SANREWIND_CORPUS ]] || SANREWIND_CORPUS=$ROOT/tests/corpus
fi
requires jq

# use_capture NAME: sets TRUTH, FILES (one per path), VOLUMES (how many).
use_capture() {
    CAPTURE=$1
    TRUTH=$SANREWIND_CORPUS/$CAPTURE.truth.json
    [[ -f $TRUTH ]] || fail "no capture $CAPTURE in $SANREWIND_CORPUS"
    mapfile -t FILES < <(jq -r '.pcaps[]' "$TRUTH" | sed "s|^|$SANREWIND_CORPUS/|")
    VOLUMES=$(jq '.volumes | length' "$TRUTH")
}

# truth NUMBER FILTER: a field of volume NUMBER. jq rounds nanoseconds to 17 digits; nothing is written within
# 50 ms of a mark.
truth() { jq -r ".volumes[$1] | $2" "$TRUTH"; }

volume_name() { truth "$1" '"\(.target)/\(.lun)"'; }

# Bytes 32i to 32i+31 of the base are the SHA-256 of "corpus-base-i".
write_seeded_base() {
    python3 - "$1" "$2" <<'PY'
import hashlib, sys
with open(sys.argv[1], "wb") as image:
    for i in range(int(sys.argv[2]) // 32):
        image.write(hashlib.sha256(b"corpus-base-%d" % i).digest())
PY
}

# base_image NUMBER: what `baseline --from` gets for the volume: "zeros" or a file.
base_image() {
    local base
    base=$(truth "$1" .base)
    case $base in
    zeros) ;;
    seed:sha256-counter) write_seeded_base "$WORK/base.$1" "$(truth "$1" .size)" ;;
    *.xz) xz -dc "$SANREWIND_CORPUS/$base" >"$WORK/base.$1" ;;
    *) fail "$CAPTURE: base '$base' is of no known kind" ;;
    esac || fail "$CAPTURE: cannot make the base image"
    [[ $base == zeros ]] && echo zeros || echo "$WORK/base.$1"
}

give_baselines() {
    local i
    for ((i = 0; i < VOLUMES; i++)); do
        run 0 ctl baseline "$(volume_name "$i")" --from "$(base_image "$i")"
    done
}

# Marks at which the wire does not say what the volume holds: CAPTURE VOLUME MARK per line.
expected_inexact() {
    grep -qx "$CAPTURE $(truth "$1" .volume) $2" < <(sed 's/ *#.*//' "$ROOT/tests/integration/inexact.list")
}

# check_mark NUMBER LABEL TIME_NS SHA256 [ctl|ctl_store]: restores and compares.
check_mark() {
    local number=$1 label=$2 time_ns=$3 sha=$4 how=${5:-ctl} volume image status=0 line
    volume=$(volume_name "$number")
    image=$WORK/image.$number
    rm -f "$image"
    line=$("$how" restore "$volume" --at "$(at_time "$time_ns")" --to "$image" 2>"$WORK/err" </dev/null) || status=$?
    if ((status == 3)) && expected_inexact "$number" "$label"; then
        [[ ! -e $image ]] || fail "$CAPTURE $volume at $label: refused, but left a file"
        [[ -s $WORK/err ]] || fail "$CAPTURE $volume at $label: refused without a word"
        inexact=$((inexact + 1))
        return 0
    fi
    ((status == 0)) || fail "$CAPTURE $volume at $label: restore ended with $status: $(cat "$WORK/err")"
    [[ $(sha_of "$image") == "$sha" ]] || fail "$CAPTURE $volume at $label ($time_ns): the image differs"
    [[ $line == *"$sha"* ]] || fail "$CAPTURE $volume at $label: the line does not say the hash: $line"
    agreed=$((agreed + 1))
}

# check_marks [HOW...]: every mark of every volume, each by the next of the ways given.
check_marks() {
    local ways=("${@:-ctl}") i turn=0 label time_ns sha
    agreed=0 inexact=0
    for ((i = 0; i < VOLUMES; i++)); do
        while read -r label time_ns sha; do
            check_mark "$i" "$label" "$time_ns" "$sha" "${ways[turn++ % ${#ways[@]}]}"
        done < <(truth "$i" '.marks[] | "\(.label) \(.time_ns) \(.sha256)"')
    done
    ((agreed > 0)) || fail "$CAPTURE: no mark was compared"
    echo "$TEST_NAME: $CAPTURE: $agreed marks agree, $inexact known to be inexact"
}

# Every mark of the first volume: refused, or right.
check_marks_or_refusals() {
    local label time_ns sha status
    agreed=0 refused=0 last=
    while read -r label time_ns sha; do
        status=0
        rm -f "$WORK/image"
        ctl restore "$(volume_name 0)" --at "$(at_time "$time_ns")" --to "$WORK/image" >/dev/null 2>"$WORK/err" </dev/null ||
            status=$?
        ((status == 0 || status == 3)) || fail "$label: restore ended with $status: $(cat "$WORK/err")"
        last=$status
        ((status == 3)) && refused=$((refused + 1)) && continue
        [[ $(sha_of "$WORK/image") == "$sha" ]] || fail "$label: differs, and is called exact"
        agreed=$((agreed + 1))
    done < <(truth 0 '.marks[] | "\(.label) \(.time_ns) \(.sha256)"')
}
