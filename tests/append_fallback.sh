#!/usr/bin/env bash
# Without io_uring everything still works: the kernel denies it three ways, and once nobody asks for it.
source "$(dirname "$0")/shell/setup.bash"
need_command append
need_strace

want=$(records_of "$input")
as_read "$input" >"$work/expected"

# lost NAME: the store, its acks and its bytes are as if nothing had been denied.
same_promise() {
  [[ $(last_durable "$work/$1.out") == "$want" ]] || fail "$1: $(tail -n 1 "$work/$1.out"), not durable $want"
  "$FOREBAY" read --dir "$work/$1" --raw | cmp "$work/expected" - || fail "$1: read gave other bytes back"
}

strace -f -o "$work/trace" -e trace=io_uring_setup \
  "$FOREBAY" append --dir "$work/asked" --ack --backend blocking <"$input" >"$work/asked.out"
! grep -q io_uring_setup "$work/trace" || fail "--backend blocking asks for a ring"
same_promise asked

deny() { strace -f -o /dev/null -e trace=io_uring_setup -e inject=io_uring_setup:error="$1" "${@:2}"; }

while read -r code words; do
  deny "$code" "$FOREBAY" append --dir "$work/$code" --ack <"$input" >"$work/$code.out" 2>"$work/$code.err" ||
    fail "$code: append gave up: $(cat "$work/$code.err")"
  same_promise "$code"
  grep -Eiq 'io_uring|ring|blocking' "$work/$code.err" || fail "$code: the fall back is silent"
  grep -Eiq "$code|$words" "$work/$code.err" || fail "$code: stderr hides the cause: $(cat "$work/$code.err")"
  status=0
  deny "$code" "$FOREBAY" append --dir "$work/$code-ring" --ack --backend ring <"$input" >"$work/out" 2>&1 || status=$?
  [[ $status == 69 ]] || fail "$code: --backend ring exits $status, not 69 (a kernel feature is missing)"
  ! grep -q '^durable' "$work/out" || fail "$code: --backend ring acked without a ring"
  note "$code: fell back, said so, lost nothing"
done <<'END'
EPERM Operation not permitted
ENOSYS Function not implemented
ENOMEM (Cannot allocate|Out of) memory
END
