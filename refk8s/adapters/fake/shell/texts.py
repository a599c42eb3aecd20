"""Programs that read and write text: echo, printf, cat, head, tail, wc, grep, sort and others. Rule
SHELL-3."""

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Generator
from posixpath import basename, dirname
from typing import Any

from refk8s.adapters.fake.files import FileProblem
from refk8s.adapters.fake.shell.interpreter import Builtin, Shell
from refk8s.adapters.fake.shell.system_calls import (
    STDERR,
    STDOUT,
    Forever,
    Program,
    SystemCall,
    Tick,
    Write,
    cost_of,
)

COUNT_MAX = 100_000
_ESCAPE = re.compile(r"\\(0[0-7]{0,3}|x[0-9a-fA-F]{1,2}|[abefnrtv\\c])")
_LETTERS = {
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
}
_FORMAT = re.compile(r"%%|%([-0 +#]{0,3})(\d{0,2})(?:\.(\d{1,2}))?([sdiuxXocbf])")
_COUNT = re.compile(r"-?\+?[0-9]{1,9}")


def escaped(text: str) -> str:
    """Backslashes as echo -e and printf read them."""

    def one(match: re.Match[str]) -> str:
        what = match[1]
        if what[0] == "0":
            return chr(int(what, 8) & 255)
        if what[0] == "x":
            return chr(int(what[1:], 16))
        return _LETTERS.get(what, "")

    return _ESCAPE.sub(one, text.split("\\c")[0])


def _echo(shell: Shell, arguments: list[str]) -> Program:
    newline, escapes = True, False
    words = list(arguments)
    while words and re.fullmatch(r"-[neE]+", words[0]):
        option = words.pop(0)
        newline = newline and "n" not in option
        escapes = escapes or "e" in option
    text = " ".join(words)
    yield Write(STDOUT, ((escaped(text) if escapes else text) + ("\n" if newline else "")).encode())
    return 0


def _printf(shell: Shell, arguments: list[str]) -> Program:
    if not arguments:
        yield Write(STDERR, b"printf: missing operand\n")
        return 1
    template, values = escaped(arguments[0]), list(arguments[1:])
    text = ""
    code = 0
    while True:
        before = len(values)

        def one(match: re.Match[str]) -> str:
            nonlocal code
            if match[0] == "%%":
                return "%"
            value = values.pop(0) if values else ""
            kind = match[4]
            width = f"%{match[1]}{match[2]}{'.' + match[3] if match[3] else ''}"
            if kind == "c":
                value = value[:1]
            if kind in "sc":
                return (width + "s") % value
            if kind == "b":
                return escaped(value)
            if not re.fullmatch(
                r"[+-]?[0-9]{0,18}(\.[0-9]{1,9})?" if kind == "f" else r"[+-]?[0-9]{0,18}", value
            ):
                code, value = 1, "0"
            number = float(value or "0") if kind == "f" else int(value or "0")
            return (width + ("d" if kind in "iu" else kind)) % number

        text += _FORMAT.sub(one, template)
        if not values or len(values) == before or len(text) > COUNT_MAX:
            break
    yield Write(STDOUT, text.encode())
    return code


Take = Callable[[list[str], bytes], tuple[int, bytes]]


def inputs(
    shell: Shell, name: str, paths: list[str]
) -> Generator[SystemCall, Any, tuple[int, bytes]]:
    """(exit code, bytes) of these files, or of stdin without any."""
    if not paths:
        data = yield from shell.stdin.all()
        yield Tick(cost_of(len(data)))
        return 0, data
    data, code = b"", 0
    for path in paths:
        try:
            data += (
                (yield from shell.stdin.all())
                if path == "-"
                else shell.files.read(shell.path(path))
            )
        except FileProblem as problem:
            yield Write(STDERR, f"{name}: can't open '{path}': {problem.words}\n".encode())
            code = 1
    yield Tick(cost_of(len(data)))
    return code, data


def _cat(shell: Shell, arguments: list[str]) -> Program:
    paths = [argument for argument in arguments if not argument.startswith("-") or argument == "-"]
    if paths and "-" not in paths:
        code, data = yield from inputs(shell, "cat", paths)
        yield Write(STDOUT, data)
        return code
    while data := (yield from shell.stdin.some()):  # as the input arrives, not at its end
        yield Write(STDOUT, data)
    return 0


