"""tar, as far as `kubectl cp` needs it: to stdout and from stdin. Rule SHELL-5.

An archive comes from a client. Only its files and directories are unpacked, and only below the
named directory.
"""

import io
import tarfile
from posixpath import join, normpath

from refk8s.adapters.fake.files import FILE_BYTES_MAX, FileProblem
from refk8s.adapters.fake.shell.interpreter import Shell
from refk8s.adapters.fake.shell.system_calls import STDERR, STDOUT, Program, Write

ENTRIES_MAX = 10_000


def tar(shell: Shell, arguments: list[str]) -> Program:
    """tar -c or -x, with -f - (or a file) and -C directory; other options are ignored."""
    letters, paths, folder, archive = "", [], ".", "-"
    rest = list(arguments)
    if rest and not rest[0].startswith("-"):
        rest[0] = "-" + rest[0]
    while rest:
        word = rest.pop(0)
        if word in ("-C", "--directory") and rest:
            folder = rest.pop(0)
        elif word.startswith("--"):
            continue
        elif word.startswith("-") and word != "-":
            letters += word[1:]
            if word.endswith("f") and rest:
                archive = rest.pop(0)
        else:
            paths.append(word)
    base = shell.path(folder)
    if shell.files.kind(base) != "directory":
        yield Write(
            STDERR,
            f"tar: can't change directory to '{folder}': No such file or directory\n".encode(),
        )
        return 1
    if "c" in letters:
        data, problem = _pack(shell, base, paths)
        if archive == "-":
            yield Write(STDOUT, data)
        else:
            shell.files.write(shell.path(archive), data)
    else:
        data = (
            (yield from shell.stdin.all())
            if archive == "-"
            else shell.files.read(shell.path(archive))
        )
        problem = _unpack(shell, base, data)
    if problem:
        yield Write(STDERR, f"tar: {problem}\n".encode())
    return int(bool(problem))


def _pack(shell: Shell, base: str, paths: list[str]) -> tuple[bytes, str]:
    into = io.BytesIO()
    problem = ""
    with tarfile.open(fileobj=into, mode="w") as archive:

        def add(path: str, name: str) -> None:
            info = tarfile.TarInfo(name.lstrip("/") or ".")
            info.mode = shell.files.mode(path)
            if shell.files.kind(path) == "directory":
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
                for inner in shell.files.list(path):
                    add(join(path, inner), join(name, inner))
            else:
                data = shell.files.read(path)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

        for path in paths:
            try:
                add(join(base, path), path)
            except FileProblem as error:
                problem = f"{path}: {error.words}"
    return into.getvalue(), problem


def _unpack(shell: Shell, base: str, data: bytes) -> str:
    """Unpack the archive; returns why not everything could be unpacked, or empty."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for number, member in enumerate(archive):
                # ".." at the beginning has no effect
                name = normpath("/" + member.name).lstrip("/")
                if number >= ENTRIES_MAX or member.size > FILE_BYTES_MAX:
                    return "the archive is too large"
                path = join(base, name) if name else base
                if member.isdir():
                    shell.files.make_directories(path)
                elif member.isfile():
                    shell.files.make_directories(join(path, ".."))
                    file = archive.extractfile(member)
                    shell.files.write(
                        path, file.read() if file is not None else b"", mode=member.mode & 0o777
                    )
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        return f"invalid tar archive: {error}"
    except FileProblem as problem:
        return problem.words
    return ""
