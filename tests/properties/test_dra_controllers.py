"""The controllers of claims and of tainted devices, function by function: who is due after a change,
and every request in full (DRA-12 to DRA-14, DRA-21, DRA-22 in spec/devices.md)."""

from __future__ import annotations

import pytest
from immutables import Map
from msgspec.structs import replace
from test_dra import DRIVER, GONE, a_claim, a_device, a_slice, allocated, exactly, made, using
from test_dra_by_hand import owned_by, owner, with_claims
from test_dra_pools import having
from test_dra_taints import a_rule, holding, tolerating
from workload_helpers import NOW, change, view_of

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import PodExtendedResourceClaimStatus
from refk8s.core.api.meta_v1 import (
    Condition,
    DeleteOptions,
    ObjectMeta,
    OwnerReference,
    Preconditions,
    Status,
)
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resource_v1 import ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    PODS,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.device_taint_eviction import DeviceTaintEviction, Memory, Pending
from refk8s.core.controllers.resource_claim import ResourceClaimController, is_done
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Local, Note, Plan
from refk8s.core.pods.devices import EXTENDED_ANNOTATION, FINALIZER, POD_CLAIM_ANNOTATION

CLAIMS, TAINTS = ResourceClaimController(), DeviceTaintEviction()


def keys_of(controller, resource):
    (found,) = [one.keys for one in controller.interests if one.resource == resource]
    return found


def claims_planned(key, *objects, memory=None, now=NOW) -> Plan:
    local = Local(memory=Map() if memory is None else memory)
    return CLAIMS.reconcile(view_of(CLAIMS, *objects), key, now, local)


def of_pod(*objects) -> Plan:
    return claims_planned("pod default/p", *objects)


def of_claim(*objects, **more) -> Plan:
    return claims_planned("claim default/c", *objects, **more)


def only(plan) -> Request:
    ((request,),) = plan.waves
    return request


def waiting_for(*templates, **parts):
    """A pod whose claims a, b ... are of these templates."""
    return with_claims(*[("abc"[n], None, name) for n, name in enumerate(templates)], **parts)


def a_template(name="t", **metadata):
    spec = {"spec": codec.to_tree(a_claim(exactly()).spec), **({"metadata": metadata} if metadata else {})}  # fmt: skip
    return made(ResourceClaimTemplate, name, spec=spec)


def generated(name="c", of="a", uid="uid-p", **parts):
    """A claim that was created for a pod."""
    claim = owned_by(owner(uid=uid), annotations={POD_CLAIM_ANNOTATION: of})
    return change(claim, name=name, **parts)


# --- claims: who is due ---------------------------------------------------------------------------


def test_dra_12_dra_13_a_change_makes_pods_and_claims_due():
    pod = with_claims(("a", "x", None), ("b", None, "t"), statuses={"b": "y"}, extended="z")
    plain, other = using(), with_claims(("a", "w", None))
    view = view_of(CLAIMS, pod)
    pods = keys_of(CLAIMS, PODS)
    due = ["claim default/x", "claim default/y", "claim default/z", "pod default/p"]
    for old, new in ((None, pod), (pod, None), (pod, pod), (plain, pod), (pod, plain)):
        assert list(pods(view, old, new)) == due
    assert list(pods(view, pod, other)) == ["claim default/w", *due]
    for old, new in ((None, plain), (plain, None), (plain, plain)):
        assert list(pods(view, old, new)) == []
    claims = keys_of(CLAIMS, RESOURCE_CLAIMS)
    named = change(a_claim(exactly()), name="x")
    user = using("x", name="q")
    view = view_of(CLAIMS, pod, user)
    assert claims(view, None, named) == ["claim default/x", "pod default/p", "pod default/q"]
    assert claims(view, named, None) == claims(view, named, named) == claims(view, None, named)
    assert claims(view, None, generated("new")) == ["claim default/new", "pod default/p"]
    assert claims(view, None, a_claim(exactly())) == ["claim default/c"]
    assert claims(view, named, generated("new")) == ["claim default/new", "pod default/p"]
    templates = keys_of(CLAIMS, RESOURCE_CLAIM_TEMPLATES)
    assert templates(view, None, a_template()) == ["pod default/p"]
    assert templates(view, a_template(), None) == [] == templates(view, None, a_template("u"))
    foreign = change(a_template(), namespace="other")
    assert templates(view, None, foreign) == []


def test_dra_12_the_view_finds_pods_and_claims_of_each_other():
    pod, claim = waiting_for("t", "u", extended="e"), generated()
    plain = using(name="q")
    view = view_of(CLAIMS, pod, claim, plain, a_claim(exactly(), name="d"))
    for template in ("t", "u"):
        assert view.indexed_keys(PODS, "claim_template", f"default/{template}") == ["default/p"]
    assert view.indexed_keys(PODS, "uid_with_claims", "uid-q") == []
    assert view.indexed_keys(PODS, "resource_claim", "default/e") == ["default/p"]
    assert view.indexed_keys(PODS, "uid_with_claims", "uid-p") == ["default/p"]
    assert view.indexed_keys(RESOURCE_CLAIMS, "pod", "uid-p") == ["default/c"]
    assert view.indexed_keys(RESOURCE_CLAIMS, "pod", "") == []
    assert CLAIMS.start_memory(NOW) == Map()


