"""Predicates of devices and their claims. Rules DRA-4, DRA-5, DRA-8, DRA-12 to DRA-14,
DRA-20 to DRA-22 (spec/devices.md).

This shares no code with the scheduler and the controller. Claims are found by the name that the
pod's spec or status has; only requests of a number of devices without selectors are judged.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from refk8s.core.properties.oracle import is_finished, term_matches, tolerates

PROTECTION = "resource.kubernetes.io/delete-protection"

Claims = Mapping[tuple[str, str], Any]
"""Claims by namespace and name."""


def by_name(claims: Iterable[Any]) -> Claims:
    return {(claim.metadata.namespace, claim.metadata.name): claim for claim in claims}


def has_ended(pod: Any) -> bool:
    """No container of the pod runs, or will: it is finished, or is deleted before it had a node."""
    return is_finished(pod) or (
        pod.metadata.deletion_timestamp is not None and not pod.spec.node_name
    )


def results(claim: Any) -> tuple[Any, ...]:
    allocation = claim.status.allocation
    return (allocation.devices.results or ()) if allocation is not None else ()


def reserved_uids(claim: Any) -> list[str]:
    return [one.uid for one in claim.status.reserved_for or ()]


def claim_names(pod: Any) -> list[tuple[str, str | None]]:
    """Each claim in the pod's spec, and the name of its object (None: not created yet); and the
    one for its extended resources (DRA-25)."""
    told = {one.name: one.resource_claim_name for one in pod.status.resource_claim_statuses or ()}
    found = [
        (one.name, one.resource_claim_name or told.get(one.name))
        for one in pod.spec.resource_claims or ()
    ]
    extended = pod.status.extended_resource_claim_status
    return found + ([("", extended.resource_claim_name)] if extended is not None else [])


def dra_25_devices_for_extended_resources(
    pod: Any, node: Any, classes: Iterable[Any]
) -> Iterator[str]:
    """DRA-25: a pod with a node that does not have an extended resource, which a class provides,
    names its claim."""
    provided = {one.spec.extended_resource_name for one in classes}
    for container in (*(pod.spec.init_containers or ()), *pod.spec.containers):
        for name, amount in (container.resources.requests or {}).items():
            if (
                name in provided
                and amount != "0"
                and (node.status.allocatable or {}).get(name, "0") == "0"
                and pod.status.extended_resource_claim_status is None
            ):
                yield f"pod {pod.metadata.name} has a node, and no devices for {name}"


def dra_5_one_claim_for_a_device(claims: Iterable[Any]) -> Iterator[str]:
    """DRA-5, DRA-7, DRA-17: no device is allocated to two claims, except in shares, and with
    administrative access."""
    seen: dict[tuple[str, str, str], tuple[str, bool]] = {}
    for claim in claims:
        for one in results(claim):
            device, mine = (one.driver, one.pool, one.device), claim.metadata.name
            if one.admin_access:
                continue
            other, is_share = seen.setdefault(device, (mine, one.share_id is not None))
            if other != mine and not (is_share and one.share_id is not None):
                yield f"device {'/'.join(device)} is allocated to {other} and to {mine}"


def dra_8_has_its_devices(pod: Any, node: Any, claims: Claims) -> Iterator[str]:
    """DRA-8: the claims of a pod with a node are allocated, where the node is, and reserved."""
    for own, name in claim_names(pod):
        claim = claims.get((pod.metadata.namespace, name or ""))
        if claim is None or claim.status.allocation is None:
            yield f"pod {pod.metadata.name} has a node, and claim {own} is not allocated"
        elif pod.metadata.uid not in reserved_uids(claim):
            yield f"pod {pod.metadata.name} has a node, and claim {own} is not reserved for it"
        elif not _is_reached(claim, node):
            yield f"pod {pod.metadata.name} is not where the devices of claim {own} are"


def _is_reached(claim: Any, node: Any) -> bool:
    selector = claim.status.allocation.node_selector
    labels, name = node.metadata.labels or {}, node.metadata.name
    return selector is None or any(
        term_matches(term, labels, name) for term in selector.node_selector_terms
    )


def dra_13_reserved_while_it_runs(old: Any, new: Any, pods: Mapping[str, Any]) -> Iterator[str]:
    """DRA-13, of two versions of a claim: only pods that have ended or wait are removed. `pods`: by
    uid."""
    kept = reserved_uids(new)
    for uid in reserved_uids(old):
        pod = pods.get(uid)
        if uid not in kept and pod is not None and pod.spec.node_name and not has_ended(pod):
            yield (
                f"claim {new.metadata.name} is no longer reserved for "
                f"{pod.metadata.name}, which runs"
            )


def dra_13_settled(claims: Iterable[Any], pods: Iterable[Any]) -> Iterator[str]:
    """DRA-13: claims are reserved for pods that have not ended, and else not allocated."""
    alive = {pod.metadata.uid for pod in pods if not has_ended(pod)}
    for claim in claims:
        name, reserved = claim.metadata.name, reserved_uids(claim)
        for uid in reserved:
            if uid not in alive:
                yield f"claim {name} is reserved for {uid}, which has ended"
        if claim.status.allocation is not None and not reserved:
            yield f"claim {name} is allocated, and reserved for no pod"


def dra_14_settled(claims: Iterable[Any], pods: Iterable[Any]) -> Iterator[str]:
    """DRA-14: a claim without devices is not protected unless a pod waits for it, and one that was
    made for a pod goes with it."""
    pods = list(pods)
    alive = {pod.metadata.uid for pod in pods if not has_ended(pod)}
    waited_for = {
        (pod.metadata.namespace, name)
        for pod in pods
        if not has_ended(pod) and not pod.spec.node_name
        for _, name in claim_names(pod)
    }
    for claim in claims:
        metadata, is_held = claim.metadata, claim.status.allocation is not None
        owners = [one.uid for one in metadata.owner_references or () if one.kind == "Pod"]
        if owners and not alive & set(owners):
            yield f"claim {metadata.name} was made for a pod that has ended"
        if metadata.deletion_timestamp is not None and not is_held:
            yield f"claim {metadata.name} is deleted and holds nothing, and is still there"
        if (
            PROTECTION in (metadata.finalizers or ())
            and not is_held
            and (metadata.namespace, metadata.name) not in waited_for
        ):
            yield f"claim {metadata.name} is protected, and no pod waits for it"


def dra_12_settled(pods: Iterable[Any], claims: Claims, templates: Claims) -> Iterator[str]:
    """DRA-12: a pod that has not ended has a claim of its own for each template that exists."""
    for pod in pods:
        metadata = pod.metadata
        if has_ended(pod) or metadata.deletion_timestamp is not None:
            continue
        names = dict(claim_names(pod))
        for one in pod.spec.resource_claims or ():
            if (metadata.namespace, one.resource_claim_template_name) not in templates:
                continue
            claim = claims.get((metadata.namespace, names[one.name] or ""))
            owners = claim.metadata.owner_references or () if claim is not None else ()
            if metadata.uid not in [owner.uid for owner in owners]:
                yield f"pod {metadata.name} has no claim {one.name} of its own"


# --- taints ---------------------------------------------------------------------------------------


def _taints(id: tuple[str, str, str], device: Any, rules: Iterable[Any]) -> list[Any]:
    """DRA-20: the taints of a device, from its slice (None: it is in none) and from rules."""
    found = list(device.taints or ()) if device is not None else []
    for rule in rules:
        selector = rule.spec.device_selector
        if selector is None:
            continue
        wanted = (selector.driver, selector.pool, selector.device)
        if all(one is None or one == own for one, own in zip(wanted, id, strict=True)):
            found.append(rule.spec.taint)
    return found


def dra_21_settled(
    pods: Iterable[Any], claims: Iterable[Any], slices: Iterable[Any], rules: Sequence[Any]
) -> Iterator[str]:
    """DRA-21: no pod stays that uses a device with a NoExecute taint that it does not tolerate. One
    that tolerates it for a time is not judged."""
    running = {
        pod.metadata.uid: pod
        for pod in pods
        if pod.spec.node_name and not has_ended(pod) and pod.metadata.deletion_timestamp is None
    }
    slices = list(slices)
    for claim in claims:
        for one in results(claim):
            id = (one.driver, one.pool, one.device)
            device = _newest_device(id, slices)
            bad = [
                taint
                for taint in _taints(id, device, rules)
                if taint.effect == "NoExecute"
                and not any(tolerates(each, taint) for each in one.tolerations or ())
            ]
            for uid in reserved_uids(claim) if bad else ():
                if uid in running:
                    name = running[uid].metadata.name
                    yield f"pod {name} uses {'/'.join(id)}, which has a taint {bad[0].key}"


def _newest_device(id: tuple[str, str, str], slices: Iterable[Any]) -> Any:
    driver, pool, name = id
    own = [one for one in slices if (one.spec.driver, one.spec.pool.name) == (driver, pool)]
    newest = max((one.spec.pool.generation for one in own), default=0)
    devices = [
        each
        for one in own
        if one.spec.pool.generation == newest
        for each in one.spec.devices or ()
        if each.name == name
    ]
    return devices[0] if devices else None


def dra_22_settled(rules: Iterable[Any]) -> Iterator[str]:
    """DRA-22: each rule says of its present spec how far its evictions are, and none is left."""
    for rule in rules:
        told = {one.type: one for one in rule.status.conditions or ()}
        condition, name = told.get("EvictionInProgress"), rule.metadata.name
        if condition is None or condition.observed_generation != rule.metadata.generation:
            yield f"rule {name} has no condition for its spec"
        elif condition.status != "False":
            yield f"rule {name} says: {condition.message}"


# --- why a pod waits ------------------------------------------------------------------------------


def why_no_devices(
    pod: Any, node: Any, claims: Sequence[Any], slices: Iterable[Any], rules: Sequence[Any] = ()
) -> list[str]:
    """DRA-4: why the node has no devices for the pod. Requests that are not judged count as a
    reason."""
    if not pod.spec.resource_claims:
        return []
    held = {
        (one.driver, one.pool, one.device)
        for claim in claims
        for one in results(claim)
        if not one.admin_access
    }
    there = _devices_of(node, slices)
    wrong, named = [], by_name(claims)
    for own, name in claim_names(pod):
        claim = named.get((pod.metadata.namespace, name or ""))
        if claim is None or claim.metadata.deletion_timestamp is not None:
            wrong.append(f"claim {own} does not exist, or is being deleted")
            continue
        if claim.status.allocation is not None:
            others = [uid for uid in reserved_uids(claim) if uid != pod.metadata.uid]
            if others and not _is_reached(claim, node):
                wrong.append(f"claim {own} has devices of another node")
            continue
        for request in claim.spec.devices.requests or ():
            exact = request.exactly
            if exact is None or exact.selectors or exact.allocation_mode != "ExactCount":
                wrong.append(f"claim {own} is not judged")
                continue
            free = [
                id
                for id, device in there
                if (exact.admin_access or id not in held)
                and all(
                    taint.effect == "None"
                    or any(tolerates(one, taint) for one in exact.tolerations or ())
                    for taint in _taints(id, device, rules)
                )
            ]
            if len(free) < exact.count:
                wrong.append(f"claim {own} wants {exact.count} devices, and {len(free)} are free")
            elif not exact.admin_access:
                held |= set(free[: exact.count])
    return wrong


def _devices_of(node: Any, slices: Iterable[Any]) -> list[tuple[tuple[str, str, str], Any]]:
    """The devices of this node, of pools that are complete; only slices that name a node."""
    pools: dict[tuple[str, str], list[Any]] = {}
    for each in slices:
        pools.setdefault((each.spec.driver, each.spec.pool.name), []).append(each)
    found = []
    for (driver, pool), members in sorted(pools.items()):
        newest = max(each.spec.pool.generation for each in members)
        members = [each for each in members if each.spec.pool.generation == newest]
        if len(members) == members[0].spec.pool.resource_slice_count:
            found += [
                ((driver, pool, device.name), device)
                for each in members
                if each.spec.node_name == node.metadata.name
                for device in each.spec.devices or ()
            ]
    return found
