"""Parses an expression of the Common Expression Language to a tree. Rule CEL-1 (spec/cel.md).

Macros (has, all, exists, map ...) have nodes of their own, so the other parts see what binds a
variable. Source: Common Expression Language specification, "Syntax" and "Macros".
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen

from refk8s.core.cel.problems import CelProblem, Problem

EXPRESSION_LENGTH_MAX: Final = 20_000
DEPTH_MAX: Final = 60
"""The most levels of brackets and operators within one another."""
DIGITS_MAX: Final = 64
"""No number of 64 bits has more digits, apart from leading zeros."""


class CelSyntaxError(CelProblem):
    """The text is no expression. The message says where and why."""


@frozen
class Node:
    """`at`: where it begins in the text."""

    at: int


@frozen
class Literal(Node):
    value: Any
    is_unsigned: bool = False


@frozen
class Identifier(Node):
    name: str


@frozen
class Select(Node):
    """A field. `is_test`: has(); `is_optional`: `.?`."""

    operand: Node
    field: str
    is_test: bool = False
    is_optional: bool = False


@frozen
class Call(Node):
    """A function or operator (`_+_`, `!_`, `_?_:_`, `_[_]`, `_[?_]`)."""

    function: str
    target: Node | None
    arguments: tuple[Node, ...]


@frozen
class ListOf(Node):
    """`optional`: the places of items that are left out if they have no value (`[?a]`)."""

    items: tuple[Node, ...]
    optional: tuple[int, ...] = ()


@frozen
class MapOf(Node):
    """`optional`: as of a list, for entries."""

    entries: tuple[tuple[Node, Node], ...]
    optional: tuple[int, ...] = ()


@frozen
class Message(Node):
    """A message: the name of its type, and its fields (`Object.spec{replicas: 1}`)."""

    name: str
    fields: tuple[tuple[str, Node], ...]
    optional: tuple[int, ...] = ()


@frozen
class Macro(Node):
    """A comprehension, or another macro that binds variables: `kind` is its name."""

    kind: str
    operand: Node
    variables: tuple[str, ...]
    bodies: tuple[Node, ...]


_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+|//[^\n]*)
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<int>0x[0-9a-fA-F]+[uU]?|\d+[uU]?)
  | (?P<string>[bB]?[rR]?(?:\"\"\".*?(?<!\\)\"\"\"|'''.*?(?<!\\)'''|"(?:[^"\\\n]|\\.)*+"|'(?:[^'\\\n]|\\.)*+'))
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<operator>&&|\|\||==|!=|<=|>=|\.\?|\[\?|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(x[0-9a-fA-F]{2}|X[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2}|.)",
    re.DOTALL,
)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BINARY = (
    ("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"),
)  # fmt: skip
RESERVED: Final = frozenset(
    [
        "false",
        "in",
        "null",
        "true",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_COMPREHENSIONS = ("all", "exists", "exists_one", "existsOne", "map", "filter")
_TWO_VARIABLES = ("all", "exists", "existsOne", "transformList", "transformMap")

Token = tuple[str, str, int]

_STARTS = ("[", "[?", "{", "(", ".", "-", "!")
_OPERANDS = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', "
    "NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
"""What may begin an operand, in the words of the errors."""

PROBLEMS_MAX: Final = 30
"""After so many syntax errors the rest of a text is not read."""


def parse(text: str) -> Node:
    """The tree of an expression. Raises CelSyntaxError with every error that was found.
    O(length)."""
    if len(text) > EXPRESSION_LENGTH_MAX:
        words = f"expression has more than {EXPRESSION_LENGTH_MAX} characters"
        raise CelSyntaxError(text[:40], [Problem(0, words)])
    return _Parser(text).whole()


class _Stop(Exception):
    """The rest of the text is not read."""


class _Parser:
    """As upstream's parser, it goes on after an error: an operand that is missing is assumed, and a
    token that fits nowhere is left out. `is_recovering`: no token has been read since an error, so
    a further one says nothing new."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.place = 0
        self.depth = 0
        self.problems: list[Problem] = []
        self.is_recovering = False
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                end = len(text) if text[at] in "'\"" else at + 1
                self.report(at, f"token recognition error at: '{text[at:end][:40]}'")
                at = end
                continue
            kind = match.lastgroup or ""
            if kind != "space":
                self.tokens.append((kind, match[0], at))
            at = match.end()
        self.tokens.append(("end", "<EOF>", len(text)))

    # --- errors

    def report(self, at: int, words: str) -> None:
        self.problems.append(Problem(at, f"Syntax error: {words}"))

    def stop(self, at: int, words: str) -> _Stop:
        """An error after which nothing more is read. It is not one of syntax."""
        self.problems.append(Problem(at, words))
        return _Stop()

    def unexpected(self, expected: str) -> None:
        """Report the next token, of which `expected` should be there."""
        _, word, at = self.peek()
        if not self.is_recovering:
            self.report(at, f"mismatched input '{word[:40]}' expecting {expected}")
        self.is_recovering = True
        if len(self.problems) > PROBLEMS_MAX:
            raise _Stop

    # --- tokens

    def peek(self) -> Token:
        return self.tokens[self.place]

    def take(self) -> Token:
        token = self.tokens[self.place]
        self.place += 1
        self.is_recovering = False
        return token

    def accept(self, *words: str) -> Token | None:
        kind, word, _ = self.peek()
        if word in words and kind in ("operator", "name"):
            return self.take()
        return None

    def expect(self, word: str) -> Token:
        found = self.accept(word)
        if found is None:
            self.unexpected(f"'{word}'")
            raise _Stop
        return found

    # --- expressions

    def whole(self) -> Node:
        try:
            node = self.expression()
            kind, word, at = self.peek()
            if kind != "end" and not self.is_recovering:
                is_last = self.tokens[self.place + 1][0] == "end"
                words = "extraneous" if is_last else "mismatched"
                self.report(at, f"{words} input '{word[:40]}' expecting <EOF>")
        except _Stop:
            node = Literal(0, None)
        if self.problems:
            raise CelSyntaxError(self.text, self.problems)
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise self.stop(self.peek()[2], f"more than {DEPTH_MAX} levels")
        node = self.binary(0)
        if (token := self.accept("?")) is not None:
            then = self.binary(0)
            self.expect(":")
            node = Call(token[2], "_?_:_", None, (node, then, self.expression()))
        self.depth -= 1
        return node

    def binary(self, level: int) -> Node:
        if level == len(_BINARY):
            return self.unary()
        node = self.binary(level + 1)
        while (token := self.accept(*_BINARY[level])) is not None:
            name = "@in" if token[1] == "in" else f"_{token[1]}_"
            node = Call(token[2], name, None, (node, self.binary(level + 1)))
        return node

    def unary(self) -> Node:
        operators: list[Token] = []
        while (token := self.accept("!", "-")) is not None:
            operators.append(token)
            if len(operators) > DEPTH_MAX:
                raise self.stop(token[2], f"more than {DEPTH_MAX} levels")
        node = self.member()
        for _, word, at in reversed(operators):
            is_number = isinstance(node, Literal) and type(node.value) in (int, float)
            if word == "-" and is_number and not node.is_unsigned:  # type: ignore[attr-defined]
                node = Literal(at, -node.value)  # type: ignore[attr-defined]
            else:
                node = Call(at, f"{word}_", None, (node,))
        is_int = isinstance(node, Literal) and type(node.value) is int and not node.is_unsigned
        if is_int and not -(2**63) <= node.value < 2**63:  # type: ignore[attr-defined]
            raise self.stop(node.at, "invalid int literal")
        return node

    def member(self) -> Node:
        node = self.primary()
        while (token := self.accept(".", ".?", "[", "[?")) is not None:
            _, word, at = token
            if word in ("[", "[?"):
                index = self.expression()
                self.expect("]")
                name = "_[_]" if word == "[" else "_[?_]"
                node = Call(at, name, None, (node, index))
                continue
            kind, name, name_at = self.peek()
            if kind != "name":
                shown = "" if kind == "end" else name[:40]
                self.report(name_at, f"no viable alternative at input '{word}{shown}'")
                raise _Stop
            self.take()
            if word == ".?":
                node = Select(at, node, name, is_optional=True)
            elif (call := self.accept("(")) is not None:
                node = self.method(call[2], node, name, self.arguments(")"))
            else:
                node = Select(at, node, name)
        return node

    def arguments(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self.accept(end):
            if found:
                self.expect(",")
                if end != ")" and self.accept(end):  # a comma at the end of a list
                    break
            found.append(self.expression())
        return tuple(found)

    def is_operand(self, place: int) -> bool:
        kind, word, _ = self.tokens[min(place, len(self.tokens) - 1)]
        return word in _STARTS if kind == "operator" else kind != "end" and word != "in"

    def primary(self) -> Node:
        if not self.is_operand(self.place):
            return self.missing()
        kind, word, at = self.take()
        match kind:
            case "int":
                is_unsigned = word[-1] in "uU"
                if len(word.lstrip("0x")) > DIGITS_MAX:
                    raise self.stop(at, f"invalid {'u' if is_unsigned else ''}int literal")
                digits = word.rstrip("uU").lstrip("0") or "0"
                value = int(digits[1:], 16) if digits.startswith("x") else int(digits)
                if is_unsigned and value >= 2**64:
                    raise self.stop(at, "invalid uint literal")
                return Literal(at, value, is_unsigned)
            case "float":
                return Literal(at, float(word))
            case "string":
                return Literal(at, self.string(word, at))
            case "name":
                return self.named(word, at)
        if word == "(":
            node = self.expression()
            self.expect(")")
            return node
        if word in ("[", "[?"):
            return self.items(at, word == "[?")
        if word == "{":
            return self.map(at)
        kind, word, at = self.peek()
        if word == ".":
            raise self.stop(at, "Syntax error: no viable alternative at input '..'")
        if kind != "name":
            self.unexpected("IDENTIFIER")
            raise _Stop
        self.take()
        return self.named(word, at)  # a name of the root scope

    def missing(self) -> Node:
        """An operand is missing. If one follows the next token, that token is left out."""
        kind, word, at = self.peek()
        if kind != "end" and self.is_operand(self.place + 1):
            if not self.is_recovering:
                self.report(at, f"extraneous input '{word}' expecting {_OPERANDS}")
            self.place += 1
            return self.primary()
        self.unexpected(_OPERANDS)
        return Literal(at, None)

    def string(self, word: str, at: int) -> str | bytes:
        try:
            return _text(word)
        except ValueError as error:
            raise self.stop(at, str(error)) from None

    def named(self, word: str, at: int) -> Node:
        if word in ("true", "false", "null"):
            return Literal(at, {"true": True, "false": False, "null": None}[word])
        if word in RESERVED:
            raise self.stop(at, f"reserved identifier: {word}")
        if (message := self.message(word)) is not None:
            return message
        if (call := self.accept("(")) is not None:
            return self.function(call[2], word, self.arguments(")"))
        return Identifier(at, word)

    def message(self, word: str) -> Node | None:
        """The message whose type begins with this name; None if it is no message."""
        name, place = word, self.place
        while self.tokens[place][1] == "." and self.tokens[place + 1][0] == "name":
            name += f".{self.tokens[place + 1][1]}"
            place += 2
        kind, brace, at = self.tokens[place]
        if kind != "operator" or brace != "{":
            return None
        self.place = place + 1
        fields: list[tuple[str, Node]] = []
        optional: list[int] = []
        while not self.accept("}"):
            if fields:
                self.expect(",")
                if self.accept("}"):
                    break
            if self.accept("?"):
                optional.append(len(fields))
            field_kind, field, _ = self.peek()
            if field_kind != "name":
                self.unexpected("{'}', ',', IDENTIFIER}")
                raise _Stop
            self.take()
            self.expect(":")
            fields.append((field, self.expression()))
        return Message(at, name, tuple(fields), tuple(optional))

    def items(self, at: int, is_first_optional: bool) -> Node:
        items: list[Node] = []
        optional = [0] if is_first_optional else []
        while not self.accept("]"):
            if items:
                self.expect(",")
                if self.accept("]"):
                    break
            if self.accept("?"):
                optional.append(len(items))
            items.append(self.expression())
        return ListOf(at, tuple(items), tuple(optional))

    def map(self, at: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        optional: list[int] = []
        while not self.accept("}"):
            if entries:
                self.expect(",")
                if self.accept("}"):
                    break
            if self.accept("?"):
                optional.append(len(entries))
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression()))
        return MapOf(at, tuple(entries), tuple(optional))

    # --- macros

    def function(self, at: int, name: str, arguments: tuple[Node, ...]) -> Node:
        if name == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                place = arguments[0].at if arguments else at
                raise self.stop(place, "invalid argument to has() macro")
            select = arguments[0]
            return Select(select.at, select.operand, select.field, is_test=True)
        return Call(at, name, None, arguments)

    def method(self, at: int, target: Node, name: str, arguments: tuple[Node, ...]) -> Node:
        count = len(arguments)
        if (
            isinstance(target, Identifier)
            and target.name == "cel"
            and name == "bind"
            and count == 3
        ):
            return Macro(at, "bind", arguments[1], (self.variable(arguments[0]),), (arguments[2],))
        if name in ("optMap", "optFlatMap") and count == 2:
            return Macro(at, name, target, (self.variable(arguments[0]),), (arguments[1],))
        if name in _COMPREHENSIONS and (count == 2 or (name == "map" and count == 3)):
            return Macro(at, name, target, (self.variable(arguments[0]),), arguments[1:])
        if name in _TWO_VARIABLES and count in ((3, 4) if name.startswith("transform") else (3,)):
            names = (self.variable(arguments[0]), self.variable(arguments[1]))
            return Macro(at, name, target, names, arguments[2:])
        if isinstance(target, Identifier) and f"{target.name}.{name}" in QUALIFIED:
            return Call(at, f"{target.name}.{name}", None, arguments)
        return Call(at, name, target, arguments)

    def variable(self, node: Node) -> str:
        if not isinstance(node, Identifier):
            raise self.stop(node.at, "argument must be a simple name")
        return node.name


