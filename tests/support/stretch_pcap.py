#!/usr/bin/env python3
"""stretch_pcap.py FACTOR < IN.pcap > OUT.pcap: the same packets, FACTOR times as far apart."""
import struct
import sys

factor = int(sys.argv[1])
source, target = sys.stdin.buffer, sys.stdout.buffer
head = source.read(24)
order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
unit = 1 if b"\x3c\xb2" in head[:4] or b"\xb2\x3c" in head[:4] else 1000
target.write(head)
first = None
while True:
    packet = source.read(16)
    if len(packet) < 16:
        break
    seconds, fraction, length, wire = struct.unpack(order + "IIII", packet)
    data = source.read(length)
    time = seconds * 10**9 + fraction * unit
    first = time if first is None else first
    time = first + (time - first) * factor
    target.write(struct.pack(order + "IIII", time // 10**9, time % 10**9 // unit, length, wire) + data)
