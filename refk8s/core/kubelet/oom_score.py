"""Which containers the kernel ends first when a node is out of memory. Rule KUBELET-131
(spec/kubelet.md).

Source: Kubernetes documentation, "Node-pressure Eviction" (node out of memory behavior); KEP-2837
"Pod Level Resource Specifications" (OOM score adjustment).
"""

from refk8s.core.api.core_v1 import Container, Pod, PodSpec
from refk8s.core.pods.containers import is_init, is_sidecar
from refk8s.core.pods.qos import compute_qos_class
from refk8s.core.pods.resources import MEMORY, amount, compute_requests, container_requests

PROTECTED = -997
FIRST = 1000
CRITICAL_CLASS = "system-node-critical"
CRITICAL_PRIORITY = 2_000_000_000


def compute_oom_score_adj(pod: Pod, container: Container, memory_bytes: int) -> int:
    """What the kernel adds to the score of each process of the container, from -1000 to 1000: the
    process with the highest score is ended first. `memory_bytes`: of the node; 0: not known."""
    spec = pod.spec
    if is_node_critical(spec):
        return PROTECTED
    qos_class = compute_qos_class(spec)
    if qos_class != "Burstable":
        return PROTECTED if qos_class == "Guaranteed" else FIRST
    share = 1000 * _counted(spec, container) // memory_bytes if memory_bytes > 0 else 0
    # below every BestEffort pod, and above a Guaranteed one that uses all memory
    return min(max(FIRST - share, FIRST + PROTECTED), FIRST - 1)


def is_node_critical(spec: PodSpec) -> bool:
    """Whether its node cannot do without the pod."""
    return spec.priority_class_name == CRITICAL_CLASS and (spec.priority or 0) >= CRITICAL_PRIORITY


def _counted(spec: PodSpec, container: Container) -> int:
    """The bytes that count as requested: for a sidecar at least those of some other container, and
    with them a share of what only the pod requests."""
    own = _memory(container)
    if is_init(spec, container) and is_sidecar(container):
        own = max(own, min([_memory(one) for one in spec.containers], default=0))
    whole = spec.resources.requests if spec.resources is not None else None
    if not whole or MEMORY not in whole:
        return own
    taken = compute_requests(*container_requests(spec)).get(MEMORY, 0)
    count = len(spec.containers) + len(spec.init_containers or ())
    return own + max(amount(MEMORY, whole[MEMORY]) - taken, 0) // count


def _memory(container: Container) -> int:
    requests = container.resources.requests
    return amount(MEMORY, requests[MEMORY]) if requests and MEMORY in requests else 0
