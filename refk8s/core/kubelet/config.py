"""The settings of a kubelet, with the defaults of Kubernetes.

Source: Kubernetes documentation, "Kubelet Configuration (v1beta1)".
"""

from refk8s.core.api.core_v1 import Taint
from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.value import Value


class KubeletConfig(Value, frozen=True):
    """One node's settings; times in microseconds."""

    version: str = "v1.37.0"
    node_labels: tuple[tuple[str, str], ...] = ()
    register_with_taints: tuple[Taint, ...] = ()
    node_ip: str = ""  # or two of different families, with a comma; empty: the runtime's
    port: int = 10250  # of the kubelet's HTTPS server; 0: there is none
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    simulates_devices: bool = False  # DRA-16
    node_lease_duration_seconds: int = 40
    heartbeat_every: Instant = 10 * SECOND
    """The interval of renewals of the Lease, and of descriptions of the machine."""
    node_status_every: Instant = 5 * MINUTE
    """The maximum interval between writes of the Node's status without a change."""
    relist_every: Instant = MINUTE
    """The interval of complete lists of the runtime, in case it did not report a change."""
    retry_after: Instant = 10 * SECOND
    """The wait before a failed operation is repeated (KUBELET-23)."""
    stop_delay: Instant = 0
    """The delay before the containers of a deleted pod are stopped (POD-8).

    In that time the pod is removed from the endpoints of services.
    """
    status_held_back: Instant = 1 * SECOND
    """The maximum delay of the status of a pod that starts or ends (KUBELET-31).

    So one write replaces several.
    """
    objects_kept: Instant = MINUTE
    """How long a ConfigMap or Secret is used after it was read.

    Those that a volume shows are read again with every list of the runtime.
    """
