#!/usr/bin/env python3
"""first_time.py < FILE.pcap: the time of its first packet, in ns."""
import struct
import sys

head = sys.stdin.buffer.read(24)
order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
unit = 1 if b"\x3c\xb2" in head[:4] or b"\xb2\x3c" in head[:4] else 1000
seconds, fraction = struct.unpack(order + "II", sys.stdin.buffer.read(8))
print(seconds * 10**9 + fraction * unit)
