"""The ResourceClaims of pods: created from templates, and freed when no pod needs them. Rules
DRA-12 to DRA-14 (spec/devices.md).

    pod names a template   -> a claim of the pod, and its name in the pod's status
    pod got a node without the scheduler -> its allocated claims are reserved for it
    consumer has ended     -> no longer in reservedFor; the last one: the allocation is removed
    claim holds nothing    -> the finalizer is removed; the claim of an ended pod is deleted

Source: Kubernetes documentation, "Dynamic Resource Allocation"; the resource claim controller.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod, PodResourceClaim
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Request, Response, update_of
from refk8s.core.api.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.devices import (
    CONSUMERS_MAX,
    FINALIZER,
    POD_CLAIM_ANNOTATION,
    belongs_to,
    claim_keys,
    consumer,
    consumers,
    extended_owner,
    generated_name,
    is_reserved_for,
    owner_uid,
    parts_of,
    used_claims,
)
from refk8s.core.pods.requests import patch_status
from refk8s.core.pods.status import is_finished

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import ResourceClaim, ResourceClaimTemplate

RETRY: Instant = 10 * SECOND
BASE_LENGTH_MAX = 57  # of a generated name, so that a hyphen and five characters fit

OF_POD, OF_CLAIM, PROTECTED = "pod ", "claim ", "protected "

Asked: TypeAlias = dict[tuple[str, str], bool]
"""By name and uid of a pod that the view does not show: whether it is known to be gone."""

Protected: TypeAlias = tuple[str | None, Instant]
"""The version of a claim of which nothing but the finalizer is left, and since when."""

Memory: TypeAlias = Map[Key, Any]
"""For each key of a claim what was asked, and for this key after PROTECTED what is Protected."""


def _of_pod(view: View, old: Pod | None, new: Pod | None) -> Iterable[Key]:
    pods = [pod for pod in (old, new) if pod is not None and parts_of(pod)]
    if not pods:
        return ()
    keys = {OF_POD + key_of(pod) for pod in pods}
    return sorted(keys | {OF_CLAIM + key for pod in pods for key in claim_keys(pod)})


def _of_claim(view: View, old: ResourceClaim | None, new: ResourceClaim | None) -> list[Key]:
    claim = new if new is not None else old
    assert claim is not None
    pods = view.indexed_keys(PODS, "resource_claim", key_of(claim))
    owners = view.indexed_keys(PODS, "uid_with_claims", owner_uid(claim))
    return [OF_CLAIM + key_of(claim), *(OF_POD + key for key in sorted({*pods, *owners}))]


def _of_template(view: View, old: Any, new: Any) -> list[Key]:
    if new is None:
        return []
    return [OF_POD + key for key in view.indexed_keys(PODS, "claim_template", key_of(new))]


def _templates(pod: Pod) -> list[str]:
    """The keys of the templates that a pod names."""
    if pod.spec is None:
        return []
    return [
        f"{pod.metadata.namespace}/{one.resource_claim_template_name}"
        for one in pod.spec.resource_claims or ()
        if one.resource_claim_template_name is not None
    ]


def _uid(pod: Pod) -> list[str]:
    return [pod.metadata.uid or ""] if parts_of(pod) else []


def _owner(claim: ResourceClaim) -> list[str]:
    uid = owner_uid(claim)
    return [uid] if uid else []


def is_done(pod: Pod) -> bool:
    """DRA-13: whether no container of the pod runs or ever will."""
    return is_finished(pod) or (
        pod.metadata.deletion_timestamp is not None and not pod.spec.node_name
    )


class ResourceClaimController(Reconciler):
    """Reconciles the claims of one pod, or one claim."""

    name = "resource-claim-controller"
    component = "resource_claim"
    interests = (
        Interest(PODS, _of_pod),
        Interest(RESOURCE_CLAIMS, _of_claim),
        Interest(RESOURCE_CLAIM_TEMPLATES, _of_template),
    )
    indexes = (
        Index("resource_claim", PODS, claim_keys, parts_of),
        Index(
            "claim_template", PODS, _templates, lambda pod: pod.spec and pod.spec.resource_claims
        ),
        Index("uid_with_claims", PODS, _uid, _uid),
        Index("pod", RESOURCE_CLAIMS, _owner, lambda claim: claim.metadata.owner_references),
    )

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        if key.startswith(OF_POD):
            return self._of_pod(view, key.removeprefix(OF_POD))
        return self._of_claim(view, key, now, local.memory)

    # --- the claims of a pod ----------------------------------------------------------------------

    def _of_pod(self, view: View, key: Key) -> Plan:
        # Observe
        pod: Pod | None = view.get(PODS, key)
        if pod is None or pod.metadata.deletion_timestamp is not None or is_finished(pod):
            return NOTHING

        # Decide
        creations: list[Request] = []
        notes: list[Note] = []
        names: list[dict[str, str]] = []
        for claim in pod.spec.resource_claims or ():
            if claim.resource_claim_template_name is None or _is_there(view, pod, claim):
                continue
            found = _orphan(view, pod, claim)
            if found is not None:
                names.append({"name": claim.name, "resourceClaimName": found.metadata.name or ""})
                continue
            template: ResourceClaimTemplate | None = view.get(
                RESOURCE_CLAIM_TEMPLATES,
                f"{pod.metadata.namespace}/{claim.resource_claim_template_name}",
            )
            if template is None:
                notes.append(_failure(pod, claim))
                continue
            creations.append(_creation(pod, claim, template))

        # Act
        waves: list[tuple[Request, ...]] = [tuple(creations)] if creations else []
        if names:
            because = "claims were created for it"
            waves.append((patch_status(pod, {"resourceClaimStatuses": names}, because),))
        elif not creations and pod.spec.node_name:
            waves = [wave for wave in (_reservations(view, pod),) if wave]
        return Plan(tuple(waves), notes=tuple(notes), failed=bool(notes))

    # --- a claim ----------------------------------------------------------------------------------

    def _of_claim(self, view: View, key: Key, now: Instant, memory: Memory) -> Plan:
        # Observe
        claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, key.removeprefix(OF_CLAIM))
        if claim is None:
            rest = _with(_with(memory, key, {}), PROTECTED + key, {})
            return Plan(memory=rest) if rest is not memory else NOTHING
        namespace = claim.metadata.namespace or ""
        known = memory.get(key, {})

        # Decide
        kept: list[Any] = []
        asked: Asked = {}
        questions: list[Request] = []
        for one in consumers(claim):
            pod: Pod | None = view.get(PODS, f"{namespace}/{one.name}")
            if one.resource != "pods" or one.api_group:
                kept.append(one)
            elif pod is not None:
                kept += [one] if pod.metadata.uid == one.uid and not is_done(pod) else []
            else:
                who = (one.name, one.uid)
                asked[who] = known.get(who, False)
                kept += [] if asked[who] else [one]
                if who not in known:
                    # the view may be behind: the API server is asked before devices are freed
                    because = f"claim {key_of(claim)} is reserved for it"
                    questions.append(Request("get", PODS, namespace, one.name, because=because))
        if asked != known:
            memory = _with(memory, key, asked)
        if questions:
            return Plan(queries=tuple(questions), memory=memory, wake_at=now + RETRY)

        # Act
        if not kept and _is_only_protected(view, claim):
            return _unprotect(claim, PROTECTED + key, memory, now)
        memory = _with(memory, PROTECTED + key, {})
        wave = _next_write(view, claim, tuple(kept))
        return Plan((wave,) if wave else (), memory=memory)

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep whether the consumer is gone; otherwise it is asked for again."""
        asked = dict(memory.get(key, {}))
        for name, uid in [who for who in asked if who[0] == request.name]:
            if response is not None and (
                response.code == 404 or (response.ok and response.body.metadata.uid != uid)
            ):
                asked[name, uid] = True
            else:
                del asked[name, uid]
        memory = _with(memory, key, asked)
        return memory, (key,) if any(asked.values()) else ()