@pytest.mark.parametrize(
    ("parts", "done"),
    [
        ({}, False),
        ({"phase": "Running"}, False),
        ({"phase": "Succeeded"}, True),
        ({"phase": "Failed"}, True),
        ({"deletion_timestamp": GONE}, True),
        ({"deletion_timestamp": GONE, "node_name": "a"}, False),
        ({"node_name": "a"}, False),
    ],
)
def test_dra_13_a_pod_is_done_when_no_container_ever_runs(parts, done):
    assert is_done(change(using(), **parts)) is done


# --- claims of templates --------------------------------------------------------------------------


def test_dra_12_the_claim_of_a_template():
    template = a_template(labels={"l": "1"}, annotations={"n": "2", POD_CLAIM_ANNOTATION: "wrong"})
    pod = waiting_for("t")
    request = only(of_pod(pod, template))
    assert (request.verb, request.resource, request.namespace) == ("create", RESOURCE_CLAIMS, "default")  # fmt: skip
    reference = OwnerReference(
        api_version="v1", kind="Pod", name="p", uid="uid-p", controller=True,
        block_owner_deletion=True,
    )  # fmt: skip
    assert request.body == ResourceClaim(
        metadata=ObjectMeta(
            generate_name="p-a-",
            namespace="default",
            labels={"l": "1"},
            annotations={"n": "2", POD_CLAIM_ANNOTATION: "a"},
            owner_references=(reference,),
        ),
        spec=template.spec.spec,
    )
    assert request.because == "pod default/p names template t"
    empty = replace(template, spec=replace(template.spec, spec=None))
    body = only(of_pod(pod, empty)).body
    assert body.spec == ResourceClaimSpec()
    bare = only(of_pod(pod, a_template())).body.metadata
    assert bare.labels is None and bare.annotations == {POD_CLAIM_ANNOTATION: "a"}


@pytest.mark.parametrize(
    ("pod", "claim", "base"),
    [
        ("p" * 50, "c" * 5, f"{'p' * 50}-{'c' * 5}-"),  # 57 letters
        ("p" * 50, "c" * 6, f"{'p' * 49}-{'c' * 5}"),
        ("p" * 63, "c" * 63, f"{'p' * 28}-{'c' * 28}"),
        ("p" * 253, "c", f"{'p' * 56}-"),
    ],
)
def test_dra_12_a_long_name_is_shortened_in_both_parts(pod, claim, base):
    one = with_claims((claim, None, "t"))
    one = replace(one, metadata=replace(one.metadata, name=pod))
    request = only(claims_planned(f"pod default/{pod}", one, a_template()))
    assert request.body.metadata.generate_name == base


def test_dra_12_each_claim_is_created_found_or_missing():
    """Created, named in the status, or waiting for its template, in one plan."""
    pod = with_claims(("a", None, "t"), ("b", None, "t"), ("c", None, "gone"), ("d", "own", None))
    there = generated("p-b-1", of="b")
    plan = of_pod(pod, a_template(), there)
    (creation,), (patch,) = plan.waves
    assert creation.verb == "create" and creation.body.metadata.annotations[POD_CLAIM_ANNOTATION] == "a"  # fmt: skip
    assert (patch.verb, patch.resource, patch.subresource) == ("patch", PODS, "status")
    assert patch.because == "claims were created for it"
    named = [{"name": "b", "resourceClaimName": "p-b-1"}]
    assert patch.body.document == {"metadata": {"uid": "uid-p"}, "status": {"resourceClaimStatuses": named}}  # fmt: skip
    words = (
        'PodResourceClaim c: resource claim template "gone": '
        'resourceclaimtemplate.resource.k8s.io "gone" not found'
    )
    assert plan.notes == (Note(pod, "FailedResourceClaimCreation", words, "Warning"),)
    assert plan.failed and plan.memory is UNCHANGED
    later = with_claims(("d", "own", None), ("c", None, "gone"), ("a", None, "t"))
    after = of_pod(later, a_template())
    assert after.notes == (Note(later, "FailedResourceClaimCreation", words, "Warning"),)
    assert only(after).verb == "create"
    ready = of_pod(waiting_for("t"), a_template())
    assert not ready.failed and ready.notes == ()
    elsewhere = change(a_template(), namespace="other")
    assert of_pod(waiting_for("t"), elsewhere).failed


