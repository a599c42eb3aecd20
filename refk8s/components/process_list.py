"""Removes a secret from the arguments of this process, where every user of the machine can read
them. Rule TRUST-14 (spec/trust.md)."""

import ctypes
from contextlib import suppress

_START, _END = 47, 48
"""The places of arg_start and arg_end in /proc/PID/stat, counted from 0 (proc(5))."""
_AFTER_NAME = 2  # the places before the name's end


def hide_argument(secret: str) -> None:
    """Overwrite each occurrence in the memory that /proc/PID/cmdline shows. Until then, which is
    some tenths of a second, it can be read. Does nothing where there is no such memory."""
    wanted = secret.encode()
    if not wanted:
        return
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/stat", "rb") as file:
            # the name of the program is in parentheses and may have any characters
            fields = file.read().rpartition(b")")[2].split()
        start, end = (int(fields[place - _AFTER_NAME]) for place in (_START, _END))
        if not 0 < start < end or end - start > 1 << 22:
            return
        memory = ctypes.string_at(start, end - start)
        at = memory.find(wanted)
        while at >= 0:
            ctypes.memset(start + at, ord("x"), len(wanted))
            at = memory.find(wanted, at + len(wanted))