def _with(memory: Memory, key: Key, asked: Asked) -> Memory:
    """The memory with these answers; several may arrive after the key was forgotten."""
    if asked:
        return memory.set(key, asked)
    return memory.delete(key) if key in memory else memory


def _is_there(view: View, pod: Pod, claim: PodResourceClaim) -> bool:
    """Whether the pod's status has a claim of the pod, or that it needs none."""
    is_known, name = generated_name(pod, claim)
    if not is_known or not name:
        return is_known
    found: ResourceClaim | None = view.get(RESOURCE_CLAIMS, f"{pod.metadata.namespace}/{name}")
    return found is not None and belongs_to(found, pod.metadata.uid or "")


def _orphan(view: View, pod: Pod, claim: PodResourceClaim) -> ResourceClaim | None:
    """A claim that was created for the pod and is not in its status yet."""
    for found in view.indexed(RESOURCE_CLAIMS, "pod", pod.metadata.uid or ""):
        annotations = found.metadata.annotations or {}
        if (
            annotations.get(POD_CLAIM_ANNOTATION) == claim.name
            and found.metadata.deletion_timestamp is None
        ):
            return found  # type: ignore[no-any-return]
    return None


def _creation(pod: Pod, claim: PodResourceClaim, template: ResourceClaimTemplate) -> Request:
    """DRA-12: a claim from the template, owned by the pod."""
    from refk8s.core.api.resource_v1 import ResourceClaim, ResourceClaimSpec

    given = template.spec.metadata
    metadata = ObjectMeta(
        generate_name=_base(pod.metadata.name or "", claim.name),
        namespace=pod.metadata.namespace,
        labels=given.labels,
        annotations={**(given.annotations or {}), POD_CLAIM_ANNOTATION: claim.name},
        owner_references=(controller_reference(pod),),
    )
    body = ResourceClaim(metadata=metadata, spec=template.spec.spec or ResourceClaimSpec())
    because = f"pod {key_of(pod)} names template {template.metadata.name}"
    namespace = pod.metadata.namespace or ""
    return Request("create", RESOURCE_CLAIMS, namespace, body=body, because=because)


