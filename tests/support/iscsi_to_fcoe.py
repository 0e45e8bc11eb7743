#!/usr/bin/env python3
"""What passes in iSCSI sessions, as if it had passed in FCoE: iscsi_to_fcoe.py IN.pcap OUT.pcap [other]

Each login becomes a PLOGI, each reset of a connection a LOGO, each command with its data an exchange of FCP (FCP-4),
at the time at which the last byte of its PDU passed. So an array is made that offers a volume both ways, out of the
capture of one that offers it on two iSCSI portals. With "other" the designators that the volume answers with (VPD page
83h) are those of another one.
Digests, additional headers, and task management are not known. IN is a nanosecond pcap of Ethernet.
"""
import struct
import sys
import zlib

NS = 10**9
INITIATOR, TARGET = 0x010A01, 0x010B01
WWPN = {INITIATOR: bytes.fromhex("200000000000000a"), TARGET: bytes.fromhex("200000000000000b")}
FRAME_BYTES, EXCHANGES = 2048, 4096
DATA, READY, COMMAND, RESPONSE, REQUEST, REPLY = 0x01, 0x05, 0x06, 0x07, 0x22, 0x23
ELS, FCP = 0x01, 0x08
FROM_TARGET, LAST, ONLY, OFFSET = 0x800000, 0x080000, 0x290000, 0x000008
PLOGI, ACCEPT, LOGO = b"\x03", b"\x02", b"\x05"
WRITE, READ = 0x20, 0x40
SIMPLE_TO_FCP = {1: 0, 2: 2, 3: 1, 4: 4}  # task attributes; untagged is simple


class Stream:
    """Bytes of one direction in their order."""

    def __init__(self):
        self.next, self.waiting, self.rest = None, {}, b""

    def add(self, number, data):
        if self.next is None:
            self.next = number
        self.waiting[number] = max(data, self.waiting.get(number, b""), key=len)
        while ready := [n for n in self.waiting if (self.next - n) % 2**32 < 2**31]:
            for n in ready:
                piece = self.waiting.pop(n)[(self.next - n) % 2**32:]
                self.rest += piece
                self.next = (self.next + len(piece)) % 2**32

    def pdus(self):
        while len(self.rest) >= 48:
            size = int.from_bytes(self.rest[5:8], "big")
            whole = 48 + 4 * self.rest[4] + (size + 3) // 4 * 4
            if len(self.rest) < whole:
                return
            yield self.rest[:48], self.rest[48:48 + size]
            self.rest = self.rest[whole:]


