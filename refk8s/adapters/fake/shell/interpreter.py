"""The simulated shell: runs the tree of a script as a program. Rules SHELL-1, SHELL-2, SHELL-3
(spec/shell.md).

A pipeline runs one command after the other; the output of each is kept for the next. Source:
POSIX.1-2017, "Shell Command Language".
"""

import fnmatch
from collections.abc import Callable, Generator, Mapping
from posixpath import basename, dirname, join
from typing import Any

from refk8s.adapters.fake.files import NO_FILE, FileProblem, Files
from refk8s.adapters.fake.shell.expansion import (
    VALUE_CHARACTERS_MAX,
    assign_array,
    expand,
    expand_one,
)
from refk8s.adapters.fake.shell.parser import parse
from refk8s.adapters.fake.shell.running import (
    Exit,
    Leave,
    Return,
    Stdin,
    Steps,
    caught,
    is_endless,
    routed,
)
from refk8s.adapters.fake.shell.syntax import (
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Loop,
    Pipeline,
    Redirection,
    Script,
    Simple,
    Substitution,
    SyntaxProblem,
    Word,
)
from refk8s.adapters.fake.shell.system_calls import (
    STDERR,
    STDOUT,
    Forever,
    Program,
    SystemCall,
    Tick,
    Write,
)

CALLS_MAX = 16
BIN = ("/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin")

Builtin = Callable[["Shell", list[str]], Program]


