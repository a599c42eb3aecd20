"""Volumes with the files of an image. Rule RT-40.

The engine copies the files itself: it exports a container of the image, which is never started, and
unpacks the result below the mount of another container that is never started. So this process
unpacks nothing, and no link in the image leads out of the volume. Source: Kubernetes documentation,
"Volumes" (image); Docker Engine API, "Export a container", "Extract an archive of files or folders
to a directory in a container".
"""

from typing import Any

from refk8s.adapters.docker.engine import labels
from refk8s.adapters.docker.engine.client import Engine
from refk8s.adapters.docker.engine.images import Images
from refk8s.adapters.docker.engine.pause_image import PAUSE_IMAGE, PAUSE_PATH
from refk8s.adapters.docker.pods.sandboxes import remove_container
from refk8s.adapters.docker.pods.volumes import Volumes
from refk8s.core.ports import Done, Failed, Result, WriteVolume

IMAGE_BYTES_MAX = 4 << 30
PLACE = "/volume"
"""Where the container that unpacks has the volume."""


class ImageVolumes:
    """The image volumes of the pods of one cluster."""

    def __init__(self, engine: Engine, cluster: str, images: Images, volumes: Volumes) -> None:
        self._engine = engine
        self._cluster = cluster
        self._images = images
        self._volumes = volumes

    def write(self, operation: WriteVolume) -> Result:
        """Create the volume with all files of the image; an existing one is left as it is."""
        if self._volumes.has(operation):
            return Done()
        image = self._engine.found("inspect_image", operation.image_id)
        if image is None:
            return Failed("FailedMount", f"image {operation.image_id} is not on the node")
        if int(image.get("Size") or 0) > IMAGE_BYTES_MAX:
            return Failed("FailedMount", f"the image is larger than {IMAGE_BYTES_MAX} bytes")
        self._images.ensure_pause()
        with self._volumes.making(operation) as place:
            bind = {"Type": "bind", "Source": place, "Target": PLACE}
            source = self._make(operation, "source", operation.image_id)
            target = self._make(operation, "target", PAUSE_IMAGE, {"Mounts": [bind]})
            try:
                self._engine.call("put_archive", target, path=PLACE, data=self._files(source))
            finally:
                remove_container(self._engine, source)
                remove_container(self._engine, target)
        return Done()

    def _files(self, container: str) -> Any:
        """The archive of the container's files, in pieces."""
        return self._engine.call("export", container)

    def _make(
        self, operation: WriteVolume, part: str, image: str, host: dict[str, Any] | None = None
    ) -> str:
        """The id of a container that is never started."""
        name = f"refk8s-{operation.pod_uid}-{operation.volume}-{part}"
        remove_container(self._engine, name)  # An earlier process may have left it.
        body = {
            "Image": image,
            "Entrypoint": [PAUSE_PATH],
            "Labels": {
                labels.CLUSTER: self._cluster,
                labels.TYPE: labels.IS_COPY,
                labels.POD_UID: operation.pod_uid,
            },
            "HostConfig": {"NetworkMode": "none", **(host or {})},
        }
        made = self._engine.call("create_container_from_config", body, name=name)
        return str(made["Id"])
