"""What an operator may set for a kubelet, with the defaults of Kubernetes.

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
    node_ip: str = ""  # empty: what the runtime says
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    node_lease_duration_seconds: int = 40
    heartbeat_every: Instant = 10 * SECOND
    """The Lease is renewed so often, and the machine looked at."""
    node_status_every: Instant = 5 * MINUTE
    """The Node's status is written at least so often, and whenever it changed."""
    relist_every: Instant = MINUTE
    """The runtime is listed whole so often, should it have kept silent about a change."""
    retry_after: Instant = 10 * SECOND
    """An operation that failed is tried again after this (KUBELET-23)."""
    stop_delay: Instant = 0
    """The containers of a deleted pod are asked to stop so much later, so that services can forget
    the pod first (POD-8)."""
    status_held_back: Instant = 1 * SECOND
    """A pod of which something is being made or ended may keep its status to itself so long: then
    one write tells most (KUBELET-31)."""
    objects_kept: Instant = MINUTE
    """Config maps and secrets are believed so long (those that a volume shows are read again with
    every listing)."""