def test_dra_12_a_claim_counts_if_it_belongs_to_the_pod():
    template = a_template()
    known = waiting_for("t", statuses={"a": "c"})
    for pod, claims, verb in (
        (known, (generated(),), None),
        (waiting_for("t", statuses={"a": None}), (), None),  # it needs none
        (known, (), "create"),
        (known, (generated(uid="other"),), "create"),
        (known, (generated("d"),), "patch"),
        (waiting_for("t"), (generated(deletion_timestamp=GONE),), "create"),
        (waiting_for("t"), (generated(of="b"),), "create"),
        (waiting_for("t"), (generated("d", of="b"), generated("e")), "patch"),
        (waiting_for("t"), (replace(generated(), metadata=replace(generated().metadata, annotations=None)),), "create"),
    ):  # fmt: skip
        plan = of_pod(pod, template, *claims)
        assert [one.verb for one in plan.requests] == ([verb] if verb else [])
        if verb == "patch":
            name = plan.requests[0].body.document["status"]["resourceClaimStatuses"][0]
            assert name == {"name": "a", "resourceClaimName": claims[-1].metadata.name}
    for over in ({"deletion_timestamp": GONE}, {"phase": "Failed"}, {"phase": "Succeeded"}):
        assert of_pod(change(waiting_for("t"), **over), template) == NOTHING
    assert of_pod(template) == NOTHING and of_pod(using()) == Plan()


# --- claims of pods with a node -------------------------------------------------------------------


def test_dra_13_a_pod_that_has_a_node_gets_its_allocated_claims_reserved():
    pod = change(with_claims(("a", "c", None), ("b", None, "t"), ("x", "e", None), statuses={"b": "d"}), node_name="n")  # fmt: skip
    named, second = allocated(a_claim(exactly()), "n", "d", "q"), allocated(a_claim(exactly(), name="e"), "n", "f")  # fmt: skip
    own = generated("d", of="b")
    own = replace(allocated(own, "n", "e"), metadata=own.metadata)
    plan = of_pod(pod, named, own, second, a_template())
    ((first, *rest),) = plan.waves
    assert [one.name for one in (first, *rest)] == ["c", "d", "e"]
    assert (first.verb, first.resource, first.subresource) == ("update", RESOURCE_CLAIMS, "status")
    assert first.because == "pod default/p has a node"
    assert [one.uid for one in first.body.status.reserved_for] == ["uid-q", "uid-p"]
    assert first.body.status.reserved_for[1].name == "p"
    assert first.body.status.allocation == named.status.allocation
    assert first.body.metadata == named.metadata
    crowd = [f"q{n}" for n in range(256)]
    simple = change(with_claims(("a", "c", None)), node_name="n")
    full, almost = (allocated(a_claim(exactly()), "n", "d", *crowd[:n]) for n in (256, 255))
    for claim, is_written in (
        (named, True),
        (almost, True),
        (full, False),
        (a_claim(exactly()), False),
        (change(named, deletion_timestamp=GONE), False),
        (allocated(a_claim(exactly()), "n", "d", "p"), False),
    ):
        assert bool(of_pod(simple, claim).waves) is is_written
    assert of_pod(simple) == Plan()
    assert of_pod(change(simple, node_name=None), named) == Plan()
    foreign = change(with_claims(("b", None, "t"), statuses={"b": "c"}), node_name="n")
    (request,) = of_pod(foreign, named, a_template()).requests
    assert request.verb == "create"  # c is of another pod: it is not reserved
    skipped = change(with_claims(("a", "none", None), ("x", "e", None)), node_name="n")
    assert [one.name for one in of_pod(skipped, second).requests] == ["e"]


# --- a claim --------------------------------------------------------------------------------------


def reserved(claim, *consumers):
    """Each consumer: the name and uid of a pod, or a whole reference."""
    listed = [
        each if isinstance(each, dict) else {"resource": "pods", "name": each, "uid": f"uid-{each}"}
        for each in consumers
    ]
    tree = codec.to_tree(claim.status) | {"reservedFor": listed}
    return replace(claim, status=codec.from_tree(type(claim.status), tree))


def test_dra_13_a_reservation_ends_with_its_pod_and_the_allocation_with_the_last():
    claim = having(("d", None, {}))
    running = change(using("c"), node_name="n")
    over = change(using("c", name="q"), phase="Failed")
    next_of_name = replace(over, metadata=replace(over.metadata, uid="new"), status=running.status)
    group = {"resource": "groups", "name": "q", "uid": "uid-g"}
    foreign = {"resource": "pods", "apiGroup": "x.io", "name": "q", "uid": "uid-q"}
    for consumers, pods, kept in (
        (["p", "q"], [running, over], ["uid-p"]),
        (["q", "p"], [running, over], ["uid-p"]),
        (["p", "q"], [running, next_of_name], ["uid-p"]),
        (["q"], [over], None),
        (["q", group], [over], ["uid-g"]),
        (["q", foreign, "p"], [over, running], ["uid-q", "uid-p"]),
    ):
        there = reserved(claim, *consumers)
        request = only(of_claim(there, *pods))
        assert (request.verb, request.subresource, request.name) == ("update", "status", "c")
        assert request.resource == RESOURCE_CLAIMS
        assert request.because == "pods for which it was reserved have ended"
        status = request.body.status
        assert (status.reserved_for and [one.uid for one in status.reserved_for]) == kept
        assert status.allocation == (claim.status.allocation if kept else None)
        assert request.body == replace(there, status=status)
    for quiet in (reserved(claim, "p"), reserved(claim, "p", group), reserved(claim, foreign)):
        assert of_claim(quiet, running) == Plan(memory=Map())


