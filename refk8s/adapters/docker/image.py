"""Images: have one on the node, by its policy; the two that are made here; what there is. Rule
RT-3.

| policy | on the node | not on the node |
|---|---|---|
| Always | pulled again | pulled |
| IfNotPresent | taken | pulled |
| Never | taken | ErrImageNeverPull |

Source: Kubernetes documentation, "Images" (image pull policy).
Left out: imagePullSecrets; the engine's own log-ins are used.
"""

import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from refk8s.adapters.docker.engine import Engine, Refused
from refk8s.adapters.docker.pause import PAUSE_IMAGE, PAUSE_PATH, archive, pause_archive
from refk8s.core.ports import Failed, ImagePulled, PullImage, Result

SAMPLE_IMAGE = "refk8s/sample:1"
DIGESTS_MAX = 50


class Images:
    """The node's images."""

    def __init__(self, engine: Engine, architecture: str) -> None:
        self._engine = engine
        self._architecture = architecture
        self._making = threading.Lock()
        self._has_pause = False

    def pull(self, operation: PullImage) -> Result:
        """Have the image, by the table above."""
        found = self.look(operation)
        return self.fetch(operation) if found is None else found

    def look(self, operation: PullImage) -> Result | None:
        """The answer where no registry need be asked; else None."""
        image = operation.image
        there = self._engine.found("inspect_image", image)
        if there is None and image in (SAMPLE_IMAGE, PAUSE_IMAGE):
            there = self._make(image)
        if there is not None and (
            operation.policy != "Always" or image in (SAMPLE_IMAGE, PAUSE_IMAGE)
        ):
            return _pulled(there, False)
        if operation.policy == "Never":
            return Failed(
                "ErrImageNeverPull",
                f'Container image "{image}" is not present with pull policy of Never',
            )
        if there is None and image == SAMPLE_IMAGE:
            return Failed("ErrImagePull", NO_BUSYBOX)
        return None

    def fetch(self, operation: PullImage) -> Result:
        """Have the image from its registry."""
        image = operation.image
        problem = self._fetch(image)
        if problem:
            return Failed("ErrImagePull", f'failed to pull image "{image}": {problem}')
        there = self._engine.call("inspect_image", image)
        return _pulled(there, True)

    def _fetch(self, image: str) -> str:
        """Why the image could not be pulled; empty when it was."""
        name, tag = split_reference(image)
        try:
            for progress in self._engine.call("pull", name, tag=tag, stream=True, decode=True):
                if "error" in progress:
                    return str(progress["error"])
        except Refused as error:
            return error.words
        return ""

    def ensure_pause(self) -> None:
        """Make the pause image where it is not there (RT-3)."""
        with self._making:
            if not self._has_pause:
                if self._engine.found("inspect_image", PAUSE_IMAGE) is None:
                    self._make(PAUSE_IMAGE)
                self._has_pause = True

    def forget_pause(self) -> None:
        """Somebody removed it."""
        self._has_pause = False

    def _make(self, image: str) -> Any:
        """One of our own images; None where this machine has not what it takes."""
        if image == PAUSE_IMAGE:
            data, change = (
                pause_archive(self._architecture),
                f"ENTRYPOINT {json.dumps([PAUSE_PATH])}",
            )
        else:
            busybox = static_busybox()
            if busybox is None:
                return None
            data, change = sample_archive(busybox), 'CMD ["/bin/sh"]'
        name, tag = split_reference(image)
        self._engine.call(
            "import_image_from_data", data, repository=name, tag=tag, changes=[change]
        )
        return self._engine.call("inspect_image", image)

    def list(self) -> tuple[tuple[tuple[str, ...], int], ...]:
        """(names, bytes) of each image, the largest first, as a Node's status tells them."""
        found = []
        for image in self._engine.call("images"):
            names = [
                name
                for name in (*(image.get("RepoDigests") or ()), *(image.get("RepoTags") or ()))
                if "<none>" not in name
            ]
            if names:
                found.append((tuple(names), int(image.get("Size") or 0)))
        found.sort(key=lambda entry: (-entry[1], entry[0]))
        return tuple(found[:DIGESTS_MAX])


def _pulled(image: Any, fetched: bool) -> ImagePulled:
    return ImagePulled(
        image["Id"],
        fetched,
        int(image.get("Size") or 0),
        (image.get("Config") or {}).get("User") or "",
    )


def split_reference(image: str) -> tuple[str, str]:
    """(repository, tag or digest) of an image's name; the tag is "latest" where none is said."""
    if "@" in image:
        name, _, digest = image.partition("@")
        repository, _ = split_reference(name)
        return repository, digest
    head, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        return image, "latest"
    return head, tag


# --- the sample image -----------------------------------------------------------------------------

NO_BUSYBOX = (
    f"{SAMPLE_IMAGE} is made from a statically linked busybox of this machine, and there is none: install one (Debian: apt-get install "
    f"busybox-static), or import an image of that name"
)
_COMMANDS = (
    "ash", "cat", "chmod", "cp", "cut", "date", "df", "dirname", "du", "echo", "env", "expr", "false", "find", "grep", "head",
    "hostname", "httpd", "id", "ip", "kill", "ln", "ls", "mkdir", "mv", "nc", "nslookup", "od", "ping", "printf", "ps", "pwd",
    "rm", "sed", "seq", "sh", "sleep", "sort", "stat", "tail", "tar", "tee", "test", "timeout", "touch", "tr", "true", "uname",
    "uniq", "wc", "wget", "which", "xargs", "yes",
)  # fmt: skip


def static_busybox() -> Path | None:
    """A busybox of this machine that needs no library, or None."""
    for name in ("busybox", "busybox.static"):
        place = shutil.which(name) or shutil.which(
            name, path="/bin:/usr/bin:/sbin:/usr/sbin:/usr/local/bin"
        )
        if place and is_static(Path(place)):
            return Path(place)
    return None


def is_static(program: Path) -> bool:
    """Whether an ELF program of 64 bits names no interpreter: then it runs in an empty root."""
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
