"""Volumes are attached to nodes (spec/workloads/attach_detach.md, ATTACH-1 to ATTACH-7), with an
attacher and a kubelet that the tests play."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_vol import a_claim, a_volume
from workload_helpers import (
    change,
    create,
    get,
    new_cluster,
    node,
    patch,
    pod,
    remove,
    settle,
    stored,
    wire,
)

from refk8s.core.api.core_v1 import (
    CSIPersistentVolumeSource,
    ObjectReference,
    PersistentVolumeClaimVolumeSource,
    Taint,
    Volume,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.resources import (
    EVENTS,
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
)
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.attach_detach import (
    MANAGED,
    OUT_OF_SERVICE,
    AttachDetachController,
    attachment_name,
)
from refk8s.core.properties.laws.attach_detach import volumes_are_on_one_node

DRIVER = "csi.example.com"
UNIQUE = f"kubernetes.io/csi/{DRIVER}^handle"


def a_node(name, ready=True, **parts):
    made = node(name, annotations={MANAGED: "true"}, **parts)
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    return made, {"status": {"conditions": conditions}}


def using(name, where, **parts):
    source = PersistentVolumeClaimVolumeSource(claim_name="c")
    volumes = (Volume(name="data", persistent_volume_claim=source),)
    return pod(name, node_name=where, volumes=volumes, **parts)


def a_world(*pods, modes=("ReadWriteOnce",), attach_required=None, nodes="ab", managed=True):
    """Nodes, and a claim that is bound to a volume of the driver."""
    cluster = new_cluster(AttachDetachController())
    for name in nodes:
        made, status = a_node(name)
        cluster = create(cluster, made if managed else change(made, annotations=None))
        cluster = patch(cluster, NODES, name, status, "status")
    cluster = create(cluster, a_claim(modes=modes, volume="v"))
    claim = get(cluster, PERSISTENT_VOLUME_CLAIMS, "c")
    reference = ObjectReference(
        kind="PersistentVolumeClaim", namespace="default", name="c", uid=claim.metadata.uid
    )
    csi = CSIPersistentVolumeSource(driver=DRIVER, volume_handle="handle")
    volume = change(a_volume(modes=modes), csi=csi, host_path=None, claim_ref=reference)
    cluster = create(cluster, volume)
    if attach_required is not None:
        spec = CSIDriverSpec(attach_required=attach_required)
        cluster = create(cluster, CSIDriver(metadata=ObjectMeta(name=DRIVER), spec=spec))
    return quiet(start_all(create(cluster, *pods)))


def judge(before, after):
    """The law, for every step."""
    if after.last_commit is None or after.last_commit is before.last_commit:
        return ()
    return [
        words
        for each in after.last_commit.changes
        if each.key.startswith(VOLUME_ATTACHMENTS.prefix)
        for words in volumes_are_on_one_node(each, before, after) or ()
    ]


def quiet(cluster, seconds=5):
    return settle(cluster, judge, seconds)


def attachments(cluster):
    return {one.spec.node_name: one for one in stored(cluster, VOLUME_ATTACHMENTS)}


def attach(cluster, error=""):
    """The attacher acts on every VolumeAttachment."""
    for one in stored(cluster, VOLUME_ATTACHMENTS):
        status = {"attached": True, "attachError": None}
        if error:
            status = {"attached": False, "attachError": {"message": error}}
        cluster = patch(
            cluster, VOLUME_ATTACHMENTS, one.metadata.name, {"status": status}, "status"
        )
    return quiet(cluster)


def in_use(cluster, name, *volumes):
    """The kubelet says which volumes it has mounted."""
    return quiet(patch(cluster, NODES, name, {"status": {"volumesInUse": list(volumes)}}, "status"))


def attached_to(cluster, name):
    return [one.name for one in get(cluster, NODES, name).status.volumes_attached or ()]


def told(cluster, reason):
    return [one.message for one in stored(cluster, EVENTS) if one.reason == reason]


def ended(cluster, name):
    return quiet(remove(cluster, PODS, name, grace_period_seconds=0))


def test_attach_1_a_volume_is_attached_for_a_pod_with_a_node():
    cluster = a_world(using("p", "a"), using("q", "a"))
    (found,) = stored(cluster, VOLUME_ATTACHMENTS)
    assert found.metadata.name == attachment_name("handle", DRIVER, "a")
    assert wire(found.spec) == {
        "attacher": DRIVER, "source": {"persistentVolumeName": "v"}, "nodeName": "a",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pods", "world"),
    [
        ((using("p", None),), {}),
        ((change(using("p", "a"), phase="Succeeded"),), {}),
        ((using("p", "a"),), {"attach_required": False}),
        ((using("p", "a"),), {"managed": False}),
        ((using("p", "elsewhere"),), {}),
        ((pod("p", node_name="a"),), {}),
    ],
)
def test_attach_1_nothing_is_attached_without_need(pods, world):
    assert not attachments(a_world(*pods, **world))


def test_attach_1_a_driver_that_requires_it_is_attached():
    assert set(attachments(a_world(using("p", "a"), attach_required=True))) == {"a"}


def test_attach_2_the_node_names_what_is_attached():
    cluster = a_world(using("p", "a"))
    assert not attached_to(cluster, "a")
    cluster = attach(cluster, "no such disk")
    cluster = attach(cluster, "no such disk")
    assert told(cluster, "FailedAttachVolume") == [
        'AttachVolume.Attach failed for volume "v" : no such disk'
    ]
    cluster = attach(cluster)
    assert attached_to(cluster, "a") == [UNIQUE]
    assert told(cluster, "SuccessfulAttachVolume") == [
        'AttachVolume.Attach succeeded for volume "v" '
    ]


def test_attach_3_a_volume_for_one_node_waits_for_the_other():
    cluster = attach(a_world(using("p", "a")))
    cluster = quiet(create(cluster, using("q", "b")))
    assert set(attachments(cluster)) == {"a"}
    assert told(cluster, "FailedAttachVolume") == [
        'Multi-Attach error for volume "v" Volume is already used by pod(s) p'
    ]
    cluster = ended(cluster, "p")
    assert set(attachments(cluster)) == {"b"} and not attached_to(cluster, "a")


def test_attach_3_a_volume_for_many_nodes_is_attached_to_all():
    cluster = a_world(using("p", "a"), using("q", "b"), modes=("ReadWriteMany",))
    assert set(attachments(cluster)) == {"a", "b"} and not told(cluster, "FailedAttachVolume")


def test_attach_3_an_attachment_that_is_being_deleted_still_counts():
    cluster = attach(a_world(using("p", "a")))
    name = attachments(cluster)["a"].metadata.name
    cluster = patch(cluster, VOLUME_ATTACHMENTS, name, {"metadata": {"finalizers": ["external/x"]}})
    cluster = ended(quiet(create(cluster, using("q", "b"))), "p")
    assert set(attachments(cluster)) == {"a"}
    cluster = patch(cluster, VOLUME_ATTACHMENTS, name, {"metadata": {"finalizers": None}})
    assert set(attachments(quiet(cluster))) == {"b"}


def test_attach_4_a_volume_in_use_is_not_detached():
    cluster = in_use(attach(a_world(using("p", "a"))), "a", UNIQUE)
    cluster = quiet(ended(cluster, "p"), 3_600)
    assert set(attachments(cluster)) == {"a"} and attached_to(cluster, "a") == [UNIQUE]
    cluster = in_use(cluster, "a")
    assert not attachments(cluster) and not attached_to(cluster, "a")


def test_attach_5_a_volume_of_a_node_that_is_not_ready_is_detached_after_six_minutes():
    cluster = in_use(attach(a_world(using("p", "a"))), "a", UNIQUE)
    cluster = patch(cluster, NODES, "a", a_node("a", ready=False)[1], "status")
    cluster = quiet(ended(cluster, "p"), 350)
    assert set(attachments(cluster)) == {"a"}
    assert not attachments(quiet(cluster, 365))


def test_attach_5_a_volume_of_a_node_out_of_service_is_detached_at_once():
    cluster = in_use(attach(a_world(using("p", "a"))), "a", UNIQUE)
    taint = wire(Taint(key=OUT_OF_SERVICE, value="nodeshutdown", effect="NoExecute"))
    cluster = ended(cluster, "p")
    assert set(attachments(cluster)) == {"a"}
    cluster = quiet(patch(cluster, NODES, "a", {"spec": {"taints": [taint]}}))
    assert not attachments(cluster)


def test_attach_5_a_volume_of_a_node_that_is_gone_is_detached():
    cluster = in_use(attach(a_world(using("p", "a"))), "a", UNIQUE)
    cluster = quiet(remove(ended(cluster, "p"), NODES, "a"))
    assert not attachments(cluster)


steps = st.lists(
    st.sampled_from(["p on a", "p on b", "q on a", "q on b", "end p", "end q", "attach", "use", "free"]),
    max_size=14,
)  # fmt: skip


@given(steps, st.sampled_from([("ReadWriteOnce",), ("ReadWriteMany",)]))
def test_attach_6_whatever_happens_the_volume_is_where_pods_need_it(events, modes):
    """The law is judged at every step; when kubelets and attachers have acted, exactly the nodes of
    pods have the volume, or one of them."""
    cluster = a_world(modes=modes)
    for event in events:
        name, _, where = event.partition(" on ")
        there = get(cluster, PODS, name[-1])
        if where and there is None:
            cluster = quiet(create(cluster, using(name, where)))
        elif event.startswith("end") and there is not None:
            cluster = ended(cluster, name[-1])
        elif event == "attach":
            cluster = attach(cluster)
        elif event in ("use", "free"):
            cluster = in_use(cluster, "a", *((UNIQUE,) if event == "use" else ()))
    cluster = attach(in_use(cluster, "a"))
    wanted = {one.spec.node_name for one in stored(cluster, PODS)}
    found = set(attachments(cluster))
    if modes == ("ReadWriteMany",):
        assert found == wanted
    else:
        assert found <= wanted and len(found) == min(len(wanted), 1)
    assert all(attached_to(cluster, name) == ([UNIQUE] if name in found else []) for name in "ab")


def of_a_client(name, where, volume="v"):
    spec = VolumeAttachmentSpec(
        attacher=DRIVER,
        source=VolumeAttachmentSource(persistent_volume_name=volume),
        node_name=where,
    )
    return VolumeAttachment(metadata=ObjectMeta(name=name), spec=spec)


@pytest.mark.parametrize("volume", ["v", "gone"])
def test_attach_7_an_attachment_of_another_client_stays(volume):
    cluster = quiet(create(a_world(), of_a_client("va-1", "a", volume)))
    assert set(attachments(cluster)) == {"a"}
    cluster = quiet(attach(cluster), 3_600)
    assert attachments(cluster)["a"].status.attached and attached_to(cluster, "a") == []
    assert not attachments(quiet(remove(cluster, VOLUME_ATTACHMENTS, "va-1")))


def test_attach_7_the_attachment_of_a_volume_that_is_gone_is_deleted():
    name = attachment_name("handle", DRIVER, "a")
    assert not attachments(quiet(create(a_world(), of_a_client(name, "a", "gone"))))


def test_attach_7_another_clients_attachment_keeps_the_volume_from_other_nodes():
    cluster = quiet(create(a_world(), of_a_client("va-1", "a")))
    cluster = quiet(create(cluster, using("q", "b")))
    assert set(attachments(cluster)) == {"a"}
    assert told(cluster, "FailedAttachVolume") == [
        'Multi-Attach error for volume "v" Volume is already exclusively attached to one node '
        "and can't be attached to another"
    ]
    cluster = quiet(create(cluster, using("p", "a")))
    names = {one.metadata.name for one in stored(cluster, VOLUME_ATTACHMENTS)}
    assert names == {"va-1", attachment_name("handle", DRIVER, "a")}
    assert attached_to(attach(cluster), "a") == [UNIQUE]