def test_dra_13_consumers_that_the_view_does_not_show_are_asked_for():
    claim = reserved(having(("d", None, {})), "p", "q", "r")
    running = change(using("c"), node_name="n")
    plan = of_claim(claim, running)
    because = "claim default/c is reserved for it"
    assert plan.queries == tuple(
        Request("get", PODS, "default", name, because=because) for name in "qr"
    )
    asked = {("q", "uid-q"): False, ("r", "uid-r"): False}
    assert plan == Plan(queries=plan.queries, memory=Map({"claim default/c": asked}), wake_at=NOW + 10 * SECOND)  # fmt: skip
    assert of_claim(claim, running, memory=plan.memory) == Plan(memory=plan.memory)
    memory = plan.memory

    def answered(name, response, memory=memory):
        (query,) = [one for one in plan.queries if one.name == name]
        return CLAIMS.answered(memory, "claim default/c", query, response, NOW)

    for response, verdict in (
        (Response(404, Status()), True),
        (Response(200, using(name="q")), False),
        (
            Response(200, replace(using(name="q"), metadata=replace(using().metadata, uid="x"))),
            True,
        ),
        (Response(500, Status()), False),
        (None, False),
    ):
        after, keys = answered("q", response)
        rest = {("q", "uid-q"): True} if verdict else {}
        assert after == Map({"claim default/c": {**rest, ("r", "uid-r"): False}})
        assert tuple(keys) == (("claim default/c",) if verdict else ())
    gone, _ = answered("q", Response(404, Status()))
    both, keys = answered("r", None, gone)
    assert both == Map({"claim default/c": {("q", "uid-q"): True}}) and tuple(keys) == ("claim default/c",)  # fmt: skip
    request = only(of_claim(claim, running, memory=gone))
    assert [one.name for one in request.body.status.reserved_for] == ["p", "r"]
    asked_again = of_claim(claim, running, memory=both)
    assert [one.name for one in asked_again.queries] == ["r"]
    assert asked_again.memory == Map({"claim default/c": {("q", "uid-q"): True, ("r", "uid-r"): False}})  # fmt: skip
    known = of_claim(claim, running, using("c", name="q"), using("c", name="r"), memory=gone)
    assert known.memory == Map() and not known.queries and not known.waves
    foreign = Map({"claim default/c": asked, "claim default/z": asked})
    assert of_claim(memory=foreign) == Plan(memory=Map({"claim default/z": asked}))
    protected = Map({"protected claim default/c": ("1", NOW)})
    assert of_claim(memory=protected) == Plan(memory=Map())
    assert of_claim(memory=Map()) == NOTHING
    emptied, keys = CLAIMS.answered(Map(), "claim default/c", plan.queries[0], None, NOW)
    assert emptied == Map() and tuple(keys) == ()


def test_dra_14_a_claim_that_is_deleted_loses_allocation_and_finalizer():
    claim = change(having(("d", None, {})), deletion_timestamp=GONE, finalizers=("a", FINALIZER, "b"))  # fmt: skip
    request = only(of_claim(claim))
    assert request.subresource == "status" and request.body.status.allocation is None
    assert request.body.status.reserved_for is None
    empty = replace(claim, status=a_claim(exactly()).status)
    request = only(of_claim(empty))
    assert (request.verb, request.subresource) == ("update", "")
    assert request.resource == RESOURCE_CLAIMS
    assert request.body == change(empty, finalizers=("a", "b"))
    assert request.because == "it holds no devices"
    last = change(empty, finalizers=(FINALIZER,))
    assert only(of_claim(last)).body.metadata.finalizers is None
    for quiet in (change(empty, finalizers=("a",)), change(empty, finalizers=None)):
        assert of_claim(quiet).waves == ()
    used = reserved(claim, "p")
    assert of_claim(used, change(using("c"), node_name="n")).waves == ()
    assert of_claim(having(("d", None, {}))).waves == ()  # allocated and not reserved: kept


PROTECTED = "protected claim default/c"


