"""Images: pulls them by their policy, makes the two images of this project, and lists them. Rule
RT-3.

| policy | on the node | not on the node |
|---|---|---|
| Always | pulled again | pulled |
| IfNotPresent | used | pulled |
| Never | used | ErrImageNeverPull |

The credentials of a pod are tried in order (RT-41); without any, the engine's own log-ins are used.
Source: Kubernetes documentation, "Images" (image pull policy).
"""

import json
import threading
from typing import Any

from refk8s.adapters.docker.engine.client import Engine, Refused
from refk8s.adapters.docker.engine.pause_image import PAUSE_IMAGE, PAUSE_PATH, pause_archive
from refk8s.adapters.docker.engine.sample_image import (
    NO_BUSYBOX,
    SAMPLE_IMAGE,
    sample_archive,
    static_busybox,
)
from refk8s.core.ports import Failed, ImagePulled, PullImage, RegistryCredential, Result

DIGESTS_MAX = 50


class Images:
    """The node's images."""

    def __init__(self, engine: Engine, architecture: str) -> None:
        self._engine = engine
        self._architecture = architecture
        self._making = threading.Lock()
        self._has_pause = False

    def pull(self, operation: PullImage) -> Result:
        """Make sure that the image is on the node, by the table above."""
        found = self.look(operation)
        return self.fetch(operation) if found is None else found

    def look(self, operation: PullImage) -> Result | None:
        """The answer if it needs no registry; else None."""
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
        """Pull the image from its registry."""
        image = operation.image
        problems = []
        for credential in operation.credentials or (None,):
            problem = self._fetch(image, credential)
            if not problem:
                return _pulled(self._engine.call("inspect_image", image), True)
            problems.append(problem)
        words = "; ".join(dict.fromkeys(problems))
        return Failed("ErrImagePull", f'failed to pull image "{image}": {words}')

    def _fetch(self, image: str, credential: RegistryCredential | None) -> str:
        """Why the image could not be pulled; empty if it was pulled."""
        name, tag = split_reference(image)
        login = credential and {"username": credential.username, "password": credential.password}
        try:
            for progress in self._engine.call(
                "pull", name, tag=tag, stream=True, decode=True, auth_config=login
            ):
                if "error" in progress:
                    return str(progress["error"])
        except Refused as error:
            return error.words
        return ""

    def ensure_pause(self) -> None:
        """Make the pause image if it is missing (RT-3)."""
        with self._making:
            if not self._has_pause:
                if self._engine.found("inspect_image", PAUSE_IMAGE) is None:
                    self._make(PAUSE_IMAGE)
                self._has_pause = True

    def forget_pause(self) -> None:
        """The image was removed by another program."""
        self._has_pause = False

    def _make(self, image: str) -> Any:
        """Make one of this project's images; None if this machine lacks what it is made of."""
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
        """(names, bytes) of each image, the largest first, for the status of the Node."""
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
    """(repository, tag or digest) of an image's name; without one, the tag is "latest"."""
    if "@" in image:
        name, _, digest = image.partition("@")
        repository, _ = split_reference(name)
        return repository, digest
    head, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        return image, "latest"
    return head, tag
