"""What the attach-detach controller writes and says in full, and which changes concern it, beside a
plain reading of ATTACH-1 to ATTACH-7 (spec/workloads/attach_detach.md)."""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from test_attach import DRIVER, UNIQUE, a_node, using
from test_vol import a_claim, a_volume
from workload_helpers import NOW, ago, change, pod, view_of, without_reasons

from refk8s.core.api.core_v1 import (
    AttachedVolume,
    CSIPersistentVolumeSource,
    NodeCondition,
    ObjectReference,
    Taint,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    VOLUME_ATTACHMENTS,
)
from refk8s.core.api.storage_v1 import (
    CSIDriver,
    CSIDriverSpec,
    VolumeAttachment,
    VolumeAttachmentSource,
    VolumeAttachmentSpec,
    VolumeAttachmentStatus,
    VolumeError,
)
from refk8s.core.context import MINUTE, SECOND
from refk8s.core.controllers.attach_detach import (
    MANAGED,
    OUT_OF_SERVICE,
    RECORDED_MAX,
    AttachDetachController,
    Known,
    _Step,
    attachment_name,
    is_exclusive,
    is_own,
    unique_name,
)
from refk8s.core.loop.plan import NOTHING, Local, Note
from refk8s.core.properties.predicates.attach_detach import attach_3_one_node

CONTROLLER = AttachDetachController()
RWO, RWX = ("ReadWriteOnce",), ("ReadWriteMany",)
CLAIM = a_claim(volume="v")
NO_MEMORY: Map = Map()


def the_volume(modes=RWO, **parts):
    reference = ObjectReference(
        kind="PersistentVolumeClaim", namespace="default", name="c", uid="uid-c"
    )
    csi = CSIPersistentVolumeSource(driver=DRIVER, volume_handle="handle")
    return change(
        a_volume(modes=modes), **{"csi": csi, "host_path": None, "claim_ref": reference, **parts}
    )


def the_node(name, attached=(), in_use=(), ready=True, **parts):
    """A managed Node, with what is attached to it and in use there."""
    made = a_node(name)[0]
    told = tuple(AttachedVolume(name=each, device_path="") for each in attached)
    conditions = (NodeCondition(type="Ready", status="True" if ready else "Unknown"),)
    return change(
        made,
        volumes_attached=told or None,
        volumes_in_use=tuple(in_use) or None,
        conditions=conditions,
        resource_version=f"rv-{name}",
        **parts,
    )


def attachment(where, attached=False, error=None, volume="v", **parts):
    status = VolumeAttachmentStatus(
        attached=attached, attach_error=VolumeError(message=error) if error else None
    )
    made = VolumeAttachment(
        metadata=ObjectMeta(name=attachment_name("handle", DRIVER, where), uid=f"uid-{where}"),
        spec=VolumeAttachmentSpec(
            attacher=DRIVER,
            node_name=where,
            source=VolumeAttachmentSource(persistent_volume_name=volume),
        ),
        status=status,
    )
    return change(made, **parts)


def plan(*objects, memory=NO_MEMORY, now=NOW, key="v"):
    return CONTROLLER.reconcile(view_of(CONTROLLER, *objects), key, now, Local(memory))


def asked(found):
    return [without_reasons(wave) for wave in found.waves]


def told(found):
    return [
        (note.regarding.metadata.name, note.reason, note.message, note.type) for note in found.notes
    ]


def creation(where, handle="handle"):
    body = VolumeAttachment(
        metadata=ObjectMeta(name=attachment_name(handle, DRIVER, where)),
        spec=VolumeAttachmentSpec(
            attacher=DRIVER,
            node_name=where,
            source=VolumeAttachmentSource(persistent_volume_name="v"),
        ),
    )
    return Request("create", VOLUME_ATTACHMENTS, body=body)


def deletion(where):
    options = DeleteOptions(preconditions=Preconditions(uid=f"uid-{where}"))
    name = attachment_name("handle", DRIVER, where)
    return Request("delete", VOLUME_ATTACHMENTS, name=name, body=options)


def names_on(where, *names):
    """The patch that replaces the list of a Node as a whole."""
    tree = {
        "metadata": {"resourceVersion": f"rv-{where}"},
        "status": {"volumesAttached": [{"name": one, "devicePath": ""} for one in names]},
    }
    body = Patch("application/merge-patch+json", tree)
    return Request("patch", NODES, name=where, subresource="status", body=body)


