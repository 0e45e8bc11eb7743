#!/usr/bin/env python3
"""cut_pcap.py FIRST END < IN.pcap > OUT.pcap: packets number FIRST to END-1 (from 0; END may be "").

FIRST may be @NANOSECONDS: from the first packet on that is not earlier."""
import struct
import sys

since = int(sys.argv[1][1:]) if sys.argv[1].startswith("@") else 0
first = 0 if since else int(sys.argv[1])
end = int(sys.argv[2]) if sys.argv[2] else sys.maxsize
source, target = sys.stdin.buffer, sys.stdout.buffer
head = source.read(24)
order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
unit = 1 if b"\x3c\xb2" in head[:4] or b"\xb2\x3c" in head[:4] else 1000
target.write(head)
number = 0
while number < end:
    packet = source.read(16)
    if len(packet) < 16:
        break
    seconds, fraction, length = struct.unpack(order + "III", packet[:12])
    data = source.read(length)
    if seconds * 10**9 + fraction * unit >= since:
        since = 0
    if number >= first and since == 0:
        target.write(packet + data)
    number += 1