def _filter(name: str, work: Take, valued: str = "") -> Builtin:
    """A program that computes a text from its files or stdin. Its options come first; some have a
    value."""

    def run(shell: Shell, arguments: list[str]) -> Program:
        options: list[str] = []
        rest = list(arguments)
        while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
            option = rest.pop(0)
            options.append(option)
            if len(option) == 2 and option[1] in valued and rest:
                options[-1] += rest.pop(0)
        if rest[:1] == ["--"]:
            rest.pop(0)
        if name in ("grep", "egrep", "tr") and rest:
            options.append("=" + rest.pop(0))
            if name == "tr":
                options += ["=" + word for word in rest]
                rest = []
        code, data = yield from inputs(shell, name, rest)
        try:
            found, text = work(options, data)
        except (ValueError, re.error) as problem:
            yield Write(STDERR, f"{name}: {problem}\n".encode())
            return 2
        yield Write(STDOUT, text)
        return code or found

    return run


def _count(options: list[str], default: int = 10) -> tuple[int, bool]:
    """(count, whether it counts from the beginning, as in tail -n +3)."""
    for option in options:
        text = option[2:] if option[:2] in ("-n", "-c") else option[1:]
        if not _COUNT.fullmatch(text):
            raise ValueError(f"invalid number '{text}'")
        return abs(int(text)), text.startswith("+")
    return default, False


def _head(options: list[str], data: bytes) -> tuple[int, bytes]:
    count, _ = _count(options)
    if any(option.startswith("-c") for option in options):
        return 0, data[:count]
    return 0, b"".join(data.splitlines(True)[:count])


def _tail(options: list[str], data: bytes) -> tuple[int, bytes]:
    count, from_begin = _count(options)
    if any(option.startswith("-c") for option in options):
        return 0, data[max(0, count - 1) :] if from_begin else data[-count:] if count else b""
    lines = data.splitlines(True)
    return 0, b"".join(
        lines[max(0, count - 1) :] if from_begin else lines[-count:] if count else []
    )


def _wc(options: list[str], data: bytes) -> tuple[int, bytes]:
    values = {"l": data.count(b"\n"), "w": len(data.split()), "c": len(data)}
    letters = "".join([option[1:] for option in options]) or "lwc"
    return 0, (
        " ".join([str(value) for name, value in values.items() if name in letters]) + "\n"
    ).encode()


_SEGMENT = re.compile(r"(?:\\.|\[\^?\]?[^\]]*\]|[^*+?(){}\\\[])*")


def _matcher(pattern: str, letters: str) -> Callable[[str], bool]:
    """Whether a line matches a pattern of texts, ., [...], anchors, .* and alternatives. Each is
    searched once, so no pattern is slow."""
    if "F" in letters:
        return lambda line: pattern in line
    alternatives = []
    for alternative in pattern.replace("\\|", "|").split("|"):
        segments = alternative.split(".*")
        if len(pattern) > 200 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
            raise ValueError("the pattern is not understood")
        alternatives.append(
            [re.compile(segment, re.IGNORECASE if "i" in letters else 0) for segment in segments]
        )

    def matches(line: str) -> bool:
        for segments in alternatives:
            at = 0
            for segment in segments:
                found = segment.search(line, at)
                if found is None:
                    break
                at = found.end()
            else:
                return True
        return False

    return matches


def _grep(options: list[str], data: bytes) -> tuple[int, bytes]:
    letters = "".join([option[1:] for option in options if option[0] == "-"])
    matches = _matcher(next((option[1:] for option in options if option[0] == "="), ""), letters)
    lines = [
        line
        for line in data.decode("utf-8", "replace").splitlines()
        if matches(line) != ("v" in letters)
    ]
    text = (
        f"{len(lines)}\n"
        if "c" in letters
        else ""
        if "q" in letters
        else "".join([line + "\n" for line in lines])
    )
    return int(not lines), text.encode()


def _sort(options: list[str], data: bytes) -> tuple[int, bytes]:
    letters = "".join([option[1:] for option in options])
    lines = data.decode("utf-8", "replace").splitlines()

    def number(line: str) -> int:
        match = re.match(r"\s*-?[0-9]{1,18}", line)
        return int(match[0]) if match else 0

    lines.sort(key=number if "n" in letters else None, reverse="r" in letters)
    return 0, "".join(
        [line + "\n" for line in (dict.fromkeys(lines) if "u" in letters else lines)]
    ).encode()