def test_dra_14_a_finalizer_is_removed_after_ten_seconds_without_a_change():
    claim = change(a_claim(exactly()), finalizers=(FINALIZER,), resource_version="7")
    plan = of_claim(claim)
    begun = Map({PROTECTED: ("7", NOW)})
    assert plan == Plan(memory=begun, wake_at=NOW + 10 * SECOND)
    later = NOW + 10 * SECOND
    assert of_claim(claim, memory=begun, now=later - 1) == Plan(memory=begun, wake_at=later)
    due = of_claim(claim, memory=begun, now=later)
    assert only(due).body == change(claim, finalizers=None) and due.memory == Map()
    newer = of_claim(change(claim, resource_version="8"), memory=begun, now=later)
    assert newer == Plan(memory=Map({PROTECTED: ("8", later)}), wake_at=later + 10 * SECOND)
    for other in (
        change(claim, finalizers=("x",)),
        change(claim, finalizers=None),
        replace(claim, status=having(("d", None, {})).status),
    ):
        assert of_claim(other, memory=begun, now=later) == Plan(memory=Map())
    for pod, is_waiting in (
        (using("c"), True),
        (change(using("c"), node_name="n"), False),
        (change(using("c"), phase="Failed"), False),
        (change(using("c"), deletion_timestamp=GONE), False),
        (using("other"), False),
    ):
        assert bool(of_claim(claim, pod).memory) is not is_waiting
    both = using("c"), change(using("c", name="q"), node_name="n")
    assert not of_claim(claim, *both).memory
    extended = owned_by(owner(uid="uid-p", controller=False), owner(uid="uid-q", name="q"), annotations={EXTENDED_ANNOTATION: "true"})  # fmt: skip
    extended = change(extended, finalizers=(FINALIZER,))
    waits = using(name="q")
    assert not of_claim(extended, waits).memory and of_claim(extended, using()).memory
    assert not of_claim(extended, using("c")).memory  # another pod names it
    assert of_claim(extended, change(waits, node_name="n")).memory
    plain = change(owned_by(owner(uid="uid-q", name="q")), finalizers=(FINALIZER,))
    assert of_claim(plain, waits).memory


def test_dra_14_the_claim_of_a_pod_that_has_ended_is_deleted():
    claim = owned_by(OwnerReference(api_version="v1", kind="Job", name="j", uid="j"), owner(uid="uid-p"))  # fmt: skip
    over = change(using(), phase="Succeeded")
    renewed = replace(using(), metadata=replace(using().metadata, uid="new"))
    for pod in (over, renewed):
        request = only(of_claim(claim, pod))
        options = DeleteOptions(preconditions=Preconditions(uid="uid-c"))
        assert (request.verb, request.resource, request.body) == ("delete", RESOURCE_CLAIMS, options)  # fmt: skip
        assert (request.namespace, request.name) == ("default", "c")
        assert request.because == "the pod for which it was created has ended"
    for one, pods in (
        (claim, (using(),)),
        (claim, ()),  # the garbage collector's work
        (change(claim, deletion_timestamp=GONE), (over,)),
        (a_claim(exactly()), (over,)),
        (reserved(claim, "q"), (over, change(using(name="q"), node_name="n"))),
    ):
        assert of_claim(one, *pods).waves == ()


# --- taints: who is due ---------------------------------------------------------------------------


def test_dra_21_dra_22_pods_and_rules_are_due_after_a_change():
    pod, claim = holding()
    pods = keys_of(TAINTS, PODS)
    for old, new in (
        (None, pod),
        (pod, None),
        (pod, pod),
        (change(pod, resource_claims=None), pod),
    ):
        assert pods(None, old, new) == ("pod default/p",)
    only_extended = change(using(), extended_resource_claim_status=PodExtendedResourceClaimStatus(resource_claim_name="e", request_mappings=()))  # fmt: skip
    assert pods(None, None, only_extended) == ("pod default/p",)
    assert pods(None, pod, change(pod, resource_claims=None)) == ()
    claims = keys_of(TAINTS, RESOURCE_CLAIMS)
    group = {"resource": "groups", "name": "g", "uid": "u"}
    foreign = {"resource": "pods", "apiGroup": "x.io", "name": "f", "uid": "u"}
    mixed = reserved(having(("d", None, {})), "b", group, foreign, "a")
    assert claims(None, None, mixed) == ["pod default/b", "pod default/a"]
    assert claims(None, claim, mixed) == ["pod default/p", "pod default/b", "pod default/a"]
    assert claims(None, a_claim(exactly()), None) == []
    two = having(("d", None, {}), ("e", None, {}))
    view = view_of(TAINTS, reserved(two, "x"), claim)
    slices = keys_of(TAINTS, RESOURCE_SLICES)
    both = ["pod default/x", "pod default/p"]
    assert slices(view, None, a_slice("a")) == slices(view, a_slice("a"), None) == both
    assert (
        slices(view, a_slice("a"), a_slice("b")) == both and slices(view, None, a_slice("b")) == []
    )
    rules = keys_of(TAINTS, DEVICE_TAINT_RULES)
    narrow = a_rule(selector={"device": "e"})
    assert rules(view, None, narrow) == ["rule r", "pod default/x"]
    assert rules(view, narrow, a_rule(selector={"pool": "b"})) == ["rule r", "pod default/x"]
    assert rules(view, a_rule(), None) == ["rule r", *both]
    assert rules(view, narrow, replace(narrow, status=narrow.status)) == ["rule r"]
    assert view.indexed_keys(RESOURCE_CLAIMS, "pool", f"{DRIVER}/a") == ["default/c", "default/c-p"]
    assert shown(TAINTS.start_memory(NOW)) == ({}, {}, {})


# --- taints: pods ---------------------------------------------------------------------------------


def evicted(key, *objects, memory=None, now=NOW) -> Plan:
    local = Local(memory=memory or Memory())
    return TAINTS.reconcile(view_of(TAINTS, *objects), key, now, local)


