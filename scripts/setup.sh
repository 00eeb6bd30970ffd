#!/bin/sh
# Installs what building (build) or testing (test) needs, from Debian's packages, unless it is there already.
# Asks for nothing: uses root's rights or sudo; says clearly what is missing where neither is at hand.
set -eu
what=${1:-build}
# gcc only recommends libc6-dev, and what is only recommended is not installed here.
packages="gcc libc6-dev ninja-build meson pkg-config libssl-dev libcrypt-dev libnghttp2-dev libprotobuf-c-dev protobuf-c-compiler libjansson-dev libevent-dev libcmocka-dev python3"
if [ "$what" = test ]; then
    packages="$packages clang clang-format clang-tidy libclang-rt-14-dev protobuf-compiler python3-venv python3-pip nodejs npm nghttp2-client curl g++ openssl"
    # A machine may bring newer Node or Python of its own; then Debian's are not needed.
    command -v node >/dev/null 2>&1 && command -v npm >/dev/null 2>&1 && packages=$(echo "$packages" | sed 's/ nodejs npm//')
    python3 -m venv --help >/dev/null 2>&1 && python3 -m ensurepip --version >/dev/null 2>&1 && packages=$(echo "$packages" | sed 's/ python3-venv python3-pip//')
fi

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "setup: this is not a Debian system; install the equivalents of these packages by hand:" >&2
    echo "  $packages" >&2
    command -v meson >/dev/null 2>&1 && exit 0
    exit 1
fi

missing=""
for p in $packages; do
    # python3 and compilers may come from elsewhere than dpkg: a command of that name will do.
    case $p in
    gcc | python3 | clang | g++ | curl | openssl) command -v "$p" >/dev/null 2>&1 && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "setup: these packages are missing, and there is neither root nor sudo to install them:" >&2
        echo "  apt-get install$missing" >&2
        exit 1
    fi
fi
echo "setup: installing$missing"
log=$(mktemp)
if ! { $as_root apt-get update && DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    echo "setup: apt-get could not install$missing" >&2
    exit 1
fi
rm -f "$log"
