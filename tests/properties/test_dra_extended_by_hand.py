"""The claim for the extended resources of a pod, function by function: when a pod needs one, its
requests, and every write (DRA-23 to DRA-25 in spec/devices.md). Each compares the whole result."""

from __future__ import annotations

from itertools import product

import pytest
from immutables import Map
from msgspec.structs import replace
from sched_worlds import a_node
from test_dra import DRIVER, GONE, SCHEDULER, a_claim, a_class, a_device, a_slice, exactly, using
from test_dra_extended import GPU, OWN, a_pod, container, provides, with_resource
from test_dra_pools import facts, having
from workload_helpers import NOW, change, view_of

from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resource_v1 import (
    DeviceClaim,
    DeviceRequest,
    ExactDeviceRequest,
    ResourceClaim,
    ResourceClaimSpec,
)
from refk8s.core.api.resources import PODS, RESOURCE_CLAIMS
from refk8s.core.context import timestamp
from refk8s.core.pods.devices import EXTENDED_ANNOTATION, FINALIZER
from refk8s.core.scheduler.claimed import claimed_by
from refk8s.core.scheduler.claims import Devices, Kept, given_back, readiness
from refk8s.core.scheduler.device_pools import results_of
from refk8s.core.scheduler.extended_devices import (
    NOT_CREATED,
    STALE,
    ExtendedClaims,
    Mapped,
    classes_by_resource,
    extended_writes,
    lacking,
    removals,
    requests_of,
    with_backed,
)
from refk8s.core.scheduler.profile import DEFAULT_PROFILE
from refk8s.core.scheduler.snapshot import facts_of, info_of, recompute
from refk8s.core.value import evolve

WITHOUT = evolve(DEFAULT_PROFILE, filters=DEFAULT_PROFILE.filters - {"DynamicResources"})


def backed(pod, *objects, profile=DEFAULT_PROFILE):
    view = view_of(SCHEDULER, pod, *objects)
    return with_backed(view, info_of(pod), profile)


def wanting(name, count, device_class="gpu"):
    exact = ExactDeviceRequest(
        device_class_name=device_class, allocation_mode="ExactCount", count=count
    )
    return DeviceRequest(name=name, exactly=exact)


# --- which resources and nodes --------------------------------------------------------------------


def test_dra_23_a_pod_is_backed_by_the_classes_that_there_are():
    pod = a_pod(container("c", cpu=1, gpu=1, own=2))
    assert backed(pod, provides()).needs.backed == (OWN, GPU)[::-1] or set(backed(pod, provides()).needs.backed) == {GPU, OWN}  # fmt: skip
    assert backed(pod, provides(resource=None)).needs.backed == (OWN,)
    for none in (backed(pod), backed(pod, provides(), profile=WITHOUT)):
        assert none.needs.backed == ()
    info = backed(pod, provides())
    view = view_of(SCHEDULER, pod, provides())
    assert with_backed(view, info, DEFAULT_PROFILE) is info
    assert with_backed(view, info, WITHOUT).needs.backed == ()
    plain = info_of(a_pod(container("c", cpu=1)))
    assert with_backed(view, plain, DEFAULT_PROFILE) is plain
    assert with_backed(view_of(SCHEDULER), info, DEFAULT_PROFILE).needs.backed == ()


def test_dra_23_of_several_classes_the_youngest_and_then_the_first_by_name_counts():
    old, new = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    for a, b, expected in ((old, new, "b"), (new, old, "a"), (old, old, "a"), (None, old, "b")):
        classes = {name: provides(name, "x.io/r", at) for name, at in (("b", b), ("a", a))}
        found = dict(classes_by_resource(classes))
        assert found == {
            "x.io/r": expected,
            "deviceclass.resource.kubernetes.io/a": "a",
            "deviceclass.resource.kubernetes.io/b": "b",
        }
    claims_it = {name: provides(name, "deviceclass.resource.kubernetes.io/b", old) for name in "ab"}
    assert classes_by_resource(claims_it)["deviceclass.resource.kubernetes.io/b"] == "b"
    assert classes_by_resource({}) == {}


