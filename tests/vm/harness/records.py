# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists of records, as docs/spec.md 6.1 has them."""
import struct

from .rpc import call

PSI, VMSTAT, DISK, TASK, LOG, FILESYSTEM, INTERFACE, ADDRESS, CLOCK = range(1, 10)
FILE, FAILURE = 15, 16
MORE, PARTIAL = 1, 2


def _fields(data):
    """{key: [values]}: numbers, text, or bytes."""
    found, at = {}, 0
    while at < len(data):
        key, kind, length = struct.unpack_from("<HHI", data, at)
        value = data[at + 8:at + 8 + length]
        assert len(value) == length, "a field leads out of its record"
        padding = data[at + 8 + length:at + 8 + (length + 7) // 8 * 8]
        assert not any(padding), padding
        found.setdefault(key, []).append(
            int.from_bytes(value, "little") if kind == 0 else value.decode(errors="replace") if kind == 1 else value)
        at += 8 + (length + 7) // 8 * 8
    return found


def page(qmp, module, procedure, cursor=0, select=0, limit=0, timeout=10000):
    """One answer: (records as (kind, {key: [values]}), next, flags)."""
    status, data = call(qmp, module, procedure, struct.pack("<QII", cursor, select, limit), timeout)
    assert status == "ok", (module, procedure, status)
    return parse(data)


def parse(data):
    """An answer's bytes, likewise."""
    count, length, following, flags, reserved = struct.unpack_from("<IIQII", data)
    assert length == len(data) - 24 and reserved == 0, data[:24]
    found, at = [], 24
    while at < len(data):
        size, kind, reserved = struct.unpack_from("<HHI", data, at)
        assert size >= 8 and size % 8 == 0 and reserved == 0 and at + size <= len(data), (size, kind)
        found.append((kind, _fields(data[at + 8:at + size])))
        at += size
    assert len(found) == count, (len(found), count)
    return found, following, flags


def records(qmp, module, procedure, select=0, limit=0):
    """All of a list, in as many answers as it takes."""
    found, cursor = [], 0
    for _ in range(1000):
        some, cursor, flags = page(qmp, module, procedure, cursor, select, limit)
        assert not flags & PARTIAL, (module, procedure)
        found += some
        if not flags & MORE:
            return found
    raise AssertionError(f"{module}.{procedure} does not end")


def only(fields, key):
    """The one value of a key."""
    (value,) = fields[key]
    return value
