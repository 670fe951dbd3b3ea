"""Small writers of the event formats, from the published descriptions and apart from the readers.

Each returns the bytes of a file that holds events given as rows (t, x, y, p), t not decreasing unless said otherwise.
"""

import io
import struct

import numpy as np


def bits40(rows, marker=8192):
    """Times beyond 23 bits need markers of overflow (y = 240): each adds 2^13 µs to all that follows."""
    out, late = bytearray(), 0
    for t, x, y, p in rows:
        while t - late >= 1 << 23:
            out += bytes((0, 240, 0, 0, 0))
            late += marker
        rest = t - late
        out += bytes((x, y, p << 7 | rest >> 16, rest >> 8 & 255, rest & 255))
    return bytes(out)


def aedat2(rows, head=b"#!AER-DAT2.0\r\n# made by a test\r\n"):
    """Of a DVS128, axes swapped and mirrored as CIFAR10-DVS has them; the clock has 32 bits."""
    words = [((127 - x) << 8 | (127 - y) << 1 | (1 - p), t & 0xFFFFFFFF) for t, x, y, p in rows]
    return head + b"".join(struct.pack(">2I", *word) for word in words)


def packet3(rows, kind=1, capacity=None, full=0, valid=True):
    """One packet of AEDAT 3.1."""
    capacity = len(rows) if capacity is None else capacity
    head = struct.pack("<hh6i", kind, 1, 8, 4, full, capacity, len(rows), len(rows))
    words = [(x << 17 | y << 2 | p << 1 | valid, t & 0x7FFFFFFF) for t, x, y, p in rows]
    return head + b"".join(struct.pack("<2I", *word) for word in words) + bytes(8 * (capacity - len(rows)))


def aedat3(rows, together=5, head=b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"):
    """Packets of few events, between them packets of another type and of events that are marked invalid."""
    out = head
    for begin in range(0, len(rows), together):
        part = rows[begin : begin + together]
        while part:
            full = part[0][0] >> 31
            same = [row for row in part if row[0] >> 31 == full]
            out += packet3(same, capacity=len(same) + begin % 3, full=full)
            part = part[len(same) :]
        out += packet3(rows[:2], kind=3) + packet3(rows[:1], valid=False)
    return out


def dat(rows, head=b"% Data file containing CD events\n% Version 2\n"):
    words = [(t & 0xFFFFFFFF, p << 28 | y << 14 | x) for t, x, y, p in rows]
    return head + b"\x0c\x08" + b"".join(struct.pack("<2I", *word) for word in words)


def evt2(rows, head=b"% evt 2.0\n"):
    words, upper = [0xE0000001, 0xA0000000, 0x10000000], None
    for t, x, y, p in rows:
        if t >> 6 != upper:
            upper = t >> 6
            words.append(8 << 28 | upper & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return head + struct.pack(f"<{len(words)}I", *words)


def evt3(rows, head=b"% evt 3.0\n"):
    """Events of one time, row and polarity that lie close together share a vector, if their x goes up."""
    words, now, row = [0xE001, 0x2005], None, None
    place = 0
    while place < len(rows):
        t, x, y, p = rows[place]
        if t != now:
            words += _ticks(now, t)
            now = t
        if y != row:
            words.append(y)
            row = y
        group = [x]
        for s, a, b, q in rows[place + 1 :]:
            if (s, b, q) != (t, y, p) or not group[-1] < a < x + 32:
                break
            group.append(a)
        words += [2 << 12 | p << 11 | x] if len(group) == 1 else _vectors(group, p)
        place += len(group)
    return head + struct.pack(f"<{len(words)}H", *words)


def _ticks(now, t):
    high = [] if now is None else range((now >> 12) + 1, (t >> 12) + 1)
    words = [8 << 12 | (h & 4095) for h in high if h % 2048 == 0 or h == t >> 12]
    return [*(words if now is not None else [8 << 12 | t >> 12 & 4095]), 6 << 12 | t & 4095]


def _vectors(group, p):
    base = group[0]
    words = [3 << 12 | p << 11 | base]
    for kind, size in ((4, 12), (4, 12), (5, 8)):
        words.append(kind << 12 | sum(1 << (x - base) for x in group if base <= x < base + size))
        base += size
    return words


def records(rows):
    """DVS-Lip's kind of .npy file."""
    out = io.BytesIO()
    np.save(out, np.array([tuple(row) for row in rows], [("t", "<i4"), ("x", "i1"), ("y", "i1"), ("p", "i1")]))
    return out.getvalue()


def milliseconds(rows):
    """The .npy files of the cut release of DVS128 Gesture."""
    out = io.BytesIO()
    np.save(out, np.array([(x, y, p, t / 1000) for t, x, y, p in rows], np.float64).reshape(-1, 4))
    return out.getvalue()


def matlab(rows, compressed=False, on=1):
    from scipy.io import savemat

    out, columns = io.BytesIO(), np.array(rows, np.int64).reshape(-1, 4).T[..., None]
    t, x, y, p = (column.astype(kind) for column, kind in zip(columns, ("i4", "u2", "u2", "u1"), strict=True))
    savemat(
        out, {"note": "text", "ts": t, "x": x, "y": 179 - y, "pol": p + np.uint8(on - 1)}, do_compression=compressed
    )
    return out.getvalue()
