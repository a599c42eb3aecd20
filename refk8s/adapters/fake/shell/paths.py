"""Programs about files and directories: ls, mkdir, rm, cp, mv and others. Rule SHELL-5.

Options and messages as BusyBox has them.
"""

import re
from collections.abc import Callable
from posixpath import basename, join, normpath

from refk8s.adapters.fake.files import FileProblem
from refk8s.adapters.fake.shell.interpreter import Builtin, Shell
from refk8s.adapters.fake.shell.system_calls import STDERR, STDOUT, Program, Write


def to_stdout(text: str) -> Write:
    return Write(STDOUT, text.encode())


def failed(words: str) -> Write:
    return Write(STDERR, words.encode() + b"\n")


def _each(work: Callable[[Shell, str, str], None], name: str) -> Builtin:
    """A program that handles each of its paths; its options are letters."""

    def run(shell: Shell, arguments: list[str]) -> Program:
        options = "".join(
            [
                argument[1:]
                for argument in arguments
                if argument.startswith("-") and len(argument) > 1
            ]
        )
        code = 0
        for argument in arguments:
            if argument.startswith("-") and len(argument) > 1:
                continue
            try:
                work(shell, shell.path(argument), options)
            except FileProblem as problem:
                what = (
                    "create directory"
                    if name == "mkdir"
                    else "remove"
                    if name.startswith("rm")
                    else name
                )
                yield failed(f"{name}: can't {what} '{argument}': {problem.words}")
                code = 1
        return code

    return run


def _mkdir(shell: Shell, path: str, options: str) -> None:
    if "p" in options:
        shell.files.make_directories(path)
    else:
        shell.files.make_directory(path)


def _rm(shell: Shell, path: str, options: str) -> None:
    kind = shell.files.kind(path)
    if not kind and "f" in options:
        return
    if kind == "directory" and not set("rR") & set(options):
        raise FileProblem("Is a directory")
    shell.files.remove(path)


def _rmdir(shell: Shell, path: str, options: str) -> None:
    if shell.files.list(path):
        raise FileProblem("Directory not empty")
    shell.files.remove(path)


def _touch(shell: Shell, path: str, options: str) -> None:
    if shell.files.kind(path) != "directory":
        shell.files.write(path, b"", append=True)


def _chmod(shell: Shell, arguments: list[str]) -> Program:
    paths = [argument for argument in arguments if not argument.startswith("-")]
    for path in paths[1:]:
        before = shell.files.mode(shell.path(path))
        mode = (
            int(paths[0], 8)
            if re.fullmatch(r"[0-7]{3,4}", paths[0])
            else before | (0o111 * ("x" in paths[0]))
        )
        shell.files.set_mode(shell.path(path), mode)
    return 0
    yield


def _copy(moves: bool) -> Builtin:
    def run(shell: Shell, arguments: list[str]) -> Program:
        paths = [shell.path(argument) for argument in arguments if not argument.startswith("-")]
        if len(paths) < 2:
            yield failed(f"{'mv' if moves else 'cp'}: missing file operand")
            return 1
        *sources, target = paths
        for source in sources:
            into = (
                join(target, basename(source))
                if shell.files.kind(target) == "directory"
                else target
            )
            _copy_one(shell, source, into)
            if moves:
                shell.files.remove(source)
        return 0

    return run


def _copy_one(shell: Shell, source: str, target: str) -> None:
    if shell.files.kind(source) != "directory":
        shell.files.write(target, shell.files.read(source), mode=shell.files.mode(source))
        return
    if normpath(target).startswith(normpath(source) + "/"):
        raise FileProblem("cannot copy a directory into itself")
    shell.files.make_directories(target)
    for name in shell.files.list(source):
        _copy_one(shell, join(source, name), join(target, name))


def _ls(shell: Shell, arguments: list[str]) -> Program:
    options = "".join([argument[1:] for argument in arguments if argument.startswith("-")])
    paths = [argument for argument in arguments if not argument.startswith("-")] or ["."]
    code, blocks = 0, []
    for path in paths:
        kind = shell.files.kind(shell.path(path))
        if not kind:
            yield failed(f"ls: {path}: No such file or directory")
            code = 1
            continue
        if kind == "file" or "d" in options:
            blocks.append(_shown(shell, shell.path(path), path, options))
            continue
        names = shell.files.list(shell.path(path))
        if normpath(shell.path(path)) in ("/bin", "/usr/bin"):
            names = sorted({*names, *shell.programs})
        names = [
            name for name in names if "a" in options or "A" in options or not name.startswith(".")
        ]
        lines = "".join(
            [_shown(shell, join(shell.path(path), name), name, options) for name in names]
        )
        blocks.append((f"{path}:\n" if len(paths) > 1 else "") + lines)
    yield to_stdout("\n".join(blocks))
    return code


def _shown(shell: Shell, path: str, name: str, options: str) -> str:
    if "l" not in options:
        return name + "\n"
    kind = shell.files.kind(path)
    size = len(shell.files.read(path)) if kind == "file" else 4096
    mode = shell.files.mode(path)
    letters = "".join(
        [letter if mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx")]
    )
    return (
        f"{'d' if kind == 'directory' else '-'}{letters} 1 root root {size:>8} Jan  1 "
        f"00:00 {name}\n"
    )


def _stat(shell: Shell, path: str, options: str) -> None:
    if not shell.files.kind(path):
        raise FileProblem("No such file or directory")


PATHS: dict[str, Builtin] = {
    "mkdir": _each(_mkdir, "mkdir"), "rm": _each(_rm, "rm"), "rmdir": _each(_rmdir, "rmdir"), "touch": _each(_touch, "touch"),
    "stat": _each(_stat, "stat"), "chmod": _chmod, "cp": _copy(False), "mv": _copy(True), "ls": _ls,
}  # fmt: skip
