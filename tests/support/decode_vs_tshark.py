#!/usr/bin/env python3
"""Does tapd --decode say of the writing commands what tshark says?

usage: decode_vs_tshark.py CAPTURE.pcap DECODED

Compares LUN, operation code, LBA, blocks and status of every writing command that has a status, as a
multiset. DECODED is what tapd --decode printed. A command that ended GOOD may be a gap over its range there
(UNMAP on a device that does not promise zeros). What tshark 4.0 cannot do is left out: LBA and blocks of
32-byte CDBs; and of a session with data digests it finds only a part, so that there the question is whether
tapd has seen that part.
"""
import collections
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

UNMAP = 0x42
WRITES = {0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x41, 0x93, 0x42, 0x89, 0x9C}
EXTENDED = 0x7F
# Service actions of 7Fh that write: WRITE(32), WRITE AND VERIFY(32), WRITE SAME(32)
EXTENDED_WRITES = {0x0B, 0x0C, 0x0D}
# SAM-6, 5.3.1, as tapd names them
STATUS = {"good": 0x00, "check_condition": 0x02, "condition_met": 0x04, "busy": 0x08,
          "reservation_conflict": 0x18, "task_set_full": 0x28, "aca_active": 0x30, "task_aborted": 0x40}
LBA_FIELDS = ("scsi_sbc.rdwr6.lba", "scsi_sbc.rdwr10.lba", "scsi_sbc.rdwr16.lba",
              "scsi_sbc.wrverify.lba", "scsi_sbc.wrverify.lba64")
BLOCKS_FIELDS = ("scsi_sbc.rdwr6.xferlen", "scsi_sbc.rdwr10.xferlen", "scsi_sbc.rdwr12.xferlen",
                 "scsi_sbc.wrverify.xferlen", "scsi_sbc.wrverify.xferlen32",
                 "scsi_sbc.alloclen16")


def number(text):
    if text is None:
        return None
    if ":" in text:
        return int(text.replace(":", ""), 16)
    return int(text, 0)


class Fields:
    """All fields below a protocol, by name."""

    def __init__(self, proto):
        self.values = collections.defaultdict(list)
        for field in proto.iter("field"):
            if field.get("name") and field.get("show") is not None:
                self.values[field.get("name")].append(field.get("show"))

    def first(self, *names):
        for name in names:
            if self.values[name]:
                return number(self.values[name][0])
        return None


def lun_of(iscsi):
    """tshark splits a LUN above 255 into a bus and a number."""
    return (iscsi.first("scsi.bus") or 0) << 8 | (iscsi.first("scsi.lun") or 0)


def take_command(iscsi, scsi):
    opcode = scsi.first("scsi_sbc.opcode", "scsi.spc.opcode")
    if opcode == EXTENDED:
        if scsi.first("scsi.spc.svcaction") not in EXTENDED_WRITES:
            return None
    elif opcode not in WRITES:
        return None
    lba = scsi.first(*LBA_FIELDS)
    blocks = scsi.first(*BLOCKS_FIELDS)
    if opcode == 0x0A and blocks == 0:
        blocks = 256  # SBC-3, 5.31: WRITE(6) with a length of 0
    if opcode in (UNMAP, EXTENDED):
        lba = blocks = None
    return {"lun": lun_of(iscsi), "opcode": opcode, "lba": lba, "blocks": blocks}


def take_descriptors(command, scsi):
    lbas = scsi.values["scsi_sbc.unmap.lba"]
    counts = scsi.values["scsi_sbc.unmap.num_blocks"]
    if lbas:
        command["descriptors"] = [(number(a), number(b)) for a, b in zip(lbas, counts)]


def rows_of(command, status):
    """One row, or one per descriptor of an UNMAP that was done."""
    places = [(command["lba"], command["blocks"])]
    if status == 0:
        places = command.get("descriptors", places)
    for lba, blocks in places:
        yield (command["lun"], command["opcode"], lba, blocks, status)


