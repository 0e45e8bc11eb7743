#!/usr/bin/env python3
"""Is an image what the storage holds, wherever it does not say otherwise?

usage: compare_with_gaps.py IMAGE STORAGE GAPS.json [BLOCK_BYTES]

GAPS.json is FILE.gaps.json of a restore, or what `recoveryctl gaps --json` prints; "-" stands for none.
Prints how many bytes are in doubt, how many of those really differ, and both by reason. Ends with 1 when a
block (default 512 bytes) differs that is not wholly in doubt, and names the first ones.
"""
import collections
import json
import mmap
import os
import sys

SHOWN = 10
STRETCH = 1 << 20


def load_gaps(path):
    """[start, end, reason], sorted; an end of None is the end of the volume."""
    if path == "-":
        return []
    with open(path) as text:
        value = json.load(text)
    gaps = value["gaps"] if isinstance(value, dict) else value
    return sorted((g["offset_bytes"], g["offset_bytes"] + g["length_bytes"], g["reason"]) for g in gaps)


def view_of(path):
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""


def differing(image, storage, block):
    """Numbers of the blocks that differ."""
    size = max(len(image), len(storage))
    for start in range(0, size, STRETCH):
        end = min(start + STRETCH, size)
        if image[start:end] == storage[start:end]:
            continue
        for at in range(start, end, block):
            if image[at:at + block] != storage[at:at + block]:
                yield at // block


def reasons_by_block(gaps, size, block):
    """For each block that is wholly in doubt, why: the first reason that is given for its start."""
    reasons = {}
    reached = 0
    for start, end, reason in gaps:
        start, end = max(start, reached), min(end, size)
        for number in range(-(-start // block), -(-end // block) if end == size else end // block):
            reasons.setdefault(number, reason)
        reached = max(reached, start)
    return reasons


def runs_of(numbers):
    """Consecutive numbers as (first, count)."""
    runs = []
    for number in numbers:
        if runs and number == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def main():
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    image, storage = view_of(sys.argv[1]), view_of(sys.argv[2])
    block = int(sys.argv[4]) if len(sys.argv) == 5 else 512
    doubtful = reasons_by_block(load_gaps(sys.argv[3]), len(storage), block)
    wrong, different = [], collections.Counter()
    for number in differing(image, storage, block):
        if number in doubtful:
            different[doubtful[number]] += 1
        else:
            wrong.append(number)
    print(f"{len(storage)} bytes, {len(doubtful) * block} in doubt, of which {sum(different.values()) * block} "
          f"differ; {len(wrong) * block} differ outside")
    for reason, count in sorted(collections.Counter(doubtful.values()).items()):
        print(f"  {reason}: {count * block} bytes in doubt, {different[reason] * block} differ")
    for first, count in runs_of(wrong)[:SHOWN]:
        print(f"WRONG: {count} blocks of {block} bytes at byte {first * block}")
    if len(image) != len(storage):
        print(f"WRONG: the image has {len(image)} bytes, the storage {len(storage)}")
        sys.exit(1)
    sys.exit(1 if wrong else 0)


main()
