#!/usr/bin/env bash
# What goes in comes out: byte for byte, proved by `verify`; and damage is told, never hidden.
source "$(dirname "$0")/shell/setup.bash"
need_command append
need_command verify

store=$work/store
want=$(records_of "$input")
[[ $real_data == no || $want == 7998 ]] || fail "the real logs have changed: $want records, 7998 expected"

last=$("$FOREBAY" append --dir "$store" --ack <"$input" | tail -n 1)
[[ $last == "durable $want" ]] || fail "append ended with '$last', not 'durable $want'"

as_read "$input" >"$work/expected"
state() { (cd "$1" && find . -printf '%p %s %m %T@\n' | sort); }
state "$store" >"$work/before"
"$FOREBAY" read --dir "$store" --raw >"$work/got"
cmp "$work/expected" "$work/got" || fail "read gave other bytes back"
"$FOREBAY" verify --dir "$store" --output json >"$work/verify.json" || fail "verify finds fault with a whole store"
state "$store" >"$work/after"
cmp "$work/before" "$work/after" || fail "read or verify wrote"

count() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1])).get(sys.argv[2]))' "$@"; }
[[ $(count "$work/verify.json" records) == "$want" ]] || fail "verify counts other records: $(cat "$work/verify.json")"
[[ $(count "$work/verify.json" closes) == True ]] || fail "the ledger is open: $(cat "$work/verify.json")"

# 4 KiB of zeros in the middle of what one slot holds: a piece of some records is gone.
cp -r --sparse=always "$store" "$work/damaged"
python3 - "$work/damaged" <<'END'
import glob, os, sys

def pages(path):
    with open(path, "rb") as file:
        return [i for i, page in enumerate(iter(lambda: file.read(4096), b"")) if page.count(0) != len(page)]

slots = {path: pages(path) for path in glob.glob(os.path.join(sys.argv[1], "slot-*"))}
path, used = max(slots.items(), key=lambda slot: len(slot[1]))
assert len(used) > 8, f"no slot holds data: {slots}"
with open(path, "r+b") as file:
    file.seek(used[len(used) // 2] * 4096)
    file.write(bytes(4096))
print(f"zeroed page {used[len(used) // 2]} of {os.path.basename(path)}, {len(used)} pages used")
END
status=0
"$FOREBAY" verify --dir "$work/damaged" --output json >"$work/verify.json" || status=$?
[[ $status == 1 ]] || fail "verify exits $status on a damaged store, not 1"
python3 - "$work/verify.json" <<'END' || fail "verify does not name the damage"
import json, sys
report = json.load(open(sys.argv[1]))
sys.exit(not (report["closes"] is False or report["damaged_records"] > 0))
END

# Whatever it answers, no record has wrong bytes, and damage stays where it is.
"$FOREBAY" read --dir "$work/damaged" --raw >"$work/got" || note "read of the damaged store exits $?"
python3 - "$work/expected" "$work/got" <<'END' || fail "read gave back what nobody wrote, or lost more than the damage"
import sys
expected = open(sys.argv[1], "rb").read().splitlines(keepends=True)
got = open(sys.argv[2], "rb").read().splitlines(keepends=True)
rest = iter(expected)
strange = [line for line in got if line not in rest]
lost = len(expected) - len(got)
print(f"{lost} of {len(expected)} records lost to the damage, {len(strange)} strange")
sys.exit(bool(strange) or not 0 < lost < 200)
END