def _base(pod: str, claim: str) -> str:
    """The names of pod and claim, both shortened if they are too long together."""
    whole = f"{pod}-{claim}-"
    if len(whole) <= BASE_LENGTH_MAX:
        return whole
    pod = pod[: len(pod) * BASE_LENGTH_MAX // len(whole)]
    return f"{pod}-{claim[: len(claim) * BASE_LENGTH_MAX // len(whole)]}"


def _failure(pod: Pod, claim: PodResourceClaim) -> Note:
    template = claim.resource_claim_template_name
    words = (
        f'PodResourceClaim {claim.name}: resource claim template "{template}": '
        f'resourceclaimtemplate.resource.k8s.io "{template}" not found'
    )
    return Note(pod, "FailedResourceClaimCreation", words, "Warning")


def _reservations(view: View, pod: Pod) -> tuple[Request, ...]:
    """DRA-13: reserve the allocated claims of a pod that has a node already."""
    found: list[Request] = []
    uid = pod.metadata.uid or ""
    for used in used_claims(pod):
        claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, used.key)
        if (
            claim is None
            or claim.metadata.deletion_timestamp is not None
            or claim.status.allocation is None
            or (used.is_generated and not belongs_to(claim, uid))
            or is_reserved_for(claim, uid)
            or len(consumers(claim)) >= CONSUMERS_MAX
        ):
            continue
        reserved = (*consumers(claim), consumer(pod.metadata.name or "", uid))
        status = replace(claim.status, reserved_for=reserved)
        because = f"pod {key_of(pod)} has a node"
        found.append(update_of(RESOURCE_CLAIMS, replace(claim, status=status), because, "status"))
    return tuple(found)


def _next_write(view: View, claim: ResourceClaim, kept: tuple[Any, ...]) -> tuple[Request, ...]:
    """DRA-13, DRA-14: the next write for a claim with these consumers."""
    status, metadata = claim.status, claim.metadata
    is_being_deleted = metadata.deletion_timestamp is not None
    if len(kept) < len(consumers(claim)) or (
        is_being_deleted and not kept and status.allocation is not None
    ):
        allocation = status.allocation if kept else None
        freed = replace(status, reserved_for=kept or None, allocation=allocation)
        because = "pods for which it was reserved have ended"
        return (update_of(RESOURCE_CLAIMS, replace(claim, status=freed), because, "status"),)
    if kept:
        return ()
    if FINALIZER in (metadata.finalizers or ()) and status.allocation is None and is_being_deleted:
        return (_without_finalizer(claim),)
    owner = owner_uid(claim)
    if owner and not is_being_deleted:
        names = [one.name for one in metadata.owner_references or () if one.uid == owner]
        pod: Pod | None = view.get(PODS, f"{metadata.namespace}/{names[0]}")
        if pod is not None and (pod.metadata.uid != owner or is_done(pod)):
            options = DeleteOptions(preconditions=Preconditions(uid=metadata.uid))
            because = "the pod for which it was created has ended"
            deletion = Request(
                "delete",
                RESOURCE_CLAIMS,
                metadata.namespace or "",
                metadata.name or "",
                body=options,
                because=because,
            )
            return (deletion,)
    return ()


def _is_only_protected(view: View, claim: ResourceClaim) -> bool:
    """DRA-14: whether the finalizer is left of an allocation, and no pod is known to wait."""
    metadata = claim.metadata
    return (
        FINALIZER in (metadata.finalizers or ())
        and metadata.deletion_timestamp is None
        and claim.status.allocation is None
        and not claim.status.reserved_for
        and _was_freed(view, claim)
    )


def _unprotect(claim: ResourceClaim, key: Key, memory: Memory, now: Instant) -> Plan:
    """DRA-14: remove the finalizer if the claim stays as it is. The view may not show a pod yet for
    which the scheduler has just set it, so both would write in turn."""
    version = claim.metadata.resource_version
    known: Protected | None = memory.get(key)
    if known is None or known[0] != version:
        return Plan(memory=memory.set(key, (version, now)), wake_at=now + RETRY)
    if now < known[1] + RETRY:
        return Plan(memory=memory, wake_at=known[1] + RETRY)
    return Plan(((_without_finalizer(claim),),), memory=memory.delete(key))


def _without_finalizer(claim: ResourceClaim) -> Request:
    finalizers = tuple([one for one in claim.metadata.finalizers or () if one != FINALIZER])
    changed = replace(claim.metadata, finalizers=finalizers or None)
    return update_of(RESOURCE_CLAIMS, replace(claim, metadata=changed), "it holds no devices")


def _was_freed(view: View, claim: ResourceClaim) -> bool:
    """Whether no pod that is being scheduled may be about to use the claim: the scheduler sets the
    finalizer before the allocation."""
    pods = list(view.indexed(PODS, "resource_claim", key_of(claim)))
    if extended_owner(claim):  # its pod does not name it before it is reserved (DRA-25)
        references = claim.metadata.owner_references or ()
        keys = [f"{claim.metadata.namespace}/{one.name}" for one in references if one.controller]
        pods += [pod for key in keys if (pod := view.get(PODS, key)) is not None]
    return all(is_done(pod) or bool(pod.spec.node_name) for pod in pods)
