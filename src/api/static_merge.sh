#!/bin/sh
# One object of a library's own and all it needs of ours, with only the public names left visible: a program that links the archive may have its own
# crc32c() or arena_alloc(). Usage: static_merge.sh LD OBJCOPY AR OUT WHOLE_ARCHIVE... -- NEEDED_ARCHIVE...
set -eu
ld=$1 objcopy=$2 ar=$3 out=$4
shift 4
whole=
while [ "$1" != -- ]; do
    whole="$whole $1"
    shift
done
shift
rm -f "$out" "$out.o"
# shellcheck disable=SC2086
"$ld" -r -o "$out.o" --whole-archive $whole --no-whole-archive --start-group "$@" --end-group
"$objcopy" --localize-hidden "$out.o"
"$ar" rcsD "$out" "$out.o"
rm -f "$out.o"
