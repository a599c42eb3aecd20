"""Expands the words of a command to fields: it replaces variables, commands and paths. Rule
SHELL-2.

Source: POSIX.1-2017, "Shell Command Language" (word expansions).
"""

import fnmatch
from collections.abc import Generator
from hashlib import blake2b
from posixpath import basename, dirname, join
from typing import TYPE_CHECKING, Any

from refk8s.adapters.fake.files import FileProblem
from refk8s.adapters.fake.shell.arithmetic import ArithmeticProblem, compute
from refk8s.adapters.fake.shell.parser import parse
from refk8s.adapters.fake.shell.running import Exit, caught, routed
from refk8s.adapters.fake.shell.syntax import (
    Arithmetic,
    Simple,
    Substitution,
    SyntaxProblem,
    Text,
    Variable,
    Word,
)
from refk8s.adapters.fake.shell.system_calls import STDERR, STDOUT, SystemCall, Write

if TYPE_CHECKING:
    from refk8s.adapters.fake.shell.interpreter import Shell

FIELDS_MAX = 10_000
VALUE_CHARACTERS_MAX = 1 << 20
TRIMMED_CHARACTERS_MAX = 2000


def expand(shell: "Shell", words: tuple[Word, ...]) -> Generator[SystemCall, Any, list[str]]:
    """The fields of words. Variables and commands are replaced; text that is not quoted is split
    and matched against paths."""
    fields: list[str] = []
    total = 0
    for word in words:
        pieces: list[tuple[str, bool]] = [("", False)]  # (text, whether something in it was quoted)
        pattern = False
        begun = False
        for part in word:
            if isinstance(part, Variable) and part.quoted and "@" in (part.name, part.index):
                values = elements_of(shell, part.name) if part.index else shell.arguments[1:]
                if values:
                    pieces[-1] = (pieces[-1][0] + values[0], True)
                    pieces += [(value, True) for value in values[1:]]
                    begun = True
                continue
            text = yield from _part(shell, part)
            total += len(text)
            if total > VALUE_CHARACTERS_MAX:
                raise SyntaxProblem("the words of a command are too long")
            if part.quoted:
                pieces[-1] = (pieces[-1][0] + text, True)
                begun = True
                continue
            pattern = pattern or any(character in text for character in "*?[")
            if isinstance(part, Text):
                pieces[-1] = (pieces[-1][0] + text, pieces[-1][1])
                begun = begun or bool(text)
                continue
            split = text.split()
            if not split:
                continue
            if text[0].isspace() and begun:
                pieces.append(("", False))
            pieces[-1] = (pieces[-1][0] + split[0], pieces[-1][1])
            pieces += [(piece, False) for piece in split[1:]]
            begun = True
            if text[-1].isspace() and len(word) > 1:
                pieces.append(("", False))
        for text, quoted in pieces:
            if text or quoted:
                fields += _matches(shell, text) if pattern and not quoted else [text]
        if len(fields) > FIELDS_MAX:
            raise SyntaxProblem("too many words")
    return fields


def _matches(shell: "Shell", pattern: str) -> list[str]:
    """The paths that match, or the pattern itself."""
    folder, name = dirname(pattern), basename(pattern)
    if not any(character in name for character in "*?["):
        return [pattern]
    try:
        names = [
            found
            for found in shell.files.list(shell.path(folder))
            if not found.startswith(".") or name.startswith(".")
        ]
    except FileProblem:
        return [pattern]
    return [join(folder, found) for found in names if fnmatch.fnmatchcase(found, name)] or [pattern]


def expand_one(shell: "Shell", word: Word) -> Generator[SystemCall, Any, str]:
    """A word as one text."""
    text = ""
    for part in word:
        text += yield from _part(shell, part)
        if len(text) > VALUE_CHARACTERS_MAX:
            raise SyntaxProblem("a word is too long")
    return text


def _part(shell: "Shell", part: Any) -> Generator[SystemCall, Any, str]:
    match part:
        case Text(text):
            return text
        case Substitution(script):
            output = bytearray()
            inner = shell.child()
            is_file = script.lstrip().startswith("<") and not script.lstrip().startswith("<<")
            program = inner.run_text(f"cat {script}" if is_file else script)
            shell.status = yield from caught(
                routed(program, {STDOUT: output.extend}, True), lambda: len(output)
            )
            return output.decode("utf-8", "replace").rstrip("\n")
        case Arithmetic(text):
            expression = yield from expand_one(shell, parse_quoted(text))
            try:
                return str(compute(expression, shell.variables))
            except ArithmeticProblem as problem:
                raise SyntaxProblem(f"arithmetic: {problem}") from None
        case Variable():
            return (yield from _variable(shell, part))
    raise AssertionError(part)