QUALIFIED: Final = frozenset(
    [
        "optional.of",
        "optional.none",
        "optional.ofNonZeroValue",
        "math.greatest",
        "math.least",
        "math.abs",
        "math.ceil",
        "math.floor",
        "math.round",
        "math.sign",
        "math.trunc",
        "math.isNaN",
        "math.isInf",
        "math.isFinite",
        "sets.contains",
        "sets.equivalent",
        "sets.intersects",
        "strings.quote",
        "ip.isCanonical",
        "base64.encode",
        "base64.decode",
        "jsonpatch.escapeKey",
    ]
)
"""Functions whose names have a dot."""


def _text(word: str) -> str | bytes:
    """The value of a literal. Raises ValueError for an escape sequence that does not exist."""
    start = re.match("[bBrR]*", word)
    assert start is not None
    prefix = start[0].lower()
    quoted = word[len(prefix) :]
    width = 3 if quoted[:3] in ('"""', "'''") and len(quoted) >= 6 else 1
    body = quoted[width:-width]
    if "r" not in prefix:
        body = _ESCAPE.sub(_unescaped, body)
    return body.encode("utf-8", "surrogatepass") if "b" in prefix else body


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xXuU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise ValueError("invalid escape sequence")
        return chr(number)
    if code[0] in "0123" and len(code) == 3:
        return chr(int(code, 8))
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code in "\\\"'`?":
        return code
    raise ValueError(f"invalid escape sequence \\{code}")
