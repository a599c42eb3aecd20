"""A wall clock that a test sets. Python runs this file at the start of a process that has this
folder in PYTHONPATH.

The file of REFK8S_TEST_CLOCK has the nanoseconds by which the clock is ahead, as a signed number of
eight bytes. Only what Python reads is moved: OpenSSL checks certificates at the true time.
"""

import mmap
import os
import struct
import time

with open(os.environ["REFK8S_TEST_CLOCK"], "rb") as file:
    _ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
_true_time_ns = time.time_ns


def time_ns() -> int:
    return _true_time_ns() + struct.unpack_from("q", _ahead)[0]


time.time_ns = time_ns
time.time = lambda: time_ns() / 1e9
