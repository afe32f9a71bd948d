#!/usr/bin/env bash
# kill -9 fifty times in one directory: after each, what is read is a gapless prefix of what was fed, it
# reaches at least the last `durable N`, and `next N` goes on right behind it. SEED=n repeats the moments.
source "$(dirname "$0")/shell/setup.bash"
need_command append
need_command verify

python3 - "$FOREBAY" "$work/store" "$input" "${SEED:-$RANDOM}" <<'END' || fail "see above"
import glob, os, queue, random, signal, subprocess, sys, threading

forebay, store, source, seed = sys.argv[1:]
KILLS, RECORDS_A_ROUND = 50, 4000
chance = random.Random(int(seed))
print(f"seed {seed}")
lines = open(source, "rb").read().split(b"\n")

def record(sequence):
    """The one record of this sequence: a real line behind its number, no two alike."""
    return b"%d %s\n" % (sequence, lines[sequence % len(lines)])

def start():
    command = [forebay, "append", "--dir", store, "--ack", "--segment-bytes", str(4 << 20)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = queue.Queue()
    def listen():
        for line in process.stdout:
            # Only a whole line was said.
            if line.endswith(b"\n"):
                word, number = line.split()
                said.put((word.decode(), int(number)))
        said.put(("over", 0))
    threading.Thread(target=listen, daemon=True).start()
    return process, said

def feed(process, first, pauses):
    """Feeds records from `first` on, in pieces, until enough or the reader is gone."""
    sequence = first
    try:
        while sequence < first + RECORDS_A_ROUND:
            piece = pauses.choice((1, 7, 100, 1000))
            process.stdin.write(b"".join(record(s) for s in range(sequence, sequence + piece)))
            process.stdin.flush()
            sequence += piece
            if pauses.random() < 0.3:
                threading.Event().wait(pauses.random() * 0.004)
    except (BrokenPipeError, ValueError):
        pass

def rest_of(said):
    """Everything said until the process was over."""
    heard = []
    while True:
        word, number = said.get(timeout=30)
        if word == "over":
            return heard
        heard.append((word, number))

def check_prefix(expected, acked, round_number):
    """The sequence that the store ends with."""
    got = subprocess.run([forebay, "read", "--dir", store, "--raw"], stdout=subprocess.PIPE, check=True).stdout
    last = got.count(b"\n")
    while len(expected) <= last:
        expected.append(record(len(expected)))
    want = b"".join(expected[1 : last + 1])
    assert got == want, f"kill {round_number}: {last} records are no gapless prefix of what was fed"
    assert last >= acked, f"kill {round_number}: acked {acked}, but only {last} came back"
    return last

expected, last, acked, rounds_with_acks, unstarted = [b""], 0, 0, 0, 0
for round_number in range(1, KILLS + 1):
    process, said = start()
    if round_number % 5 == 0:
        # In the middle of the recovery, or before anything is there.
        threading.Event().wait(chance.random() * 0.03)
    else:
        word, first = said.get(timeout=30)
        assert word == "next", f"kill {round_number}: the first line is '{word} {first}'"
        assert first == last + 1, f"kill {round_number}: next {first} after {last}"
        pauses = random.Random(chance.random())
        threading.Thread(target=feed, args=(process, first, pauses), daemon=True).start()
        threading.Event().wait(chance.random() * 0.12)
    process.send_signal(signal.SIGKILL)
    process.wait()
    heard = rest_of(said)
    durable = [number for word, number in heard if word == "durable"]
    assert durable == sorted(durable), f"kill {round_number}: the watermark fell: {durable}"
    if not heard and round_number % 5 == 0:
        unstarted += 1
    rounds_with_acks += bool(durable)
    acked = max([acked, *durable])
    if not os.path.isdir(store):
        continue
    last = check_prefix(expected, acked, round_number)

# Opens that die leave nothing behind.
slots = len(glob.glob(os.path.join(store, "slot-*")))
for _ in range(10):
    process, said = start()
    said.get(timeout=30)
    process.send_signal(signal.SIGKILL)
    process.wait()
after = len(glob.glob(os.path.join(store, "slot-*")))
assert after <= slots + 2, f"ten killed opens grew the store from {slots} to {after} slots"

process, said = start()
assert said.get(timeout=30) == ("next", last + 1), "the last open goes on behind the last record"
process.stdin.write(b"".join(record(s) for s in range(last + 1, last + 101)))
process.stdin.close()
assert process.wait(timeout=30) == 0, "a clean end exits 0"
assert rest_of(said)[-1] == ("durable", last + 100), "a clean end makes all durable"
last = check_prefix(expected, last + 100, "none")
subprocess.run([forebay, "verify", "--dir", store], stdout=subprocess.DEVNULL, check=True)
# A test that killed nothing at work would prove nothing.
assert rounds_with_acks >= 10, f"only {rounds_with_acks} kills hit a store that had acked something"
print(f"{KILLS} kills, {rounds_with_acks} after an ack, {unstarted} before `next`; {last} records, all there")
END
