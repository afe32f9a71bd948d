#!/usr/bin/env bash
# An agent under steady input whose central is killed and comes back: every line arrives, repeats are at most
# what was in flight, the spill shows in /metrics, and while the backlog drains the central never gets more
# than limit x T + burst in any window T. FULL=1: 5,000 lines a second and 20 s without a central.
source "$(dirname "$0")/shell/setup.bash"
need_command agent
need_command central

python3 - "$FOREBAY" "$work" "${FULL:-0}" <<'END_PYTHON' || fail "see above"
import atexit, json, re, signal, socket, subprocess, sys, threading, time, urllib.request

forebay, work, full = sys.argv[1:]
RATE, BEFORE, OUTAGE, LIMIT_SECONDS = (5000, 8, 20, 180) if full == "1" else (2000, 4, 5, 60)
BATCH, FACTOR = 500, 1.5
began = time.monotonic()
left = lambda: began + LIMIT_SECONDS - time.monotonic()

def start_central(address):
    process = subprocess.Popen(
        [forebay, "central", "--listen", address, "--out", f"{work}/out"], stdout=subprocess.PIPE)
    url = process.stdout.readline().decode().split()[-1]
    threading.Thread(target=process.stdout.read, daemon=True).start()
    return process, url

def get(url):
    return urllib.request.urlopen(url, timeout=10).read().decode()

central, url = start_central("127.0.0.1:0")
address = url.split("/")[2]
with open(f"{work}/forebay.toml", "w") as file:
    file.write(f'''dir = "{work}/store"
disk_bytes_cap = "256MiB"
[disk]
segment_bytes = "4MiB"
free_bytes_min = "1MiB"
[governor]
factor = {FACTOR}
window = "2s"
[backoff]
min = "250ms"
max = "1s"
[ingest]
http = "off"
tcp = "127.0.0.1:0"
[sink]
url = "{url}"
batch_records = {BATCH}
[admin]
listen = "127.0.0.1:0"
''')
agent = subprocess.Popen([forebay, "--log-format", "json", "agent", "--config", f"{work}/forebay.toml"],
                         stderr=subprocess.PIPE, text=True)
atexit.register(lambda: [process.kill() for process in (agent, central)])
log = []
for line in agent.stderr:
    log.append(json.loads(line))
    if log[-1]["message"] == "the agent runs":
        break
else:
    sys.exit(f"the agent did not start: {log}")
threading.Thread(target=lambda: log.extend(map(json.loads, agent.stderr)), daemon=True).start()
admin, tcp = "http://" + log[-1]["admin"], log[-1]["tcp"].rsplit(":", 1)