def pending(since=NOW, rules=("uid-r",), is_requested=False, uid="uid-p"):
    return Pending(uid, since, rules, is_requested)


def shown(memory):
    """Memories are compared by what they have."""
    listed = {key: (one.uid, one.since, one.rules, one.is_requested) for key, one in memory.pods.items()}  # fmt: skip
    return listed, dict(memory.deleted), dict(memory.written)


def knowing(one=None, **more):
    pods = Map({"default/p": one}) if one is not None else Map()
    return Memory(pods=pods, **more)


DUE = (("device-taint-eviction-controller", "rule r"),)


def test_dra_21_a_pod_waits_and_is_deleted_and_its_rules_are_due_once():
    pod, claim = holding(tolerating(seconds=30))
    at = NOW + 30 * SECOND
    plan = evicted("pod default/p", pod, claim, a_rule())
    assert plan.wake_at == at and plan.enqueue == DUE and plan.waves == () == plan.notes
    assert shown(plan.memory) == shown(knowing(pending()))
    again = evicted("pod default/p", pod, claim, a_rule(), memory=plan.memory, now=at - 1)
    assert again.enqueue == () and again.wake_at == at
    assert shown(again.memory) == shown(plan.memory)
    done = evicted("pod default/p", pod, claim, a_rule(), memory=plan.memory, now=at)
    assert shown(done.memory) == shown(knowing(pending(is_requested=True)))
    (marking,), (deletion,) = done.waves
    because = "it uses a device with a taint that it does not tolerate"
    assert marking.because == deletion.because == because
    (condition,) = marking.body.document["status"]["conditions"]
    assert condition["type"] == "DisruptionTarget" and condition["status"] == "True"
    assert condition["reason"] == "DeletionByDeviceTaintManager"
    assert condition["message"] == "Device Taint manager: deleting due to NoExecute taint"
    assert deletion.body == DeleteOptions(preconditions=Preconditions(uid="uid-p"))
    assert done.notes == (Note(pod, "DeviceTaintManagerEviction", "Marking for deletion"),)
    assert done.enqueue == () and done.wake_at is None
    other = evicted("pod default/p", pod, claim, a_rule("s"), memory=plan.memory)
    assert other.enqueue == (("device-taint-eviction-controller", "rule s"),)
    both = evicted("pod default/p", pod, claim, a_rule("s"), a_rule(), memory=plan.memory)
    assert [key for _, key in both.enqueue] == ["rule r", "rule s"]
    assert shown(both.memory) == shown(knowing(pending(rules=("uid-r", "uid-s"))))
    moved = a_rule(selector={"device": "x"}), a_rule("s")
    turned = evicted("pod default/p", pod, claim, *moved, memory=plan.memory)
    assert [key for _, key in turned.enqueue] == ["rule r", "rule s"]
    assert shown(turned.memory) == shown(knowing(pending(rules=("uid-s",))))
    at_once = evicted("pod default/p", *holding(), a_rule())
    assert at_once.waves and at_once.enqueue == DUE
    tainted = a_slice("a", a_device("d", taints=[("x", "NoExecute")]))
    bare, own = holding()
    by_slice = evicted("pod default/p", bare, own, tainted)
    assert by_slice.enqueue == () and shown(by_slice.memory) == shown(knowing(pending(rules=(), is_requested=True)))  # fmt: skip


def test_dra_21_dra_22_a_pod_that_has_left_is_counted_for_its_rules():
    pod, claim = holding()
    leaving = change(pod, deletion_timestamp=GONE)
    renewed = replace(pod, metadata=replace(pod.metadata, uid="new"))
    for objects in ((claim, a_rule()), (leaving, claim, a_rule()), (renewed, claim, a_rule())):
        for one, deleted in (
            (pending(), {"uid-r": 2}),
            (pending(is_requested=True), {"uid-r": 3}),
            (pending(rules=("uid-r", "uid-s"), is_requested=True), {"uid-r": 3, "uid-s": 1}),
        ):
            memory = knowing(one, deleted=Map({"uid-r": 2}), written=Map({"w": 1}))
            plan = evicted("pod default/p", *objects, memory=memory)
            assert shown(plan.memory) == ({}, deleted, {"w": 1})
            own = (("device-taint-eviction-controller", "pod default/p"),)
            assert plan.enqueue == (*own, *DUE) and plan.waves == ()
    assert evicted("pod default/p", claim, a_rule()) == NOTHING
    assert evicted("pod default/p", leaving, claim, a_rule()) == NOTHING
    free = evicted(
        "pod default/p", pod, claim, memory=knowing(pending(), deleted=Map({"uid-r": 2}))
    )
    assert free.notes == (Note(pod, "DeviceTaintManagerEviction", "Cancelling deletion"),)
    assert shown(free.memory) == ({}, {"uid-r": 2}, {}) and free.enqueue == ()
    told = evicted("pod default/p", pod, claim, a_rule(effect="None"), memory=knowing(pending()))
    assert told.enqueue == DUE
    assert evicted("pod default/p", pod, claim) == NOTHING


