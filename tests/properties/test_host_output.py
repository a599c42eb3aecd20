"""Output beside slow and closed readers. Rule HOST-9 (spec/host.md)."""

import os
import re

from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.output import Output, descriptor_of

LEFT_OUT = re.compile(r"\.\.\. \((\d+) lines left out")


def told(text: str) -> list[int]:
    """How many lines each line of the output stands for: 1, or those left out."""
    return [int(match[1]) if (match := LEFT_OUT.match(line)) else 1 for line in text.splitlines()]


@given(st.integers(0, 400), st.integers(1, 50), st.integers(1, 3000))
def test_host_9_every_line_is_written_in_order_or_counted(
    lines: int, lines_max: int, width: int
) -> None:
    # Shows HOST-9.b, HOST-9.c.
    """Nobody reads before all is said, so the pipe (64 kB) and then the queue are full where there
    is much."""
    reader, writer = os.pipe()
    output = Output(writer, lines_max)
    for number in range(lines):
        output.write_line(f"{number} {'x' * width}")
    got = bytearray()
    closer = os.fork()
    if closer == 0:  # reads to the end, as a reader that is merely late does
        os.close(writer)
        while data := os.read(reader, 1 << 16):
            got += data
        text = bytes(got).decode()
        numbers = [int(line.split()[0]) for line in text.splitlines() if not LEFT_OUT.match(line)]
        place, fine = 0, sum(told(text)) == lines
        for line, count in zip(text.splitlines(), told(text), strict=True):
            fine = fine and (LEFT_OUT.match(line) is not None or int(line.split()[0]) == place)
            place += count
        os._exit(0 if fine and numbers == sorted(numbers) else 1)
    os.close(reader)
    output.close(30)
    os.close(writer)
    assert os.waitpid(closer, 0)[1] == 0


def test_host_9_a_reader_that_never_reads_costs_a_bounded_queue() -> None:
    # Shows HOST-9.a, HOST-9.f.
    reader, writer = os.pipe()
    output = Output(writer, lines_max=100, bytes_max=10_000)
    for number in range(50_000):
        output.write_line(f"line {number}")
    assert len(output._waiting) <= 102 and output._bytes <= 10_000
    output.close(0)  # no waiting: the thread is a daemon and ends with the process
    os.close(reader)
    output._writer.join(10)  # type: ignore[union-attr]
    assert not output._writer.is_alive()  # type: ignore[union-attr]
    os.close(writer)


def test_host_9_a_reader_that_has_gone_is_no_error() -> None:
    # Shows HOST-9.d.
    reader, writer = os.pipe()
    os.close(reader)
    output = Output(writer)
    for _ in range(1000):
        output.write_line("nobody reads this")
    output.close(10)
    assert not output._waiting
    os.close(writer)
    Output(descriptor_of(None)).write_line("nor this")
