"""Transcripts of kubectl: commands, and what they must print. tests/integration/kubectl/ has them.

    file NAME              the indented lines after it are the content of a file
    $ COMMAND              a command of the shell, in a directory and a namespace of its own
    ~ COMMAND              the same, repeated until it prints what follows
    exit N                 its exit code, if that is not 0
    OUTPUT                 what it prints, line by line, standard output first

In output, any space matches any other, `*` matches characters without spaces, `**` matches any
part of a line, and a line `...` matches any number of lines. Lines of kubectl's log are left out.
"""

import os
import re
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

WAIT_SECONDS = 30
LOG_LINE = re.compile(r"^[EIW]\d{4} \d\d:\d\d:\d\d.*\n", re.MULTILINE)
"""A line of kubectl's own log, which it writes when a time limit ends a watch early."""


@dataclass
class Step:
    """One command and what is expected of it."""

    line: int
    command: str
    waits: bool
    code: int = 0
    output: list[str] = field(default_factory=list)


@dataclass
class Transcript:
    files: dict[str, str]
    steps: list[Step]


def read(path: Path) -> Transcript:
    """The transcript in the file. Its first paragraph says what it shows."""
    files: dict[str, str] = {}
    steps: list[Step] = []
    name, in_file = "", False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("file "):
            name = line.removeprefix("file ")
            files[name], in_file = "", True
        elif line.startswith(("$ ", "~ ")):
            steps.append(Step(number, line[2:], line[0] == "~"))
            in_file = False
        elif in_file:
            files[name] += line + "\n"
        elif steps and re.fullmatch(r"exit \d+", line) and not steps[-1].output:
            steps[-1].code = int(line.split()[1])
        elif steps:
            steps[-1].output.append(line)
    texts = {name: textwrap.dedent(text) for name, text in files.items()}
    return Transcript(texts, steps)


def play(transcript: Transcript, directory: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run the commands in `directory`. Yields a sentence for each that is not as expected."""
    for name, text in transcript.files.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    for step in transcript.steps:
        end = time.monotonic() + (WAIT_SECONDS if step.waits else 0)
        while (wrong := run(step, directory, environment)) and time.monotonic() < end:
            time.sleep(0.2)
        if wrong:
            yield wrong


def run(step: Step, directory: Path, environment: dict[str, str]) -> str:
    """What is wrong with the answer to the command; empty if nothing is."""
    done = subprocess.run(
        ["sh", "-c", step.command],
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    printed = LOG_LINE.sub("", done.stdout + done.stderr).rstrip()
    if done.returncode == step.code and matches(step.output, printed):
        return ""
    return (
        f"line {step.line}: {step.command}\nexit {done.returncode}, expected {step.code}; "
        f"not as {first_difference(step.output, printed)!r}:\n{printed}\n"
    )


def matches(expected: list[str], printed: str) -> bool:
    """Whether the text is what the lines of a transcript describe."""
    return re.fullmatch(_pattern(_wanted(expected)), _plain(printed)) is not None


def first_difference(expected: list[str], printed: str) -> str:
    """The first expected line that the text does not have where it should; empty if the text has
    more than is expected."""
    wanted = _wanted(expected)
    for number, line in enumerate(wanted, 1):
        if re.match(_pattern(wanted[:number]), _plain(printed)) is None:
            return line
    return ""


def _wanted(expected: list[str]) -> list[str]:
    return "\n".join(expected).strip().splitlines()


def _plain(printed: str) -> str:
    text = "\n".join(line.strip() for line in printed.strip().splitlines())
    return text + "\n" if text else ""


def _pattern(lines: list[str]) -> str:
    return "".join(r"(?:[^\n]*\n)*" if line == "..." else _line(line) for line in lines)


def _line(line: str) -> str:
    """A line as a regular expression."""
    words = [
        re.escape(word).replace(r"\*\*", r"[^\n]*").replace(r"\*", r"[^\s]*")
        for word in line.split()
    ]
    return r"[^\S\n]+".join(words) + r"\n"
