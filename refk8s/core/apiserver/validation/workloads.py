"""Deployments, ReplicaSets, ReplicationControllers and DaemonSets: selectors, templates, rolling
updates. Rules VAL-7, VAL-19, VAL-20 (spec/validation.md).

Source: Kubernetes API reference, "Deployment", "ReplicaSet", "DaemonSet", "ReplicationController";
documentation, "Deployments" (rolling update).
"""

import re
from typing import Any

from refk8s.core.api.apps_v1 import (
    DaemonSet,
    DaemonSetSpec,
    Deployment,
    DeploymentSpec,
    ReplicaSet,
    ReplicaSetSpec,
)
from refk8s.core.api.core_v1 import (
    PodTemplateSpec,
    ReplicationController,
    ReplicationControllerSpec,
)
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    not_negative,
    not_supported,
    required,
    unchanged,
)
from refk8s.core.apiserver.validation.pod import validate_template
from refk8s.core.apiserver.validation.selectors import (
    is_empty,
    is_unusable,
    matches,
    validate_selector,
)

_is_percent = re.compile(r"[0-9]+%", re.ASCII).fullmatch
_PERCENT_WORDS = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%', "
    " or '93%', regex used for validation is "
    "'[0-9]+%')"
)
LABELS_DIFFER = "`selector` does not match template `labels`"


# --- selector and template


def validate_selected_template(
    selector: LabelSelector | None, template: PodTemplateSpec, at: str, word: str, kind: str
) -> Causes:
    """VAL-7: the selector is present, not empty, and matches the labels of the template. The
    template's pods have restartPolicy Always and no deadline. If the selector is invalid, the
    template is not checked."""
    causes: Causes = []
    if selector is None:
        causes.append(required(f"{at}.selector"))
    else:
        causes += validate_selector(selector, f"{at}.selector")
        if is_empty(selector):
            causes.append(
                invalid(f"{at}.selector", selector, f"empty selector is invalid for {word}")
            )
    if is_unusable(selector):
        return [*causes, invalid(f"{at}.selector", selector, "invalid label selector")]
    if not matches(selector, template.metadata.labels):
        causes.append(
            invalid(f"{at}.template.metadata.labels", template.metadata.labels, LABELS_DIFFER)
        )
    return (
        causes
        + validate_template(template, f"{at}.template")
        + validate_long_running(template, f"{at}.template", kind)
    )


def validate_long_running(template: PodTemplateSpec, at: str, kind: str) -> Causes:
    causes: Causes = []
    policy = template.spec.restart_policy
    if policy in ("OnFailure", "Never"):
        causes.append(not_supported(f"{at}.spec.restartPolicy", policy, ("Always",)))
    if template.spec.active_deadline_seconds is not None:
        causes.append(
            forbidden(
                f"{at}.spec.activeDeadlineSeconds",
                f"activeDeadlineSeconds in {kind} is not Supported",
            )
        )
    return causes


# --- numbers and percentages


def validate_int_or_percent(value: int | str, at: str) -> Causes:
    """VAL-19: a number that is not negative, or a percentage."""
    if isinstance(value, int):
        return not_negative(at, value)
    return [] if _is_percent(value) else [invalid(at, value, _PERCENT_WORDS)]


def at_most_all(value: int | str, at: str) -> Causes:
    """VAL-19: a percentage of at most 100. Percentages with many digits are not converted to
    numbers."""
    if isinstance(value, str) and _is_percent(value):
        digits = value[:-1].lstrip("0")
        if len(digits) > 3 or int(digits or "0") > 100:
            return [invalid(at, value, "must not be greater than 100%")]
    return []


def is_zero(value: int | str | None) -> bool:
    if value is None or isinstance(value, int):
        return not value
    return bool(_is_percent(value)) and not value[:-1].strip("0")


# --- Deployment


def validate_deployment(deployment: Deployment) -> Causes:
    return _validate_deployment_spec(deployment.spec, "spec")


def validate_deployment_update(new: Deployment, old: Deployment) -> Causes:
    """VAL-20: the selector is immutable."""
    if new.spec is old.spec:
        return []
    return _validate_deployment_spec(new.spec, "spec") + unchanged(
        "spec.selector", new.spec.selector, old.spec.selector
    )