def _uniq(options: list[str], data: bytes) -> tuple[int, bytes]:
    counted: list[tuple[str, int]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        if counted and counted[-1][0] == line:
            counted[-1] = (line, counted[-1][1] + 1)
        else:
            counted.append((line, 1))
    return 0, "".join(
        [f"{count:>7} {line}\n" if "-c" in options else line + "\n" for line, count in counted]
    ).encode()


def _tr(options: list[str], data: bytes) -> tuple[int, bytes]:
    words = [_range(option[1:]) for option in options if option[0] == "="]
    text = data.decode("utf-8", "replace")
    if "-d" in options:
        return 0, text.translate({ord(character): None for character in words[0]}).encode()
    if len(words) < 2 or not words[1]:
        raise ValueError("missing operand")
    padded = words[1] + words[1][-1] * max(0, len(words[0]) - len(words[1]))
    return 0, text.translate({ord(a): b for a, b in zip(words[0], padded, strict=False)}).encode()


def _range(text: str) -> str:
    text = text.replace("[:upper:]", "A-Z").replace("[:lower:]", "a-z").replace("[:digit:]", "0-9")
    return re.sub(
        r"(\w)-(\w)",
        lambda match: "".join(map(chr, range(ord(match[1]), ord(match[2]) + 1))),
        escaped(text),
    )


def _cut(options: list[str], data: bytes) -> tuple[int, bytes]:
    delimiter = next((option[2:] for option in options if option.startswith("-d")), "\t")
    fields = next((option[2:] for option in options if option.startswith("-f")), "")
    if not re.fullmatch(r"[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*", fields) or not delimiter:
        raise ValueError("only -d and -f with numbers are understood")
    numbers = [int(number) - 1 for number in fields.split(",")]
    lines = [line.split(delimiter) for line in data.decode("utf-8", "replace").splitlines()]
    return 0, "".join(
        [delimiter.join([parts[n] for n in numbers if n < len(parts)]) + "\n" for parts in lines]
    ).encode()


def _digest(kind: str) -> Take:
    return lambda options, data: (0, f"{hashlib.new(kind, data).hexdigest()}  -\n".encode())


def _base64(options: list[str], data: bytes) -> tuple[int, bytes]:
    return 0, b64decode(data) if "-d" in options else b64encode(data) + b"\n"


def _seq(shell: Shell, arguments: list[str]) -> Program:
    if not 1 <= len(arguments) <= 3 or not all(
        re.fullmatch(r"-?[0-9]{1,9}", argument) for argument in arguments
    ):
        yield Write(STDERR, b"seq: invalid number\n")
        return 1
    numbers = [int(argument) for argument in arguments]
    first, step, last = (
        (1, 1, numbers[0])
        if len(numbers) == 1
        else (numbers[0], 1, numbers[1])
        if len(numbers) == 2
        else numbers
    )
    found = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    yield Write(STDOUT, "".join([f"{number}\n" for number in found[:COUNT_MAX]]).encode())
    return 0


def _yes(shell: Shell, arguments: list[str]) -> Program:
    yield Forever()
    while True:
        yield Tick()
        yield Write(STDOUT, ((" ".join(arguments) or "y") + "\n").encode() * 64)


def _tee(shell: Shell, arguments: list[str]) -> Program:
    appends = "-a" in arguments
    paths = [shell.path(argument) for argument in arguments if not argument.startswith("-")]
    for path in paths:
        shell.files.write(path, b"", append=appends)
    while data := (yield from shell.stdin.some()):
        for path in paths:
            shell.files.write(path, data, append=True)
        yield Write(STDOUT, data)
    return 0


def _name(work: Callable[[str], str]) -> Builtin:
    def run(shell: Shell, arguments: list[str]) -> Program:
        text = work(arguments[0].rstrip("/") or "/") if arguments else ""
        if len(arguments) > 1 and work is basename:
            text = text.removesuffix(arguments[1])
        yield Write(STDOUT, (text + "\n").encode())
        return 0

    return run


TEXTS: dict[str, Builtin] = {
    "echo": _echo, "printf": _printf, "cat": _cat, "head": _filter("head", _head, "nc"), "tail": _filter("tail", _tail, "nc"),
    "wc": _filter("wc", _wc), "grep": _filter("grep", _grep), "egrep": _filter("egrep", _grep), "sort": _filter("sort", _sort),
    "uniq": _filter("uniq", _uniq), "tr": _filter("tr", _tr), "cut": _filter("cut", _cut, "df"), "base64": _filter("base64", _base64),
    "md5sum": _filter("md5sum", _digest("md5")), "sha256sum": _filter("sha256sum", _digest("sha256")),
    "seq": _seq, "yes": _yes, "tee": _tee, "basename": _name(basename), "dirname": _name(lambda path: dirname(path) or "."),
}  # fmt: skip