def test_dra_21_every_claim_and_every_device_of_a_pod_counts():
    """Only claims that are reserved for it; one of a template has to belong to it."""
    bad = a_slice(
        "a", a_device("d", taints=[("z", "NoSchedule"), ("x", "NoExecute")]), a_device("e")
    )
    pod = change(
        with_claims(("a", "e", None), ("b", None, "t"), statuses={"b": "c"}), node_name="a"
    )
    harmless = reserved(change(having(("e", None, {})), name="e"), "p")
    own = reserved(replace(having(("e", None, {}), ("d", None, {})), metadata=generated(of="b").metadata), "p")  # fmt: skip
    assert evicted("pod default/p", pod, harmless, own, bad).waves
    for other in (
        reserved(own, "q"),
        replace(own, metadata=generated(of="b", uid="x").metadata),
        reserved(replace(having(("e", None, {})), metadata=own.metadata), "p"),
        replace(own, status=replace(own.status, allocation=None)),
    ):
        assert not evicted("pod default/p", pod, harmless, other, bad).waves
    assert evicted("pod default/p", pod, own, bad).waves  # the other one is gone
    extended = change(using(), extended_resource_claim_status=PodExtendedResourceClaimStatus(resource_claim_name="c", request_mappings=()), node_name="a")  # fmt: skip
    assert evicted("pod default/p", extended, own, bad).waves
    for over in (change(pod, phase="Failed"), change(pod, node_name=None)):
        assert evicted("pod default/p", over, harmless, own, bad) == NOTHING
    newer = a_slice("a", a_device("e"), generation=2, name="newer")
    assert not evicted("pod default/p", pod, harmless, own, bad, newer).waves
    newest = a_slice("a", a_device("d", taints=[("x", "NoExecute")]), generation=3, name="newest")
    assert evicted("pod default/p", pod, harmless, own, newer, newest).waves
    assert not evicted("pod default/p", pod, harmless, own, a_rule(effect="NoSchedule")).waves


# --- taints: rules --------------------------------------------------------------------------------


def test_dra_22_a_condition_keeps_others_and_changes_its_time_with_its_words():
    other = Condition(
        type="Other", status="True", reason="R", message="", last_transition_time=GONE
    )
    rule = a_rule()
    rule = replace(rule, status=replace(rule.status, conditions=(other,)))
    plan = evicted("rule r", rule)
    request = only(plan)
    found = Condition(
        type="EvictionInProgress", status="False", reason="NotStarted", message="",
        observed_generation=1, last_transition_time=timestamp(NOW),
    )  # fmt: skip
    assert (request.verb, request.resource, request.subresource) == ("update", DEVICE_TAINT_RULES, "status")  # fmt: skip
    assert request.body == replace(rule, status=replace(rule.status, conditions=(other, found)))
    assert request.because == "pods that it evicts: NotStarted"
    assert shown(plan.memory) == ({}, {}, {"uid-r": NOW}) and plan.wake_at is None
    later = NOW + 10 * SECOND
    same = evicted("rule r", request.body, memory=plan.memory, now=later)
    assert same == NOTHING
    early = evicted("rule r", request.body, memory=plan.memory, now=later - 1)
    assert early == Plan(wake_at=later)
    pods = holding(tolerating(seconds=60))
    for memory in (
        Memory(),
        Memory(written=Map({"uid-x": later})),
    ):  # of an instance that has begun
        assert only(evicted("rule r", request.body, *pods, memory=memory, now=later - 1))
    held = holding(tolerating(seconds=60))
    changed = only(evicted("rule r", request.body, *held, memory=plan.memory, now=later))
    first, second = changed.body.status.conditions
    assert first == other and (second.status, second.reason) == ("True", "PodsPendingEviction")
    assert second.last_transition_time == timestamp(later)
    newer = change(request.body, generation=2)
    again = only(evicted("rule r", newer, memory=plan.memory, now=NOW + SECOND))
    assert again.body.status.conditions[1] == replace(found, observed_generation=2, last_transition_time=timestamp(NOW + SECOND))  # fmt: skip
    quiet = only(evicted("rule r", a_rule(effect="None")))
    for now in (NOW, later):
        assert evicted("rule r", quiet.body, *held, memory=plan.memory, now=now) == NOTHING
    assert evicted("rule gone", rule) == NOTHING