def _validate_deployment_spec(spec: DeploymentSpec, at: str) -> Causes:
    causes = not_negative(f"{at}.replicas", spec.replicas)
    causes += validate_selected_template(
        spec.selector, spec.template, at, "deployment", "ReplicaSet"
    )
    strategy = spec.strategy
    if strategy.type == "Recreate":
        if strategy.rolling_update is not None:
            causes.append(
                forbidden(
                    f"{at}.strategy.rollingUpdate",
                    "may not be specified when strategy `type` is 'Recreate'",
                )
            )
    elif strategy.type == "RollingUpdate":
        rolling = strategy.rolling_update
        if rolling is None:
            causes.append(
                required(
                    f"{at}.strategy.rollingUpdate", "this should be defaulted and never be nil"
                )
            )
        else:
            causes += _validate_rolling(
                rolling.max_unavailable, rolling.max_surge, f"{at}.strategy.rollingUpdate"
            )
    else:
        causes.append(
            not_supported(f"{at}.strategy.type", strategy.type, ("Recreate", "RollingUpdate"))
        )
    causes += not_negative(f"{at}.minReadySeconds", spec.min_ready_seconds)
    causes += not_negative(f"{at}.revisionHistoryLimit", spec.revision_history_limit)
    deadline = spec.progress_deadline_seconds
    if deadline is not None:
        causes += not_negative(f"{at}.progressDeadlineSeconds", deadline)
        if deadline <= (spec.min_ready_seconds or 0):
            causes.append(
                invalid(
                    f"{at}.progressDeadlineSeconds",
                    deadline,
                    "must be greater than minReadySeconds",
                )
            )
    return causes


