"""A slow, obvious model of the API server: what a request on one object answers, and what is stored
then.

It works on JSON trees as clients see them and shares nothing with refk8s/core/apiserver: the facts
about the kinds are written out once more. Defaults and validation are not its business: the samples
are valid and complete. Source: API conventions; Kubernetes documentation, "Kubernetes API
Concepts"; answers of a v1.36.2.
"""

from __future__ import annotations

from typing import Any

from api_samples import Tree, value_at, with_value
from attrs import frozen

GENERATION: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "Pod", "ReplicationController", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "CronJob", "Ingress", "IngressClass",
            "NetworkPolicy", "PodDisruptionBudget", "FlowSchema", "PriorityLevelConfiguration", "CustomResourceDefinition",
            "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding", "DeviceClass", "DeviceTaintRule", "ResourceSlice",
        ),
        ("spec",),
    ),
    "Deployment": ("spec", "metadata.annotations"),
    "PodTemplate": ("template",),
    "EndpointSlice": ("addressType", "endpoints", "ports", "metadata.labels"),
    "MutatingWebhookConfiguration": ("webhooks",),
    "ValidatingWebhookConfiguration": ("webhooks",),
    "PriorityClass": (),
}  # fmt: skip
"""What raises metadata.generation, of the kinds that have one."""

NEEDS_RESOURCE_VERSION = {
    "APIService", "CSIDriver", "CSINode", "CSIStorageCapacity", "ClusterTrustBundle", "CustomResourceDefinition", "DeviceTaintRule",
    "Lease", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "MutatingWebhookConfiguration", "PodCertificateRequest",
    "PodDisruptionBudget", "RuntimeClass", "StorageVersionMigration", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration", "VolumeAttachment",
}  # fmt: skip
CREATED_BY_PUT = {
    "ClusterRole", "ClusterRoleBinding", "Endpoints", "Event", "Lease", "LimitRange", "Role", "RoleBinding", "Service",
}  # fmt: skip
ANSWERED_WHEN_DELETED = {
    "CSIDriver", "CSINode", "DeviceClass", "Namespace", "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate",
    "ResourceClaim", "ResourceClaimTemplate", "ResourceQuota", "ResourceSlice", "Service", "ServiceAccount", "StorageClass",
    "VolumeAttachment", "VolumeAttributesClass",
}  # fmt: skip
ORPHANED = {"ReplicationController", "Job"}
UNCOLLECTED = {"Event"}
STATUS_OF_THE_CREATOR = {"Node"}
STATUS_KEEPS_METADATA = {
    "APIService", "DeviceTaintRule", "FlowSchema", "PodCertificateRequest", "PriorityLevelConfiguration", "ResourceClaim",
    "ServiceCIDR", "StorageVersionMigration", "ValidatingAdmissionPolicy", "VolumeAttachment",
}  # fmt: skip
OF_THE_SERVER = (
    "namespace", "uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
)  # fmt: skip


@frozen
class Ask:
    """A request on the object `a`, without its content."""

    verb: str
    part: str = ""
    dry_query: bool = False
    validation: str = ""
    unknown: bool = False
    version: str = "none"  # of the body: none, zero, present, old, odd
    uid: str = "none"  # of the body: none, present, other
    media: str = "merge"
    labels: bool = False  # labels and annotations change
    holds: bool = False  # a finalizer and an owner are added
    change: int = -1  # which of the kind's changes; -1: none
    status: bool = False
    servers: bool = False  # the body has odd values for what is the server's
    in_body: bool = False  # the options of a delete stand in its body
    dry: bool = False  # of a delete or an eviction's options
    policy: str = ""
    orphan: bool | None = None
    grace: int | None = None
    wanted_uid: str = "none"
    wanted_version: str = "none"


@frozen
class Expected:
    """The answer's code, what is stored afterwards (None: nothing), and whether a warning is
    given."""

    code: int
    after: Tree | None
    warned: bool = False
    object: Tree | None = None
    """What the answer shows, where it is an object; its resourceVersion is not looked at."""


def without(tree: Tree, *names: str) -> Tree:
    return {key: value for key, value in tree.items() if key not in names}


