#!/usr/bin/env bash
# Spare slots as the kernel sees them. An idle store zero-writes two, and then makes no call any more. Who appends to
# recycled slots, in bulk or as an agent in steady state, makes no slot, gives none back, renames, truncates and
# allocates nothing, and converts no extent.
source "$(dirname "$0")/shell/setup.bash"
need_command append
need_command agent
need_strace

cat >"$work/slots.py" <<'END'
import os, sys

def slots(directory):
    """Bytes of each slot, and where its first hole is: what is allocated and not written counts as one."""
    found = {}
    for name in sorted(os.listdir(directory)):
        if name.startswith("slot-"):
            descriptor = os.open(f"{directory}/{name}", os.O_RDONLY)
            found[name] = (os.fstat(descriptor).st_size, os.lseek(descriptor, 0, os.SEEK_HOLE))
            os.close(descriptor)
    return found

def tells(path):
    """Whether the file system tells what was written from what is allocated."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, 1 << 20)
    hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
    os.close(descriptor)
    os.unlink(path)
    return hole == 0
END
export PYTHONPATH=$work
python3 -c 'import slots, sys; sys.exit(not slots.tells(sys.argv[1]))' "$work/probe" ||
  skip "the file system of $work does not tell written extents from allocated ones"

# An idle store: the last ten of thirteen seconds. The input is closed by the sleep's end.
mkfifo "$work/input.fifo"
strace -f -ttt -o "$work/idle" "$FOREBAY" append --dir "$work/store" --segment-bytes 8388608 --ack \
  <"$work/input.fifo" >"$work/out" &
exec 9>"$work/input.fifo"
head -c 100000 "$input" >&9
sleep 2.5
from=$(date +%s.%N)
sleep 10
to=$(date +%s.%N)
exec 9>&-
wait $! || fail "append exits $?: $(cat "$work/out")"

python3 - "$work" "$from" "$to" <<'END' || fail "see above"
import slots, sys

work, began, ended = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
found = slots.slots(f"{work}/store")
whole = [name for name, (size, hole) in found.items() if hole == size]
assert len(found) == 3 and len(whole) == 2, f"not one slot in use and two warm ones: {found}"
times = [float(line.split()[1]) for line in open(f"{work}/idle", errors="replace")]
calls = sum(began < time < ended for time in times)
print(f"{calls} calls in ten idle seconds, {len(times)} in all")
assert calls < 50, "an idle store is not idle"
END

# In bulk, into what was drained before: round after round in a directory that has all the slots it needs.
bulk=$work/bulk
python3 -c 'import sys; sys.stdout.write(("x" * 1000 + "\n") * 70_000)' >"$bulk"
append=("$FOREBAY" append --dir "$work/bulk.store" --segment-bytes 8388608 --disk-bytes-cap 134217728 --ack)
calls=openat,unlink,unlinkat,rename,renameat,renameat2,fallocate,ftruncate,truncate,fsync,io_uring_enter
rounds=6
for round in $(seq "$rounds"); do
  python3 -c 'import json, os, slots, sys; json.dump(slots.slots(sys.argv[1]) if os.path.exists(sys.argv[1]) else {}, sys.stdout)' \
    "$work/bulk.store" >"$work/before.$round"
  strace -f --seccomp-bpf -o "$work/trace.$round" -e trace="$calls" "${append[@]}" <"$bulk" >"$work/out" ||
    fail "append exits $?"
  [[ $(last_durable "$work/out") == $((70000 * round)) ]] || fail "append ended with '$(tail -n 1 "$work/out")'"
  python3 -c 'import json, slots, sys; json.dump(slots.slots(sys.argv[1]), sys.stdout)' "$work/bulk.store" >"$work/after.$round"
  "$FOREBAY" drain --dir "$work/bulk.store" --raw >"$work/drained" || fail "drain exits $?"
  cmp "$bulk" "$work/drained" || fail "drain gave other bytes"
done

python3 - "$work" "$rounds" "$(stat -c %s "$bulk")" <<'END' || fail "see above"
import collections, json, re, sys

work, rounds, payload = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
BLOCK = 256 << 10
blocks, best = payload // BLOCK, None
for number in range(1, rounds + 1):
    counts = collections.Counter()
    for line in open(f"{work}/trace.{number}", errors="replace"):
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call and (call[1] != "openat" or "slot-" in call[2] and "O_CREAT" in call[2]):
            counts[call[1]] += 1
    enters = counts.pop("io_uring_enter", 0)
    before, after = (json.load(open(f"{work}/{name}.{number}")) for name in ("before", "after"))
    moved = {name: after[name][1] - hole for name, (_, hole) in before.items() if name in after}
    print(f"round {number}: {len(after)} slots, {blocks} blocks, {enters} enters, holes moved by {sum(moved.values())}, {dict(counts)}")
    # In the first half slots are made, and the last one used is filled to its end for the first time.
    if number <= rounds // 2:
        continue
    assert not counts, f"calls for slots while recycled ones are filled: {dict(counts)}"
    assert after.keys() == before.keys(), "slots came or went"
    assert max(moved.values()) <= 2 * BLOCK, f"extents were converted: {moved}"
    best = min(best or enters, enters)
# How often the writer sleeps between two blocks is the scheduler's to say: 0.6 to 1.8 enters a block were seen.
assert 0 < best <= 2 * blocks, f"{best} enters for {blocks} blocks at best"
END

python3 - "$FOREBAY" "$work" <<'END' || fail "see above"
import atexit, collections, json, re, slots, socket, subprocess, sys, threading, time, urllib.request

forebay, work = sys.argv[1:]
BLOCK, LINE = 256 << 10, b"x" * 1000 + b"\n"
with open(f"{work}/forebay.toml", "w") as file:
    file.write(f'''dir = "{work}/agent"
spill = "always"
disk_bytes_cap = "96MiB"
[queue]
full = "block"
[disk]
segment_bytes = "8MiB"
free_bytes_min = "1MiB"
[governor]
factor = 1000.0
[ingest]
http = "off"
tcp = "127.0.0.1:0"
[sink]
kind = "null"
[admin]
listen = "127.0.0.1:0"
''')
traced = "openat,unlink,unlinkat,rename,renameat,renameat2,fallocate,ftruncate,truncate,fsync"
agent = subprocess.Popen(
    ["strace", "-f", "-ttt", "-o", f"{work}/trace", "-e", f"trace={traced}", forebay, "--log-format", "json",
     "agent", "--config", f"{work}/forebay.toml"], stderr=subprocess.PIPE, text=True)
def end():
    # Who traces is not who runs.
    subprocess.run(["pkill", "-KILL", "-P", str(agent.pid)])
    agent.kill()
atexit.register(end)
log = []
for line in agent.stderr:
    log.append(json.loads(line))
    if log[-1]["message"] == "the agent runs":
        break
else:
    sys.exit(f"the agent did not start: {log}")
threading.Thread(target=agent.stderr.read, daemon=True).start()
admin, tcp = "http://" + log[-1]["admin"], log[-1]["tcp"].rsplit(":", 1)

def metrics():
    text = urllib.request.urlopen(admin + "/metrics", timeout=10).read().decode()
    return {name: float(value) for name, value in re.findall(r"^forebay_(\S+) (\S+)$", text, re.M)}

def feed(megabytes):
    """Sends so many, and waits until all of it was delivered."""
    wanted = metrics()['watermark_sequence{mark="appended"}'] + megabytes * 1000
    with socket.create_connection((tcp[0], int(tcp[1])), timeout=60) as connection:
        for _ in range(megabytes):
            connection.sendall(LINE * 1000)
    limit = time.monotonic() + 60
    while (now := metrics())['watermark_sequence{mark="confirmed"}'] < wanted:
        assert time.monotonic() < limit, f"not delivered: {now}"
        time.sleep(0.05)
    return now

# Round all the slots that there are, so that each was written through, and through again.
for _ in range(4):
    before = feed(150)
began, holes = time.time(), slots.slots(f"{work}/agent")
after = feed(300)
ended = time.time()
later = slots.slots(f"{work}/agent")
end()

counts = collections.Counter()
for line in open(f"{work}/trace", errors="replace"):
    call = re.match(r"(\d+) +(\d+\.\d+) (\w+)\((.*)", line)
    if not call or not began < float(call[2]) < ended:
        continue
    if call[3] != "openat" or "slot-" in call[4] and "O_CREAT" in call[4]:
        counts[call[3]] += 1
converted = sum(later.get(name, (0, 0))[1] - hole for name, (_, hole) in holes.items())
print(f"agent: {len(holes)} slots, 300 MB, {converted} bytes converted, {dict(counts)}")
print({name: (before[name], after[name]) for name in ("slots_cold_total", "zero_written_bytes_total", "disk_bytes")})
assert not counts, f"calls for slots in the steady state: {dict(counts)}"
assert later.keys() == holes.keys(), f"slots came or went: {holes.keys()}, {later.keys()}"
assert before["slots_cold_total"] == after["slots_cold_total"], "a slot that is not warm in the steady state"
# Only where a segment had ended some blocks earlier than this one.
assert converted <= len(holes) * 2 * BLOCK, "extents converted in the steady state"
END
