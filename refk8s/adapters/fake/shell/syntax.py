"""The syntax of the simulated shell: tokens and trees. Rule SHELL-2 (spec/shell.md).

    list      pipeline { (&& | || | ; | & | newline) pipeline }
    pipeline  [!] command { | command }
    command   words and redirections | if | while | until | for | case | { list } | ( list )
              | name ( ) command

Left out: here-documents, arrays and the rest of bash; anything else raises
`SyntaxProblem`. Source: POSIX.1-2017, "Shell Command Language".
"""

import re
from typing import TypeAlias

from refk8s.core.value import Value

SCRIPT_CHARACTERS_MAX = 1 << 16
DEPTH_MAX = 24


class SyntaxProblem(Exception):
    """A script cannot be parsed. `incomplete`: more lines could complete it."""

    def __init__(self, words: str, incomplete: bool = False) -> None:
        super().__init__(words)
        self.incomplete = incomplete


# --- words ----------------------------------------------------------------------------------------


class Text(Value, frozen=True):
    text: str
    quoted: bool = False


class Variable(Value, frozen=True):
    """$NAME, or ${NAME operator word}: operators are :- - := = :+ + # ## % %% and "length".
    `index`: of an element of an array, in arithmetic; @ for all elements."""

    name: str
    quoted: bool
    operator: str = ""
    word: "Word" = ()
    index: str = ""


class Substitution(Value, frozen=True):
    """$(script)"""

    script: str
    quoted: bool


class Arithmetic(Value, frozen=True):
    """$((expression))"""

    text: str
    quoted: bool


Part: TypeAlias = Text | Variable | Substitution | Arithmetic
Word: TypeAlias = tuple[Part, ...]


# --- commands -------------------------------------------------------------------------------------


class Redirection(Value, frozen=True):
    """`operator` is > >> < or >& (the target is another descriptor)."""

    descriptor: int
    operator: str
    target: Word


class Simple(Value, frozen=True):
    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    arrays: tuple[tuple[str, tuple[Word, ...]], ...] = ()


class Pipeline(Value, frozen=True):
    commands: tuple["Command", ...]
    negated: bool = False


class Item(Value, frozen=True):
    """A pipeline and the operator before it ("", "&&" or "||"); `background`: an & follows."""

    operator: str
    pipeline: Pipeline
    background: bool = False


Script: TypeAlias = tuple[Item, ...]


class If(Value, frozen=True):
    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script


class Loop(Value, frozen=True):
    condition: Script
    body: Script
    until: bool


class For(Value, frozen=True):
    name: str
    words: tuple[Word, ...]
    body: Script


class Case(Value, frozen=True):
    word: Word
    branches: tuple[tuple[tuple[Word, ...], Script], ...]


class Group(Value, frozen=True):
    body: Script
    subshell: bool


class Function(Value, frozen=True):
    """name () body"""

    name: str
    body: "Command"


class Command(Value, frozen=True):
    what: Simple | If | Loop | For | Case | Group | Function
    redirections: tuple[Redirection, ...] = ()


# --- from text to tokens --------------------------------------------------------------------------