class Fabric:
    def __init__(self, path, other):
        self.file, self.other = open(path, "wb"), other
        self.file.write(struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        self.now, self.count, self.tasks = 0, 0, {}

    def show(self, r_ctl, kind, f_ctl, ids, payload, seq_cnt=0, parameter=0):
        ends = (INITIATOR, TARGET) if f_ctl & FROM_TARGET else (TARGET, INITIATOR)
        fill = -len(payload) % 4
        body = struct.pack(">IIIBBHHHI", r_ctl << 24 | ends[0], ends[1], kind << 24 | f_ctl | fill, 1, 0, seq_cnt,
                           *ids, parameter) + payload + bytes(fill)
        macs = b"".join(b"\x0e\xfc\x00" + end.to_bytes(3, "big") for end in ends)
        sof, eof = 0x36 if seq_cnt else 0x2E, 0x42 if f_ctl & LAST else 0x41
        frame = macs + b"\x89\x06" + bytes(13) + bytes([sof]) + body + struct.pack("<I", zlib.crc32(body)) + bytes([eof, 0, 0, 0])
        self.file.write(struct.pack("<IIII", self.now // NS, self.now % NS, len(frame), len(frame)) + frame)
        self.now += 1

    def service(self, r_ctl, f_ctl, code):
        port = TARGET if f_ctl & FROM_TARGET else INITIATOR
        self.show(r_ctl, ELS, f_ctl, (0x7777, 0xFFFF), (code + bytes(19) + WWPN[port]).ljust(116, b"\0"))

    def data(self, f_ctl, ids, offset, data):
        for at in range(0, len(data), FRAME_BYTES):
            part = data[at:at + FRAME_BYTES]
            last = LAST if at + len(part) == len(data) else 0
            self.show(DATA, FCP, f_ctl | OFFSET | last, ids, part, at // FRAME_BYTES, offset + at)

    def disguise(self, data):
        """VPD page 83h with other designators of the unit (SPC-4, 7.8.6)."""
        data, at = bytearray(data), 4
        while at + 4 <= len(data):
            end = at + 4 + data[at + 3]
            if data[at + 1] >> 4 & 3 == 0 and end <= len(data):
                data[end - 1] ^= 1
            at = end
        return bytes(data)

    def answer(self, ids, status, flags, residual, sense=b""):
        more = (0x04 if flags & 0x04 else 0) | (0x08 if flags & 0x02 else 0) | (0x02 if sense else 0)
        self.show(RESPONSE, FCP, FROM_TARGET | 0x190000, ids,
                  bytes(10) + struct.pack(">BBIII", more, status, residual, len(sense), 0) + sense)

    def command(self, head, data):
        self.count += 1
        ids = self.count % EXCHANGES, self.count % EXCHANGES + 0x4000
        flags, length = head[1], struct.unpack(">I", head[20:24])[0]
        cdb = head[32:48]
        self.tasks[head[16:20]] = ids, cdb[:3] == b"\x12\x01\x83"
        transfer = (1 if flags & WRITE else 0) | (2 if flags & READ else 0)
        self.show(COMMAND, FCP, ONLY, (ids[0], 0xFFFF), head[8:16] + bytes([0, SIMPLE_TO_FCP.get(flags & 7, 0), 0, transfer]) +
                  cdb + struct.pack(">I", length))
        self.data(0, ids, 0, data)

    def take(self, time_ns, head, data):
        self.now = max(self.now, time_ns)
        opcode = head[0] & 0x3F
        if opcode == 0x03 and head[1] & 0x83 == 0x83:  # to full feature phase
            self.service(REQUEST, ONLY, PLOGI)
        elif opcode == 0x23 and head[1] & 0x83 == 0x83 and head[36] == 0:
            self.service(REPLY, FROM_TARGET | 0x190000, ACCEPT)
        elif opcode == 0x06:
            self.service(REQUEST, ONLY, LOGO)
        elif opcode == 0x01:
            self.command(head, data)
        elif opcode in (0x05, 0x21, 0x25, 0x31):
            self.part(opcode, head, data)

    def reset(self, time_ns):
        """A connection was reset: the initiator logs out."""
        self.now = max(self.now, time_ns)
        self.service(REQUEST, ONLY, LOGO)

    def part(self, opcode, head, data):
        ids, names = self.tasks[head[16:20]]
        flags, residual = head[1], struct.unpack(">I", head[44:48])[0]
        offset = struct.unpack(">I", head[40:44])[0]
        if opcode == 0x05:
            self.data(0, ids, offset, data)
        elif opcode == 0x31:
            self.show(READY, FCP, FROM_TARGET | LAST, ids, head[40:48] + bytes(4))
        elif opcode == 0x25:
            self.data(FROM_TARGET, ids, offset, self.disguise(data) if names and self.other else data)
            if flags & 1:
                self.answer(ids, head[3], flags, residual)
        else:
            self.answer(ids, head[3], flags, residual, data[2:])


def segments(path):
    with open(path, "rb") as file:
        capture = file.read()
    assert capture[:4] == b"\x4d\x3c\xb2\xa1", "not a nanosecond pcap"
    at = 24
    while at < len(capture):
        seconds, nanoseconds, captured, _ = struct.unpack_from("<IIII", capture, at)
        frame = capture[at + 16:at + 16 + captured]
        at += 16 + captured
        if frame[12:14] == b"\x08\0" and frame[23] == 6:
            packet = frame[14:14 + int.from_bytes(frame[16:18], "big")]
            yield seconds * NS + nanoseconds, packet[12:20], packet[(packet[0] & 15) * 4:]


def main():
    fabric = Fabric(sys.argv[2], sys.argv[3:] == ["other"])
    streams = {}
    for time_ns, addresses, tcp in segments(sys.argv[1]):
        source, target, number = struct.unpack(">HHI", tcp[:8])
        if 3260 not in (source, target):
            continue
        key, data = (addresses, source, target), tcp[(tcp[12] >> 4) * 4:]
        if tcp[13] & 0x04:
            fabric.reset(time_ns)
        elif tcp[13] & 0x02:
            streams[key] = Stream()
            streams[key].next = (number + 1) % 2**32
        elif data:
            stream = streams.setdefault(key, Stream())
            stream.add(number, data)
            for head, body in stream.pdus():
                fabric.take(time_ns, head, body)


main()
