# What the scripts of tests/ begin with: the binary, a directory on a real disk, and input.
# Sourced. Sets root, work (removed at the end) and input; knows no command's meaning.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
name=$(basename "$0" .sh)

skip() { echo "$name: skipped: $*"; exit 77; }
fail() { echo "$name: FAILED: $*" >&2; exit 1; }
note() { echo "$name: $*"; }

FOREBAY=${FOREBAY:-$root/target/ci/forebay}
[[ -x $FOREBAY ]] || skip "no binary at $FOREBAY; tools/test build makes it"
command -v python3 >/dev/null || skip "python3 is missing"

need_command() {
  # Not through a pipe: grep -q leaves early, and the broken pipe would look like a missing command.
  local help
  help=$("$FOREBAY" --help </dev/null 2>/dev/null) || fail "$FOREBAY --help exits $?"
  grep -Eq "^ +$1( |\$)" <<<"$help" || skip "forebay has no command $1 yet"
}

need_strace() {
  command -v strace >/dev/null || skip "strace is missing"
  strace -f -o /dev/null true 2>/dev/null || skip "this machine does not let strace trace"
}

# On the disk of the repository, not on /tmp, which may be memory: it is the disk that is judged.
mkdir -p "${FOREBAY_TEST_DIR:-$root/target}"
work=$(mktemp -d "${FOREBAY_TEST_DIR:-$root/target}/$name.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Four real logs (CR LF, a last line without newline), or, said aloud, made ones of the same shape.
input=$work/input
data=${FOREBAY_DATA:-$root/../shared/data}
real_data=no
if compgen -G "$data/*.log" >/dev/null; then
  cat "$data"/*.log >"$input"
  real_data=yes
else
  note "no real logs at ../shared/data: made lines of the same shape take their place"
  python3 - >"$input" <<'END'
import random, sys
random.seed(1)
for file in range(4):
    for line in range(2000):
        text = f"{file} {line} " + "".join(random.choices("abcdefghij <>=:.", k=random.randint(60, 280)))
        end = "" if line == 1999 else "\r\n" if file % 2 else "\n"
        sys.stdout.buffer.write((text + end).encode())
END
fi

# Records of a file: its lines, and a last line without newline counts.
records_of() {
  python3 -c 'import sys; b = open(sys.argv[1], "rb").read(); print(b.count(b"\n") + (not b.endswith(b"\n")))' "$1"
}

# What `read --raw` gives back for a file: its bytes, and a final newline.
as_read() {
  cat "$1"
  [[ -z $(tail -c 1 "$1") ]] || echo
}

# The last sequence that `append --ack` called durable; 0 when none.
last_durable() {
  awk '$1 == "durable" { last = $2 } END { print last + 0 }' "$1"
}
