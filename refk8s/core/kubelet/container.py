"""From a pod's specification to what the runtime is asked to make. Rules KUBELET-50 ... KUBELET-55 (spec/kubelet.md)."""

from hashlib import blake2b

from refk8s.core.api.core_v1 import Container, Pod
from refk8s.core.kubelet.sync import Facts, Sync, is_sidecar
from refk8s.core.ports import ContainerConfig, SandboxConfig, SandboxStatus


class BadConfig(Exception):
    """The container cannot be made as asked; `reason` is the word that users see."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason


def spec_hash(container: Container) -> str:
    """Changes when a running container must be made anew: only its image can be changed."""
    return blake2b(f"{container.name}\0{container.image}".encode(), digest_size=8).hexdigest()


def compute_sandbox_config(facts: Facts, pod: Pod, attempt: int) -> SandboxConfig:
    metadata, spec = pod.metadata, pod.spec
    return SandboxConfig(
        pod_uid=metadata.uid or "",
        namespace=metadata.namespace or "",
        name=metadata.name or "",
        attempt=attempt,
        hostname=spec.hostname or metadata.name or "",
        host_network=bool(spec.host_network),
    )


def compute_container_config(sync: Sync, pod: Pod, container: Container, attempt: int, sandbox: SandboxStatus) -> ContainerConfig:
    metadata = pod.metadata
    return ContainerConfig(
        pod_uid=metadata.uid or "",
        namespace=metadata.namespace or "",
        pod_name=metadata.name or "",
        name=container.name,
        image=container.image or "",
        attempt=attempt,
        init=container in (pod.spec.init_containers or ()) and not is_sidecar(container),
        command=container.command or (),
        args=container.args or (),
        spec_hash=spec_hash(container),
    )
