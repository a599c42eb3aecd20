"""The syntax of the simulated shell: tokens and trees. Rule SHELL-2 (spec/shell.md).

    list      pipeline { (&& | || | ; | & | newline) pipeline }
    pipeline  [!] command { | command }
    command   words and redirections | if | while | until | for | case | { list } | ( list )
              | name ( ) command

Of bash there are `[[ ]]`, arrays, `for ((a; b; c))` and `<<< word`. Left out: the rest
of bash; anything else raises `SyntaxProblem`. Source: POSIX.1-2017, "Shell Command
Language"; the manual of bash.
"""

import re
from typing import TypeAlias

from msgspec import structs

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
    """`operator` is > >> < >& (the target is another descriptor), << (the target is the text of the
    here-document) or <<<."""

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
    """`after` is run after each time that the body was, also if it ended with `continue`."""

    condition: Script
    body: Script
    until: bool
    after: Script = ()


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
_SPACES = frozenset(" \t\n")
_BRACED = re.compile(
    r"(#?)([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[?#@*$!-])(?:\[([^\]]+)\])?(:?[-=+?]|##?|%%?)?"
)
_BEFORE_COMMAND = frozenset(["if", "elif", "while", "until", "then", "do", "else", "!", "{"])

Token: TypeAlias = str | tuple[int, str] | Word
"""An operator, a redirection (descriptor, operator), or a word."""


def quoted(part: Part) -> Part:
    """The part as if it were between double quotes."""
    return structs.replace(part, quoted=True)


def is_plain(token: Token | None, text: str) -> bool:
    """Whether the token is this text, without quotes."""
    return token == (Text(text),)


class Reader:
    """Reads the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        # (the place among the tokens, the last line, whether tabs are removed, whether as it is)
        self.documents: list[tuple[int, str, bool, bool]] = []

    def tokens(self) -> list[Token]:
        """All tokens of the text. Raises SyntaxProblem."""
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
                found.append(self._document(len(found) + 1))
                found.append(() if found[-1] == (0, "<<") else self._target())
            elif text.startswith("((", self.at) and found and is_plain(found[-1], "for"):
                found.append(self._arithmetic(self.at + 2, False))
            elif (match := _REDIRECTION.match(text, self.at)) is not None:
                found += self._redirection(match)
            elif (match := _OPERATOR.match(text, self.at)) is not None:
                found.append(match[0])
                self.at = match.end()
                if match[0] == "\n" and self.documents:
                    self._documents(found)
            else:
                found.append(self._word())
                if is_plain(found[-1], "[[") and self._is_command(found):
                    found += self._condition()
        if self.documents:
            raise SyntaxProblem("syntax error: unexpected end of a here-document", True)
        return found

    @staticmethod
    def _is_command(found: list[Token]) -> bool:
        """Whether the last token is the first word of a command."""
        before = found[-2] if len(found) > 1 else "\n"
        return isinstance(before, str) or any(is_plain(before, word) for word in _BEFORE_COMMAND)

    def _condition(self) -> list[Token]:
        """The words between [[ and ]]. None is split, and && and || are -a and -o."""
        found: list[Token] = []
        while True:
            while self.text[self.at : self.at + 1].isspace():
                self.at += 1
            if self.at >= len(self.text):
                raise SyntaxProblem('syntax error: unexpected end of file (expecting "]]")', True)
            after = self.text[self.at + 2 : self.at + 3]
            if self.text.startswith("]]", self.at) and (not after or after in _ENDS_WORD):
                self.at += 2
                return [*found, (Text("]]"),)]
            word = self._word(_SPACES)
            joint = "-a" if is_plain(word, "&&") else "-o" if is_plain(word, "||") else ""
            found.append((Text(joint),) if joint else tuple([quoted(part) for part in word]))

    def _document(self, place: int) -> Token:
        """The operator of a here-document, whose text begins with the next line, or <<<."""
        if self.text.startswith("<<<", self.at):
            self.at += 3
            return (0, "<<<")
        self.at += 2
        strips = self.text[self.at : self.at + 1] == "-"
        self.at += strips
        word = self._target()
        last = "".join([part.text for part in word if isinstance(part, Text)])
        as_it_is = any(part.quoted for part in word)
        self.documents.append((place, last, strips, as_it_is))
        return (0, "<<")

    def _documents(self, found: list[Token]) -> None:
        """Read the texts of the here-documents of the line before."""
        for place, last, strips, as_it_is in self.documents:
            lines: list[str] = []
            while True:
                if self.at >= len(self.text):
                    raise SyntaxProblem(
                        f'syntax error: unexpected end of file (expecting "{last}")', True
                    )
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                line = self.text[self.at : end]
                self.at = end + 1
                line = line.lstrip("\t") if strips else line
                if line == last:
                    break
                lines.append(line + "\n")
            text = "".join(lines)
            found[place] = (Text(text, True),) if as_it_is else tuple(Reader(text)._quoted(""))
        self.documents = []
        self.at = min(self.at, len(self.text))

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

    def _word(self, ends: frozenset[str] = _ENDS_WORD) -> Word:
        parts: list[Part] = []
        plain = ""
        text = self.text

        def keep() -> None:
            nonlocal plain
            if plain:
                parts.append(Text(plain))
                plain = ""

        while self.at < len(text) and text[self.at] not in ends:
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

    def _quoted(self, end: str = '"') -> list[Part]:
        """The parts up to the closing double quote, or to the end of a here-document."""
        parts: list[Part] = [Text("", True)]
        text = self.text
        plain = ""
        while True:
            if self.at >= len(text) and end:
                raise SyntaxProblem("syntax error: unterminated quoted string", True)
            character = text[self.at : self.at + 1]
            if character == end:
                self.at += 1
                return [*parts, Text(plain, True)] if plain else parts
            if character == "\\" and text[self.at + 1 : self.at + 2] in ("$", "`", end, "\\", "\n"):
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
            return self._arithmetic(at + 3, quoted)[0]
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

    def _arithmetic(self, begin: int, quoted: bool) -> tuple[Arithmetic]:
        """The expression up to the )) that is outside its own parentheses."""
        depth = 0
        for at in range(begin, len(self.text) - 1):
            depth += {"(": 1, ")": -1}.get(self.text[at], 0)
            if depth < 0 and self.text[at + 1] == ")":
                self.at = at + 2
                return (Arithmetic(self.text[begin:at], quoted),)
        raise SyntaxProblem("syntax error: missing '))'", True)

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