class Shell:
    """A shell, or a program by itself: its variables, directory, files and stdin."""

    def __init__(
        self,
        files: Files,
        env: Mapping[str, str],
        hostname: str,
        programs: Mapping[str, Builtin],
        unknown: Builtin,
        cwd: str = "/",
    ) -> None:
        self.files = files
        self.variables = dict(env)
        self.exported = set(env)
        self.hostname = hostname
        self.programs = programs
        self.unknown = unknown
        self.cwd = cwd
        self.stdin = Stdin()
        self.status = 0
        self.functions: dict[str, Command] = {}
        self.traps: dict[str, str] = {}  # by the name of the signal, without SIG
        self.randoms = 0  # how often $RANDOM was read
        self.running: Shell | None = None  # the shell that `sh` runs
        self.arguments: list[str] = ["sh"]
        self.stops_on_error = False
        self.calls = 0
        self.terminal = False  # input comes from a terminal: show a prompt
        self.user = "0"  # "uid" or "uid:gid"
        self._tested = 0  # inside a condition: a failure means false

    @property
    def env(self) -> dict[str, str]:
        return {
            name: self.variables[name] for name in sorted(self.exported) if name in self.variables
        }

    def path(self, name: str) -> str:
        """The absolute path, relative to the shell's directory."""
        return join(self.cwd, name)

    def find(self, name: str) -> Builtin | None:
        """The program of this name or path; an existing file is a script."""
        folder = dirname(name)
        if not folder or folder in BIN:
            found = self.programs.get(basename(name))
            if found is not None or not folder:
                return found
        if self.files.kind(self.path(name)) == "file":
            return lambda shell, arguments: shell.run_file(name, arguments)
        return None

    # --- scripts ----------------------------------------------------------------------------------

    def run_file(self, name: str, arguments: list[str]) -> Program:
        """Run the script in a file in a new shell."""
        try:
            text = self.files.read(self.path(name)).decode("utf-8", "replace")
        except FileProblem as problem:
            yield Write(STDERR, f"sh: can't open '{name}': {problem.words}\n".encode())
            return 2
        return (yield from self.child().run_text(text, [name, *arguments]))

    def child(self) -> "Shell":
        """A new shell with the variables and the directory of this one."""
        if self.calls >= CALLS_MAX:
            raise SyntaxProblem("too many shells inside each other")
        made = Shell(
            self.files, self.variables, self.hostname, self.programs, self.unknown, self.cwd
        )
        made.exported = set(self.exported)
        made.functions = dict(self.functions)
        made.stdin = self.stdin
        made.arguments = self.arguments
        made.status = self.status
        made.stops_on_error = self.stops_on_error
        made.calls = self.calls + 1
        made.terminal = self.terminal
        made.user = self.user
        return made

    def run_text(self, text: str, arguments: list[str] | None = None) -> Program:
        """Run a script to its end; returns its exit code."""
        if arguments is not None:
            self.arguments = arguments
        try:
            yield from self.run(parse(text))
        except SyntaxProblem as problem:
            yield Write(STDERR, f"sh: {problem}\n".encode())
            return 2
        except Exit as end:
            return end.code
        except Leave:
            return self.status
        except RecursionError:
            yield Write(STDERR, b"sh: the script is nested too deeply\n")
            return 2
        return self.status

    def run_words(self, words: list[str]) -> Program:
        """Run one command by its words, without a shell."""
        program = self.find(words[0])
        try:
            yield Tick()
            return (
                yield from (program or self.unknown)(self, words if program is None else words[1:])
            )
        except Exit as end:
            return end.code
        except (FileProblem, SyntaxProblem) as problem:
            yield Write(STDERR, f"{basename(words[0])}: {problem}\n".encode())
            return 1

    def run(self, script: Script) -> Steps:
        """Run pipelines in order. One before an & runs to its end, too."""
        for number, item in enumerate(script):
            if (item.operator == "&&" and self.status != 0) or (
                item.operator == "||" and self.status == 0
            ):
                continue
            is_last = number + 1 == len(script) or not script[number + 1].operator
            is_answer = not is_last or item.pipeline.negated
            self._tested += is_answer
            try:
                yield from self._pipeline(item.pipeline)
            finally:
                self._tested -= is_answer
            if item.background:
                self.status = 0
            elif self.status and self.stops_on_error and not self._tested and is_last:
                raise Exit(self.status)

    def _pipeline(self, pipeline: Pipeline) -> Steps:
        *firsts, last = pipeline.commands
        outer = self.stdin
        try:
            for command in firsts:
                output = bytearray()
                runs = self.child()
                self.status = yield from caught(
                    routed(runs.alone(command), {STDOUT: output.extend}, True), output.__len__
                )
                self.stdin = Stdin(bytes(output), True)
            if firsts:
                self.status = yield from caught(self.child().alone(last))
            else:
                yield from self._command(last)
        finally:
            self.stdin = outer
        if pipeline.negated:
            self.status = int(self.status == 0)

    def alone(self, command: Command) -> Program:
        """Run a command in this shell, which is used for nothing else."""
        try:
            yield from self._command(command)
        except Exit as end:
            return end.code
        return self.status

    def _command(self, command: Command) -> Steps:
        if not command.redirections:
            yield from self._what(command)
            return
        outer = self.stdin
        try:
            routes = yield from self._routes(command.redirections)
            yield from routed(self._what(command), routes)
        except FileProblem as problem:
            yield Write(STDERR, f"sh: {problem.words}\n".encode())
            self.status = 1
        finally:
            self.stdin = outer

    def _routes(
        self, redirections: tuple[Redirection, ...]
    ) -> Generator[SystemCall, Any, dict[int, Any]]:
        """The target of each descriptor: another descriptor, or a function of the bytes."""
        routes: dict[int, Any] = {}
        for redirection in redirections:
            target = yield from expand_one(self, redirection.target)
            if redirection.operator == ">&":
                if target not in ("1", "2", "-"):
                    raise FileProblem(f"{target}: Bad file descriptor")
                routes[redirection.descriptor] = (
                    (lambda data: None) if target == "-" else routes.get(int(target), int(target))
                )
                continue
            if redirection.operator in ("<<", "<<<"):
                end = "\n" if redirection.operator == "<<<" else ""
                self.stdin = Stdin((target + end).encode(), True)
                continue
            path = self.path(target)
            try:
                if redirection.operator == "<":
                    self.stdin = Stdin(self.files.read(path), True)
                    continue
                self.files.write(path, b"", append=redirection.operator == ">>")
            except FileProblem as problem:
                is_input = redirection.operator == "<"
                words = (
                    problem.words
                    if is_input or problem.words != NO_FILE
                    else "nonexistent directory"
                )
                raise FileProblem(
                    f"can't {'open' if is_input else 'create'} {target}: {words}"
                ) from None
            routes[redirection.descriptor] = lambda data, path=path: self.files.write(
                path, data, append=True
            )
        return routes

    def _what(self, command: Command) -> Steps:
        match command.what:
            case Simple(assignments, words, arrays):
                for name, elements in arrays:
                    assign_array(self, name, (yield from expand(self, elements)))
                yield from self._simple(assignments, words)
            case Group(body, subshell):
                if subshell:
                    shell = self.child()
                    try:
                        yield from shell.run(body)
                        self.status = shell.status
                    except Exit as end:
                        self.status = end.code
                else:
                    yield from self.run(body)
            case If(branches, otherwise):
                yield from self._if(branches, otherwise)
            case Function(name, definition):
                self.functions[name] = definition
                self.status = 0
            case Loop(condition, body, until, after):
                yield from self._loop(condition, body, until, after)
            case For(name, words, body):
                values = yield from expand(self, words)
                self.status = 0
                for value in values:
                    self.variables[name] = value
                    if not (yield from self._body(body)):
                        break
            case Case(word, branches):
                value = yield from expand_one(self, word)
                self.status = 0
                for patterns, body in branches:
                    for pattern in patterns:
                        if fnmatch.fnmatchcase(value, (yield from expand_one(self, pattern))):
                            yield from self.run(body)
                            return

    def _call(self, body: Command) -> Builtin:
        """A function as a program: it runs in this shell, with arguments of its own."""

        def run(shell: "Shell", arguments: list[str]) -> Program:
            if shell.calls >= CALLS_MAX:
                raise SyntaxProblem("too many functions inside each other")
            outer = shell.arguments
            shell.arguments = [outer[0], *arguments]
            shell.calls += 1
            try:
                yield from shell._command(body)
            except Return as end:
                return end.code
            finally:
                shell.arguments = outer
                shell.calls -= 1
            return shell.status

        return run

    def run_trap(self, signal: str) -> Program:
        """Do what the script keeps for a signal. Returns -1 if the shell goes on afterwards."""
        try:
            yield from self.run(parse(self.traps[signal]))
        except Exit as end:
            return end.code
        except (FileProblem, Leave, SyntaxProblem):
            return -1
        return -1

    def _test(self, condition: Script) -> Steps:
        self._tested += 1
        try:
            yield from self.run(condition)
        finally:
            self._tested -= 1
        return self.status == 0

    def _if(self, branches: tuple[tuple[Script, Script], ...], otherwise: Script) -> Steps:
        for condition, body in branches:
            if (yield from self._test(condition)):
                yield from self.run(body)
                return
        self.status = 0
        yield from self.run(otherwise)

    def _loop(self, condition: Script, body: Script, until: bool, after: Script) -> Steps:
        if not self.stops_on_error and is_endless(condition, body, until):
            yield Forever()
        status = 0
        while True:
            yield Tick()
            if (yield from self._test(condition)) == until:
                break
            going_on = yield from self._body(body)
            status = self.status
            if not going_on:
                break
            yield from self.run(after)
        self.status = status

    def _body(self, body: Script) -> Steps:
        """Run the loop once; returns whether it continues."""
        try:
            yield from self.run(body)
        except Leave as leave:
            if leave.levels > 1:
                raise Leave(leave.levels - 1, leave.again) from None
            return leave.again
        return True

    def _simple(self, assignments: tuple[tuple[str, Word], ...], words: tuple[Word, ...]) -> Steps:
        yield Tick()
        fields = yield from expand(self, words)
        values = []
        for name, word in assignments:
            values.append((name, (yield from expand_one(self, word))[:VALUE_CHARACTERS_MAX]))
        if not fields:
            self.variables.update(values)
            self.status = (
                self.status
                if any(isinstance(part, Substitution) for _, word in assignments for part in word)
                else 0
            )
            return
        called = self.functions.get(fields[0])
        program = self._call(called) if called is not None else self.find(fields[0])
        before = {name: self.variables.get(name) for name, _ in values}
        newly = {name for name, _ in values if name not in self.exported}
        self.variables.update(values)
        self.exported |= newly
        try:
            if program is None:
                self.status = yield from self.unknown(self, fields)
            else:
                self.status = yield from program(self, fields[1:])
        except FileProblem as problem:
            yield Write(STDERR, f"{basename(fields[0])}: {problem.words}\n".encode())
            self.status = 1
        finally:
            self.exported -= newly
            for name, value in before.items():
                if value is None:
                    self.variables.pop(name, None)
                else:
                    self.variables[name] = value