def get(shell: "Shell", name: str) -> str | None:
    """The value of a variable, or of a special parameter."""
    match name:
        case "?":
            return str(shell.status)
        case "#":
            return str(len(shell.arguments) - 1)
        case "@" | "*":
            return " ".join(shell.arguments[1:])
        case "$":
            return "1"
        case "!":
            return ""
        case "-":
            return "e" if shell.stops_on_error else ""
        case "RANDOM":
            # The same in every run (SHELL-1), and different in each container.
            shell.randoms += 1
            text = f"{shell.hostname} {shell.randoms}".encode()
            return str(int.from_bytes(blake2b(text, digest_size=2).digest(), "big") >> 1)
    if name.isdigit():
        return (
            shell.arguments[int(name)]
            if len(name) < 6 and int(name) < len(shell.arguments)
            else None
        )
    return shell.variables.get(name)


def assign_array(shell: "Shell", name: str, elements: list[str]) -> None:
    """Replace an array. Its elements are variables, and the first one is that of its name."""
    for known in [known for known in shell.variables if known.startswith(f"{name}[")]:
        del shell.variables[known]
    shell.variables.pop(name, None)
    for index, element in enumerate(elements):
        shell.variables[f"{name}[{index}]" if index else name] = element


def elements_of(shell: "Shell", name: str) -> list[str]:
    """The elements of an array in their order; of another variable its value."""
    first = shell.variables.get(name)
    found = [] if first is None else [first]
    while (element := shell.variables.get(f"{name}[{len(found)}]")) is not None:
        found.append(element)
    return found


def _element(shell: "Shell", part: Variable) -> Generator[SystemCall, Any, str | None]:
    """The value of ${NAME[index]}; the elements together for @ and *."""
    if part.index in ("@", "*"):
        found = elements_of(shell, part.name)
        return str(len(found)) if part.operator == "length" else " ".join(found)
    expression = yield from expand_one(shell, parse_quoted(part.index))
    try:
        index = compute(expression, shell.variables)
    except ArithmeticProblem as problem:
        raise SyntaxProblem(f"arithmetic: {problem}") from None
    return shell.variables.get(f"{part.name}[{index}]" if index else part.name)


def _variable(shell: "Shell", part: Variable) -> Generator[SystemCall, Any, str]:
    if part.index:
        value = yield from _element(shell, part)
        if part.index in ("@", "*") and part.operator == "length":
            return value or ""
    else:
        value = get(shell, part.name)
    operator = part.operator
    if not operator:
        return value or ""
    if operator == "length":
        return str(len(value or ""))
    word = yield from expand_one(shell, part.word)
    is_set = value is not None and (bool(value) or not operator.startswith(":"))
    match operator.lstrip(":"):
        case "-":
            return (value or "") if is_set else word
        case "+":
            return word if is_set else ""
        case "=":
            if not is_set:
                shell.variables[part.name] = word
            return (value or "") if is_set else word
        case "?":
            if not is_set:
                yield Write(STDERR, f"sh: {part.name}: {word or 'parameter not set'}\n".encode())
                raise Exit(2)
            return value or ""
    return _trimmed(value or "", operator, word)


def _trimmed(value: str, operator: str, pattern: str) -> str:
    """${NAME#pattern} and similar: the value without the shortest or longest match at its beginning
    or end."""
    if len(value) > TRIMMED_CHARACTERS_MAX:
        return value
    lengths = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    for length in lengths:
        piece = value[:length] if operator[0] == "#" else value[len(value) - length :]
        if fnmatch.fnmatchcase(piece, pattern):
            return value[length:] if operator[0] == "#" else value[: len(value) - length]
    return value


def parse_quoted(text: str) -> Word:
    """The text of an arithmetic expression as a word, so that $NAME in it is replaced."""
    script = parse(': "' + text.replace('"', "") + '"')
    what = script[0].pipeline.commands[0].what
    assert isinstance(what, Simple)
    return what.words[1]
