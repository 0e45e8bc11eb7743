#!/usr/bin/env python3
"""cut_pcap.py FIRST END < IN.pcap > OUT.pcap: packets number FIRST to END-1 (from 0; END may be "")."""
import struct
import sys

first = int(sys.argv[1])
end = int(sys.argv[2]) if sys.argv[2] else sys.maxsize
source, target = sys.stdin.buffer, sys.stdout.buffer
head = source.read(24)
order = "<" if head[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
target.write(head)
number = 0
while number < end:
    packet = source.read(16)
    if len(packet) < 16:
        break
    data = source.read(struct.unpack(order + "I", packet[8:12])[0])
    if number >= first:
        target.write(packet + data)
    number += 1