def test_dra_23_a_node_lacks_what_it_has_none_of():
    for much, missing in ((0, (GPU, OWN)), (1, (OWN,))):
        assert lacking((GPU, OWN), facts_of(with_resource("a", much))) == missing
    assert lacking((GPU,), facts_of(a_node("a"))) == (GPU,)


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", list(product([0, 1, 2, 3], [0, 2], [0, 2], [1, 4])))
def test_dra_24_init_containers_use_what_starts_later_and_the_rest_is_one_request(case):
    """An init container that ends, a sidecar, another one that ends, and a container."""
    first, sidecar, second, regular = case
    init = [(container("i", gpu=first), False), (container("s", gpu=sidecar), True), (container("j", gpu=second), False)]  # fmt: skip
    pod = a_pod(container("c", gpu=regular), init=init)
    requests, mapped = requests_of(pod, (GPU,), {GPU: "gpu"})
    lack_first = max(0, first - sidecar - regular)
    lack_second = max(0, second - regular)
    counts = {}
    if sidecar:
        counts["container-1-request-0"] = sidecar
    counts["container-3-request-0"] = regular
    most = max(lack_first, lack_second)
    extra = "container-0-request-0" if lack_first >= lack_second else "container-2-request-0"
    if most:
        counts[extra] = most
    assert requests == tuple(wanting(name, counts[name]) for name in sorted(counts))
    uses = []
    if sidecar:
        uses.append(("s", "container-1-request-0"))
    uses.append(("c", "container-3-request-0"))
    for name, amount, later in (
        ("i", first, (("container-1-request-0", sidecar), ("container-3-request-0", regular))),
        ("j", second, (("container-3-request-0", regular),)),
    ):
        for request, count in later:
            if amount > 0 and count:
                uses.append((name, request))
                amount -= count
        if amount > 0:
            uses.append((name, extra))
    assert mapped == tuple(Mapped(name, GPU, request) for name, request in uses)


def test_dra_24_several_resources_and_no_requests():
    first = container("a", cpu=1, gpu=2, own=1)
    bare = {"name": "b", "image": "i"}
    requests, mapped = requests_of(a_pod(first, bare), [OWN, GPU], {GPU: "x", OWN: "gpu"})
    assert requests == (wanting("container-0-request-1", 1), wanting("container-0-request-2", 2, "x"))  # fmt: skip
    assert mapped == (Mapped("a", OWN, "container-0-request-1"), Mapped("a", GPU, "container-0-request-2"))  # fmt: skip
    assert requests_of(a_pod(bare), (GPU,), {GPU: "x"}) == ((), ())


def test_dra_24_the_claim_is_controlled_by_the_pod_and_one_for_equal_nodes():
    pod = a_pod(container("c", gpu=1, own=1))
    claims = ExtendedClaims(pod, (GPU, OWN), {"gpu": provides()})
    claim, mapped = claims.of_node(facts())
    reference = OwnerReference(api_version="v1", kind="Pod", name="p", uid="uid-p", controller=True)
    requests, expected = requests_of(pod, (GPU, OWN), {GPU: "gpu", OWN: "gpu"})
    assert claim == ResourceClaim(
        metadata=ObjectMeta(
            name=NOT_CREATED,
            namespace="default",
            annotations={EXTENDED_ANNOTATION: "true"},
            owner_references=(reference,),
        ),
        spec=ResourceClaimSpec(devices=DeviceClaim(requests=requests)),
    )
    assert mapped == expected and claims.of_node(facts("b")) is claims.of_node(facts())
    own, _ = claims.of_node(facts_of(with_resource("b")))
    assert [one.name for one in own.spec.devices.requests] == ["container-0-request-0"]
    both = with_resource("b", resource=OWN)
    allocatable = {**both.status.allocatable, GPU: "1"}
    both = change(both, allocatable=allocatable)
    assert claims.of_node(facts_of(both)) is None


# --- the claims of a pod on a node ----------------------------------------------------------------

POD = a_pod(container("c", gpu=1))
ONE = (provides(), a_slice("a", a_device("d")))


def seen(pod, *objects):
    view = view_of(SCHEDULER, pod, *objects)
    info = with_backed(view, info_of(pod), DEFAULT_PROFILE)
    return Devices(view, info, Map(), Kept(), 2)


