#!/usr/bin/env bash
# The write path as the kernel sees it: O_DIRECT, one fallocate a slot, registered buffers and files,
# every block through the ring, at most two enters for each 256 KiB block.
source "$(dirname "$0")/shell/setup.bash"
need_command append
need_strace
python3 -c 'import os, sys; os.close(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_DIRECT))' "$work/probe" \
  2>/dev/null || skip "the file system of $(dirname "$work") refuses O_DIRECT"

repeats=60
[[ ${FULL:-} != 1 ]] || repeats=400
big=$work/big
for _ in $(seq "$repeats"); do cat "$input"; done >"$big"
want=$(records_of "$big")

strace -f -y -o "$work/trace" \
  -e trace=openat,fcntl,fallocate,fdatasync,write,pwrite64,pwritev,pwritev2,io_uring_setup,io_uring_enter,io_uring_register \
  "$FOREBAY" append --dir "$work/store" --ack <"$big" >"$work/out" 2>"$work/err"
[[ $(last_durable "$work/out") == "$want" ]] || fail "append ended with '$(tail -n 1 "$work/out")', not durable $want"

python3 - "$work/trace" "$(stat -c %s "$big")" <<'END' || { status=$?; [[ $status != 77 ]] || exit 77; fail "see above"; }
import collections, re, sys

def calls(path):
    """(name, arguments, result) of each call, the two halves of an interrupted one joined."""
    begun = {}
    for line in open(path, errors="replace"):
        thread, _, text = line.rstrip("\n").partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = text[: -len("<unfinished ...>")]
            continue
        resumed = re.match(r"<\.\.\. \w+ resumed>(.*)", text)
        if resumed:
            text = begun.pop(thread, "") + resumed[1]
        call = re.match(r"(\w+)\((.*)\)\s+= (-?\d+|\?)", text)
        if call:
            yield call[1], call[2], -1 if call[3] == "?" else int(call[3])

SLOT = re.compile(r"(slot-\d+)")
counts, opened, allocated, outside = collections.Counter(), [], collections.Counter(), collections.Counter()
direct = collections.Counter()
registered, rings, wrong = set(), [], []
for name, arguments, result in calls(sys.argv[1]):
    counts[name] += 1
    slot = SLOT.search(arguments.split('"')[1] if name == "openat" and '"' in arguments else arguments.split(",")[0])
    if name == "openat" and slot and result >= 0:
        opened.append(slot[1])
        direct[slot[1]] += "O_DIRECT" in arguments
    elif name == "fcntl" and slot and result == 0 and "F_SETFL" in arguments:
        # The file is asked first what it takes, then told.
        direct[slot[1]] += "O_DIRECT" in arguments
    elif name == "fallocate" and slot and result == 0:
        allocated[slot[1]] += 1
    elif name in ("write", "pwrite64", "pwritev", "pwritev2") and slot:
        outside[slot[1]] += 1
    elif name == "io_uring_setup":
        rings.append(result)
    elif name == "io_uring_register" and result >= 0:
        registered.update(re.findall(r"IORING_REGISTER_\w+", arguments))

if rings and max(rings) < 0:
    print("append_trace: skipped: this kernel denies io_uring")
    sys.exit(77)
if not rings:
    wrong.append("no io_uring_setup at all")
if not opened:
    wrong.append("no slot was opened")
for slot in sorted(set(opened)):
    if direct[slot] < opened.count(slot):
        wrong.append(f"{slot}: opened {opened.count(slot)} times, with O_DIRECT {direct[slot]} times")
    if allocated[slot] != 1:
        wrong.append(f"{slot}: {allocated[slot]} fallocates, not one")
    if outside[slot]:
        wrong.append(f"{slot}: {outside[slot]} writes outside the ring")
for what in ("BUFFERS", "FILES"):
    if not any(name.startswith("IORING_REGISTER_" + what) for name in registered):
        wrong.append(f"no registered {what.lower()}: {sorted(registered)}")
# Payload alone: headers make more blocks than this, so the bound errs on the strict side.
blocks = -(-int(sys.argv[2]) // (256 * 1024))
enters = counts["io_uring_enter"]
if enters > 2 * blocks:
    wrong.append(f"{enters} enters for {blocks} blocks of 256 KiB, at most two each")
print(f"{len(set(opened))} slots, {blocks} blocks, {enters} enters, registered {sorted(registered)}")
print("\n".join(wrong))
sys.exit(bool(wrong))
END

"$FOREBAY" read --dir "$work/store" --raw | cmp <(as_read "$big") - || fail "read gave other bytes back"
