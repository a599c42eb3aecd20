"""The image of the pause container, which is made here, without a registry.

The program is a static ELF of under 200 bytes. It blocks SIGTERM and SIGINT and waits for one of
them, and then exits with 0. As process 1 it is not ended by any other signal:

    rt_sigprocmask(SIG_BLOCK, {SIGTERM, SIGINT});  while (rt_sigtimedwait({SIGTERM, SIGINT}, 0, 0) < 0);  exit_group(0)
"""

import io
import struct
import tarfile

PAUSE_IMAGE = "refk8s/pause:1"
PAUSE_PATH = "/pause"

_SIGNALS = struct.pack("<Q", 1 << (15 - 1) | 1 << (2 - 1))

#       mov eax,14; xor edi,edi; lea rsi,[signals]; xor edx,edx; mov r10d,8; syscall
# wait: mov eax,128; lea rdi,[signals]; xor esi,esi; xor edx,edx; mov r10d,8; syscall
#       test eax,eax; js wait
#       mov eax,231; xor edi,edi; syscall; signals:
_X86_64 = bytes.fromhex(
    "b80e000000 31ff 488d352f000000 31d2 41ba08000000 0f05"
    "b880000000 488d3d19000000 31f6 31d2 41ba08000000 0f05 85c0 78e4"
    "b8e7000000 31ff 0f05"
)

_AARCH64 = struct.pack(
    "<16I",
    0xD2800000,  # mov x0, 0
    0x100001E1,  # adr x1, signals
    0xD2800002,  # mov x2, 0
    0xD2800103,  # mov x3, 8
    0xD28010E8,  # mov x8, 135
    0xD4000001,  # svc 0
    0x10000140,  # wait: adr x0, signals
    0xD2800001,  # mov x1, 0
    0xD2800002,  # mov x2, 0
    0xD2800103,  # mov x3, 8
    0xD2801128,  # mov x8, 137
    0xD4000001,  # svc 0
    0xB7FFFF40,  # tbnz x0, 63, wait
    0xD2800000,  # mov x0, 0
    0xD2800BC8,  # mov x8, 94
    0xD4000001,  # svc 0
)

_PROGRAMS = {
    "x86_64": (_X86_64, 62),
    "amd64": (_X86_64, 62),
    "aarch64": (_AARCH64, 183),
    "arm64": (_AARCH64, 183),
}

_BASE = 0x400000
_HEADERS = 64 + 56


def pause_program(architecture: str) -> bytes:
    """The program for a machine, by its name in `uname -m`. Raises KeyError if there is no program
    for it."""
    code, machine = _PROGRAMS[architecture]
    body = code + _SIGNALS
    size = _HEADERS + len(body)
    ident = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)  # 64 bits, little endian
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    # loaded whole, readable and executable
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + body


def pause_archive(architecture: str) -> bytes:
    """The image's only layer as a tar file; the same bytes every time."""
    return archive({"pause": (pause_program(architecture), 0o755)}, {})


def archive(
    files: dict[str, tuple[bytes, int]], links: dict[str, str], directories: tuple[str, ...] = ()
) -> bytes:
    """A tar file of directories, files (path -> content and mode) and symbolic links (path ->
    target), without times or owners."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path in directories:
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if path == "tmp" else 0o755
            tar.addfile(entry)
        for path, (content, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for path, target in sorted(links.items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return out.getvalue()
