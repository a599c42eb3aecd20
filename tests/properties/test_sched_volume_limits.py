"""How many volumes of a driver a node can have, counted beside a plain list of its volumes (SCHED-44 in
spec/scheduler.md)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from random_cases import cases, some
from sched_worlds import a_pod, placed
from workload_helpers import change, view_of

from refk8s.core.api.core_v1 import (
    CSIPersistentVolumeSource,
    ObjectMeta,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
    Volume,
)
from refk8s.core.api.storage_v1 import (
    CSINode,
    CSINodeDriver,
    CSINodeSpec,
    StorageClass,
    VolumeAttachment,
    VolumeAttachmentSource,
    VolumeAttachmentSpec,
    VolumeNodeResources,
)
from refk8s.core.scheduler.cycle import Scheduler
from refk8s.core.scheduler.snapshot import IDLE, info_of
from refk8s.core.scheduler.volume_limits import (
    attached_volumes,
    csi_volumes,
    is_over_limit,
    node_of_attachment,
)

SCHEDULER = Scheduler()


def a_volume(name, driver="d", handle=None):
    csi = CSIPersistentVolumeSource(driver=driver, volume_handle=handle or f"h-{name}")
    return PersistentVolume(metadata=ObjectMeta(name=name), spec=PersistentVolumeSpec(csi=csi if driver else None))  # fmt: skip


def a_claim(name, volume=None, class_=None, namespace="default"):
    spec = PersistentVolumeClaimSpec(volume_name=volume, storage_class_name=class_)
    return PersistentVolumeClaim(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec)


def a_class(name, provisioner):
    return StorageClass(metadata=ObjectMeta(name=name), provisioner=provisioner)


def attached(volume, node="n", attacher="d"):
    source = VolumeAttachmentSource(persistent_volume_name=volume)
    spec = VolumeAttachmentSpec(attacher=attacher, node_name=node, source=source)
    return VolumeAttachment(metadata=ObjectMeta(name=f"{volume}-{node}-{attacher}"), spec=spec)


def a_csi_node(*limits, name="n"):
    """Each limit: the driver and how many volumes of it, None for no limit."""
    drivers = tuple([
        CSINodeDriver(name=driver, node_id=name, allocatable=VolumeNodeResources(count=count) if count != "" else None)
        for driver, count in limits
    ])  # fmt: skip
    return CSINode(metadata=ObjectMeta(name=name), spec=CSINodeSpec(drivers=drivers or None))


def using(*claims, name="p"):
    volumes = tuple([Volume(name=f"v{n}", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name=each)) for n, each in enumerate(claims)])  # fmt: skip
    return info_of(placed(change(a_pod(name), volumes=volumes), "n", f"u-{name}"))


def loaded(*pods):
    load = IDLE
    for pod in pods:
        load = load.plus(pod)
    return load


def test_sched_44_the_volumes_behind_claims():
    view = view_of(
        SCHEDULER, a_volume("v"), a_volume("w", "e", "same"), a_volume("local", None), a_class("c", "x.io"),
        a_claim("bound", "v"), a_claim("other", "w", "c"), a_claim("plain", "local"), a_claim("waits", None, "c"),
        a_claim("lost", "gone", "c"), a_claim("nothing"), a_claim("unknown", None, "none"), a_claim("bound", "w", namespace="ns"),
    )  # fmt: skip

    def found(*names):
        return csi_volumes(view, [name if "/" in name else f"default/{name}" for name in names])

    assert found("bound") == {("d", "h-v")} and found("other") == {("e", "same")}
    assert found("waits") == {("x.io", "claim default/waits")}
    assert found("lost") == {("x.io", "claim default/lost")}
    assert found("plain", "nothing", "unknown", "absent") == frozenset() == found()
    assert found("absent", "plain", "bound", "nothing", "waits", "ns/bound") == {
        ("d", "h-v"), ("x.io", "claim default/waits"), ("e", "same"),
    }  # fmt: skip
    assert isinstance(found("bound"), frozenset)


def test_sched_44_the_volumes_that_are_attached_to_a_node():
    bare = attached("v", attacher="z")
    bare = replace(bare, spec=replace(bare.spec, source=VolumeAttachmentSource()))
    view = view_of(
        SCHEDULER, a_volume("v"), a_volume("w", "e"), a_volume("local", None), bare, attached("local"), attached("gone"),
        attached("v"), attached("w", attacher="f"), attached("w", "m"),
    )  # fmt: skip
    assert attached_volumes(view, "n") == {("d", "h-v"), ("f", "h-w")}
    assert attached_volumes(view, "m") == {("d", "h-w")} and attached_volumes(view, "o") == frozenset()  # fmt: skip
    assert node_of_attachment(attached("v", "m")) == ["m"]


@pytest.mark.parametrize(
    ("limits", "new", "claims", "attachments", "is_over"),
    [
        ([("d", 2)], ["h1"], [], [], False),
        ([("d", 2)], ["h1", "h2"], [], [], False),
        ([("d", 2)], ["h1", "h2", "h3"], [], [], True),
        ([("d", 0)], ["h1"], [], [], True),
        ([("d", 2)], ["h1"], ["a", "b"], [], True),
        ([("d", 2)], ["h1"], ["a"], ["b"], True),
        ([("d", 2)], ["h1"], ["a"], ["a"], False),
        ([("d", 2)], ["h-a"], ["a", "b"], [], False),
        ([("d", 1)], ["h-a"], ["a", "b"], [], False),  # nothing of the driver is new
        ([("d", 2)], ["h-a", "h1"], ["a", "b"], [], True),
        ([("d", None)], ["h1"], ["a", "b"], [], False),
        ([("d", "")], ["h1"], ["a", "b"], [], False),
        ([("e", 0)], ["h1"], ["a", "b"], [], False),
        ([("e", 0), ("d", 1)], ["h1"], ["a"], [], True),
        ([("d", 1), ("e", 0)], ["h1"], [], [], False),
        ([], ["h1"], ["a", "b"], [], False),
        ([("d", 1)], [], ["a", "b"], [], False),
    ],
)
def test_sched_44_a_node_has_at_most_as_many_volumes_as_its_driver_says(limits, new, claims, attachments, is_over):  # fmt: skip
    objects = [a_volume(name) for name in "ab"] + [a_claim(name, name) for name in "ab"]
    view = view_of(SCHEDULER, a_csi_node(*limits), *objects, *[attached(one) for one in attachments])  # fmt: skip
    load = loaded(*[using(claim, name=claim) for claim in claims])
    wanted = frozenset(("d", handle) for handle in new)
    assert is_over_limit(view, wanted, "n", load) is is_over
    assert is_over_limit(view, wanted, "m", load) is False  # another node


def test_sched_44_the_number_of_each_driver_is_a_plain_count():
    for rng in cases(200):
        volumes = [a_volume(name, rng.choice("de")) for name in "abcdef"]
        by_name = {one.metadata.name: one for one in volumes}
        claims = [a_claim(name, name) for name in by_name]
        limits = [(driver, rng.choice(["", None, 0, 1, 2, 3])) for driver in "de" if rng.random() < 0.9]  # fmt: skip
        held = some(rng, list(by_name), 4)
        fixed = some(rng, list(by_name), 2)
        wanted = some(rng, list(by_name), 3)
        view = view_of(
            SCHEDULER, *volumes, *claims, a_csi_node(*limits), a_csi_node(("d", 0), name="m"),
            *[attached(one, attacher=by_name[one].spec.csi.driver) for one in dict.fromkeys(fixed)],
        )  # fmt: skip
        load = loaded(*[using(claim, name=f"p{n}") for n, claim in enumerate(held)])
        keys = [f"default/{name}" for name in wanted]
        expected = False
        for driver, limit in limits:
            there = {name for name in (*held, *fixed) if by_name[name].spec.csi.driver == driver}
            mine = {name for name in wanted if by_name[name].spec.csi.driver == driver}
            if isinstance(limit, int) and mine - there and len(mine | there) > limit:
                expected = True
        assert is_over_limit(view, csi_volumes(view, keys), "n", load) is expected
