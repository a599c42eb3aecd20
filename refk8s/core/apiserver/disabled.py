"""Fields of features that are off by default are dropped when an object is written. Rule DEF-22
(spec/defaults.md).

A field that the stored object has is kept, so that an object from another version can still be
changed. Source: Kubernetes documentation, "Feature Gates"; API conventions, "Defaulting" (disabled
fields).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.apps_v1 import StatefulSet
from refk8s.core.api.batch_v1 import CronJob, Job, JobSpec
from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.core_v1 import (
    Container,
    EphemeralContainer,
    Lifecycle,
    LifecycleHandler,
    Node,
    PodSpec,
    PodTemplateSpec,
    Probe,
)
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.disabled_volumes import plain_volumes
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import every_container

C = TypeVar("C", Container, EphemeralContainer)
H = TypeVar("H", Probe | None, LifecycleHandler | None)

Drop = Callable[[Any, Any], Any]
"""(new object, old object or None) -> the object; the same one if nothing is dropped."""


def drop_disabled(resource: Resource, new: Any, old: Any) -> Any:
    """DEF-22: the object without fields of features that are off by default."""
    drop = _KINDS.get(resource)
    return new if drop is None else drop(new, old)


def _of_pod(new: Any, old: Any) -> Any:
    return _respec(new, _of_new_spec(new.spec) if old is None else _of_spec(new.spec, old.spec))


def _of_templated(new: Any, old: Any) -> Any:
    """An object with a pod template in its spec."""
    if new.spec.template is None:
        return new
    template = _of_template(new.spec.template, None if old is None else old.spec.template)
    return (
        new
        if template is new.spec.template
        else replace(new, spec=replace(new.spec, template=template))
    )


def _of_pod_template(new: Any, old: Any) -> Any:
    template = _of_template(new.template, None if old is None else old.template)
    return new if template is new.template else replace(new, template=template)


def _of_stateful_set(new: StatefulSet, old: StatefulSet | None) -> Any:
    rolling = new.spec.update_strategy.rolling_update
    before = None if old is None else old.spec.update_strategy.rolling_update
    if (
        rolling is not None
        and rolling.max_unavailable is not None
        and (before is None or before.max_unavailable is None)
    ):
        strategy = replace(
            new.spec.update_strategy, rolling_update=replace(rolling, max_unavailable=None)
        )
        new = replace(new, spec=replace(new.spec, update_strategy=strategy))
    return _of_templated(new, old)


def _of_job(new: Job, old: Job | None) -> Any:
    return _respec(new, _of_job_spec(new.spec, None if old is None else old.spec))


def _of_cron_job(new: CronJob, old: CronJob | None) -> Any:
    spec = _of_job_spec(
        new.spec.job_template.spec, None if old is None else old.spec.job_template.spec
    )
    if spec is new.spec.job_template.spec:
        return new
    return replace(
        new, spec=replace(new.spec, job_template=replace(new.spec.job_template, spec=spec))
    )


def _of_job_spec(new: JobSpec, old: JobSpec | None) -> JobSpec:
    template = _of_template(new.template, None if old is None else old.template)
    scheduling = new.scheduling if old is not None and old.scheduling is not None else None
    if template is new.template and scheduling is new.scheduling:
        return new
    return replace(new, template=template, scheduling=scheduling)


def _of_lease(new: Lease, old: Lease | None) -> Any:
    before = old is not None and (
        old.spec.strategy is not None or old.spec.preferred_holder is not None
    )
    if before or (new.spec.strategy is None and new.spec.preferred_holder is None):
        return new
    return replace(new, spec=replace(new.spec, strategy=None, preferred_holder=None))


def _respec(new: Any, spec: Any) -> Any:
    return new if spec is new.spec else replace(new, spec=spec)


def _of_template(new: PodTemplateSpec, old: PodTemplateSpec | None) -> PodTemplateSpec:
    spec = _of_spec(new.spec, None if old is None else old.spec)
    return new if spec is new.spec else replace(new, spec=spec)


# --- pods


@remember_identical(16)
def _of_new_spec(new: PodSpec) -> PodSpec:
    return _of_spec(new, None)


def _of_spec(new: PodSpec, old: PodSpec | None) -> PodSpec:
    if new is old:  # as in a write of the status
        return new
    changed: dict[str, Any] = {}
    for attribute in ("scheduling_group", "eviction_responders"):
        if getattr(new, attribute) is not None and (old is None or getattr(old, attribute) is None):
            changed[attribute] = None
    if not _has_signals(old):
        for attribute in ("containers", "init_containers", "ephemeral_containers"):
            containers = getattr(new, attribute)
            if containers and any(_is_signalled(container) for container in containers):
                changed[attribute] = tuple([_unsignalled(container) for container in containers])
    volumes = plain_volumes(new)
    if volumes is not new.volumes and (old is None or plain_volumes(old) is old.volumes):
        changed["volumes"] = volumes
    return replace(new, **changed) if changed else new


def _has_signals(spec: PodSpec | None) -> bool:
    return spec is not None and any(_is_signalled(container) for container in every_container(spec))


def _is_signalled(container: Container | EphemeralContainer) -> bool:
    lifecycle = container.lifecycle
    if lifecycle is not None and (
        lifecycle.stop_signal is not None
        or _has_protocol(lifecycle.post_start)
        or _has_protocol(lifecycle.pre_stop)
    ):
        return True
    if any(mount.bind_mount_options is not None for mount in container.volume_mounts or ()):
        return True
    probes = (container.liveness_probe, container.readiness_probe, container.startup_probe)
    return any(
        probe is not None
        and (_has_protocol(probe) or (probe.grpc is not None and probe.grpc.mode is not None))
        for probe in probes
    )


def _has_protocol(handler: Probe | LifecycleHandler | None) -> bool:
    return (
        handler is not None
        and handler.http_get is not None
        and handler.http_get.protocol is not None
    )


def _unsignalled(container: C) -> C:
    lifecycle = container.lifecycle
    return replace(
        container,
        lifecycle=None if lifecycle is None else _without_signal(lifecycle),
        volume_mounts=container.volume_mounts
        and tuple([replace(one, bind_mount_options=None) for one in container.volume_mounts]),
        liveness_probe=_plain(container.liveness_probe),
        readiness_probe=_plain(container.readiness_probe),
        startup_probe=_plain(container.startup_probe),
    )


def _without_signal(lifecycle: Lifecycle) -> Lifecycle | None:
    """The hooks without stop signal; None if there was one and no hook is left."""
    hooks = (lifecycle.post_start, lifecycle.pre_stop)
    if lifecycle.stop_signal is not None and hooks == (None, None):
        return None
    return replace(
        lifecycle,
        stop_signal=None,
        post_start=_without_protocol(lifecycle.post_start),
        pre_stop=_without_protocol(lifecycle.pre_stop),
    )


def _plain(probe: Probe | None) -> Probe | None:
    if probe is not None and probe.grpc is not None:
        probe = replace(probe, grpc=replace(probe.grpc, mode=None))
    return _without_protocol(probe)


def _without_protocol(handler: H) -> H:
    if handler is None or handler.http_get is None:
        return handler
    return replace(handler, http_get=replace(handler.http_get, protocol=None))


def _of_node(new: Node, old: Node | None) -> Any:
    policy = new.spec.pod_preemption_policy
    if policy is None or (old is not None and old.spec.pod_preemption_policy is not None):
        return new
    return replace(new, spec=replace(new.spec, pod_preemption_policy=None))


_KINDS: dict[Resource, Drop] = {
    resources.PODS: _of_pod,
    resources.POD_TEMPLATES: _of_pod_template,
    resources.REPLICATION_CONTROLLERS: _of_templated,
    resources.REPLICA_SETS: _of_templated,
    resources.DEPLOYMENTS: _of_templated,
    resources.DAEMON_SETS: _of_templated,
    resources.STATEFUL_SETS: _of_stateful_set,
    resources.JOBS: _of_job,
    resources.CRON_JOBS: _of_cron_job,
    resources.LEASES: _of_lease,
    resources.NODES: _of_node,
}
