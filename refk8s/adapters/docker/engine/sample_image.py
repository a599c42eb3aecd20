"""The sample image, which is made here from a busybox of this machine, without a registry."""

import shutil
import subprocess
from pathlib import Path

from refk8s.adapters.docker.engine.pause_image import archive

SAMPLE_IMAGE = "refk8s/sample:1"
NO_BUSYBOX = (
    f"{SAMPLE_IMAGE} is made from a statically linked busybox of this machine, and there is none: "
    "install one (Debian: apt-get install "
    f"busybox-static), or import an image of that name"
)
_COMMANDS = (
    "ash", "cat", "chmod", "cp", "cut", "date", "df", "dirname", "du", "echo", "env", "expr", "false", "find", "grep", "head",
    "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mv", "nc", "nslookup", "od", "ping", "printf", "ps", "pwd",
    "rm", "sed", "seq", "sh", "sleep", "sort", "stat", "tail", "tar", "tee", "test", "timeout", "touch", "tr", "true", "uname",
    "uniq", "wc", "wget", "which", "xargs", "yes",
)  # fmt: skip


def static_busybox() -> Path | None:
    """A busybox of this machine that is linked statically, or None."""
    for name in ("busybox", "busybox.static"):
        place = shutil.which(name) or shutil.which(
            name, path="/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin"
        )
        if place and is_static(Path(place)):
            return Path(place)
    return None


def is_static(program: Path) -> bool:
    """Whether an ELF program of 64 bits names no interpreter, so that it runs without libraries."""
    try:
        data = program.read_bytes()
    except OSError:
        return False
    if data[:5] != b"\x7fELF\x02":
        return False
    offset, size, count = (
        int.from_bytes(data[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58))
    )
    kinds = [
        int.from_bytes(data[at : at + 4], "little")
        for at in range(offset, offset + size * count, size)
    ]
    return 3 not in kinds  # PT_INTERP


def sample_archive(busybox: Path) -> bytes:
    """A root with busybox, its commands, and a directory to serve."""
    done = subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=False, timeout=10
    )
    offered = set(done.stdout.split())
    links = {f"bin/{name}": "busybox" for name in _COMMANDS if name in offered}
    files = {
        "bin/busybox": (busybox.read_bytes(), 0o755),
        "etc/passwd": (
            b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            0o644,
        ),
        "etc/group": (b"root:x:0:\nnogroup:x:65534:\n", 0o644),
        "www/index.html": (b"It works.\n", 0o644),
    }
    return archive(files, links, ("bin", "etc", "www", "tmp"))
