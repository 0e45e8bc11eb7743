#!/usr/bin/env python3
"""Portals for tests of those who ask them.

  portals.py silent PORT          takes connections and says nothing
  portals.py garbage PORT         answers everything with bytes that are no PDU
  portals.py watch PORT TO LOG    passes everything on to port TO of 127.0.0.1, and writes the operation
                                  code of each SCSI command that passes (hexadecimal, a line each) to LOG
  portals.py old PORT TO LOG      the same, as storage that does not know READ CAPACITY(16)

Prints "ready" when it listens. Ends with its parent's kill.
"""
import socket
import sys
import threading


def commands(buffer, log, old):
    """Cuts whole iSCSI PDUs without digests (RFC 7143 11.2) off the buffer: (those, the rest)."""
    at = 0
    while len(buffer) >= at + 48:
        size = 48 + 4 * buffer[at + 4] + (int.from_bytes(buffer[at + 5 : at + 8], "big") + 3) // 4 * 4
        if len(buffer) < at + size:
            break
        if buffer[at] & 0x3F == 0x01:
            log.write("%02x\n" % buffer[at + 32])
            log.flush()
            if old and buffer[at + 32] == 0x9E:
                buffer[at + 32] = 0xC0
        at += size
    return buffer[:at], buffer[at:]


def pump(source, sink, log, old):
    rest = bytearray()
    try:
        while data := source.recv(65536):
            if log is not None:
                data, rest = commands(rest + data, log, old)
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def watch(peer, port, log, old):
    target = socket.create_connection(("127.0.0.1", port))
    threading.Thread(target=pump, args=(peer, target, log, old), daemon=True).start()
    threading.Thread(target=pump, args=(target, peer, None, old), daemon=True).start()


def garbage(peer):
    try:
        while peer.recv(65536):
            peer.sendall(b"\x23\x87\x03" + bytes(range(256)) * 64)
    except OSError:
        pass


def main():
    what, port = sys.argv[1], int(sys.argv[2])
    listener = socket.create_server(("127.0.0.1", port))
    log = open(sys.argv[4], "a") if what in ("watch", "old") else None
    print("ready", flush=True)
    kept = []
    while True:
        peer, _ = listener.accept()
        kept.append(peer)
        if log is not None:
            watch(peer, int(sys.argv[3]), log, what == "old")
        elif what == "garbage":
            threading.Thread(target=garbage, args=(peer,), daemon=True).start()


main()
