"""The processor time and memory that this machine has used. Rule STREAM-17."""

import os
from pathlib import Path

NANO = 1_000_000_000


def machine_usage() -> tuple[int, int]:
    """(nanoseconds of all processors that were not idle since the start, bytes of memory that are
    not available to programs). Raises OSError, ValueError where the kernel does not tell."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, *interrupts = fields
    ticks = user + nice + system + sum(interrupts)
    total = available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            total = int(rest.split()[0]) * 1024
        elif name == "MemAvailable":
            available = int(rest.split()[0]) * 1024
    return ticks * NANO // os.sysconf("SC_CLK_TCK"), max(0, total - available)
