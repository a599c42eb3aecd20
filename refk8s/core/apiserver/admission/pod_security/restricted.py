"""The checks that the level restricted adds. Rule PSA-3 (spec/pod_security.md).

Source: Kubernetes documentation, "Pod Security Standards" (restricted).
"""

from functools import partial

from msgspec.structs import fields

from refk8s.core.api.core_v1 import PodSpec, Volume
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.apiserver.admission.pod_security import baseline
from refk8s.core.apiserver.admission.pod_security.baseline import PROFILES, added_capabilities
from refk8s.core.apiserver.admission.pod_security.words import (
    Check,
    Violation,
    containers,
    each_container,
    has_user_namespace,
    is_windows,
    plural,
    quoted,
    setters,
)

_ALLOWED_VOLUMES = (
    "config_map", "csi", "downward_api", "empty_dir", "ephemeral", "persistent_volume_claim",
    "projected", "secret",
)  # fmt: skip
_RESTRICTED_VOLUMES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi",
    "glusterfs", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile",
    "vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "portworxVolume",
    "scaleIO", "storageos",
)  # fmt: skip


def _except_windows(check: Check, metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """The check for all pods but those of Windows."""
    return None if is_windows(spec) else check(metadata, spec)


def _except_in_user_namespaces(
    check: Check, metadata: ObjectMeta, spec: PodSpec
) -> Violation | None:
    """The check for all pods but those with a user namespace."""
    return None if has_user_namespace(spec) else check(metadata, spec)


def privilege_escalation(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    bad = [
        one.name
        for one in each_container(spec)
        if one.security_context is None
        or one.security_context.allow_privilege_escalation is not False
    ]
    if not bad:
        return None
    words = "must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", f"{containers(bad)} {words}"


def capabilities(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """All capabilities are dropped, and only NET_BIND_SERVICE is added again."""
    kept = [
        one.name
        for one in each_container(spec)
        if one.security_context is None
        or one.security_context.capabilities is None
        or "ALL" not in (one.security_context.capabilities.drop or ())
    ]
    bad, added = added_capabilities(spec, ("NET_BIND_SERVICE",))
    words = []
    if kept:
        words.append(f'{containers(kept)} must set securityContext.capabilities.drop=["ALL"]')
    if bad:
        what = f"must not include {quoted(added)} in securityContext.capabilities.add"
        words.append(f"{containers(bad)} {what}")
    return ("unrestricted capabilities", "; ".join(words)) if words else None


def volume_types(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    bad: list[str] = []
    types: set[str] = set()
    for volume in spec.volumes or ():
        if not any(getattr(volume, name) is not None for name in _ALLOWED_VOLUMES):
            bad.append(volume.name)
            types.add(_type_of(volume))
    if not bad:
        return None
    which = plural("restricted volume type", "restricted volume types", len(types))
    detail = (
        f"{plural('volume', 'volumes', len(bad))} {quoted(bad)} {plural('uses', 'use', len(bad))}"
    )
    return "restricted volume types", f"{detail} {which} {quoted(sorted(types))}"


def _type_of(volume: Volume) -> str:
    given = {part.encode_name for part in fields(volume) if getattr(volume, part.name) is not None}
    return next((name for name in _RESTRICTED_VOLUMES if name in given), "unknown")


def run_as_non_root(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """The pod sets runAsNonRoot or each container does, and none sets it to false."""
    of_pod = spec.security_context.run_as_non_root if spec.security_context is not None else None
    explicit: list[str] = []
    implicit: list[str] = []
    for one in each_container(spec):
        mine = one.security_context.run_as_non_root if one.security_context is not None else None
        if mine is False:
            explicit.append(one.name)
        elif mine is None and not of_pod:
            implicit.append(one.name)
    reason = "runAsNonRoot != true"
    if of_pod is False or explicit:
        words = "must not set securityContext.runAsNonRoot=false"
        return reason, f"{setters(of_pod is False, explicit)} {words}"
    if implicit:
        return reason, f"pod or {containers(implicit)} must set securityContext.runAsNonRoot=true"
    return None


def run_as_user(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    pod = spec.security_context is not None and spec.security_context.run_as_user == 0
    bad = [
        one.name
        for one in each_container(spec)
        if one.security_context is not None and one.security_context.run_as_user == 0
    ]
    if not pod and not bad:
        return None
    return "runAsUser=0", f"{setters(pod, bad)} must not set runAsUser=0"


def seccomp(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """The pod has an allowed profile or each container does, and none has another one."""
    if (found := baseline.seccomp(metadata, spec)) is not None:
        return found
    context = spec.security_context
    if context is not None and context.seccomp_profile is not None:
        return None
    missing = [
        one.name
        for one in each_container(spec)
        if one.security_context is None or one.security_context.seccomp_profile is None
    ]
    if not missing:
        return None
    types = " or ".join(f'"{name}"' for name in PROFILES)
    words = f"must set securityContext.seccompProfile.type to {types}"
    return "seccompProfile", f"pod or {containers(missing)} {words}"


privilege_escalation_25: Check = partial(_except_windows, privilege_escalation)
capabilities_25: Check = partial(_except_windows, capabilities)
seccomp_25: Check = partial(_except_windows, seccomp)
run_as_non_root_35: Check = partial(_except_in_user_namespaces, run_as_non_root)
run_as_user_35: Check = partial(_except_in_user_namespaces, run_as_user)