_OPERATOR = re.compile(r"&&|\|\||;;|[;|&()\n]")
_REDIRECTION = re.compile(r"(\d?)(>>|>&|<&|>\||>|<|&>)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ENDS_WORD = frozenset(" \t\n;|&()<>")
_BRACED = re.compile(
    r"(#?)([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#@*$!-])(?:\[([^\]]+)\])?(:?[-=+?]|##?|%%?)?"
)

Token: TypeAlias = str | tuple[int, str] | Word
"""An operator, a redirection (descriptor, operator), or a word."""


class Reader:
    """Reads the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def tokens(self) -> list[Token]:
        found: list[Token] = []
        text = self.text
        while self.at < len(text):
            character = text[self.at]
            if character in " \t":
                self.at += 1
            elif text.startswith("\\\n", self.at):
                self.at += 2
            elif character == "#":
                end = text.find("\n", self.at)
                self.at = len(text) if end < 0 else end
            elif text.startswith("<<", self.at):
                raise SyntaxProblem("here-documents are not understood")
            elif (match := _REDIRECTION.match(text, self.at)) is not None:
                found += self._redirection(match)
            elif (match := _OPERATOR.match(text, self.at)) is not None:
                found.append(match[0])
                self.at = match.end()
            else:
                found.append(self._word())
        return found

    def _redirection(self, match: re.Match[str]) -> list[Token]:
        self.at = match.end()
        operator = match[2]
        if operator == "&>":
            return [(1, ">"), self._target(), (2, ">&"), (Text("1"),)]
        descriptor = int(match[1]) if match[1] else 0 if operator[0] == "<" else 1
        return [(descriptor, {">|": ">", "<&": ">&"}.get(operator, operator)), self._target()]

    def _target(self) -> Word:
        while self.text[self.at : self.at + 1] in (" ", "\t"):
            self.at += 1
        word = self._word() if self.at < len(self.text) else ()
        if not word:
            raise SyntaxProblem("syntax error: unexpected end of a redirection")
        return word

    def _word(self) -> Word:
        parts: list[Part] = []
        plain = ""
        text = self.text

        def keep() -> None:
            nonlocal plain
            if plain:
                parts.append(Text(plain))
                plain = ""

        while self.at < len(text) and text[self.at] not in _ENDS_WORD:
            character = text[self.at]
            if character == "\\":
                keep()
                if text[self.at + 1 : self.at + 2] != "\n":
                    parts.append(Text(text[self.at + 1 : self.at + 2], True))
                self.at += 2
            elif character == "'":
                keep()
                parts.append(Text(self._until("'"), True))
            elif character == '"':
                keep()
                self.at += 1
                parts += self._quoted()
            elif character in "$`":
                part = self._dollar(False)
                if isinstance(part, str):
                    plain += part
                else:
                    keep()
                    parts.append(part)
            else:
                plain += character
                self.at += 1
        keep()
        return tuple(parts)

    def _until(self, quote: str) -> str:
        end = self.text.find(quote, self.at + 1)
        if end < 0:
            raise SyntaxProblem("syntax error: unterminated quoted string", True)
        found = self.text[self.at + 1 : end]
        self.at = end + 1
        return found

    def _quoted(self) -> list[Part]:
        """The parts up to the closing double quote."""
        parts: list[Part] = [Text("", True)]
        text = self.text
        plain = ""
        while True:
            if self.at >= len(text):
                raise SyntaxProblem("syntax error: unterminated quoted string", True)
            character = text[self.at]
            if character == '"':
                self.at += 1
                return [*parts, Text(plain, True)] if plain else parts
            if character == "\\" and text[self.at + 1 : self.at + 2] in ("$", "`", '"', "\\", "\n"):
                plain += text[self.at + 1].replace("\n", "")
                self.at += 2
            elif character in "$`":
                part = self._dollar(True)
                if isinstance(part, str):
                    plain += part
                else:
                    parts += [Text(plain, True), part] if plain else [part]
                    plain = ""
            else:
                plain += character
                self.at += 1

    def _dollar(self, quoted: bool) -> Part | str:
        text, at = self.text, self.at
        if text[at] == "`":
            return Substitution(self._until("`"), quoted)
        following = text[at + 1 : at + 2]
        if text.startswith("$((", at):
            end = text.find("))", at)
            if end < 0:
                raise SyntaxProblem("syntax error: missing '))'", True)
            self.at = end + 2
            return Arithmetic(text[at + 3 : end], quoted)
        if following == "(":
            self.at = self._closing(at + 2, "(", ")")
            return Substitution(text[at + 2 : self.at - 1], quoted)
        if following == "{":
            return self._braced(quoted)
        match = _NAME.match(text, at + 1)
        if match is not None:
            self.at = match.end()
            return Variable(match[0], quoted)
        if following and following in "0123456789?#@*$!-":
            self.at += 2
            return Variable(following, quoted)
        self.at += 1
        return "$"

    def _braced(self, quoted: bool) -> Part:
        end = self._closing(self.at + 2, "{", "}")
        inside = self.text[self.at + 2 : end - 1]
        self.at = end
        match = _BRACED.match(inside)
        if (
            match is None
            or (match[1] and match.end() != len(inside))
            or (not match[4] and match.end() != len(inside))
        ):
            raise SyntaxProblem("syntax error: bad substitution")
        index = match[3] or ""
        if match[1]:
            return Variable(match[2], quoted, "length", index=index)
        rest = inside[match.end() :]
        word = Reader('"' + rest.replace('"', '\\"') + '"')._word() if rest else ()
        return Variable(match[2], quoted, match[4] or "", word, index)

    def _closing(self, at: int, opens: str, closes: str) -> int:
        """The position after the closing text; quoted text is skipped."""
        depth, text = 1, self.text
        while at < len(text):
            character = text[at]
            if character == "\\":
                at += 1
            elif character in "'\"":
                end = text.find(character, at + 1)
                if end < 0:
                    break
                at = end
            elif character == opens:
                depth += 1
            elif character == closes:
                depth -= 1
                if not depth:
                    return at + 1
            at += 1
        raise SyntaxProblem(f"syntax error: unexpected end of file (expecting '{closes}')", True)
