#!/usr/bin/env python3
"""What a segment file holds, by docs/store-format.md and docs/wire-protocol.md: one line for each write whose
payload lies in the same batch: OFFSET_IN_SEGMENT BYTES PATH OFFSET LENGTH TIME_NS."""
import struct
import sys

data = open(sys.argv[1], "rb").read()
at = 4096
while at + 48 <= len(data):
    magic, _, kind, length = struct.unpack_from("<4sHHI", data, at)
    if magic != b"SRWD" or kind != 4:
        break
    (records,) = struct.unpack_from("<I", data, at + 32)
    place, updates = at + 48, {}
    for _ in range(records):
        if place + 24 > len(data):
            break
        size, kind = struct.unpack_from("<IH", data, place + 4)
        (order,) = struct.unpack_from("<Q", data, place + 16)
        if kind == 1:
            time_ns, _, path, offset, span = struct.unpack_from("<5Q", data, place + 24)
            updates[order] = (path, offset, span, time_ns)
        elif kind == 2 and order in updates:
            (count,) = struct.unpack_from("<I", data, place + 24)
            (head,) = struct.unpack_from("<H", data, place + 10)
            print(place + head, count, *updates[order])
        place += size
    at = (at + length + 7) // 8 * 8
