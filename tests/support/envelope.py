#!/usr/bin/env python3
"""Wraps every frame of an Ethernet capture into an envelope, as mirrors and overlays do.

usage: envelope.py NAME IN.pcap OUT.pcap [FIRST COUNT]     without COUNT frames from FIRST on, as a mirror loses them
       envelope.py --list          names of those for Ethernet frames
       envelope.py --list-fc       names of those for the FC frames of FCoE
       envelope.py --layers NAME   what tshark's frame.protocols must begin with, then tshark's options

Only struct and the standards: the monitor's own parser is judged by it, and tshark judges both. The time of
a frame stays; envelopes that carry a device's time carry the frame's.
"""
import struct
import sys

MAC = bytes.fromhex("020000000a02020000000a01")
IP4 = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
IP6 = bytes.fromhex("20010db8") + bytes(11) + b"\1", bytes.fromhex("20010db8") + bytes(11) + b"\2"
FRAGMENT, SMALL_FRAGMENT = 1480, 480
NS = 10**9


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Frame:
    """What an envelope may ask of the frame that it wraps."""

    def __init__(self, number, time_ns, data):
        self.number, self.time_ns, self.data = number, time_ns, data
        self.ethertype = struct.unpack("!H", data[12:14])[0]
        self.is_fcoe = self.ethertype == 0x8906
        self.is_ip = self.ethertype in (0x0800, 0x86DD)
        self.payload = data[14:]


def ether(ethertype, payload):
    return MAC + struct.pack("!H", ethertype) + payload


def ip4(protocol, payload, number=0, offset=0, more=False):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), number & 0xFFFF, more << 13 | offset // 8,
                       64, protocol, 0) + IP4[0] + IP4[1]
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(protocol, payload):
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + IP6[0] + IP6[1] + payload


def on_ip4(protocol, payload):
    return ether(0x0800, ip4(protocol, payload))


def on_ip6(protocol, payload):
    return ether(0x86DD, ip6(protocol, payload))


def udp(port, payload):
    return struct.pack("!HHHH", 49152, port, 8 + len(payload), 0) + payload


def on_udp(port, payload):
    return on_ip4(17, udp(port, payload))


def gre(protocol, payload, sequence=None, key=None, check=False):
    flags = (0x8000 if check else 0) | (0x2000 if key is not None else 0) | (0x1000 if sequence is not None else 0)
    fields = b""
    if key is not None:
        fields += struct.pack("!I", key)
    if sequence is not None:
        fields += struct.pack("!I", sequence & 0xFFFFFFFF)
    head = struct.pack("!HH", flags, protocol)
    if check:
        whole = head + bytes(4) + fields + payload
        head += struct.pack("!HH", checksum(whole + bytes(len(whole) % 2)), 0)
    return head + fields + payload


def fragments6(protocol, payload, number):
    for offset in range(0, len(payload), FRAGMENT):
        part = payload[offset:offset + FRAGMENT]
        more = offset + len(part) < len(payload)
        yield on_ip6(44, struct.pack("!BBHI", protocol, 0, offset | more, number) + part)


def fragments4(protocol, payload, number, size=FRAGMENT):
    for offset in range(0, len(payload), size):
        part = payload[offset:offset + size]
        more = offset + len(part) < len(payload)
        yield ether(0x0800, ip4(protocol, part, number, offset, more))


def fragments_in_fragments(frame):
    """GRE that was cut, each piece in IP, and that cut again."""
    for i, piece in enumerate(fragments4(47, gre(0x0800, frame.payload), frame.number)):
        yield from fragments4(4, piece[14:], 2 * frame.number + i, SMALL_FRAGMENT)


def label(value, bottom):
    return struct.pack("!I", value << 12 | bottom << 8 | 64)


def vxlan(payload):
    return struct.pack("!II", 0x08000000, 42 << 8) + payload


def erspan2(frame):
    return gre(0x88BE, struct.pack("!HHI", 1 << 12 | 7, 3 << 11 | 101, 5) + frame.data, sequence=frame.number)


