#!/usr/bin/env python3
"""Turns a serialized google.protobuf.FileDescriptorSet into C tables for gRPC reflection (src/observe/reflection_data.h).

    descriptors.py INPUT.pb OUTPUT.c

Reads the few fields it needs by itself: the protobuf package for Python is not needed to build."""
import sys


def fields(data):
    """(number, value) of each field of a message; bytes for length-delimited ones, integers for the rest."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            b = data[at]
            at += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    while at < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
        elif kind == 2:
            n = varint()
            yield tag >> 3, data[at:at + n]
            at += n
        else:
            n = {1: 8, 5: 4}[kind]
            yield tag >> 3, data[at:at + n]
            at += n


def all_of(data, number):
    return [v for n, v in fields(data) if n == number]


def text_of(data, number):
    values = all_of(data, number)
    return values[-1].decode() if values else ""


def enum_symbols(data, scope):
    yield "OTHER", scope + text_of(data, 1)
    for value in all_of(data, 2):  # values live beside their enum, not inside
        yield "OTHER", scope + text_of(value, 1)


def message_symbols(data, scope):
    name = scope + text_of(data, 1)
    yield "MESSAGE", name
    for number in (2, 6, 8):  # fields, extensions, oneofs
        for part in all_of(data, number):
            yield "OTHER", name + "." + text_of(part, 1)
    for inner in all_of(data, 3):
        yield from message_symbols(inner, name + ".")
    for inner in all_of(data, 4):
        yield from enum_symbols(inner, name + ".")


def file_symbols(data):
    package = text_of(data, 2)
    scope = package + "." if package else ""
    for message in all_of(data, 4):
        yield from message_symbols(message, scope)
    for enum in all_of(data, 5):
        yield from enum_symbols(enum, scope)
    for service in all_of(data, 6):
        name = scope + text_of(service, 1)
        yield "SERVICE", name
        for method in all_of(service, 2):
            yield "METHOD", name + "." + text_of(method, 1)
    for extension in all_of(data, 7):
        yield "OTHER", scope + text_of(extension, 1)


def main():
    files = all_of(open(sys.argv[1], "rb").read(), 1)
    names = [text_of(f, 1) for f in files]
    if len(files) > 64:
        sys.exit("more files than reflection.c can keep account of")
    if any(all_of(f, 7) for f in files) or any(all_of(m, 6) for f in files for m in all_of(f, 4)):
        sys.exit("extensions: reflection.c answers that there are none")
    symbols = sorted((name, kind, i) for i, f in enumerate(files) for kind, name in file_symbols(f))
    out = ['/* Made by proto/descriptors.py; not to be edited. */', '#include "observe/reflection_data.h"', ""]
    for i, f in enumerate(files):
        out.append("static const uint8_t FILE_%d[] = {" % i)
        out += ["    " + ",".join("%d" % b for b in f[at:at + 40]) + "," for at in range(0, len(f), 40)]
        out.append("};")
        imports = [names.index(d.decode()) for d in all_of(f, 3)]
        out.append("static const uint8_t IMPORTS_%d[] = {%s};" % (i, ", ".join(map(str, imports + [0]))))
    out.append("const struct descriptor_file DESCRIPTOR_FILES[] = {")
    for i, f in enumerate(files):
        out.append('    {"%s", FILE_%d, sizeof FILE_%d, IMPORTS_%d, %d},' % (names[i], i, i, i, len(all_of(f, 3))))
    out += ["};", "const size_t DESCRIPTOR_FILE_COUNT = %d;" % len(files), "const struct descriptor_symbol DESCRIPTOR_SYMBOLS[] = {"]
    for name, kind, i in symbols:
        out.append('    {"%s", SYMBOL_%s, %d},' % (name, kind, i))
    out += ["};", "const size_t DESCRIPTOR_SYMBOL_COUNT = %d;" % len(symbols), ""]
    with open(sys.argv[2], "w") as to:
        to.write("\n".join(out))


if __name__ == "__main__":
    main()