def test_dra_4_dra_23_devices_for_extended_resources_are_found_with_those_of_claims():
    devices = seen(POD, *ONE)
    assert devices.blocked == "" and devices.refusal(facts()) is None
    assert devices.refusal(facts("b")).messages == ("cannot allocate all claims",)
    here = facts_of(with_resource("c"))
    assert devices.refusal(here) is None and devices.allocations(here) == ()
    (one,) = devices.allocations(facts())
    claim, mapped = devices.extended.of_node(facts())
    assert (one.claim, one.uid, one.pod_uid) == (f"default/{NOT_CREATED} uid-p", "", "uid-p")
    assert one.claimed is claim and one.mapped == mapped
    assert [each.device for each in results_of(one.allocation)] == ["d"]
    listed = replace(using("c", name="p").spec, containers=POD.spec.containers)
    both = replace(POD, spec=listed)
    room = a_slice("a", a_device("d"), a_device("e"))
    devices = seen(both, provides(), room, a_claim(exactly()))
    first, second = devices.allocations(facts())
    assert (first.claim, second.claimed is not None) == ("default/c", True)
    assert [each.device for one in (first, second) for each in results_of(one.allocation)] == ["d", "e"]  # fmt: skip
    assert seen(both, *ONE, a_claim(exactly())).allocations(facts()) == ()
    assert [one.claim for one in devices.allocations(here)] == []
    only_extended = seen(POD, *ONE)
    begun = only_extended._steps, only_extended._units
    assert only_extended.refusal(here) is None
    assert (only_extended._steps, only_extended._units) == begun  # a node that has the resource
    assert only_extended._results["c"].facts is here
    for left in ((0, 5), (5, 0), (0, 0)):
        fresh = seen(POD, *ONE)
        fresh._steps, fresh._units = left
        assert fresh.refusal(here) is None
    account = claimed_by(view_of(SCHEDULER, POD, *ONE), devices.pod, DEFAULT_PROFILE, recompute([a_node("a")], []))  # fmt: skip
    assert account.devices is not None


def test_dra_25_a_pod_waits_while_its_former_claim_is_deleted():
    old = stored_claim(POD)
    assert seen(POD, *ONE, old).blocked == STALE
    assert STALE == "the claim of an earlier attempt for its extended resources is being deleted"
    view = view_of(SCHEDULER, *ONE)
    info = with_backed(view, info_of(POD), DEFAULT_PROFILE)
    assert Devices(view, info, Map(), Kept(), 1).blocked == "the pod is gone"
    renewed = replace(POD, metadata=replace(POD.metadata, uid="new"))
    view = view_of(SCHEDULER, renewed, *ONE)
    assert Devices(view, info, Map(), Kept(), 1).blocked == "the pod is gone"


# --- what is written ------------------------------------------------------------------------------


def decided(pod=POD, *objects):
    return seen(pod, *(objects or ONE)).allocations(facts())


def stored_claim(pod, name="p-ext", **parts):
    """The claim as the API server has it after its creation."""
    (one,) = decided(pod)
    metadata = replace(one.claimed.metadata, name=name, uid=f"uid-{name}")
    return change(replace(one.claimed, metadata=metadata), **parts)


def writes(*objects, pod=POD, chosen=None, slices=ONE):
    view = view_of(SCHEDULER, pod, *slices, *objects)
    info = with_backed(view, info_of(pod), DEFAULT_PROFILE)
    given = decided(pod) if chosen is None else chosen
    return extended_writes(view, info, given, view.fold("devices"), NOW)


def with_allocation(claim, *uids, at=NOW, allocation=None):
    (one,) = decided()
    found = replace(allocation or one.allocation, allocation_timestamp=timestamp(at))
    consumers = having(("d", None, {})).status.reserved_for
    from refk8s.core.pods.devices import consumer

    consumers = tuple([consumer(uid.removeprefix("uid-"), uid) for uid in uids]) or None
    return replace(claim, status=replace(claim.status, allocation=found, reserved_for=consumers))


def test_dra_25_the_claim_is_created_protected_allocated_and_named():
    (one,) = decided()
    (request,) = writes()
    assert (request.verb, request.resource, request.namespace, request.name) == ("create", RESOURCE_CLAIMS, "default", "")  # fmt: skip
    metadata = replace(one.claimed.metadata, name=None, generate_name="p-extended-resources-")
    assert request.body == replace(one.claimed, metadata=metadata)
    assert request.because == "pod default/p requests resources that classes of devices provide"
    claim = stored_claim(POD, finalizers=("x",))
    (request,) = writes(claim)
    assert (request.verb, request.subresource, request.name) == ("update", "", "p-ext")
    assert request.resource == RESOURCE_CLAIMS
    assert request.body == change(claim, finalizers=("x", FINALIZER))
    assert request.because == "devices are allocated to it for pod default/p"
    bare = stored_claim(POD)
    (request,) = writes(bare)
    protected = request.body
    assert protected.metadata.finalizers == (FINALIZER,)
    (request,) = writes(protected)
    assert (request.verb, request.subresource) == ("update", "status")
    assert request.resource == RESOURCE_CLAIMS
    assert request.because == "pod default/p has a node with its devices"
    assert request.body == with_allocation(protected, "uid-p")
    (request,) = writes(with_allocation(protected, "uid-q"))
    assert request.body == with_allocation(protected, "uid-q", "uid-p")
    done = with_allocation(protected, "uid-p", at=NOW - 5)
    (request,) = writes(done)
    assert (request.verb, request.resource, request.subresource, request.name) == ("patch", PODS, "status", "p")  # fmt: skip
    assert request.because == "its devices are allocated to claim p-ext"
    mapping = {"containerName": "c", "resourceName": GPU, "requestName": "container-0-request-0"}
    told = {"resourceClaimName": "p-ext", "requestMappings": [mapping]}
    assert request.body.document == {"metadata": {"uid": "uid-p"}, "status": {"extendedResourceClaimStatus": told}}  # fmt: skip
    from refk8s.core.api.core_v1 import PodExtendedResourceClaimStatus

    for name, is_written in (("p-ext", False), ("other", True)):
        status = PodExtendedResourceClaimStatus(resource_claim_name=name, request_mappings=())
        assert bool(writes(done, pod=change(POD, extended_resource_claim_status=status))) is is_written  # fmt: skip
    view = view_of(SCHEDULER, *ONE, done)
    info = with_backed(view, info_of(POD), DEFAULT_PROFILE)
    assert extended_writes(view, info, decided(), view.fold("devices"), NOW) == ()  # no pod


