"""Stateful sets and the revisions of workloads. Rules VAL-7, VAL-19, VAL-20, VAL-62
(spec/validation.md).

Source: Kubernetes API reference, "StatefulSet", "ControllerRevision"; documentation,
"StatefulSets".
"""

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import ControllerRevision, StatefulSet, StatefulSetSpec
from refk8s.core.api.core_v1 import PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_negative,
    not_supported,
    required,
    unchanged,
)
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.validation.storage import validate_claim_spec
from refk8s.core.apiserver.validation.workloads import (
    at_most_all,
    is_zero,
    validate_collision_count,
    validate_int_or_percent,
    validate_parts,
    validate_selected_template,
)

# --- StatefulSet


def validate_stateful_set(stateful_set: StatefulSet) -> Causes:
    causes = _validate_stateful_set_spec(stateful_set.spec, "spec")
    service = stateful_set.spec.service_name
    if service:
        causes += malformed("spec.serviceName", service, dns_label)
    for position, claim in enumerate(stateful_set.spec.volume_claim_templates or ()):
        causes += validate_claim_spec(claim.spec, f"spec.volumeClaimTemplates[{position}].spec")
    return causes


def validate_stateful_set_update(new: StatefulSet, old: StatefulSet) -> Causes:
    """VAL-20: only these fields of the spec may change."""
    if new.spec is old.spec:
        return []
    causes = _validate_stateful_set_spec(new.spec, "spec")
    free = (
        "replicas", "template", "update_strategy", "min_ready_seconds", "ordinals", "revision_history_limit",
        "persistent_volume_claim_retention_policy",
    )  # fmt: skip
    if replace(new.spec, **{name: getattr(old.spec, name) for name in free}) != old.spec:
        words = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', "
            "'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
            "'minReadySeconds' are forbidden"
        )
        causes.append(forbidden("spec", words))
    return causes


def _validate_stateful_set_spec(spec: StatefulSetSpec, at: str) -> Causes:
    causes: Causes = []
    if not spec.pod_management_policy:
        causes.append(required(f"{at}.podManagementPolicy"))
    elif spec.pod_management_policy not in ("OrderedReady", "Parallel"):
        causes.append(
            invalid(
                f"{at}.podManagementPolicy",
                spec.pod_management_policy,
                "must be 'OrderedReady' or 'Parallel'",
            )
        )
    strategy = spec.update_strategy
    if not strategy.type:
        causes.append(required(f"{at}.updateStrategy"))
    elif strategy.type == "OnDelete":
        if strategy.rolling_update is not None:
            words = "only allowed for updateStrategy 'RollingUpdate'"
            causes.append(
                invalid(f"{at}.updateStrategy.rollingUpdate", strategy.rolling_update, words)
            )
    elif strategy.type == "RollingUpdate":
        rolling = strategy.rolling_update
        if rolling is not None:
            causes += not_negative(
                f"{at}.updateStrategy.rollingUpdate.partition", rolling.partition
            )
            if rolling.max_unavailable is not None:
                where = f"{at}.updateStrategy.rollingUpdate.maxUnavailable"
                causes += validate_int_or_percent(rolling.max_unavailable, where)
                if is_zero(rolling.max_unavailable):
                    causes.append(invalid(where, rolling.max_unavailable, "cannot be 0"))
                causes += at_most_all(rolling.max_unavailable, where)
    else:
        causes.append(
            invalid(f"{at}.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'")
        )
    retention = spec.persistent_volume_claim_retention_policy
    if retention is not None:
        for policy, name in (
            (retention.when_deleted, "whenDeleted"),
            (retention.when_scaled, "whenScaled"),
        ):
            if policy not in ("Retain", "Delete"):
                where = f"{at}.persistentVolumeClaimRetentionPolicy.{name}"
                causes.append(not_supported(where, policy, ("Retain", "Delete")))
    causes += not_negative(f"{at}.replicas", spec.replicas)
    causes += not_negative(f"{at}.minReadySeconds", spec.min_ready_seconds)
    if spec.ordinals is not None:
        causes += not_negative(f"{at}.ordinals.start", spec.ordinals.start)
    return causes + validate_selected_template(
        spec.selector, _with_claims(spec), at, "statefulset", "StatefulSet"
    )


def _with_claims(spec: StatefulSetSpec) -> PodTemplateSpec:
    """VAL-7: the template as its pods will be: the claims are volumes, in place of volumes of the
    same name."""
    if not spec.volume_claim_templates:
        return spec.template
    names = dict.fromkeys([claim.metadata.name or "" for claim in spec.volume_claim_templates])
    claimed = [
        Volume(
            name=name, persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name=name)
        )
        for name in names
    ]
    kept = [volume for volume in spec.template.spec.volumes or () if volume.name not in names]
    return replace(spec.template, spec=replace(spec.template.spec, volumes=(*claimed, *kept)))


def validate_stateful_set_status(new: StatefulSet, old: StatefulSet) -> Causes:
    """VAL-21 for stateful sets."""
    status = new.status
    parts = (
        (status.replicas, "replicas"), (status.ready_replicas, "readyReplicas"), (status.current_replicas, "currentReplicas"),
        (status.updated_replicas, "updatedReplicas"), (status.available_replicas, "availableReplicas"),
        (status.observed_generation, "observedGeneration"), (status.collision_count, "collisionCount"),
    )  # fmt: skip
    causes: Causes = []
    for count, name in parts:
        causes += not_negative(f"status.{name}", count)
    causes += validate_parts(status, parts[1:5], "status.readyReplicas")
    return causes + validate_collision_count(status, old.status)


# --- ControllerRevision


def validate_controller_revision(revision: ControllerRevision) -> Causes:
    """VAL-62: the data is a JSON object, and the revision is not negative."""
    causes = not_negative("revision", revision.revision)
    if revision.data is None:
        causes.append(required("data", "data is mandatory"))
    elif not isinstance(revision.data, dict):
        causes.append(required("data", "data must be a valid JSON object"))
    return causes


def validate_controller_revision_update(new: ControllerRevision, old: ControllerRevision) -> Causes:
    """VAL-62: the data is immutable; the revision may change."""
    return not_negative("revision", new.revision) + unchanged("data", new.data, old.data)
