"""What the controllers of volumes write and say, and which changes concern them, beside a plain
reading of their rules: VOL-1 to VOL-11 (spec/workloads/volume_binding.md)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from test_vol import (
    BINDER,
    EPHEMERAL,
    LOCAL,
    PHASES,
    ROX,
    RWO,
    a_claim,
    a_class,
    a_pod,
    a_volume,
    bound,
    ephemeral,
    phase_of,
    planned,
    reference,
    written,
)
from workload_helpers import NOW, change, pod, reference_to, view_of, without_reasons

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import (
    HostPathVolumeSource,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeSpec,
    Pod,
    VolumeNodeAffinity,
)
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
    Preconditions,
)
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from refk8s.core.context import SECOND
from refk8s.core.controllers.claim_binding import OLD_PROVISIONER, PROVISIONER
from refk8s.core.loop.plan import NOTHING, Local, Note
from refk8s.core.pods.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    CLASS_ANNOTATION,
    PROVISIONED_BY,
    SELECTED_NODE,
    best_volume,
    claims_of,
    class_of,
    has_class,
    is_reserved_for,
    reaches,
    storage,
    why_not_bound,
)

CLAIMS, VOLUMES = PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
LAZY = a_class(mode="WaitForFirstConsumer")
GOING = "2026-01-01T00:00:00Z"
DONE = {BIND_COMPLETED: "yes"}


def keys_of(reconciler, resource):
    return next(one.keys for one in reconciler.interests if one.resource is resource)


def of(resource, body, subresource=""):
    """The request that writes this object."""
    namespace = body.metadata.namespace or ""
    return Request("update", resource, namespace, body.metadata.name, subresource, body=body)


def requests(plan):
    return without_reasons(plan.requests)


# --- whether a volume can be bound ----------------------------------------------------------------


def test_vol_2_the_class_is_that_of_the_annotation_if_there_is_one():
    for make in (a_claim, a_volume):
        assert (
            class_of(make(storage_class="fast", annotations={CLASS_ANNOTATION: "slow"})) == "slow"
        )
        assert class_of(make(storage_class="fast")) == "fast"
        assert class_of(make(storage_class=None)) == ""
    assert has_class(a_claim(storage_class="")) and not has_class(a_claim(storage_class=None))
    assert has_class(a_claim(storage_class=None, annotations={CLASS_ANNOTATION: "slow"}))


def test_vol_2_file_system_is_the_mode_of_both_by_default():
    modes = (None, "Filesystem", "Block")
    for one, other in itertools.product(modes, modes):
        words = why_not_bound(a_volume(volume_mode=one), a_claim(volume_mode=other))
        assert (words == "") == ((one or "Filesystem") == (other or "Filesystem"))
    assert why_not_bound(a_volume(modes=(RWO, ROX)), a_claim(modes=())) == ""
    assert (
        why_not_bound(change(a_volume(), access_modes=None), a_claim()) == "incompatible accessMode"
    )
    assert why_not_bound(a_volume(), change(a_claim(), access_modes=None)) == ""


def test_vol_2_an_amount_that_is_no_quantity_is_none():
    assert storage({"storage": "1"}) == 10**9 and storage({"storage": "1Gi"}) == 2**30 * 10**9
    assert storage(None) == storage({}) == storage({"storage": "x"}) == storage({"cpu": "1"}) == 0


def test_vol_2_a_selector_that_is_not_valid_selects_nothing():
    wrong = LabelSelector(match_expressions=(LabelSelectorRequirement(key="a", operator="Odd"),))
    absent = LabelSelector(
        match_expressions=(LabelSelectorRequirement(key="a", operator="DoesNotExist"),)
    )
    assert best_volume(a_claim(selector=wrong), [a_volume()]) is None
    assert best_volume(a_claim(selector=absent), [a_volume()]) is not None


@given(
    st.sampled_from(["default", "other"]), st.sampled_from(["c", "d"]), st.sampled_from([None, "uid-c", "x"])
)  # fmt: skip
def test_vol_3_a_reservation_names_the_claim_and_its_uid_if_it_has_one(namespace, name, uid):
    one = ObjectReference(namespace=namespace, name=name, uid=uid)
    expected = (namespace, name) == ("default", "c") and uid in (None, "uid-c")
    assert is_reserved_for(a_volume(claim_ref=one), a_claim()) == expected
    assert not is_reserved_for(a_volume(), a_claim())


def test_vol_3_of_volumes_of_one_size_the_first_by_name():
    volumes = [a_volume(name, size) for name, size in (("c", "1Gi"), ("a", "2Gi"), ("b", "1Gi"))]
    small = a_volume("0", "1Mi")
    for some in itertools.permutations([*volumes, small]):
        assert best_volume(a_claim(), some).metadata.name == "b"
    mine = a_volume("z", "9Gi", claim_ref=reference(a_claim()), phase="Bound")
    for some in itertools.permutations([*volumes, mine]):
        assert best_volume(a_claim(), some) is mine


def test_the_claims_of_a_pod():
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "x"}},
        {"name": "b", "emptyDir": {}},
        {"name": "c", "ephemeral": {}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "y"}},
    ]
    tree = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"volumes": volumes}}
    one = codec.decode_tolerant(Pod, tree)[0]
    assert claims_of(one) == ("default/x", "default/p-c", "default/y")
    assert claims_of(pod("p")) == ()


def test_a_volume_reaches_a_node_that_any_of_its_terms_selects():
    def term(name):
        field = NodeSelectorRequirement(key="metadata.name", operator="In", values=(name,))
        return NodeSelectorTerm(match_fields=(field,))

    def of_terms(*terms):
        selector = NodeSelector(node_selector_terms=terms)
        return a_volume(node_affinity=VolumeNodeAffinity(required=selector))

    one = of_terms(term("n1"), term("n2"))
    assert [reaches(one, name, {}) for name in ("n1", "n2", "n3")] == [True, True, False]
    assert not reaches(of_terms(), "n1", {})
    assert reaches(a_volume(node_affinity=VolumeNodeAffinity()), "n1", {})


# --- which changes concern a claim ----------------------------------------------------------------

WAITING = {
    "fast": a_claim("f", storage_class="fast"),
    "": a_claim("e", storage_class=""),
    None: a_claim("n", storage_class=None),
}
NAMED = a_claim("v1", volume="v")
FINISHED = a_claim("b", storage_class="fast", volume="w", annotations=DONE)
BROKEN = a_claim("l", storage_class="fast", annotations=DONE)  # its volumeName was removed


def claims_in_view():
    return view_of(BINDER, *WAITING.values(), NAMED, FINISHED, BROKEN)


states = st.fixed_dictionaries(
    {
        "storage_class": st.sampled_from(["fast", "", "slow"]),
        "size": st.sampled_from(["1Gi", "2Gi"]),
        "phase": st.sampled_from(["Available", "Released"]),
        "claim": st.sampled_from([None, None, "x"]),
        "beat": st.booleans(),
    }
)


def volume_in(state, claim, beat, **parts):
    volume = a_volume(claim=a_claim(claim) if claim else None, **parts)
    return change(volume, annotations={"beat": "1"} if beat else None)


@given(st.none() | states, states, st.booleans(), st.booleans())
def test_vol_1_the_claims_that_a_change_of_a_volume_concerns(before, after, gone, same):
    """Those that name it, those for which it is reserved, and those that wait for a volume of its
    class if it has become available or has changed."""
    old = volume_in("", **before) if before else None
    new = volume_in("", **after) if not gone else None
    if same and old is not None and new is not None:
        new = replace(old, metadata=new.metadata)  # the spec is the same
        after = {**before, "beat": after["beat"]}
    view = claims_in_view()
    found = list(keys_of(BINDER, VOLUMES)(view, old, new))
    present = [state for state, one in ((before, old), (after, new)) if one is not None]
    expected = {"default/v1"} if present else set()
    expected |= {f"default/{state['claim']}" for state in present if state["claim"]}
    is_free = new is not None and after["claim"] is None and after["phase"] == "Available"
    if is_free:
        was = old is not None and before["claim"] is None and before["phase"] == "Available"
        if not (was and old.spec is new.spec):
            waiting = {"fast": {"default/f"}, "": {"default/e", "default/n"}, "slow": set()}
            expected |= waiting[after["storage_class"]]
    assert set(found) == expected


def test_vol_5_the_claims_that_a_class_concerns():
    keys, view = keys_of(BINDER, STORAGE_CLASSES), claims_in_view()
    for old, new in ((None, LAZY), (LAZY, None), (LAZY, LAZY), (a_class("fast"), LAZY)):
        assert sorted(keys(view, old, new)) == ["default/f", "default/n"]
    assert sorted(keys(view, None, a_class("other"))) == ["default/n"]


# --- what a claim waits for -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "others", "reason", "kind", "words"),
    [
        (
            a_claim(), (), "FailedBinding", "Normal",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        (
            a_claim(storage_class="fast"), (LAZY,), "WaitForFirstConsumer", "Normal",
            "waiting for first consumer to be created before binding",
        ),
        (
            a_claim(storage_class="fast"), (), "ProvisioningFailed", "Warning",
            'storageclass.storage.k8s.io "fast" not found',
        ),
        (
            a_claim(storage_class="fast"), (a_class(provisioner="refk8s.io/local-path"),), "ProvisioningFailed", "Warning",
            "refk8s.io/local-path needs a class with volumeBindingMode: WaitForFirstConsumer",
        ),
        (
            a_claim(storage_class="fast"), (a_class(provisioner="kubernetes.io/aws"),), "ProvisioningFailed", "Warning",
            "no volume plugin matched name: kubernetes.io/aws",
        ),
        (
            a_claim(storage_class="fast"), (a_class(),), "ExternalProvisioning", "Normal",
            "Waiting for a volume to be created either by the external provisioner "
            "'csi.example.com' or manually by the system "
            "administrator. If volume creation is delayed, "
            "please verify that the provisioner is running and correctly registered.",
        ),
        (
            a_claim(volume="v"), (a_volume(size="1Mi"),), "VolumeMismatch", "Warning",
            'Cannot bind to requested volume "v": requested PV is too small',
        ),
    ],
)  # fmt: skip
def test_vol_2_vol_4_the_event_in_full(claim, others, reason, kind, words):
    assert planned(claim, *others).notes == (Note(claim, reason, words, kind),)
    unwritten = change(claim, phase=None)
    plan = planned(unwritten, *others)
    pending = replace(unwritten, status=replace(claim.status, phase="Pending"))
    assert requests(plan) == [of(CLAIMS, pending, "status")]
    assert plan.notes == (Note(unwritten, reason, words, kind),)


def test_vol_4_the_provisioner_is_asked_in_full():
    claim = a_claim(storage_class="fast", annotations={"note": "x"})
    marks = {"note": "x", PROVISIONER: "csi.example.com", OLD_PROVISIONER: "csi.example.com"}
    assert requests(planned(claim, a_class())) == [of(CLAIMS, change(claim, annotations=marks))]
    # with a delayed class only when the node is chosen
    assert not planned(claim, LAZY).requests
    chosen = change(claim, annotations={SELECTED_NODE: "n1"})
    (request,) = planned(chosen, LAZY).requests
    assert request.body.metadata.annotations[PROVISIONER] == "csi.example.com"
    for provisioner in ("kubernetes.io/aws", "refk8s.io/local-path"):
        assert not planned(claim, a_class(provisioner=provisioner)).requests


def test_vol_4_a_named_volume_that_is_missing_or_taken_leaves_the_claim_pending():
    claim = change(a_claim(volume="v"), phase=None)
    for others in ((), (a_volume(claim=a_claim("other")),)):
        plan = planned(claim, *others)
        assert requests(plan) == [of(CLAIMS, change(claim, phase="Pending"), "status")]
        assert plan.notes == ()
    assert planned(change(a_claim(volume="v"), deletion_timestamp=GOING), a_volume()) == NOTHING
    assert BINDER.reconcile(view_of(BINDER), "default/c", NOW, Local()) == NOTHING


def test_vol_5_the_default_class_in_full():
    without = a_claim(storage_class=None)
    body = change(without, storage_class_name="fast")
    assert requests(planned(without, a_class(default=True))) == [of(CLAIMS, body)]


# --- binding in full ------------------------------------------------------------------------------


def test_vol_1_the_writes_in_full():
    claim = a_claim(annotations={"note": "x"}, resource_version="7")
    volume = a_volume("v", "2Gi", annotations={"kept": "y"})
    claim_ref = ObjectReference(
        kind="PersistentVolumeClaim", api_version="v1", namespace="default", name="c", uid="uid-c", resource_version="7"
    )  # fmt: skip
    marks = {"kept": "y", BOUND_BY_CONTROLLER: "yes"}
    reserved = change(volume, annotations=marks, claim_ref=claim_ref)
    assert requests(planned(claim, volume)) == [of(VOLUMES, reserved)]
    marks = {"note": "x", BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}
    named = change(claim, annotations=marks, volume_name="v")
    assert requests(planned(claim, reserved)) == [of(CLAIMS, named)]
    status = replace(claim.status, phase="Bound", access_modes=(RWO,), capacity={"storage": "2Gi"})
    assert requests(planned(named, reserved)) == [
        of(CLAIMS, replace(named, status=status), "status")
    ]


def test_vol_1_the_capacity_that_is_known_is_kept():
    claim = a_claim(volume="v", annotations=DONE)
    for known, given_, found in (
        ({"storage": "1Gi"}, {"storage": "9Gi"}, {"storage": "1Gi"}),
        ({"x": "1"}, {"storage": "9Gi"}, {"x": "1", "storage": "9Gi"}),
        ({"x": "1"}, None, {"x": "1"}),
        (None, {"y": "1"}, None),
    ):
        volume = a_volume(claim=claim, capacity=given_)
        one = replace(claim, status=replace(claim.status, phase="Pending", capacity=known))
        body = replace(
            claim, status=replace(claim.status, phase="Bound", capacity=found, access_modes=(RWO,))
        )
        assert requests(planned(one, volume)) == [of(CLAIMS, body, "status")]


@pytest.mark.parametrize(
    ("volume", "reason", "words"),
    [
        (None, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
        (
            "unnamed", "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (
            a_volume(claim=a_claim("other")), "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    ],
)  # fmt: skip
def test_vol_6_the_event_in_full(volume, reason, words):
    claim = bound(volume_name=None) if volume == "unnamed" else bound()
    plan = planned(claim, *([volume] if isinstance(volume, PersistentVolume) else []))
    assert plan.notes == (Note(claim, reason, words, "Warning"),)


# --- provisioning ---------------------------------------------------------------------------------


def test_vol_10_a_volume_in_full():
    claim = a_claim(
        storage_class="local",
        size="2Gi",
        annotations={SELECTED_NODE: "n1"},
        volume_mode="Filesystem",
    )
    plan = planned(claim, LOCAL)
    here = NodeSelectorRequirement(key="kubernetes.io/hostname", operator="In", values=("n1",))
    terms = (NodeSelectorTerm(match_expressions=(here,)),)
    spec = PersistentVolumeSpec(
        capacity={"storage": "2Gi"},
        access_modes=(RWO,),
        claim_ref=replace(reference(claim), api_version="v1"),
        persistent_volume_reclaim_policy="Delete",
        storage_class_name="local",
        volume_mode="Filesystem",
        host_path=HostPathVolumeSource(
            path="/var/lib/refk8s/volumes/pvc-uid-c", type="DirectoryOrCreate"
        ),
        node_affinity=VolumeNodeAffinity(required=NodeSelector(node_selector_terms=terms)),
    )
    metadata = ObjectMeta(name="pvc-uid-c", annotations={PROVISIONED_BY: "refk8s.io/local-path"})
    body = PersistentVolume(metadata=metadata, spec=spec)
    note = Note(claim, "ProvisioningSucceeded", "Successfully provisioned volume pvc-uid-c")
    assert requests(plan) == [Request("create", VOLUMES, body=body, note=note)]
    for path in ("/srv/X", "/srv/X/"):
        made = written(planned(claim, replace(LOCAL, parameters={"path": path})))
        assert made.spec.host_path.path == "/srv/X/pvc-uid-c"
    none = change(claim, resources=replace(claim.spec.resources, requests=None))
    assert written(planned(none, LOCAL)).spec.capacity == {"storage": "0"}
    # the status comes first, and a volume of this name is not made twice
    first = planned(change(claim, phase=None), LOCAL)
    assert [request.subresource for request in first.requests] == ["status"]
    taken = change(body, claim_ref=reference(a_claim("other")))
    assert planned(claim, LOCAL, taken) == NOTHING


def test_vol_10_a_released_volume_is_deleted_in_full():
    volume = a_volume(
        claim=a_claim(), phase="Released", annotations={PROVISIONED_BY: "refk8s.io/local-path"}
    )
    volume = change(volume, persistent_volume_reclaim_policy="Delete")
    options = DeleteOptions(preconditions=Preconditions(uid="uid-v"))
    deletion = Request("delete", VOLUMES, "", "v", body=options)
    for phase in ("Released", "Failed"):
        assert requests(phase_of(change(volume, phase=phase))) == [deletion]
    assert phase_of(change(volume, annotations={PROVISIONED_BY: "other"})) == NOTHING


def test_vol_11_a_larger_claim_in_full():
    def claim_of(wanted, known):
        made = a_claim(size=wanted, volume="v", annotations=DONE)
        capacity = {"x": "1", "storage": known}
        status = replace(made.status, phase="Bound", access_modes=(RWO,), capacity=capacity)
        return replace(made, status=status)

    def volume_of(size, ours=True):
        marks = {PROVISIONED_BY: "refk8s.io/local-path"} if ours else None
        made = a_volume(claim=a_claim(), annotations=marks)
        return change(made, capacity={"y": "2", "storage": size})

    larger = change(volume_of("1Gi"), capacity={"y": "2", "storage": "3Gi"})
    assert requests(planned(claim_of("3Gi", "1Gi"), volume_of("1Gi"))) == [of(VOLUMES, larger)]
    assert requests(planned(claim_of("3Gi", "1Gi"), volume_of("3Gi"))) == [
        of(CLAIMS, claim_of("3Gi", "3Gi"), "status")
    ]
    claim = claim_of("3Gi", "1Gi")
    words = "waiting for an external controller to expand this PVC"
    plan = planned(claim, volume_of("1Gi", ours=False))
    assert not plan.requests and plan.notes == (Note(claim, "ExternalExpanding", words),)
    for known in ("1Gi", "2Gi"):
        assert planned(claim_of("1Gi", known), volume_of("1Gi", ours=False)) == NOTHING


# --- phases ---------------------------------------------------------------------------------------


def test_vol_7_the_phase_in_full():
    before = change(a_volume(phase=None), message="m", reason="r")
    after = change(a_volume(phase="Available"), message=None, reason=None)
    assert requests(phase_of(before)) == [of(VOLUMES, after, "status")]
    assert PHASES.reconcile(view_of(PHASES), "v", NOW, Local(memory=Map())) == NOTHING


def test_vol_7_the_question_in_full():
    volume = a_volume(claim=a_claim(), phase="Bound")
    plan = phase_of(volume)
    assert without_reasons(plan.queries) == [Request("get", CLAIMS, "default", "c")]
    assert plan.wake_at == NOW + 10 * SECOND and plan.memory == Map({"v": ("uid-c", False)})
    (question,) = plan.queries
    assert PHASES.answered(Map(), "v", question, Response(404, None), NOW) == (Map(), ())
    released = phase_of(volume, memory=Map({"v": ("uid-c", True), "w": ("x", False)}))
    assert released.memory == Map({"w": ("x", False)})
    assert requests(released) == [of(VOLUMES, change(volume, phase="Released"), "status")]
    assert phase_of(volume, memory=Map({"v": ("uid-c", False)})).queries
    # a claim of the same name with another uid is not the volume's
    later = change(a_claim(volume="v"), uid="uid-later")
    assert phase_of(volume, later).queries


def test_vol_7_the_volumes_that_a_change_of_a_claim_concerns():
    reserved = [a_volume(name, claim=a_claim(claim)) for name, claim in (("v", "c"), ("w", "d"))]
    view = view_of(PHASES, *reserved, a_volume("free"))
    keys = keys_of(PHASES, CLAIMS)
    plain, named, other = a_claim(), a_claim(volume="x"), a_claim(volume="y")
    assert list(keys(view, None, plain)) == list(keys(view, plain, None)) == ["v"]
    assert sorted(keys(view, plain, named)) == sorted(keys(view, named, plain)) == ["v", "x"]
    assert sorted(keys(view, named, other)) == ["v", "x", "y"]
    assert list(keys(view, None, a_claim("e"))) == []


def test_vol_8_the_writes_in_full():
    elsewhere = bound(a_claim(volume="w"))
    marks = {BOUND_BY_CONTROLLER: "yes", "kept": "y"}
    ours = a_volume(claim=a_claim(), annotations=marks)
    free = change(ours, annotations={"kept": "y"}, claim_ref=None)
    assert requests(phase_of(ours, elsewhere)) == [of(VOLUMES, free)]
    users = change(a_volume(), claim_ref=replace(reference(a_claim()), resource_version="5"))
    body = change(users, claim_ref=reference(a_claim(), uid=False))
    assert requests(phase_of(users, elsewhere)) == [of(VOLUMES, body)]


# --- ephemeral volumes ----------------------------------------------------------------------------


def with_volumes(*names, **template):
    tree = codec.to_tree(a_pod())
    (one,) = tree["spec"]["volumes"]
    tree["spec"]["volumes"] = [
        {"name": "plain", "emptyDir": {}},
        *({**one, "name": n} for n in names),
    ]
    return codec.decode_tolerant(Pod, tree)[0]


def test_vol_9_the_claims_in_full():
    owner = with_volumes("a", "b", "c")
    template = owner.spec.volumes[1].ephemeral.volume_claim_template
    template = replace(template, metadata=ObjectMeta(labels={"l": "x"}, annotations={"n": "y"}))
    volumes = list(owner.spec.volumes)
    volumes[1] = replace(
        volumes[1], ephemeral=replace(volumes[1].ephemeral, volume_claim_template=template)
    )
    bare = replace(template, metadata=None)
    volumes[3] = replace(
        volumes[3], ephemeral=replace(volumes[3].ephemeral, volume_claim_template=bare)
    )
    owner = change(owner, volumes=tuple(volumes))

    def claim(name, **parts):
        metadata = ObjectMeta(
            name=f"p-{name}", namespace="default", owner_references=(reference_to(owner),), **parts
        )
        body = PersistentVolumeClaim(metadata=metadata, spec=template.spec)
        return Request("create", CLAIMS, "default", body=body)

    plan = ephemeral(owner, a_claim("p-b"))
    words = (
        "ephemeral volume b: PVC default/p-b was not created for pod default/p (pod is not owner)"
    )
    assert requests(plan) == [claim("a", labels={"l": "x"}, annotations={"n": "y"}), claim("c")]
    assert plan.notes == (Note(owner, "FailedBinding", words, "Warning"),) and plan.failed
    other = change(a_claim("p-b"), owner_references=(reference_to(change(owner, uid="x")),))
    assert ephemeral(owner, other).failed
    mine = change(a_claim("p-a"), owner_references=(reference_to(owner),))
    assert requests(ephemeral(with_volumes("a"), mine)) == []
    assert ephemeral(with_volumes("a"), mine) == NOTHING
    assert EPHEMERAL.reconcile(view_of(EPHEMERAL), "default/p", NOW, Local()) == NOTHING


def test_vol_9_the_pods_that_a_change_concerns():
    keys, one = keys_of(EPHEMERAL, PODS), with_volumes("a")
    assert list(keys(None, None, one)) == ["default/p"]
    assert list(keys(None, one, one)) == list(keys(None, one, None)) == []
    assert list(keys(None, None, with_volumes())) == []
    keys = keys_of(EPHEMERAL, CLAIMS)
    mine = change(a_claim("p-a"), owner_references=(reference_to(one),))
    assert list(keys(None, mine, None)) == ["default/p"]
    assert list(keys(None, mine, mine)) == list(keys(None, None, mine)) == []
    other = change(mine, owner_references=(replace(reference_to(one), kind="Job"),))
    assert list(keys(None, other, None)) == list(keys(None, a_claim("p-a"), None)) == []
