"""Parses an expression of the Common Expression Language to a tree. Rule CEL-1 (spec/cel.md).

Macros (has, all, exists, map ...) have nodes of their own, so the other parts see what binds a
variable. Source: Common Expression Language specification, "Syntax" and "Macros".
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import frozen

EXPRESSION_LENGTH_MAX: Final = 20_000
DEPTH_MAX: Final = 60
"""The most levels of brackets and operators within one another."""


class CelSyntaxError(ValueError):
    """The text is no expression. The message says where and why."""

    def __init__(self, at: int, why: str) -> None:
        super().__init__(f"ERROR: <input>:1:{at + 1}: Syntax error: {why}")


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
    items: tuple[Node, ...]


@frozen
class MapOf(Node):
    entries: tuple[tuple[Node, Node], ...]


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


def parse(text: str) -> Node:
    """The tree of an expression. Raises CelSyntaxError. O(length)."""
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise CelSyntaxError(0, f"expression has more than {EXPRESSION_LENGTH_MAX} characters")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[Token] = []
        self.place = 0
        self.depth = 0
        at = 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise CelSyntaxError(at, f"token recognition error at: {text[at]!r}")
            kind = match.lastgroup or ""
            if kind != "space":
                self.tokens.append((kind, match[0], at))
            at = match.end()
        self.tokens.append(("end", "<EOF>", len(text)))

    # --- tokens

    def peek(self) -> Token:
        return self.tokens[self.place]

    def take(self) -> Token:
        token = self.tokens[self.place]
        self.place += 1
        return token

    def accept(self, *words: str) -> Token | None:
        kind, word, _ = self.peek()
        if word in words and kind in ("operator", "name"):
            return self.take()
        return None

    def expect(self, word: str) -> Token:
        found = self.accept(word)
        if found is None:
            _, seen, at = self.peek()
            raise CelSyntaxError(at, f"mismatched input {seen[:40]!r} expecting {word!r}")
        return found

    # --- expressions

    def whole(self) -> Node:
        node = self.expression()
        kind, word, at = self.peek()
        if kind != "end":
            raise CelSyntaxError(at, f"mismatched input {word[:40]!r} expecting <EOF>")
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise CelSyntaxError(self.peek()[2], f"more than {DEPTH_MAX} levels")
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
                raise CelSyntaxError(token[2], f"more than {DEPTH_MAX} levels")
        node = self.member()
        for _, word, at in reversed(operators):
            is_number = isinstance(node, Literal) and type(node.value) in (int, float)
            if word == "-" and is_number and not node.is_unsigned:  # type: ignore[attr-defined]
                node = Literal(at, -node.value)  # type: ignore[attr-defined]
            else:
                node = Call(at, f"{word}_", None, (node,))
        is_int = isinstance(node, Literal) and type(node.value) is int and not node.is_unsigned
        if is_int and not -(2**63) <= node.value < 2**63:  # type: ignore[attr-defined]
            raise CelSyntaxError(node.at, "invalid int literal")
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
            kind, name, name_at = self.take()
            if kind != "name":
                raise CelSyntaxError(
                    name_at, f"mismatched input {name[:40]!r} expecting IDENTIFIER"
                )
            if word == ".?":
                node = Select(at, node, name, is_optional=True)
            elif self.accept("("):
                node = self.method(name_at, node, name, self.arguments(")"))
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

    def primary(self) -> Node:
        kind, word, at = self.take()
        match kind:
            case "int":
                is_unsigned = word[-1] in "uU"
                value = int(word.rstrip("uU"), 0 if word.startswith("0x") else 10)
                if is_unsigned and value >= 2**64:
                    raise CelSyntaxError(at, "invalid uint literal")
                return Literal(at, value, is_unsigned)
            case "float":
                return Literal(at, float(word))
            case "string":
                return Literal(at, _text(word, at))
            case "name":
                return self.named(word, at)
        if word == "(":
            node = self.expression()
            self.expect(")")
            return node
        if word == "[":
            return ListOf(at, self.arguments("]"))
        if word == "{":
            return self.map(at)
        if word == ".":  # a name of the root scope
            kind, word, at = self.take()
            if kind == "name":
                return self.named(word, at)
        raise CelSyntaxError(at, f"mismatched input {word[:40]!r} expecting an expression")

    def named(self, word: str, at: int) -> Node:
        if word in ("true", "false", "null"):
            return Literal(at, {"true": True, "false": False, "null": None}[word])
        if word in RESERVED:
            raise CelSyntaxError(at, f"reserved identifier: {word}")
        if self.accept("("):
            return self.function(at, word, self.arguments(")"))
        return Identifier(at, word)

    def map(self, at: int) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self.accept("}"):
            if entries:
                self.expect(",")
                if self.accept("}"):
                    break
            key = self.expression()
            self.expect(":")
            entries.append((key, self.expression()))
        return MapOf(at, tuple(entries))

    # --- macros

    def function(self, at: int, name: str, arguments: tuple[Node, ...]) -> Node:
        if name == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                raise CelSyntaxError(at, "invalid argument to has() macro")
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
            return Macro(at, "bind", arguments[1], (_variable(arguments[0]),), (arguments[2],))
        if name in ("optMap", "optFlatMap") and count == 2:
            return Macro(at, name, target, (_variable(arguments[0]),), (arguments[1],))
        if name in _COMPREHENSIONS and (count == 2 or (name == "map" and count == 3)):
            return Macro(at, name, target, (_variable(arguments[0]),), arguments[1:])
        if name in _TWO_VARIABLES and count in ((3, 4) if name.startswith("transform") else (3,)):
            names = (_variable(arguments[0]), _variable(arguments[1]))
            return Macro(at, name, target, names, arguments[2:])
        if isinstance(target, Identifier) and f"{target.name}.{name}" in QUALIFIED:
            return Call(at, f"{target.name}.{name}", None, arguments)
        return Call(at, name, target, arguments)


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
    ]
)
"""Functions whose names have a dot."""


def _variable(node: Node) -> str:
    if not isinstance(node, Identifier):
        raise CelSyntaxError(node.at, "argument must be a simple name")
    return node.name


def _text(word: str, at: int) -> str | bytes:
    start = re.match("[bBrR]*", word)
    assert start is not None
    prefix = start[0].lower()
    quoted = word[len(prefix) :]
    width = 3 if quoted[:3] in ('"""', "'''") and len(quoted) >= 6 else 1
    body = quoted[width:-width]
    if "r" not in prefix:
        body = _ESCAPE.sub(lambda match: _unescaped(match, at), body)
    return body.encode("utf-8", "surrogatepass") if "b" in prefix else body


def _unescaped(match: re.Match[str], at: int) -> str:
    code = match[1]
    if code[0] in "xXuU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > 0x10FFFF or 0xD800 <= number < 0xE000:
            raise CelSyntaxError(at, "invalid escape sequence")
        return chr(number)
    if code[0] in "0123" and len(code) == 3:
        return chr(int(code, 8))
    if code in _ESCAPES:
        return _ESCAPES[code]
    if code in "\\\"'`?":
        return code
    raise CelSyntaxError(at, f"invalid escape sequence \\{code}")
