"""Parses the tokens of a script to a tree. Rule SHELL-2 (spec/shell.md)."""

import re
from functools import lru_cache

from refk8s.adapters.fake.shell.syntax import (
    DEPTH_MAX,
    SCRIPT_CHARACTERS_MAX,
    Arithmetic,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Item,
    Loop,
    Pipeline,
    Reader,
    Redirection,
    Script,
    Simple,
    SyntaxProblem,
    Text,
    Token,
    Word,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_COMPUTED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*(?:(\+\+|--)|([-+*/%]?)=([^=].*))")
_RESERVED = frozenset(
    [
        "if",
        "then",
        "elif",
        "else",
        "fi",
        "while",
        "until",
        "do",
        "done",
        "for",
        "in",
        "case",
        "esac",
        "{",
        "}",
        "!",
    ]
)


@lru_cache(maxsize=256)
def parse(text: str) -> Script:
    """The tree of a script. Raises SyntaxProblem if it cannot be parsed."""
    if len(text) > SCRIPT_CHARACTERS_MAX:
        raise SyntaxProblem("the script is too long")
    try:
        parser = _Parser(Reader(text).tokens())
        script = parser.script(())
    except RecursionError:
        raise SyntaxProblem("the script is nested too deeply") from None
    if parser.at < len(parser.tokens):
        raise SyntaxProblem(f"syntax error: unexpected {parser.shown()}")
    return script


def _computed(text: str) -> Script:
    """An assignment of arithmetic, such as i=1, i+=2 or i++, as a command."""
    if not text:
        return ()
    match = _COMPUTED.fullmatch(text)
    if match is None:
        raise SyntaxProblem(f"syntax error: arithmetic: {text[:40]}")
    name, step, operator, value = match.groups()
    if step:
        operator, value = step[0], "1"
    return parse(f"{name}=$(({f'{name}{operator}({value})' if operator else value}))")


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def next(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def word(self) -> str:
        """The next word if it is reserved, else empty."""
        token = self.next()
        if (
            isinstance(token, tuple)
            and len(token) == 1
            and isinstance(token[0], Text)
            and not token[0].quoted
        ):
            return token[0].text if token[0].text in _RESERVED else ""
        return ""

    def shown(self) -> str:
        token = self.next()
        if token is None:
            return "end of file"
        name = self.word() or (token if isinstance(token, str) else "")
        return f'"{name}"'.replace("\n", "newline") if name else "word"

    def expect(self, what: str) -> None:
        if self.word() != what and self.next() != what:
            raise SyntaxProblem(
                f'syntax error: unexpected {self.shown()} (expecting "{what}")', self.next() is None
            )
        self.at += 1

    def skip_lines(self) -> None:
        while self.next() == "\n":
            self.at += 1

    def script(self, ends: tuple[str, ...]) -> Script:
        """Pipelines up to one of these words or operators."""
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise SyntaxProblem("the script is nested too deeply")
        items: list[Item] = []
        operator = ""
        while True:
            self.skip_lines()
            token = self.next()
            if token is None or (self.word() in ends and self.word()) or token in ends:
                if operator:
                    raise SyntaxProblem(f"syntax error: unexpected {self.shown()}", token is None)
                break
            pipeline = self.pipeline()
            following = self.next()
            items.append(Item(operator, pipeline, following == "&"))
            operator = ""
            if following in ("&&", "||"):
                operator = str(following)
            elif following not in (";", "&", "\n"):
                if following is None or following in ends or (self.word() in ends and self.word()):
                    break
                raise SyntaxProblem(f"syntax error: unexpected {self.shown()}")
            self.at += 1
        self.depth -= 1
        return tuple(items)

    def body(self, *ends: str) -> Script:
        """A list that is not empty."""
        script = self.script(ends)
        if not script:
            raise SyntaxProblem(f"syntax error: unexpected {self.shown()}", self.next() is None)
        return script

    def pipeline(self) -> Pipeline:
        negated = self.word() == "!"
        self.at += negated
        commands = [self.command()]
        while self.next() == "|":
            self.at += 1
            self.skip_lines()
            commands.append(self.command())
        return Pipeline(tuple(commands), negated)

    def command(self) -> Command:
        if self.tokens[self.at + 1 : self.at + 3] == ["(", ")"] and not self.word():
            return Command(self.function())
        what = self.compound()
        if what is None:
            return self.simple()
        redirections = []
        while (redirection := self.redirection()) is not None:
            redirections.append(redirection)
        return Command(what, tuple(redirections))

    def function(self) -> Function:
        name = self.plain("a name")
        if not _NAME.fullmatch(name):
            raise SyntaxProblem("syntax error: bad function name")
        self.at += 2
        self.skip_lines()
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise SyntaxProblem("the script is nested too deeply")
        body = self.command()
        self.depth -= 1
        return Function(name, body)

    def compound(self) -> If | Loop | For | Case | Group | None:
        if self.next() == "(":
            self.at += 1
            body = self.body(")")
            self.expect(")")
            return Group(body, True)
        match self.word():
            case "{":
                self.at += 1
                body = self.body("}")
                self.expect("}")
                return Group(body, False)
            case "if":
                return self.conditional()
            case "while" | "until" as kind:
                self.at += 1
                condition = self.body("do")
                return Loop(condition, self.do(), kind == "until")
            case "for":
                return self.each()
            case "case":
                return self.cases()
            case "" | "!":
                return None
        raise SyntaxProblem(f"syntax error: unexpected {self.shown()}")

    def do(self) -> Script:
        self.expect("do")
        body = self.body("done")
        self.expect("done")
        return body

    def conditional(self) -> If:
        branches: list[tuple[Script, Script]] = []
        otherwise: Script = ()
        while self.word() in ("if", "elif"):
            self.at += 1
            condition = self.body("then")
            self.expect("then")
            branches.append((condition, self.body("elif", "else", "fi")))
        if self.word() == "else":
            self.at += 1
            otherwise = self.body("fi")
        self.expect("fi")
        return If(tuple(branches), otherwise)

    def each(self) -> For | Group:
        self.at += 1
        token = self.next()
        if isinstance(token, tuple) and len(token) == 1 and isinstance(token[0], Arithmetic):
            self.at += 1
            return self.counting(token[0].text)
        name = self.plain("a name")
        words: list[Word] = []
        self.skip_lines()
        if self.word() == "in":
            self.at += 1
            while isinstance(token := self.next(), tuple) and not self.is_redirection(token):
                words.append(token)  # type: ignore[arg-type]
                self.at += 1
        if self.next() == ";":
            self.at += 1
        self.skip_lines()
        return For(name, tuple(words), self.do())

    def counting(self, text: str) -> Group:
        """for ((first; while; after)): a loop that computes."""
        parts = text.split(";")
        if len(parts) != 3:
            raise SyntaxProblem("syntax error: expected ((first; while; after))")
        first, condition, after = [part.strip() for part in parts]
        if self.next() == ";":
            self.at += 1
        self.skip_lines()
        test = parse(f'test "$(({condition or 1}))" -ne 0')
        loop = Command(Loop(test, self.do(), False, _computed(after)))
        return Group((*_computed(first), Item("", Pipeline((loop,)))), False)

    def cases(self) -> Case:
        self.at += 1
        word = self.next()
        if not isinstance(word, tuple) or self.is_redirection(word):
            raise SyntaxProblem(f"syntax error: unexpected {self.shown()}", word is None)
        self.at += 1
        self.skip_lines()
        self.expect("in")
        branches: list[tuple[tuple[Word, ...], Script]] = []
        self.skip_lines()
        while self.word() != "esac":
            if self.next() == "(":
                self.at += 1
            patterns: list[Word] = []
            while isinstance(token := self.next(), tuple):
                patterns.append(token)  # type: ignore[arg-type]
                self.at += 1
                if self.next() != "|":
                    break
                self.at += 1
            self.expect(")")
            branches.append((tuple(patterns), self.script((";;", "esac"))))
            if self.next() == ";;":
                self.at += 1
            self.skip_lines()
        self.expect("esac")
        return Case(word, tuple(branches))  # type: ignore[arg-type]

    def plain(self, what: str) -> str:
        token = self.next()
        if isinstance(token, tuple) and len(token) == 1 and isinstance(token[0], Text):
            self.at += 1
            return token[0].text
        raise SyntaxProblem(
            f"syntax error: unexpected {self.shown()} (expecting {what})", token is None
        )

    @staticmethod
    def is_redirection(token: Token) -> bool:
        return isinstance(token, tuple) and len(token) == 2 and isinstance(token[0], int)

    def redirection(self) -> Redirection | None:
        token = self.next()
        if not (isinstance(token, tuple) and len(token) == 2 and isinstance(token[0], int)):
            return None
        target = self.tokens[self.at + 1]
        self.at += 2
        return Redirection(token[0], str(token[1]), target)  # type: ignore[arg-type]

    def simple(self) -> Command:
        assignments: list[tuple[str, Word]] = []
        arrays: list[tuple[str, tuple[Word, ...]]] = []
        words: list[Word] = []
        redirections: list[Redirection] = []
        while True:
            redirection = self.redirection()
            if redirection is not None:
                redirections.append(redirection)
                continue
            token = self.next()
            if not isinstance(token, tuple):
                break
            word: Word = token  # type: ignore[assignment]
            first = word[0] if word else None
            match = (
                _ASSIGNMENT.match(first.text)
                if isinstance(first, Text) and not first.quoted
                else None
            )
            if match is not None and not words and isinstance(first, Text):
                rest = first.text[match.end() :]
                if not rest and not word[1:] and self.tokens[self.at + 1 : self.at + 2] == ["("]:
                    arrays.append((match[1], self.array()))
                    continue
                assignments.append((match[1], (Text(rest), *word[1:]) if rest else word[1:]))
            else:
                words.append(word)
            self.at += 1
        if not (assignments or arrays or words or redirections):
            raise SyntaxProblem(f"syntax error: unexpected {self.shown()}", self.next() is None)
        simple = Simple(tuple(assignments), tuple(words), tuple(arrays))
        return Command(simple, tuple(redirections))

    def array(self) -> tuple[Word, ...]:
        """The elements of NAME=( ... )."""
        elements: list[Word] = []
        self.at += 2
        while isinstance(token := self.next(), tuple) or token == "\n":
            if isinstance(token, tuple):
                elements.append(token)  # type: ignore[arg-type]
            self.at += 1
        self.expect(")")
        return tuple(elements)