def metric(text, name):
    found = re.findall(rf"^forebay_{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
    return sum(map(float, found))

# Steady input; each line says who it is.
stop, sent = threading.Event(), 0
def feed():
    global sent
    with socket.create_connection((tcp[0], int(tcp[1]))) as connection:
        start = time.monotonic()
        while not stop.is_set():
            due = int((time.monotonic() - start) * RATE)
            if due > sent:
                connection.sendall(b"".join(b'{"monitor_id":"m%d","n":%d,"pad":"%s"}\n' % (n % 50, n, b"x" * 60)
                                            for n in range(sent, due)))
                sent = due
            stop.wait(0.01)
feeder = threading.Thread(target=feed, daemon=True)
feeder.start()

time.sleep(BEFORE)
before = get(admin + "/metrics")
assert metric(before, "emitted_records_total") > 0, f"nothing flows before the outage: {get(admin + '/status')} {log}"
steady = metric(before, "steady_state_records_per_second")
assert 0.7 * RATE < steady < 1.3 * RATE, f"steady state {steady}, the input is {RATE}"
central.send_signal(signal.SIGKILL)
central.wait()
time.sleep(OUTAGE)
away = get(admin + "/metrics")
spilled = metric(away, "spilled_records_total") - metric(before, "spilled_records_total")
assert spilled > 0.5 * RATE * OUTAGE, f"only {spilled} records went to disk in {OUTAGE} s"
assert metric(away, "backfill_queue_records") > 0.5 * RATE * OUTAGE, "no backlog shows"
assert get(admin + "/readyz").strip() == "ready", "a central that is away is not unready"
held_at_kill = open(f"{work}/out", "rb").read()
print(f"outage over: {spilled:.0f} records spilled")

central, _ = start_central(address)
back = time.monotonic()
limits, drained = [], None
while drained is None:
    assert left() > 10, f"not drained: {get(admin + '/status')}"
    text = get(admin + "/metrics")
    limits.append((metric(text, "governor_limit_records_per_second"), metric(text, "governor_burst_records")))
    status = json.loads(get(admin + "/status"))
    events = [event["event"] for event in status["events"]]
    if "BackfillEnd" in events and status["status"]["lane"] == "live":
        end = [event for event in status["events"] if event["event"] == "BackfillEnd"][-1]
        # What comes after it is live, and not governed.
        drained = end["timestamp"] / 1e9
    time.sleep(0.1)
took = time.monotonic() - back
stop.set()
feeder.join()
while True:
    status = json.loads(get(admin + "/status"))["status"]
    if status["confirmed_sequence"] == status["appended_sequence"] and status["accepted_records"] >= sent:
        break
    assert left() > 5, f"the tail does not arrive: {status}, {sent} were sent"
    time.sleep(0.05)
stats = json.loads(get(f"http://{address}/stats"))

agent.send_signal(signal.SIGTERM)
assert agent.wait(timeout=20) == 0, "the agent ends with 0"
central.send_signal(signal.SIGTERM)
central.wait(timeout=20)

# Every line, and repeats only of what was in flight at the kill.
got = [json.loads(line)["n"] for line in open(f"{work}/out", "rb")]
missing = set(range(sent)) - set(got)
repeats = len(got) - len(set(got))
assert not missing, f"{len(missing)} of {sent} lines are missing, first {min(missing)}"
assert repeats <= BATCH, f"{repeats} repeats; at most the batch that was in flight ({BATCH}) may be"
assert len(set(got)) == sent, "lines that nobody sent"

# In every sliding window, counted where they arrive.
limit, burst = max(l for l, _ in limits), max(b for _, b in limits)
arrivals = [(ms / 1000, records) for ms, records, _ in stats["arrivals"] if ms / 1000 <= drained]
times, sums = [at for at, _ in arrivals], [0]
for _, records in arrivals:
    sums.append(sums[-1] + records)
worst, windows, fullest = 0.0, 0, ()
for first in range(len(arrivals)):
    for last in range(first, len(arrivals)):
        # Times are cut to milliseconds: a window is one longer than it looks.
        span = times[last] - times[first] + 0.001
        records = sums[last + 1] - sums[first]
        windows += 1
        share = records / (limit * span + burst)
        if share > worst:
            worst, fullest = share, (times[first] - times[0], span, records)
# The limit moves ten times a second and was read about as often: its highest moment may lie between.
assert worst <= 1.01, (f"a window had {worst:.3f} of limit x T + burst (limit {limit:.0f}/s, burst {burst:.0f}): "
                       f"{fullest[2]} records in {fullest[1]:.3f} s, from {fullest[0]:.3f} s on")
mean = sums[-1] / (times[-1] - times[0])
assert limit <= FACTOR * RATE * 1.3, f"the limit {limit} is far above {FACTOR} x {RATE}"
names = [line.get("event") for line in log]
for event in ("Connectivity", "QueueSpill", "BackfillStart", "BackfillEnd"):
    assert event in names, f"the log tells of no {event}: {names}"
print(f"{sent} lines, none missing, {repeats} repeated; drained in {took:.1f} s at {mean:.0f}/s of {limit:.0f}/s; "
      f"{windows} windows, the fullest {100 * worst:.1f} %")
END_PYTHON
note "nothing missing, the backlog came governed"
