#!/bin/sh
# Runs the examples as a reader would: embed makes a database and a proof, verify accepts the proof, and refuses it with one byte changed anywhere in the
# first hundreds, with another trusted hash, and cut short. Usage: run_test.sh EMBED VERIFY
set -eu
embed=$1 verify=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$embed" "$dir/data" "$dir/proof" >"$dir/out"
cat "$dir/out"
grep -q '^verified balance = 90 ' "$dir/out"
grep -q '^scan     fruit:apple = red ' "$dir/out"
! grep -q '^scan     fruit:pear' "$dir/out"
[ "$(grep -c '^history' "$dir/out")" = 2 ]
hash=$(sed -n 's/.* 1 \([0-9a-f]\{64\}\)$/\1/p' "$dir/out")
"$verify" "$dir/proof" 1 "$hash" | grep -q 'set "balance" to "90"'
"$verify" "$dir/proof" 0 - >/dev/null

refused() {
    if "$verify" "$@" >/dev/null 2>&1; then
        echo "accepted: $*"
        exit 1
    fi
}
refused "$dir/proof" 1 "$(echo "$hash" | tr 0123456789abcdef 123456789abcdef0)"
refused "$dir/proof" 2 "$hash"
size=$(wc -c <"$dir/proof")
head -c $((size - 1)) "$dir/proof" >"$dir/cut"
refused "$dir/cut" 1 "$hash"
at=0
while [ $at -lt 200 ]; do
    cp "$dir/proof" "$dir/bad"
    byte=$(od -An -tu1 -j $at -N 1 "$dir/proof")
    # shellcheck disable=SC2059
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$dir/bad" bs=1 seek=$at conv=notrunc 2>/dev/null
    refused "$dir/bad" 1 "$hash"
    at=$((at + 7))
done
# A second run goes on with the same database.
"$embed" "$dir/data" "$dir/proof" | grep -q '^history  balance = 90   (tx 8, revision 4)'
