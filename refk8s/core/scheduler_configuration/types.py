"""The records of a KubeSchedulerConfiguration and of the arguments of its plugins. Rule SCHED-50
(spec/scheduler_profiles.md).

Fields that have no effect here are read, so that a file for kube-scheduler is accepted (D-271).
"""

from refk8s.core.api.base import Int32, Int64, Json, Record, field
from refk8s.core.api.core_v1 import NodeAffinity, TopologySpreadConstraint

GROUP_VERSION = "kubescheduler.config.k8s.io/v1"
KIND = "KubeSchedulerConfiguration"


class PluginName(Record, frozen=True, kw_only=True):
    name: str = ""
    weight: Int32 = 0


class PluginSet(Record, frozen=True, kw_only=True):
    enabled: tuple[PluginName, ...] = ()
    disabled: tuple[PluginName, ...] = ()


class Plugins(Record, frozen=True, kw_only=True):
    pre_enqueue: PluginSet | None = None
    queue_sort: PluginSet | None = None
    pre_filter: PluginSet | None = None
    filter: PluginSet | None = None
    post_filter: PluginSet | None = None
    pre_score: PluginSet | None = None
    score: PluginSet | None = None
    reserve: PluginSet | None = None
    permit: PluginSet | None = None
    pre_bind: PluginSet | None = None
    bind: PluginSet | None = None
    post_bind: PluginSet | None = None
    multi_point: PluginSet | None = None


class PluginConfig(Record, frozen=True, kw_only=True):
    name: str = ""
    args: Json = None


class ProfileRecord(Record, frozen=True, kw_only=True):
    scheduler_name: str | None = None
    percentage_of_nodes_to_score: Int32 | None = None
    plugins: Plugins | None = None
    plugin_config: tuple[PluginConfig, ...] = ()


class TlsConfig(Record, frozen=True, kw_only=True):
    insecure: bool = False
    server_name: str = ""
    cert_file: str = ""
    key_file: str = ""
    ca_file: str = ""
    cert_data: str = ""
    key_data: str = ""
    ca_data: str = ""


class ManagedResource(Record, frozen=True, kw_only=True):
    name: str = ""
    ignored_by_scheduler: bool = False


class ExtenderRecord(Record, frozen=True, kw_only=True):
    url_prefix: str = ""
    filter_verb: str = ""
    preempt_verb: str = ""
    prioritize_verb: str = ""
    weight: Int64 = 0
    bind_verb: str = ""
    enable_https: bool = field(default=False, name="enableHTTPS")
    tls_config: TlsConfig | None = None
    http_timeout: str = field(default="", name="httpTimeout")
    node_cache_capable: bool = False
    managed_resources: tuple[ManagedResource, ...] = ()
    ignorable: bool = False


class LeaderElection(Record, frozen=True, kw_only=True):
    leader_elect: bool | None = None
    lease_duration: str = ""
    renew_deadline: str = ""
    retry_period: str = ""
    resource_lock: str = ""
    resource_name: str = ""
    resource_namespace: str = ""


class ClientConnection(Record, frozen=True, kw_only=True):
    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = ""
    qps: float | int = 0
    burst: Int32 = 0


class KubeSchedulerConfiguration(Record, frozen=True, kw_only=True):
    kind: str = ""
    api_version: str = ""
    parallelism: Int32 | None = None
    leader_election: LeaderElection | None = None
    client_connection: ClientConnection | None = None
    enable_profiling: bool | None = None
    enable_contention_profiling: bool | None = None
    percentage_of_nodes_to_score: Int32 | None = None
    pod_initial_backoff_seconds: Int64 | None = None
    pod_max_backoff_seconds: Int64 | None = None
    profiles: tuple[ProfileRecord, ...] = ()
    extenders: tuple[ExtenderRecord, ...] = ()
    delay_cache_until_active: bool = False


# --- arguments of plugins -------------------------------------------------------------------------


class Args(Record, frozen=True, kw_only=True):
    kind: str = ""
    api_version: str = ""


class ResourceSpec(Record, frozen=True, kw_only=True):
    name: str = ""
    weight: Int64 = 0


class ShapePoint(Record, frozen=True, kw_only=True):
    utilization: Int32 = 0
    score: Int32 = 0


class RequestedToCapacityRatio(Record, frozen=True, kw_only=True):
    shape: tuple[ShapePoint, ...] = ()


class ScoringStrategy(Record, frozen=True, kw_only=True):
    type: str = ""
    resources: tuple[ResourceSpec, ...] = ()
    requested_to_capacity_ratio: RequestedToCapacityRatio | None = None


class NodeResourcesFitArgs(Args, frozen=True, kw_only=True):
    ignored_resources: tuple[str, ...] = ()
    ignored_resource_groups: tuple[str, ...] = ()
    scoring_strategy: ScoringStrategy | None = None


class NodeResourcesBalancedAllocationArgs(Args, frozen=True, kw_only=True):
    resources: tuple[ResourceSpec, ...] = ()


class NodeAffinityArgs(Args, frozen=True, kw_only=True):
    added_affinity: NodeAffinity | None = None


class InterPodAffinityArgs(Args, frozen=True, kw_only=True):
    hard_pod_affinity_weight: Int32 | None = None
    ignore_preferred_terms_of_existing_pods: bool = False


class PodTopologySpreadArgs(Args, frozen=True, kw_only=True):
    default_constraints: tuple[TopologySpreadConstraint, ...] = ()
    defaulting_type: str = ""


class VolumeBindingArgs(Args, frozen=True, kw_only=True):
    bind_timeout_seconds: Int64 | None = None
    shape: tuple[ShapePoint, ...] | None = None


class DynamicResourcesArgs(Args, frozen=True, kw_only=True):
    filter_timeout: str | None = None
    binding_timeout: str | None = None


class DefaultPreemptionArgs(Args, frozen=True, kw_only=True):
    min_candidate_nodes_percentage: Int32 | None = None
    min_candidate_nodes_absolute: Int32 | None = None


ARGS: dict[str, type[Args]] = {
    "NodeResourcesFit": NodeResourcesFitArgs,
    "NodeResourcesBalancedAllocation": NodeResourcesBalancedAllocationArgs,
    "NodeAffinity": NodeAffinityArgs,
    "InterPodAffinity": InterPodAffinityArgs,
    "PodTopologySpread": PodTopologySpreadArgs,
    "VolumeBinding": VolumeBindingArgs,
    "DynamicResources": DynamicResourcesArgs,
    "DefaultPreemption": DefaultPreemptionArgs,
}
"""The arguments of each plugin that has any, by its name."""