# --- names ----------------------------------------------------------------------------------------


def test_attach_1_the_names_are_those_of_upstream():
    digest = sha256(b"hdn").hexdigest()
    assert attachment_name("h", "d", "n") == f"csi-{digest}"
    assert len({attachment_name(*each) for each in itertools.product("ab", repeat=3)}) == 8
    assert unique_name(the_volume()) == UNIQUE and unique_name(a_volume()) == ""


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        (("ReadWriteOnce",), True),
        (("ReadWriteOncePod",), True),
        (("ReadWriteMany",), False),
        (("ReadOnlyMany",), False),
        (("ReadWriteOnce", "ReadOnlyMany"), False),
        ((), False),
        (None, False),
    ],
)
def test_attach_3_a_volume_for_one_node_has_only_modes_for_one_node(modes, expected):
    volume = the_volume(modes=modes or ())
    assert is_exclusive(change(volume, access_modes=modes)) == expected


# --- attach ---------------------------------------------------------------------------------------


def test_attach_1_the_attachment_in_full():
    found = plan(the_volume(), CLAIM, the_node("a"), using("p", "a"))
    assert asked(found) == [[creation("a")]]
    assert (found.notes, found.wake_at, found.memory) == ((), None, Map({"v": found.memory["v"]}))
    assert found.memory["v"].since == Map() and found.memory["v"].recorded == frozenset()
    both = plan(
        the_volume(RWX),
        CLAIM,
        the_node("a"),
        the_node("b"),
        using("q", "b", creation_timestamp=ago(9)),
        using("p", "a", creation_timestamp=ago(8)),
    )
    assert asked(both) == [[creation("b"), creation("a")]], "the oldest pod comes first"


@pytest.mark.parametrize(
    "change_of",
    [
        {"volume": None},
        {"volume": {"csi": None}},
        {"volume": {"claim_ref": None}},
        {"claim": None},
        {"claim": {"volume_name": "w"}},
        {"claim": {"uid": "other"}},
        {"pod": {"phase": "Failed"}},
        {"pod": {"node_name": None}},
        {"pod": None},
    ],
)
def test_attach_1_nothing_is_written_for_a_volume_that_no_pod_needs(change_of):
    objects = {"volume": the_volume(), "claim": CLAIM, "pod": using("p", "a")}
    for name, parts in change_of.items():
        objects[name] = change(objects[name], **parts) if parts else None
    present = [one for one in objects.values() if one is not None]
    assert plan(*present, the_node("a")) is NOTHING
    # what was remembered is forgotten, and only that
    memory = Map({"v": Known(), "w": Known()})
    found = plan(*present, the_node("a"), memory=memory)
    assert found.memory == memory.delete("v") and not found.waves


@pytest.mark.parametrize("required", [None, True, False])
def test_attach_1_a_driver_may_say_that_nothing_is_to_be_attached(required):
    driver = CSIDriver(
        metadata=ObjectMeta(name=DRIVER), spec=CSIDriverSpec(attach_required=required)
    )
    found = plan(the_volume(), CLAIM, the_node("a"), using("p", "a"), driver)
    assert asked(found) == ([] if required is False else [[creation("a")]])


@pytest.mark.parametrize("annotations", [None, {}, {MANAGED: "false"}, {"other": "true"}])
def test_attach_1_the_node_must_be_managed(annotations):
    bare = change(the_node("a"), annotations=annotations)
    for objects in ((bare,), ()):
        found = plan(
            the_volume(RWX), CLAIM, *objects, the_node("b"), using("p", "a"), using("q", "b")
        )
        assert asked(found) == [[creation("b")]]
    # a node that cannot have it does not keep it from another one
    found = plan(
        the_volume(),
        CLAIM,
        bare,
        the_node("b"),
        using("p", "a", creation_timestamp=ago(9)),
        using("q", "b"),
    )
    assert asked(found) == [[creation("b")]]


def multi(words, volume="v"):
    return f'Multi-Attach error for volume "{volume}" {words}'