def _validate_rolling(unavailable: int | str | None, surge: int | str | None, at: str) -> Causes:
    """VAL-19: maxSurge and maxUnavailable are not both zero."""
    causes: Causes = []
    if unavailable is not None:
        causes += validate_int_or_percent(unavailable, f"{at}.maxUnavailable")
    if surge is not None:
        causes += validate_int_or_percent(surge, f"{at}.maxSurge")
    if is_zero(unavailable) and is_zero(surge):
        causes.append(
            invalid(f"{at}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
        )
    if unavailable is not None:
        causes += at_most_all(unavailable, f"{at}.maxUnavailable")
    return causes


# --- ReplicaSet, ReplicationController


def validate_replica_set(replica_set: ReplicaSet) -> Causes:
    return _validate_replica_set_spec(replica_set.spec, "spec")


def validate_replica_set_update(new: ReplicaSet, old: ReplicaSet) -> Causes:
    if new.spec is old.spec:
        return []
    return _validate_replica_set_spec(new.spec, "spec") + unchanged(
        "spec.selector", new.spec.selector, old.spec.selector
    )


def _validate_replica_set_spec(spec: ReplicaSetSpec, at: str) -> Causes:
    causes = not_negative(f"{at}.replicas", spec.replicas)
    causes += not_negative(f"{at}.minReadySeconds", spec.min_ready_seconds)
    return causes + validate_selected_template(
        spec.selector, spec.template, at, "deployment", "ReplicaSet"
    )


def validate_replica_counts(new: Any, old: Any) -> Causes:
    """VAL-21: the counts of a status are not negative, and at most the number of which they are a
    part. For ReplicaSets and ReplicationControllers."""
    causes: Causes = []
    status = new.status
    parts = (
        (status.replicas, "replicas"), (status.fully_labeled_replicas, "fullyLabeledReplicas"), (status.ready_replicas, "readyReplicas"),
        (status.available_replicas, "availableReplicas"), (status.observed_generation, "observedGeneration"),
    )  # fmt: skip
    for count, name in parts:
        causes += not_negative(f"status.{name}", count)
    causes += validate_parts(status, parts[1:4])
    return causes + not_negative(
        "status.terminatingReplicas", getattr(status, "terminating_replicas", None)
    )


def validate_parts(
    status: Any, parts: tuple[tuple[int | None, str], ...], ready: str = "readyReplicas"
) -> Causes:
    """VAL-21: these counts are at most `replicas`, and the available replicas at most the ready
    ones, which the message calls `ready`."""
    causes: Causes = []
    for count, name in parts:
        if (count or 0) > (status.replicas or 0):
            causes.append(
                invalid(f"status.{name}", count, "cannot be greater than status.replicas")
            )
    available = status.available_replicas
    if (available or 0) > (status.ready_replicas or 0):
        causes.append(
            invalid("status.availableReplicas", available, f"cannot be greater than {ready}")
        )
    return causes


def validate_collision_count(status: Any, old: Any) -> Causes:
    """VAL-21: the collision count does not decrease."""
    if (status.collision_count or 0) >= (old.collision_count or 0):
        return []
    return [invalid("status.collisionCount", status.collision_count, "cannot be decremented")]


def validate_deployment_status(new: Deployment, old: Deployment) -> Causes:
    """VAL-21 for deployments; the collision count does not decrease."""
    status = new.status
    causes = not_negative("status.observedGeneration", status.observed_generation)
    parts = (
        (status.replicas, "replicas"), (status.updated_replicas, "updatedReplicas"), (status.ready_replicas, "readyReplicas"),
        (status.available_replicas, "availableReplicas"), (status.unavailable_replicas, "unavailableReplicas"),
    )  # fmt: skip
    for count, name in parts:
        causes += not_negative(f"status.{name}", count)
    causes += not_negative("status.terminatingReplicas", status.terminating_replicas)
    causes += not_negative("status.collisionCount", status.collision_count)
    causes += validate_parts(status, parts[1:4])
    return causes + validate_collision_count(status, old.status)


def validate_replication_controller(controller: ReplicationController) -> Causes:
    return _validate_controller_spec(controller.spec, "spec")


def validate_replication_controller_update(
    new: ReplicationController, old: ReplicationController
) -> Causes:
    return [] if new.spec is old.spec else _validate_controller_spec(new.spec, "spec")


def _validate_controller_spec(spec: ReplicationControllerSpec, at: str) -> Causes:
    causes = not_negative(f"{at}.minReadySeconds", spec.min_ready_seconds)
    if not spec.selector:
        causes.append(required(f"{at}.selector"))
    causes += not_negative(f"{at}.replicas", spec.replicas)
    if spec.template is None:
        causes.append(required(f"{at}.template"))
        return causes
    labels = spec.template.metadata.labels
    if not (spec.selector or {}).items() <= (labels or {}).items():
        causes.append(invalid(f"{at}.template.metadata.labels", labels, LABELS_DIFFER))
    causes += validate_template(spec.template, f"{at}.template")
    return causes + validate_long_running(spec.template, f"{at}.template", "ReplicationController")


# --- DaemonSet


def validate_daemon_set(daemon_set: DaemonSet) -> Causes:
    return _validate_daemon_set_spec(daemon_set.spec, "spec")


def validate_daemon_set_update(new: DaemonSet, old: DaemonSet) -> Causes:
    if new.spec is old.spec:
        return []
    return _validate_daemon_set_spec(new.spec, "spec") + unchanged(
        "spec.selector", new.spec.selector, old.spec.selector
    )


def validate_daemon_set_status(new: DaemonSet, old: DaemonSet) -> Causes:
    """VAL-21 for daemon sets."""
    status = new.status
    causes: Causes = []
    for count, name in (
        (status.current_number_scheduled, "currentNumberScheduled"), (status.number_misscheduled, "numberMisscheduled"),
        (status.desired_number_scheduled, "desiredNumberScheduled"), (status.number_ready, "numberReady"),
        (status.observed_generation, "observedGeneration"), (status.updated_number_scheduled, "updatedNumberScheduled"),
        (status.number_available, "numberAvailable"), (status.number_unavailable, "numberUnavailable"),
        (status.collision_count, "collisionCount"),
    ):  # fmt: skip
        causes += not_negative(f"status.{name}", count)
    return causes + validate_collision_count(status, old.status)


def _validate_daemon_set_spec(spec: DaemonSetSpec, at: str) -> Causes:
    causes = validate_selector(spec.selector, f"{at}.selector")
    labels = spec.template.metadata.labels
    if spec.selector is None or not matches(spec.selector, labels):
        causes.append(invalid(f"{at}.template.metadata.labels", labels, LABELS_DIFFER))
    if spec.selector is not None and is_empty(spec.selector):
        causes.append(
            invalid(f"{at}.selector", spec.selector, "empty selector is invalid for daemonset")
        )
    causes += validate_template(spec.template, f"{at}.template")
    causes += validate_long_running(spec.template, f"{at}.template", "DaemonSet")
    causes += not_negative(f"{at}.minReadySeconds", spec.min_ready_seconds)
    strategy = spec.update_strategy
    here = f"{at}.updateStrategy"
    if strategy.type == "RollingUpdate":
        rolling = strategy.rolling_update
        if rolling is None:
            causes.append(required(f"{here}.rollingUpdate"))
        else:
            unavailable, surge = rolling.max_unavailable or 0, rolling.max_surge or 0
            causes += validate_int_or_percent(unavailable, f"{here}.rollingUpdate.maxUnavailable")
            causes += validate_int_or_percent(surge, f"{here}.rollingUpdate.maxSurge")
            causes += at_most_all(unavailable, f"{here}.rollingUpdate.maxUnavailable")
            causes += at_most_all(surge, f"{here}.rollingUpdate.maxSurge")
            if not is_zero(unavailable) and not is_zero(surge):
                causes.append(
                    invalid(
                        f"{here}.rollingUpdate.maxSurge",
                        surge,
                        "may not be set when maxUnavailable is non-zero",
                    )
                )
            elif is_zero(unavailable) and is_zero(surge):
                causes.append(
                    required(
                        f"{here}.rollingUpdate.maxUnavailable", "cannot be 0 when maxSurge is 0"
                    )
                )
    elif strategy.type != "OnDelete":
        causes.append(not_supported(here, strategy, ("RollingUpdate", "OnDelete")))
    return causes + not_negative(f"{at}.revisionHistoryLimit", spec.revision_history_limit)