def erspan3(frame, frame_type=0, payload=None, seconds=True, granularity=2):
    ticks = {0: frame.time_ns // 100000, 1: frame.time_ns // 100, 2: frame.time_ns % NS}[granularity]
    head = struct.pack("!HHIHH", 2 << 12 | 7, 102, ticks & 0xFFFFFFFF, 0,
                       0x8000 | frame_type << 10 | 3 << 4 | granularity << 1 | seconds)
    if seconds:
        head += struct.pack("!II", 5 << 26 | 9 << 16 | 1, frame.time_ns // NS)
    return gre(0x22EB, head + (frame.data if payload is None else payload), sequence=frame.number)


def extension_headers(payload):
    options = struct.pack("!BB", 4, 0) + b"\1\4" + bytes(4)
    routing = struct.pack("!BBBB", 60, 2, 0, 0) + bytes(4) + IP6[1]
    hop = struct.pack("!BB", 43, 0) + b"\1\4" + bytes(4)
    return on_ip6(0, hop + routing + options + payload)


def authentication(payload):
    return on_ip4(51, struct.pack("!BBHII", 4, 4, 0, 77, 1) + bytes(12) + payload)


def nsh(payload, follows):
    return struct.pack("!HBBI", 0x3F << 6 | 6, 1, follows, 9 << 8 | 255) + bytes(16) + payload


def snap(frame):
    body = b"\xaa\xaa\x03" + bytes(3) + frame.data[12:]
    return frame.data[:12] + struct.pack("!H", len(body)) + body if len(body) <= 1500 else frame.data


def metamako(frame, extended):
    """Extensions are read from the end: a sequence number, then a hash, which says that it is the last."""
    tlv = b""
    if extended:
        tlv = bytes.fromhex("0011223344556677") + struct.pack("!I", 2 << 6 | 1 << 5 | 2) + struct.pack("!I", 5 << 8)
    return (frame.data + b"\xde\xad\xbe\xef" + tlv + struct.pack("!II", frame.time_ns // NS, frame.time_ns % NS) +
            struct.pack("!BHB", 0x01 | (0x02 if extended else 0), 5001, 3))


def exablaze(frame):
    fraction = -(-(frame.time_ns % NS << 32) // NS)
    return (frame.data + b"\xde\xad\xbe\xef\5\6" + struct.pack("!II", frame.time_ns // NS, fraction & 0xFFFFFFFF) +
            bytes(2))


def vss(frame, port):
    return frame.data + struct.pack("!II", frame.time_ns // NS, 3 << 30 | frame.time_ns % NS) + bytes(range(1, port + 1))


def arista(frame, short):
    stamp = struct.pack("!HHI" if short else "!HII", 0x0120 if short else 0x0110,
                        frame.time_ns // NS & (0xFFFF if short else 0xFFFFFFFF), frame.time_ns % NS)
    return frame.data[:12] + b"\xd2\x8b\0\1" + stamp + frame.data[12:]


# FC-BB-6's codes, and those of Cisco's headers.
SOF = {0x2D: 4, 0x35: 5, 0x2E: 6, 0x36: 7, 0x28: 8}
EOF = {0x42: 1, 0x46: 2, 0x41: 3, 0x50: 4, 0x49: 7}
VSAN = 77


def fc_parts(frame):
    """SOF, the FC frame with its CRC, EOF of an FCoE frame."""
    return frame.data[27], frame.data[28:-4], frame.data[-4]


def paa(frame, errors=0):
    sof, fc, eof = fc_parts(frame)
    length = struct.pack("!I", len(fc) // 4) if errors & 1 else b""
    return ether(0x88AE, struct.pack("!H", SOF[sof] << 12 | VSAN) + fc + length +
                 struct.pack("!HBB", frame.number & 0xFFFF, errors, EOF[eof]))


def mds(frame, ethertype):
    sof, fc, eof = fc_parts(frame)
    head = struct.pack("!BBH", 0, SOF[sof], len(fc) - 4 + 6) + bytes(9) + struct.pack("!HB", VSAN, 0)
    return ether(ethertype, head + fc[:-4] + struct.pack("!BB", EOF[eof], 0) + fc[-4:])


def twice(code):
    return struct.pack("!BBBB", code, code, code ^ 0xFF, code ^ 0xFF)


def with_complement(value):
    return struct.pack("!HH", value, value ^ 0xFFFF)


class Tunnel:
    """FC frames in one TCP connection, as FCIP (protocol 1) or iFCP (2), each direction a port's."""

    def __init__(self, protocol):
        self.protocol, self.port = protocol, 3225 if protocol == 1 else 3420
        self.first, self.sent = None, [1000, 5000]

    def encapsulate(self, sof, fc, eof):
        if self.protocol == 1:
            head = with_complement(0x0101) * 2 + with_complement(0)
        else:
            head = with_complement(0x0201) + bytes(4) + struct.pack("!BBBB", 0, 2, sof, eof)
        return head + with_complement(9 + len(fc) // 4) + bytes(12) + twice(sof) + fc + twice(eof)

    def segment(self, side, flags, payload):
        ports = (50001, self.port) if side == 0 else (self.port, 50001)
        addresses = IP4 if side == 0 else IP4[::-1]
        head = struct.pack("!HHIIBBHHH", *ports, self.sent[side], self.sent[1 - side] if flags & 0x10 else 0, 5 << 4,
                           flags, 65535, 0, 0)
        self.sent[side] += len(payload) + (flags >> 1 & 1)
        packet = ip4(6, head + payload)
        packet = packet[:12] + addresses[0] + addresses[1] + packet[20:]
        packet = packet[:10] + bytes(2) + packet[12:]
        return ether(0x0800, packet[:10] + struct.pack("!H", checksum(packet[:20])) + packet[12:])

    def __call__(self, frame):
        source = frame.data[6:12]
        if self.first is None:
            self.first = source
            yield self.segment(0, 0x02, b"")
            yield self.segment(1, 0x12, b"")
        side = 0 if source == self.first else 1
        yield self.segment(side, 0x18, self.encapsulate(*fc_parts(frame)))


ETH = "eth:ethertype:"
IP = ETH + "ip:"
INNER = "eth:ethertype:ip:tcp"
ETHERNET = "(eth:)?ethertype:ip:tcp"
L2TP = "-d|l2tp.pw_type==0,eth"

# name: (function of a Frame that gives a frame or several, what tshark's layers begin with, tshark's options).
# Frames that are not IP stay as they are where the envelope carries IP only.
ENVELOPES = {
    "none": (lambda f: f.data, INNER, ""),
    "vlan": (lambda f: f.data[:12] + b"\x81\0\x20\x2a" + f.data[12:], ETH + "vlan:ethertype:ip:tcp", ""),
    "qinq": (lambda f: f.data[:12] + b"\x88\xa8\0\7\x81\0\0\x2a" + f.data[12:],
             ETH + "ieee8021ad:ethertype:vlan:ethertype:ip:tcp", ""),
    "qinq-old": (lambda f: f.data[:12] + b"\x91\0\0\7\x91\0\0\x08\x81\0\0\x2a" + f.data[12:],
                 ETH + "vlan:ethertype:vlan:ethertype:vlan:ethertype:ip:tcp", ""),
    "backbone": (lambda f: ether(0x88A8, b"\0\7\x88\xe7" + struct.pack("!I", 0x00123456) + f.data),
                 ETH + "ieee8021ad:ethertype:ip:tcp", ""),
    "fabricpath": (lambda f: ether(0x8903, b"\0\x60" + f.data), "eth:cfp:" + INNER, ""),
    "trill": (lambda f: ether(0x22F3, b"\0\x44\0\1\0\2" + bytes(4) + f.data), ETH + "trill:" + INNER, ""),
    "snap": (snap, "eth:(llc|ethertype):ip:tcp", ""),
    "mpls-ip": (lambda f: ether(0x8847, label(17, 0) + label(18, 1) + f.payload), ETH + "mpls:ip:tcp", ""),
    "mpls-pw": (lambda f: ether(0x8847, label(17, 0) + label(18, 1) + f.data), ETH + "mpls:" + INNER,
                "-d|mpls.label==18,pwethnocw"),
    "mpls-pw-control": (lambda f: ether(0x8847, label(17, 0) + label(18, 1) + bytes(4) + f.data),
                        ETH + "mpls:pwethheuristic:pwethcw:" + INNER, ""),
    "mpls-in-ip": (lambda f: on_ip4(137, label(18, 1) + f.payload), IP + "mpls:ip:tcp", ""),
    "mpls-in-udp": (lambda f: on_udp(6635, label(18, 1) + f.payload), IP + "udp:mpls:ip:tcp", ""),
    "arista-64": (lambda f: arista(f, False), ETH + "avsp:ethertype:ip:tcp", ""),
    "arista-48": (lambda f: arista(f, True), ETH + "avsp:ethertype:ip:tcp", ""),
    "ipip": (lambda f: on_ip4(4, f.payload), IP + "ip:tcp", ""),
    "ip4-in-ip6": (lambda f: on_ip6(4, f.payload), ETH + "ipv6:ip:tcp", ""),
    "ip-stack": (lambda f: on_ip4(41, ip6(41, ip6(4, f.payload))), IP + "ipv6:ipv6:ip:tcp", ""),
    "extension-headers": (lambda f: extension_headers(f.payload),
                          ETH + "ipv6:ipv6.hopopts:ipv6.routing:ipv6.dstopts:ip:tcp", ""),
    "authentication": (lambda f: authentication(f.payload), IP + "ah:ip:tcp", ""),
    "gre": (lambda f: on_ip4(47, gre(0x0800, f.payload)), IP + "gre:ip:tcp", ""),
    "gre-all": (lambda f: on_ip6(47, gre(0x0800, f.payload, f.number, 5, True)), ETH + "ipv6:gre:ip:tcp", ""),
    "gre-teb": (lambda f: on_ip4(47, gre(0x6558, f.data)), IP + "gre:" + INNER, ""),
    "nvgre": (lambda f: on_ip4(47, gre(0x6558, f.data, key=0x123400)), IP + "gre:" + INNER, ""),
    "erspan1": (lambda f: on_ip4(47, gre(0x88BE, f.data)), IP + "gre:erspan:" + INNER, ""),
    "erspan2": (lambda f: on_ip4(47, erspan2(f)), IP + "gre:erspan:" + INNER, ""),
    "erspan3": (lambda f: on_ip4(47, erspan3(f, seconds=False, granularity=0)), IP + "gre:erspan:" + INNER, ""),
    "erspan3-subheader": (lambda f: on_ip4(47, erspan3(f)), IP + "gre:erspan:" + INNER, ""),
    "erspan3-ip": (lambda f: on_ip4(47, erspan3(f, 2, f.payload)), IP + "gre:erspan:data", ""),
    "erspan3-on-ip6": (lambda f: on_ip6(47, erspan3(f)), ETH + "ipv6:gre:erspan:" + INNER, ""),
    "etherip": (lambda f: on_ip4(97, b"\x30\0" + f.data), IP + "etherip:" + INNER, ""),
    "l2tpv3": (lambda f: on_ip4(115, struct.pack("!I", 9) + f.data), IP + "l2tp:" + ETHERNET, L2TP),
    "l2tpv3-cookie": (lambda f: on_ip4(115, struct.pack("!IQI", 9, 0x1122334455667788, 0) + f.data), IP + "l2tp:" + ETHERNET,
                      L2TP + "|-o|l2tp.cookie_size:8 Byte Cookie|-o|l2tp.l2_specific:Default L2-Specific"),
    "l2tpv3-udp": (lambda f: on_udp(1701, struct.pack("!HHII", 3, 0, 9, 0) + f.data), IP + "udp:l2tp:" + ETHERNET,
                   L2TP + "|-o|l2tp.cookie_size:4 Byte Cookie"),
    "vxlan": (lambda f: on_udp(4789, vxlan(f.data)), IP + "udp:vxlan:" + INNER, ""),
    "vxlan-8472": (lambda f: on_udp(8472, vxlan(f.data)), IP + "udp:vxlan:" + INNER, "-d|udp.port==8472,vxlan"),
    "vxlan-gpe": (lambda f: on_udp(4790, b"\x0c\0\0\3" + struct.pack("!I", 42 << 8) + f.data), IP + "udp:" + INNER, ""),
    "vxlan-gpe-nsh": (lambda f: on_udp(4790, b"\x0c\0\0\4" + struct.pack("!I", 42 << 8) + nsh(f.payload, 1)),
                      IP + "udp:nsh:ip:tcp", ""),
    "nsh": (lambda f: ether(0x894F, nsh(f.data, 3)), ETH + "nsh:" + INNER, ""),
    "geneve": (lambda f: on_udp(6081, struct.pack("!BBHIHBBI", 2, 0, 0x6558, 42 << 8, 0x0102, 3, 1, 7) + f.data),
               IP + "udp:geneve:" + INNER, ""),
    "hp-erm": (lambda f: on_udp(7932, bytes(9) + b"\x40\x0a\0" + f.data), IP + "udp:hp_erm:" + INNER,
               "-d|udp.port==7932,hp_erm"),
    "tzsp": (lambda f: on_udp(37008, struct.pack("!BBH", 1, 0, 1) + b"\0\x0a\1\x55\1" + f.data),
             IP + "udp:tzsp:" + INNER, ""),
    "vxlan-in-erspan": (lambda f: ether(0x8100, struct.pack("!HH", 9, 0x0800) + ip4(47, gre(
        0x88BE, struct.pack("!HHI", 1 << 12, 101, 5) + ether(0x8100, struct.pack("!HH", 7, 0x0800) + ip4(
            17, udp(4789, vxlan(f.data[:12] + b"\x81\0\0\x2a" + f.data[12:])))), sequence=f.number))),
        ETH + "vlan:ethertype:ip:gre:erspan:eth:ethertype:vlan:ethertype:ip:udp:vxlan:eth:ethertype:vlan:ethertype:"
              "ip:tcp", ""),
    "vxlan-fragments": (lambda f: fragments4(17, udp(4789, vxlan(f.data)), f.number), IP + "udp:vxlan:" + INNER, ""),
    "gre6-fragments": (lambda f: fragments6(47, gre(0x6558, f.data), f.number), 
                       ETH + "ipv6:ipv6.fraghdr:gre:" + INNER, ""),
    "fragments-in-fragments": (fragments_in_fragments, IP + "ip:gre:ip:tcp", ""),
    "metamako": (lambda f: metamako(f, False), INNER + ":.*metamako", "--enable-heuristic|metamako_eth"),
    "metamako-extended": (lambda f: metamako(f, True), INNER + ":.*metamako", "--enable-heuristic|metamako_eth"),
    "exablaze": (exablaze, INNER + ":.*exablaze", "--enable-heuristic|exablaze_eth"),
    "vss": (lambda f: vss(f, 0), INNER + ":.*vssmonitoring", ""),
    "paa": (paa, ETH + "brdwlk:fc", ""),
    "paa-length": (lambda f: paa(f, 1), ETH + "brdwlk:fc", ""),
    "fcip": (Tunnel(1), ETH + "ip:tcp:fcip:fc", ""),
    "ifcp": (Tunnel(2), ETH + "ip:tcp:ifcp:fc", ""),
    "mds": (lambda f: mds(f, 0xFCFC), ETH + "mdshdr:fc", ""),
    "mds-old": (lambda f: mds(f, 0), ETH + "mdshdr:fc", "-o|mdshdr.decode_if_etype_zero:TRUE"),
    "vss-port": (lambda f: vss(f, 2), INNER, ""),
}
FCOE_ONLY = {"paa", "paa-length", "mds", "mds-old", "fcip", "ifcp"}
IP_ONLY = {"mpls-ip", "mpls-in-ip", "mpls-in-udp", "ipip", "ip4-in-ip6", "ip-stack", "extension-headers",
           "authentication", "gre", "gre-all", "erspan3-ip", "vxlan-gpe-nsh", "fragments-in-fragments"}


def read_pcap(path):
    with open(path, "rb") as file:
        data = file.read()
    magic = data[:4]
    order = "<" if magic[0] in (0x4D, 0xD4) else ">"
    scale = 1 if magic in (b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d") else 1000
    at, number = 24, 0
    while at < len(data):
        seconds, fraction, captured, _ = struct.unpack_from(order + "IIII", data, at)
        number += 1
        yield Frame(number, seconds * NS + fraction * scale, data[at + 16:at + 16 + captured])
        at += 16 + captured


def write_pcap(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
        for time_ns, data in frames:
            file.write(struct.pack("<IIII", time_ns // NS, time_ns % NS, len(data), len(data)) + data)


def wrap(name, frames):
    function, number = ENVELOPES[name][0], 0
    for frame in frames:
        if (name in IP_ONLY and not frame.is_ip) or (name in FCOE_ONLY and not frame.is_fcoe):
            yield frame.time_ns, frame.data
            continue
        number += 1
        frame.number = number  # mirrors count what they pass on
        wrapped = function(frame)
        for data in [wrapped] if isinstance(wrapped, bytes) else wrapped:
            yield frame.time_ns, data


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(name for name in ENVELOPES if name not in FCOE_ONLY))
    elif sys.argv[1:] == ["--list-fc"]:
        print("\n".join(sorted(FCOE_ONLY)))
    elif len(sys.argv) == 3 and sys.argv[1] == "--layers":
        _, layers, options = ENVELOPES[sys.argv[2]]
        print(layers, *filter(None, options.split("|")), sep="\n")
    elif len(sys.argv) in (4, 6) and sys.argv[1] in ENVELOPES:
        frames = list(wrap(sys.argv[1], read_pcap(sys.argv[2])))
        if len(sys.argv) == 6:
            first, count = map(int, sys.argv[4:])
            print(frames[first - 2][0], "is when all was right")
            del frames[first - 1:first - 1 + count]
        write_pcap(sys.argv[3], frames)
    else:
        sys.exit(__doc__)


main()