def test_attach_3_the_pods_that_wait_name_those_that_use_the_volume():
    """Every pod of the waiting node gets the Event, once."""
    here = attachment("a", attached=True)
    nodes = (the_node("a", [UNIQUE]), the_node("b"))
    pods = [using("p", "a"), using("q", "b"), using("r", "b")]
    found = plan(the_volume(), CLAIM, *nodes, *pods, here)
    words = multi("Volume is already used by pod(s) p")
    assert told(found) == [(name, "FailedAttachVolume", words, "Warning") for name in "qr"]
    assert asked(found) == []
    again = plan(the_volume(), CLAIM, *nodes, *pods, here, memory=found.memory)
    assert again.notes == ()
    # two pods on one node, both of which need it first
    found = plan(the_volume(), CLAIM, *nodes, *pods)
    assert asked(found) == [[creation("a")]] and len(found.notes) == 2
    gone = plan(the_volume(), CLAIM, *nodes, pods[1], here)
    (note,) = told(gone)
    assert note[2] == multi(
        "Volume is already exclusively attached to one node and can't be attached to another"
    )


def test_attach_3_pods_of_other_namespaces_are_counted_and_not_named():
    """A claim is of one namespace, so the words are shown for the pods that the step is given."""

    def words(*others):
        mine = using("q", "b")
        wanted = {"b": [mine], "a": list(others)}
        view = view_of(CONTROLLER, the_node("b"))
        step = _Step(view, the_volume(), "v", wanted, Known(), NOW)
        assert not step.attach("b", {"a"})
        return step.notes[0].message

    far = [using(name, "a", namespace="far") for name in "xy"]
    near = [using(name, "a") for name in "mn"]
    assert words(*far) == multi("Volume is already used by 2 pod(s) in different namespaces")
    assert words(*near) == multi("Volume is already used by pod(s) m, n")
    assert words(*near, *far) == multi(
        "Volume is already used by pod(s) m, n and 2 pod(s) in different namespaces"
    )


# --- confirm --------------------------------------------------------------------------------------


def test_attach_2_the_node_and_the_pods_learn_that_it_is_attached():
    node = the_node("a", ["other"])
    pods = [using("p", "a"), using("q", "a")]
    here = attachment("a", attached=True)
    found = plan(the_volume(), CLAIM, node, *pods, here)
    assert asked(found) == [[names_on("a", "other", UNIQUE)]]
    words = 'AttachVolume.Attach succeeded for volume "v" '
    assert told(found) == [(name, "SuccessfulAttachVolume", words, "Normal") for name in "pq"]
    assert found.notes[0] == Note(pods[0], "SuccessfulAttachVolume", words, "Normal")
    for quiet in (
        (the_node("a", [UNIQUE, "other"]), here),
        (here,),
        (node, attachment("a")),
        (node, attachment("a", attached=True, deletion_timestamp=ago(1))),
    ):
        found = plan(the_volume(), CLAIM, *quiet, *pods)
        assert (found.waves, found.notes, found.wake_at) == ((), (), None)


def test_attach_2_an_error_of_the_attacher_is_told_once_for_each_error():
    pods = [using("p", "a"), using("q", "a")]
    memory = Map()
    for error, count in (("full", 2), ("full", 0), ("lost", 2), ("full", 0)):
        here = attachment("a", error=error)
        found = plan(the_volume(), CLAIM, the_node("a"), *pods, here, memory=memory)
        memory = found.memory
        words = f'AttachVolume.Attach failed for volume "v" : {error}'
        assert told(found) == [(n, "FailedAttachVolume", words, "Warning") for n in "pq"][:count]
        assert found.waves == ()


def test_attach_2_a_bounded_number_of_events_is_remembered():
    full = frozenset((f"u{number}", "x") for number in range(RECORDED_MAX))
    for known, kept in ((full, 1), (frozenset(list(full)[1:]), RECORDED_MAX)):
        here = attachment("a", error="e")
        found = plan(
            the_volume(),
            CLAIM,
            the_node("a"),
            using("p", "a"),
            here,
            memory=Map({"v": Known(recorded=known)}),
        )
        assert len(found.memory["v"].recorded) == kept and len(found.notes) == 1
        assert ("uid-p", found.notes[0].message) in found.memory["v"].recorded


# --- detach ---------------------------------------------------------------------------------------


def test_attach_4_first_the_name_is_removed_and_then_the_attachment():
    node = the_node("a", ["x", UNIQUE, "y"])
    found = plan(the_volume(), CLAIM, node, attachment("a", attached=True))
    assert asked(found) == [[names_on("a", "x", "y")], [deletion("a")]]
    assert found.memory["v"].since == Map({"a": NOW}) and found.wake_at is None
    found = plan(the_volume(), CLAIM, the_node("a", ["x"], in_use=["x"]), attachment("a"))
    assert asked(found) == [[deletion("a")]]
    # an attachment of a volume that is gone
    found = plan(CLAIM, node, attachment("a", attached=True))
    assert asked(found) == [[deletion("a")]]
    going = attachment("a", attached=True, deletion_timestamp=ago(1))
    found = plan(the_volume(), CLAIM, node, going)
    assert (asked(found), found.wake_at) == ([], None)


