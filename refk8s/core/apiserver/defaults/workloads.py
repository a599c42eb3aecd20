"""Defaults of Deployments, ReplicaSets, StatefulSets, DaemonSets and ReplicationControllers. Rules
DEF-10, DEF-11 (spec/defaults.md).

Source: Kubernetes API reference, "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet",
"ReplicationController".
"""

from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import (
    DaemonSet,
    Deployment,
    DeploymentStrategy,
    ReplicaSet,
    RollingUpdateDaemonSet,
    RollingUpdateDeployment,
    RollingUpdateStatefulSetStrategy,
    StatefulSet,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
)
from refk8s.core.api.core_v1 import ReplicationController
from refk8s.core.apiserver.defaults.pod import default_template
from refk8s.core.apiserver.defaults.storage import default_persistent_volume_claim

REVISION_HISTORY_LIMIT = 10
PROGRESS_DEADLINE_SECONDS = 600
QUARTER = "25%"
_RETAIN = StatefulSetPersistentVolumeClaimRetentionPolicy(
    when_deleted="Retain", when_scaled="Retain"
)


def default_deployment(deployment: Deployment) -> Deployment:
    """DEF-10: one replica, a rolling update with 25 %, ten old revisions, a progress deadline of
    ten minutes."""
    spec = deployment.spec
    changed: dict[str, Any] = {}
    if spec.replicas is None:
        changed["replicas"] = 1
    if spec.revision_history_limit is None:
        changed["revision_history_limit"] = REVISION_HISTORY_LIMIT
    if spec.progress_deadline_seconds is None:
        changed["progress_deadline_seconds"] = PROGRESS_DEADLINE_SECONDS
    strategy = _default_strategy(spec.strategy)
    if strategy is not spec.strategy:
        changed["strategy"] = strategy
    template = default_template(spec.template)
    if template is not spec.template:
        changed["template"] = template
    return replace(deployment, spec=replace(spec, **changed)) if changed else deployment


def _default_strategy(strategy: DeploymentStrategy) -> DeploymentStrategy:
    kind = strategy.type or "RollingUpdate"
    if kind != "RollingUpdate":
        return strategy
    rolling = strategy.rolling_update or RollingUpdateDeployment()
    if (
        strategy.type
        and strategy.rolling_update
        and rolling.max_surge is not None
        and rolling.max_unavailable is not None
    ):
        return strategy
    surge = QUARTER if rolling.max_surge is None else rolling.max_surge
    unavailable = QUARTER if rolling.max_unavailable is None else rolling.max_unavailable
    return DeploymentStrategy(
        type=kind,
        rolling_update=RollingUpdateDeployment(max_surge=surge, max_unavailable=unavailable),
    )


def default_replica_set(replica_set: ReplicaSet) -> ReplicaSet:
    """DEF-10: one replica. A replica set gets no labels from its template."""
    spec = replica_set.spec
    template = default_template(spec.template)
    if spec.replicas is not None and template is spec.template:
        return replica_set
    return replace(
        replica_set,
        spec=replace(
            spec, replicas=1 if spec.replicas is None else spec.replicas, template=template
        ),
    )


def default_replication_controller(controller: ReplicationController) -> ReplicationController:
    """DEF-11: one replica; the template's labels are the selector and the labels, each if
    absent."""
    spec, metadata = controller.spec, controller.metadata
    changed: dict[str, Any] = {}
    if spec.replicas is None:
        changed["replicas"] = 1
    if spec.template is not None:
        template = default_template(spec.template)
        if template is not spec.template:
            changed["template"] = template
        labels = spec.template.metadata.labels
        if labels and not spec.selector:
            changed["selector"] = labels
        if labels and not metadata.labels:
            metadata = replace(metadata, labels=labels)
    if changed:
        spec = replace(spec, **changed)
    return (
        controller
        if spec is controller.spec and metadata is controller.metadata
        else replace(controller, spec=spec, metadata=metadata)
    )


def default_stateful_set(stateful_set: StatefulSet) -> StatefulSet:
    """DEF-10: one replica, started in order, a rolling update from partition 0, claims retained."""
    spec = stateful_set.spec
    changed: dict[str, Any] = {}
    if spec.replicas is None:
        changed["replicas"] = 1
    if spec.revision_history_limit is None:
        changed["revision_history_limit"] = REVISION_HISTORY_LIMIT
    if not spec.pod_management_policy:
        changed["pod_management_policy"] = "OrderedReady"
    strategy = spec.update_strategy
    if not strategy.type:
        strategy = replace(strategy, type="RollingUpdate")
    if strategy.type == "RollingUpdate":
        rolling = strategy.rolling_update or RollingUpdateStatefulSetStrategy()
        if strategy.rolling_update is None or rolling.partition is None:
            strategy = replace(
                strategy, rolling_update=replace(rolling, partition=rolling.partition or 0)
            )
    if strategy is not spec.update_strategy:
        changed["update_strategy"] = strategy
    retention = spec.persistent_volume_claim_retention_policy
    if retention is None:
        changed["persistent_volume_claim_retention_policy"] = _RETAIN
    elif not retention.when_deleted or not retention.when_scaled:
        changed["persistent_volume_claim_retention_policy"] = (
            StatefulSetPersistentVolumeClaimRetentionPolicy(
                when_deleted=retention.when_deleted or "Retain",
                when_scaled=retention.when_scaled or "Retain",
            )
        )
    template = default_template(spec.template)
    if template is not spec.template:
        changed["template"] = template
    if spec.volume_claim_templates:
        claims = tuple(
            [default_persistent_volume_claim(claim) for claim in spec.volume_claim_templates]
        )
        if any(
            one is not other for one, other in zip(claims, spec.volume_claim_templates, strict=True)
        ):
            changed["volume_claim_templates"] = claims
    return replace(stateful_set, spec=replace(spec, **changed)) if changed else stateful_set


def default_daemon_set(daemon_set: DaemonSet) -> DaemonSet:
    """DEF-10: a rolling update of one pod at a time without surge; ten old revisions."""
    spec = daemon_set.spec
    changed: dict[str, Any] = {}
    strategy = spec.update_strategy
    if not strategy.type:
        strategy = replace(strategy, type="RollingUpdate")
    if strategy.type == "RollingUpdate":
        rolling = strategy.rolling_update or RollingUpdateDaemonSet()
        if rolling.max_unavailable is None or rolling.max_surge is None:
            unavailable = 1 if rolling.max_unavailable is None else rolling.max_unavailable
            surge = 0 if rolling.max_surge is None else rolling.max_surge
            strategy = replace(
                strategy,
                rolling_update=RollingUpdateDaemonSet(max_unavailable=unavailable, max_surge=surge),
            )
    elif strategy.rolling_update is not None:
        # not used, but stored with both numbers, as upstream
        rolling = strategy.rolling_update
        if rolling.max_unavailable is None or rolling.max_surge is None:
            unavailable = 0 if rolling.max_unavailable is None else rolling.max_unavailable
            surge = 0 if rolling.max_surge is None else rolling.max_surge
            strategy = replace(
                strategy,
                rolling_update=RollingUpdateDaemonSet(max_unavailable=unavailable, max_surge=surge),
            )
    if strategy is not spec.update_strategy:
        changed["update_strategy"] = strategy
    if spec.revision_history_limit is None:
        changed["revision_history_limit"] = REVISION_HISTORY_LIMIT
    template = default_template(spec.template)
    if template is not spec.template:
        changed["template"] = template
    return replace(daemon_set, spec=replace(spec, **changed)) if changed else daemon_set
