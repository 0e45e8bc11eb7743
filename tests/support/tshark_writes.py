#!/usr/bin/env python3
"""Writing commands as tshark sees them: tshark_writes.py FILE, one JSON object per command and line.

From tshark's PDML, in the order of the statuses: {"lun", "opcode", "lba", "blocks", "status"}. A command
without a status is left out; what tshark does not decode (32-byte CDBs) has null for lba and blocks.
UNMAP gives one line per descriptor.
"""
import collections
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

WRITES = {0x0A, 0x2A, 0xAA, 0x8A, 0x2E, 0xAE, 0x8E, 0x41, 0x93, 0x42, 0x89, 0x9C}
EXTENDED = 0x7F
# Service actions of 7Fh that write: WRITE(32), WRITE AND VERIFY(32), WRITE SAME(32)
EXTENDED_WRITES = {0x0B, 0x0C, 0x0D}
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
    if opcode in (0x42, EXTENDED):
        lba = blocks = None
    return {"lun": lun_of(iscsi), "opcode": opcode, "lba": lba, "blocks": blocks}


def take_descriptors(command, scsi):
    lbas = scsi.values["scsi_sbc.unmap.lba"]
    counts = scsi.values["scsi_sbc.unmap.num_blocks"]
    if lbas:
        command["descriptors"] = [(number(a), number(b)) for a, b in zip(lbas, counts)]


def lines_of(command, status):
    base = {"lun": command["lun"], "opcode": command["opcode"], "status": status}
    for lba, blocks in command.get("descriptors", [(command["lba"], command["blocks"])]):
        yield dict(base, lba=lba, blocks=blocks)


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


def main():
    pending = {}
    for stream, pdus in packets(sys.argv[1]):
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
                status = iscsi.first("iscsi.scsiresponse.status")
                for line in lines_of(pending.pop(key), status):
                    print(json.dumps(line, sort_keys=True))


main()
