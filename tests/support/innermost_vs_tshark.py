#!/usr/bin/env python3
"""Does decap find in each packet what tshark finds in it?

usage: innermost_vs_tshark.py CAPTURE FOUND [TSHARK-OPTION...]

FOUND is what the program innermost printed. Where tshark sees TCP inside of all else, addresses and ports
must be the same; where it sees something else in IP, decap must have stopped there; where it sees no IP, so
must decap.
"""
import collections
import ipaddress
import subprocess
import sys

FIELDS = ["frame.number", "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport"]
# What ends an unfinished look: the capture was cut, the frame is a piece, or ERSPAN says that it is damaged.
UNFINISHED = {"cut_short", "kept", "damaged", "other_mirror"}


def tshark_rows(path, options):
    command = ["tshark", "-r", path, *options, "-o", "ip.defragment:TRUE", "-T", "fields", "-E", "occurrence=l"]
    for field in FIELDS:
        command += ["-e", field]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    for line in result.stdout.splitlines():
        yield dict(zip(FIELDS, line.split("\t")))


def expected(row):
    layers = row["frame.protocols"].split(":")
    ip = [i for i, layer in enumerate(layers) if layer in ("ip", "ipv6")]
    ethernet = [i for i, layer in enumerate(layers) if layer in ("eth", "mpls")]
    if not ip or (ethernet and ethernet[-1] > ip[-1]):
        return "not_ip"
    if "tcp" not in layers[ip[-1]:]:
        return "not_tcp"
    family = layers[ip[-1]]
    ends = [str(ipaddress.ip_address(row[family + end])) for end in (".src", ".dst")]
    return " ".join(["tcp", ends[0], row["tcp.srcport"], ends[1], row["tcp.dstport"]])


def main():
    with open(sys.argv[2]) as lines:
        found = dict(line.rstrip("\n").split(" ", 1) for line in lines)
    tally, bad = collections.Counter(), 0
    for row in tshark_rows(sys.argv[1], sys.argv[3:]):
        want, got = expected(row), found[row["frame.number"]]
        tally[got.split()[0]] += 1
        if want == got or (want == "not_tcp" and got in UNFINISHED):
            continue
        if want == "not_ip" and got.split()[0] not in ("tcp", "not_tcp"):
            continue
        bad += 1
        if bad <= 10:
            print(f"packet {row['frame.number']}: tshark {want} ({row['frame.protocols']}), decap {got}")
    print(", ".join(f"{count} {what}" for what, count in sorted(tally.items())))
    sys.exit(1 if bad or not tally else 0)


main()
