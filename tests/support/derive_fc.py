#!/usr/bin/env python3
"""FC frames of an FCoE capture in another envelope: derive_fc.py ENVELOPE IN.pcap OUT.pcap

ENVELOPE is fc2 (LINKTYPE_FC_2: frame header and payload), fc2-delimited (LINKTYPE_FC_2_WITH_FRAME_DELIMS:
ordered sets around them, with CRC) or fcoe-vlan (the same frames and FIP, with a VLAN tag). The first two have
no place for FIP: a NOP (FC-FS-5, 16.2) stands for it, so that the capture lasts as long. IN is a nanosecond pcap
of Ethernet.
"""
import struct
import sys
import zlib

SOF = {0x2D: 0x55, 0x2E: 0x56, 0x35: 0x35, 0x36: 0x36, 0x28: 0x58}
EOF = {0x41: (0x95, 0xD5), 0x42: (0x95, 0x75), 0x50: (0x95, 0xF5), 0x49: (0x8A, 0xD5)}
FCOE, FIP = 0x8906, 0x8914
NOP = bytes([0x80, 0, 0, 1, 0, 0, 0, 2]) + bytes(16)


def strip(frame, ethertype):
    """SOF, what lies between, EOF."""
    if ethertype == FIP:
        return 0x2E, NOP + struct.pack("<I", zlib.crc32(NOP)), 0x42
    return frame[27], frame[28:-4], frame[-4]


def fc2(frame, ethertype):
    return strip(frame, ethertype)[1][:-4]


def fc2_delimited(frame, ethertype):
    sof, body, eof = strip(frame, ethertype)
    kind, code = EOF[eof]
    return bytes([0xBC, 0xB5, SOF[sof], SOF[sof]]) + body + bytes([0xBC, kind, code, code])


def fcoe_vlan(frame, _):
    return frame[:12] + bytes([0x81, 0x00, 0x60, 0x07]) + frame[12:]


ENVELOPES = {"fc2": (224, fc2), "fc2-delimited": (225, fc2_delimited), "fcoe-vlan": (1, fcoe_vlan)}


def main():
    envelope, source, target = sys.argv[1:]
    link_type, wrap = ENVELOPES[envelope]
    with open(source, "rb") as file:
        data = file.read()
    magic, major, minor, zone, digits, snap, link = struct.unpack("<IHHiIII", data[:24])
    assert magic == 0xA1B23C4D and link == 1, "not a nanosecond pcap of Ethernet"
    out = bytearray(struct.pack("<IHHiIII", magic, major, minor, zone, digits, snap, link_type))
    at = 24
    while at < len(data):
        seconds, nanoseconds, captured, _ = struct.unpack("<IIII", data[at:at + 16])
        frame = data[at + 16:at + 16 + captured]
        at += 16 + captured
        ethertype = struct.unpack(">H", frame[12:14])[0]
        if ethertype in (FCOE, FIP):
            wrapped = wrap(frame, ethertype)
            out += struct.pack("<IIII", seconds, nanoseconds, len(wrapped), len(wrapped)) + wrapped
    with open(target, "wb") as file:
        file.write(out)


main()