@pytest.mark.parametrize("deleted", [0, 1, 2])
@pytest.mark.parametrize("pods", [0, 1, 2])
@pytest.mark.parametrize("effect", ["NoExecute", "NoSchedule"])
def test_dra_22_the_words_of_a_rule(deleted, pods, effect):
    held = [each for n in range(pods) for each in holding(tolerating(seconds=9), name=f"p{n}")]
    gone = change(holding(name="l")[0], deletion_timestamp=GONE), holding(name="l")[1]
    safe = holding(tolerating(), name="s")
    missing = holding(name="m")[1]
    memory = Memory(deleted=Map({"uid-r": deleted, "uid-x": 7}) if deleted else Map())
    rule = a_rule(effect=effect)
    (one,) = only(evicted("rule r", *held, *gone, *safe, missing, rule, memory=memory)).body.status.conditions  # fmt: skip
    since = {0: "", 1: "1 pod evicted since starting the controller.", 2: "2 pods evicted since starting the controller."}  # fmt: skip
    if effect == "NoExecute":
        words = {0: "", 1: "1 pod needs to be evicted in 1 namespace.", 2: "2 pods need to be evicted in 1 namespace."}[pods]  # fmt: skip
        reason = "PodsPendingEviction" if pods else "Completed" if deleted else "NotStarted"
        assert (one.status, one.reason) == (str(pods > 0), reason)
    else:
        words = "Eviction only happens for the NoExecute effect."
        assert (one.status, one.reason) == ("False", "OtherEffect")
    assert one.message == f"{words} {since[deleted]}".strip()


def test_dra_22_only_pods_of_this_rule_are_counted():
    pod, claim = holding()
    by_slice = a_slice("a", a_device("d", taints=[("x", "NoExecute")]))
    elsewhere = a_rule(selector={"device": "e"})
    (one,) = only(evicted("rule r", pod, claim, by_slice, elsewhere)).body.status.conditions
    assert one.reason == "NotStarted"
    foreign = a_rule(selector={"driver": "other.example.com"})
    (one,) = only(evicted("rule r", pod, claim, by_slice, foreign)).body.status.conditions
    assert one.reason == "NotStarted"
    own = a_rule(selector={"driver": DRIVER})
    (one,) = only(evicted("rule r", pod, claim, own)).body.status.conditions
    assert one.reason == "PodsPendingEviction"
    undated = a_rule(at=None)
    (one,) = only(
        evicted("rule r", *holding(tolerating(seconds=9)), undated)
    ).body.status.conditions
    assert one.reason == "PodsPendingEviction"
    two = [change(each, namespace="n") for each in holding(name="n")]
    (one,) = only(evicted("rule r", pod, claim, *two, a_rule())).body.status.conditions
    assert one.message == "2 pods need to be evicted in 2 different namespaces."
    twice, both = holding(name="q")
    second = reserved(change(both, name="more"), "q")
    (one,) = only(evicted("rule r", twice, both, second, a_rule())).body.status.conditions
    assert one.message == "1 pod needs to be evicted in 1 namespace."


def test_dra_22_the_effect_none_says_what_would_be():
    (pod, claim), (other, own) = holding(), holding(name="q")
    own, other = (change(each, namespace="n") for each in (own, other))
    slices = [
        a_slice("a", a_device("d"), a_device("e")),
        a_slice("a", a_device("f"), generation=0, name="old"),
        a_slice("b", a_device("d"), name="b"),
    ]
    rest = (
        "if the effect was NoExecute. This information will not be updated again. "
        "Recreate the DeviceTaintRule to trigger an update."
    )
    for selector, claims, words in (
        ({}, (pod, claim, other, own), "3 published devices selected. 2 allocated devices selected. 2 pods would be evicted in 2 different namespaces"),
        ({"pool": "a", "device": "d"}, (pod, claim), "1 published device selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace"),
        ({"driver": DRIVER, "pool": "a"}, (pod, claim), "2 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace"),
        ({"driver": "other.example.com"}, (pod, claim), "0 published devices selected. 0 allocated devices selected. 0 pods would be evicted in 0 different namespaces"),
        ({}, holding(tolerating(effect="NoExecute")), "3 published devices selected. 1 allocated device selected. 0 pods would be evicted in 0 different namespaces"),
        ({}, holding(tolerating(effect="NoSchedule")), "3 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace"),
        ({"pool": "c"}, (pod, claim), "0 published devices selected. 0 allocated devices selected. 0 pods would be evicted in 0 different namespaces"),
    ):  # fmt: skip
        rule = a_rule(effect="None", selector=selector)
        (one,) = only(evicted("rule r", *slices, *claims, rule)).body.status.conditions
        assert (one.status, one.reason, one.message) == ("False", "NoEffect", f"{words} {rest}")
    undated = a_rule(effect="None", at=None)
    (one,) = only(
        evicted("rule r", *holding(tolerating(seconds=9)), undated)
    ).body.status.conditions
    assert " 1 pod would be evicted in 1 namespace " in one.message


def test_dra_22_rules_that_are_gone_are_forgotten():
    both = Map({"uid-r": 1, "uid-s": 2})
    for deleted, written in ((both, Map()), (Map(), both), (both, both)):
        plan = evicted("rule r", a_rule("s"), memory=Memory(deleted=deleted, written=written))
        for before, after in ((deleted, plan.memory.deleted), (written, plan.memory.written)):
            assert dict(after) == {uid: it for uid, it in before.items() if uid == "uid-s"}
    kept = Memory(deleted=Map({"uid-s": 1}), written=Map({"uid-s": 1}))
    assert evicted("rule r", a_rule("s"), memory=kept) == NOTHING