def write(kind: str, before: Tree, ask: Ask, sent: Tree) -> Expected:
    """PUT and PATCH of an object that is there. `sent`: the whole object that the client wants."""
    if ask.unknown and ask.validation == "Strict":
        return Expected(400 if ask.verb == "update" else 422, before)
    warned = ask.unknown and ask.validation in ("", "Warn")
    there = before["metadata"]
    if ask.verb == "update" and ask.uid == "other":
        return Expected(409, before, warned)
    match ask.version:
        case "odd":
            return Expected(500, before, warned)
        case "old":
            return Expected(409, before, warned)
        case "none" if ask.verb == "patch":
            pass  # a patch is of what is there
        case "none" | "zero" if kind in NEEDS_RESOURCE_VERSION:
            return Expected(422, before, warned)

    # Which part of what was sent this path takes.
    theirs = sent["metadata"]
    match ask.part:
        case "status":
            after = {**before, "metadata": theirs, "status": sent.get("status")}
            if kind == "Deployment":
                after["metadata"] = copied(theirs, there, "labels")
            if kind == "Pod":
                after["metadata"] = copied(theirs, there, "ownerReferences")
            if kind in STATUS_KEEPS_METADATA:
                after["metadata"] = copied(
                    theirs, there, "labels", "annotations", "finalizers", "ownerReferences"
                )
        case "finalize":
            after = {**sent, "status": before.get("status")}
        case "approval":
            conditions = (sent.get("status") or {}).get("conditions")
            after = {
                **before,
                "metadata": theirs,
                "status": {**(before.get("status") or {}), "conditions": conditions},
            }
        case _:
            after = (
                {**sent, "status": before.get("status")}
                if "status" in before or ask.status
                else sent
            )
            if kind == "Namespace":
                after["spec"] = before["spec"]
            if kind == "CertificateSigningRequest":
                after["spec"] = before["spec"]
    after = tidy({**after, "metadata": copied(after["metadata"], there, *OF_THE_SERVER)})

    # Whether that is another state, and another desired one.
    if after == tidy(before):
        return Expected(200, before, warned, before)
    raises = kind in GENERATION and ask.part not in ("status", "approval")
    if raises and any(
        value_at(after, path) != value_at(tidy(before), path) for path in GENERATION[kind]
    ):
        after = with_value(after, "metadata.generation", there["generation"] + 1)
    return Expected(200, before if ask.dry_query else after, warned, after)


def copied(to: Tree, of: Tree, *names: str) -> Tree:
    """`to` with these values of the other."""
    return without(to, *names) | {name: of[name] for name in names if name in of}


def tidy(value: Any) -> Any:
    """Without what is absent: nulls, empty maps and lists, false and nothing."""
    if isinstance(value, dict):
        return {k: t for k, v in value.items() if (t := tidy(v)) not in (None, {}, [])}
    return [tidy(one) for one in value] if isinstance(value, list) else value


def delete(kind: str, before: Tree, ask: Ask) -> Expected:
    """DELETE of an object that is there (of a pod: on a node if it has spec.nodeName)."""
    if ask.policy and ask.orphan is not None:
        return Expected(422, before)
    if ask.wanted_uid == "other" or ask.wanted_version == "old":
        return Expected(409, before)
    metadata = before["metadata"]
    held = list(metadata.get("finalizers", []))
    others = [one for one in held if one not in ("orphan", "foregroundDeletion")]
    policy = {True: "Orphan", False: "Background"}.get(ask.orphan, ask.policy)  # type: ignore[call-overload]
    if not policy and held != others:
        policy = "Orphan" if "orphan" in held else "Foreground"
    policy = policy or ("Orphan" if kind in ORPHANED else "Background")
    if kind in UNCOLLECTED:
        policy = "Background"
    finalizers = others + {"Orphan": ["orphan"], "Foreground": ["foregroundDeletion"]}.get(
        policy, []
    )
    seconds = 0
    if kind == "Pod" and "nodeName" in before["spec"]:
        seconds = (
            ask.grace if ask.grace is not None else before["spec"]["terminationGracePeriodSeconds"]
        )
        seconds = seconds if seconds >= 0 else 1
    going = "deletionTimestamp" in metadata
    if not going and (finalizers or seconds or kind == "Namespace"):
        marked = {**metadata, "finalizers": finalizers, "deletionTimestamp": "<now>"}
        if kind != "Namespace":
            marked["deletionGracePeriodSeconds"] = seconds
        if "generation" in metadata:
            marked["generation"] = metadata["generation"] + 1
        after = {**before, "metadata": marked}
        if kind == "Namespace":
            after["status"] = {**before.get("status", {}), "phase": "Terminating"}
        return Expected(
            202 if ask.orphan is False else 200, before if ask.dry else after, object=after
        )
    if going and finalizers:  # nothing but finalizers holds it: they may change
        after = {**before, "metadata": {**metadata, "finalizers": finalizers}}
        return Expected(
            202 if ask.orphan is False else 200, before if ask.dry else after, object=after
        )
    return Expected(
        200, before if ask.dry else None, object=before if kind in ANSWERED_WHEN_DELETED else None
    )