def test_dra_25_a_pod_is_decided_again_if_the_claim_or_a_device_is_another():
    claim = stored_claim(POD, finalizers=(FINALIZER,))
    taken = having(("d", None, {}), name="h")
    assert writes(chosen=()) == () and writes(claim, chosen=()) is None
    plain = using("c")
    from test_dra_claims import decided_for

    other = decided_for(plain, a_claim(exactly()), a_class(), ONE[1])
    assert writes(chosen=(other,)) == ()
    (request,) = writes(chosen=(other, *decided()))
    assert request.verb == "create"
    assert writes(taken) is None and writes(claim, taken) is None
    elsewhere = having(("x", None, {})).status.allocation
    requests = replace(claim.spec.devices, requests=(wanting("container-0-request-0", 2),))
    for lost in (
        (claim, stored_claim(POD, "second")),
        (change(claim, deletion_timestamp=GONE),),
        (replace(claim, spec=replace(claim.spec, devices=requests)),),
        (with_allocation(claim, "uid-p", allocation=elsewhere),),
        (with_allocation(claim, allocation=elsewhere),),
    ):
        assert writes(*lost) is None
    for parts in (wanting("other", 1), wanting("container-0-request-0", 1, "y")):
        spec = replace(claim.spec.devices, requests=(parts,))
        assert writes(replace(claim, spec=replace(claim.spec, devices=spec))) is None


def test_dra_25_claims_of_a_pod_that_is_not_bound_are_deleted():
    plain = stored_claim(POD, "a")
    kept = stored_claim(POD, "b", finalizers=("x", FINALIZER))
    last = stored_claim(POD, "c", finalizers=(FINALIZER,), deletion_timestamp=GONE)
    of_other = change(stored_claim(POD, "d"), owner_references=None)

    def removed(*claims):
        return removals(view_of(SCHEDULER, *claims), "uid-p")

    because = "its pod was not bound with it"
    first, second = removed(plain, kept, last, of_other)
    assert [(one.verb, one.subresource, one.body) for one in first] == [
        ("update", "", change(kept, finalizers=("x",))),
        ("update", "", change(last, finalizers=None)),
    ]
    assert second == tuple(
        Request(
            "delete", RESOURCE_CLAIMS, "default", name, because=because,
            body=DeleteOptions(preconditions=Preconditions(uid=f"uid-{name}")),
        )
        for name in "ab"
    )  # fmt: skip
    assert all(one.because == because and one.resource == RESOURCE_CLAIMS for one in first)
    assert removed() == () == removed(of_other)
    assert [len(wave) for wave in removed(plain)] == [1] == [len(wave) for wave in removed(last)]


def test_dra_19_the_claim_for_extended_resources_is_waited_for_and_given_back():
    waits = {"bindingConditions": ["up"]}
    claim = stored_claim(POD)
    allocation = having(("d", None, waits)).status.allocation
    claim = with_allocation(claim, "uid-p", allocation=allocation)
    view = view_of(SCHEDULER, POD, *ONE, claim)
    info = with_backed(view, info_of(POD), DEFAULT_PROFILE)
    found = readiness(view, info, NOW, 600)
    assert not found.is_ready and found.until == NOW + 600
    (request,) = given_back(view, info)
    assert request.name == "p-ext" and request.body.status.reserved_for is None
    assert readiness(view, info_of(POD), NOW, 600).is_ready  # no class provides it
    assert DRIVER and EXTENDED_ANNOTATION