@given(
    st.sampled_from([None, 0, 1, 6 * 60 - 1, 6 * 60, 6 * 60 + 1]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_attach_4_attach_5_a_volume_in_use_waits_six_minutes_at_most(
    seconds, is_ready, is_out, uses, exists
):
    taints = (Taint(key=OUT_OF_SERVICE, effect="NoExecute"),) if is_out else ()
    other = Taint(key="other", effect="NoExecute")
    node = the_node(
        "a", [UNIQUE], [UNIQUE] if uses else ["x"], ready=is_ready, taints=(other, *taints)
    )
    since = NOW if seconds is None else NOW - seconds * SECOND
    memory = Map() if seconds is None else Map({"v": Known(since=Map({"a": since, "b": 7}))})
    objects = (node,) if exists else ()
    found = plan(the_volume(), CLAIM, *objects, attachment("a", attached=True), memory=memory)
    is_late = NOW - since >= 6 * MINUTE
    waits = exists and uses and not is_out and not (is_late and not is_ready)
    if waits:
        assert asked(found) == []
        assert found.wake_at == (None if is_late else since + 6 * MINUTE)
    else:
        last = [[deletion("a")]]
        assert asked(found) == ([[names_on("a")], *last] if exists else last)
        assert found.wake_at is None
    assert found.memory["v"].since["a"] == since


def test_attach_5_the_first_of_several_waits_is_looked_at_again():
    nodes = [the_node(name, [UNIQUE], [UNIQUE]) for name in "abc"]
    times = {"a": NOW - 2 * MINUTE, "b": NOW - 3 * MINUTE, "c": NOW - MINUTE}
    memory = Map({"v": Known(since=Map(times))})
    found = plan(
        the_volume(), CLAIM, *nodes, *[attachment(name, True) for name in "abc"], memory=memory
    )
    assert found.wake_at == NOW + 3 * MINUTE and found.waves == ()
    # a node whose pod needs the volume again begins anew
    found = plan(
        the_volume(),
        CLAIM,
        *nodes,
        using("p", "a"),
        *[attachment(n, True) for n in "abc"],
        memory=memory,
    )
    assert found.memory["v"].since == Map({"b": times["b"], "c": times["c"]})


def test_attach_3_all_of_a_volume_is_decided_together():
    """A node that is to lose the volume, and one that waits for it."""
    found = plan(
        the_volume(),
        CLAIM,
        the_node("a", [UNIQUE]),
        the_node("b"),
        using("q", "b"),
        attachment("a", True),
    )
    assert asked(found) == [[names_on("a")], [deletion("a")]]
    assert [name for name, *_ in told(found)] == ["q"]
    found = plan(
        the_volume(RWX),
        CLAIM,
        the_node("a", [UNIQUE]),
        the_node("b"),
        using("q", "b"),
        attachment("a", True),
    )
    assert asked(found) == [[names_on("a")], [creation("b"), deletion("a")]]


def test_attach_7_an_attachment_of_another_client_is_neither_confirmed_nor_deleted():
    """It has another name than the one that is computed for its volume and node."""
    foreign = change(attachment("a", True), name="mine")
    swapped = change(attachment("a", True), name=attachment_name("handle", DRIVER, "b"))
    node, pods = the_node("a", ["x"]), [using("p", "a"), using("q", "b")]
    for other in (foreign, swapped):
        assert not is_own(other, the_volume())
        assert plan(the_volume(), CLAIM, node, other) is NOTHING, "it stays"
        found = plan(the_volume(), CLAIM, node, pods[0], other)
        assert asked(found) == [[creation("a")]] and found.notes == ()
        # it keeps a volume for one node from another node all the same
        found = plan(the_volume(), CLAIM, node, the_node("b"), pods[1], other)
        assert asked(found) == [] and told(found)[0][1] == "FailedAttachVolume"
    mine = attachment("a")
    assert is_own(mine, the_volume()) and not is_own(mine, change(the_volume(), csi=None))
    # the handle of a volume that is gone is not known: the form of the name decides
    digits = "0123456789abcdef" * 4
    for name, expected in (
        (f"csi-{digits}", True),
        ("csi-a", False),
        (f"csi-{digits}0", False),
        (f"csi-{digits[1:]}", False),
        (f"x{digits}", False),
        (f"csi-{digits[1:]}g", False),
        (None, False),
        (mine.metadata.name, True),
    ):
        assert is_own(change(mine, name=name), None) == expected
    assert asked(plan(CLAIM, node, mine)) == [[deletion("a")]]
    assert plan(CLAIM, node, foreign) is NOTHING


# --- which changes concern a volume ---------------------------------------------------------------


def due(resource, old, new, *others):
    keys = next(one.keys for one in CONTROLLER.interests if one.resource is resource)
    return sorted(keys(view_of(CONTROLLER, *others), old, new))


WORLD = (
    the_volume(),
    change(the_volume(), name="w"),
    CLAIM,
    a_claim("d"),
    a_claim("e", volume="x"),
)


def test_attach_1_a_pod_concerns_the_volumes_of_its_claims_when_its_place_changes():
    here, there = using("p", "a"), using("p", "b")
    for old, new, expected in (
        (None, here, ["v"]),
        (here, None, ["v"]),
        (here, there, ["v"]),
        (here, using("p", None), ["v"]),
        (here, change(here, phase="Succeeded"), ["v"]),
        (here, here, []),
        (here, change(here, labels={"a": "b"}), []),
        (change(here, phase="Failed"), using("p", None), []),
        (None, using("p", None), ["v"]),
        (None, pod("p", node_name="a"), []),
    ):
        assert due(PODS, old, new, *WORLD) == expected
    assert due(PODS, None, here) == [], "the claim is not there"
    assert due(PODS, None, here, change(CLAIM, volume_name=None)) == []


def test_attach_1_a_claim_and_an_attachment_concern_their_volumes_before_and_after():
    other = change(CLAIM, volume_name="w")
    for old, new, expected in (
        (None, CLAIM, ["v"]),
        (CLAIM, None, ["v"]),
        (CLAIM, other, ["v", "w"]),
        (None, a_claim(), []),
    ):
        assert due(PERSISTENT_VOLUME_CLAIMS, old, new) == expected
    one, two = attachment("a"), attachment("a", volume="w")
    nameless = attachment("a", volume=None)
    for old, new, expected in (
        (None, one, ["v"]),
        (one, None, ["v"]),
        (one, two, ["v", "w"]),
        (None, nameless, []),
    ):
        assert due(VOLUME_ATTACHMENTS, old, new) == expected


def test_attach_4_a_node_concerns_what_is_attached_to_it():
    node = the_node("a")
    others = (*WORLD, attachment("a"), attachment("b", volume="w"))
    for changed in (
        change(node, volumes_in_use=("x",)),
        the_node("a", ["x"]),
        the_node("a", ready=False),
        change(node, taints=(Taint(key="k", effect="NoExecute"),)),
        change(node, annotations=None),
    ):
        assert due(NODES, node, changed, *others) == ["v"]
        assert due(NODES, changed, node, *others) == ["v"]
    for same in (
        node,
        change(node, labels={"a": "b"}),
        change(node, annotations={MANAGED: "true", "x": "y"}),
    ):
        assert due(NODES, node, same, *others) == []
    assert due(NODES, None, node, *others) == due(NODES, node, None, *others) == ["v", "w"]
    driver = CSIDriver(metadata=ObjectMeta(name=DRIVER), spec=CSIDriverSpec())
    assert due(CSI_DRIVERS, None, driver, *others) == ["v", "w"]


# --- the law --------------------------------------------------------------------------------------


@given(
    st.sampled_from([None, (), RWO, RWX, ("ReadOnlyMany",), (*RWO, *RWX)]),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("vw")), max_size=3),
)
def test_attach_3_the_law_names_every_other_node(modes, others):
    volume = change(the_volume(), access_modes=modes)
    there = [attachment(where, volume=name) for where, name in others]
    found = list(attach_3_one_node(attachment("a"), volume, there))
    wrong = [where for where, name in others if name == "v" and where != "a"]
    is_for_one = bool(modes) and set(modes) <= {"ReadWriteOnce", "ReadWriteOncePod"}
    assert found == (
        [f"volume v is attached to {where} and now to a" for where in wrong] if is_for_one else []
    )