def packets(path):
    """Each packet's iSCSI PDUs, each with the SCSI parts that follow it."""
    tshark = subprocess.Popen(
        ["tshark", "-r", path, "-o", "tcp.reassemble_out_of_order:TRUE", "-T", "pdml",
         "-J", "tcp iscsi scsi", "-Y", "iscsi"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    for _, element in ElementTree.iterparse(tshark.stdout):
        if element.tag != "packet":
            continue
        pdus, stream = [], None
        for proto in element.findall("proto"):
            if proto.get("name") == "tcp":
                stream = Fields(proto).first("tcp.stream")
            elif proto.get("name") == "iscsi":
                pdus.append((Fields(proto), []))
            elif proto.get("name") == "scsi" and pdus:
                pdus[-1][1].append(Fields(proto))
        yield stream, pdus
        element.clear()
    if tshark.wait() != 0:
        sys.exit("tshark cannot read " + path)


def tshark_rows(path):
    pending = {}
    for stream, pdus in packets(path):
        for iscsi, scsis in pdus:
            opcode = iscsi.first("iscsi.opcode")
            key = (stream, iscsi.first("iscsi.initiatortasktag"))
            if opcode == 0x01 and scsis:
                command = take_command(iscsi, scsis[0])
                pending.pop(key, None)
                if command is not None:
                    pending[key] = command
            for scsi in scsis:
                if key in pending:
                    take_descriptors(pending[key], scsi)
            if opcode == 0x21 and key in pending:
                yield from rows_of(pending.pop(key), iscsi.first("iscsi.scsiresponse.status"))


def fcp_rows(path):
    """The same of FCP: an exchange is named by its ports and OX_ID; FCP_RSP ends it."""
    fields = ["fc.r_ctl", "fc.s_id", "fc.d_id", "fc.ox_id", "fcp.lun", "scsi_sbc.opcode", "scsi_sbc.rdwr10.lba",
              "scsi_sbc.rdwr10.xferlen", "scsi_sbc.alloclen16", "fcp.status"]
    lines = subprocess.run(["tshark", "-r", path, "-Y", "fcp", "-T", "fields", "-E", "separator=;"]
                           + [word for field in fields for word in ("-e", field)],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout
    pending = {}
    for line in lines.splitlines():
        r_ctl, source, target, ox_id, lun, opcode, lba, blocks10, blocks, status = line.split(";")
        if r_ctl == "0x06" and opcode and int(opcode, 0) in WRITES:
            pending[source, target, ox_id] = (number(lun), int(opcode, 0), number(lba), number(blocks10 or blocks))
        elif r_ctl == "0x06":
            pending.pop((source, target, ox_id), None)
        elif r_ctl == "0x07" and (target, source, ox_id) in pending:
            yield pending.pop((target, source, ox_id)) + (number(status),)


def tapd_rows(path):
    """The updates, and the ranges of the gaps."""
    updates, gaps = collections.Counter(), collections.Counter()
    with open(path) as lines:
        for line in map(json.loads, lines):
            if line["op"] == "gap":
                gaps[line.get("lun"), line.get("lba"), line.get("blocks")] += 1
                continue
            if line["op"] == "audit":
                continue
            opcode, status = line["opcode"], STATUS[line["status"]]
            if opcode not in WRITES and opcode != EXTENDED:
                continue
            # JSON numbers of tapd are signed: a refused LBA beyond 2^63 comes out negative.
            place = (line["lba"] % 2**64, line["blocks"])
            if opcode == EXTENDED or (opcode == UNMAP and status != 0):
                place = (None, None)
            updates[(line["lun"], opcode) + place + (status,)] += 1
    return updates, gaps


def has_data_digests(path):
    found = subprocess.run(["tshark", "-r", path, "-Y", "iscsi.keyvalue", "-T", "fields", "-e", "iscsi.keyvalue"],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return b"DataDigest=CRC32C" in found.stdout


def match_gaps(theirs, gaps):
    """Takes away what ended GOOD and is a gap over the same range."""
    for row in list(theirs):
        lun, _, lba, blocks, status = row
        taken = min(theirs[row], gaps[lun, lba, blocks]) if status == 0 else 0
        gaps[lun, lba, blocks] -= taken
        theirs[row] -= taken
    return +theirs


def complain(what, rows):
    for lun, opcode, lba, blocks, status in sorted(rows, key=str)[:10]:
        print(f"{what}: LUN {lun}, {opcode:02x}h, LBA {lba}, {blocks} blocks, status {status}")


def main():
    capture, decoded = sys.argv[1:]
    ours, gaps = tapd_rows(decoded)
    theirs = collections.Counter(tshark_rows(capture)) or collections.Counter(fcp_rows(capture))
    partial = has_data_digests(capture)
    if partial:
        theirs = collections.Counter({row: n for row, n in theirs.items() if row[2] is not None})
    total = sum(theirs.values())
    only_theirs = match_gaps(theirs - ours, gaps)
    only_ours = collections.Counter() if partial else ours - theirs
    complain("only tshark", only_theirs)
    complain("only tapd", only_ours)
    print(f"{total} commands of tshark compared" + (" (a part: data digests)" if partial else ""))
    sys.exit(1 if only_theirs or only_ours or total == 0 else 0)


main()
