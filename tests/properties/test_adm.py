"""Admission: ADM-1 to ADM-12 (spec/admission.md)."""

from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import memory_quantities, objects, pods, tolerations

from refk8s.core.api import codec, quantity, resources
from refk8s.core.api.core_v1 import (
    ConfigMap,
    Namespace,
    Node,
    NodeSpec,
    Pod,
    ProjectedVolumeSource,
    ServiceAccount,
    Taint,
    Toleration,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission import admit
from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects, kubernetes_corrections
from refk8s.core.apiserver.admission.pod import TOKEN_PATH
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.live_servers import Server
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.token_source import TOKEN_SOURCE
from refk8s.core.apiserver.validation import validate_create
from refk8s.core.apiserver.validation.projected import validate_projected
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.pods.qos import compute_qos_class
from refk8s.core.store import EMPTY, Conflict, Txn, commit

MERGE = "application/merge-patch+json"
UNREADY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
KINDS = [
    resource
    for resource in resources.ALL
    if "create" in resource.verbs and "update" in resource.verbs
]


class Cluster:
    """One API server on one store, with the namespaces `n` and `gone` (which is terminating, held
    by what is in it)."""

    def __init__(self) -> None:
        self.context = Context(1_700_000_000 * SECOND, SeededChance(b"seed"))
        self.history = EMPTY
        for name in ("n", "gone"):
            assert self.ask(
                "create", resources.NAMESPACES, body=Namespace(metadata=ObjectMeta(name=name))
            ).ok
        assert self.ask("delete", resources.NAMESPACES, name="gone", body=DeleteOptions()).ok

    def ask(
        self, verb: str, resource: Any, namespace: str = "", name: str = "", body: Any = None
    ) -> Response:
        outcome = handle(
            Exchange(
                Request(verb, resource, namespace, name, body=body, user=ADMIN),
                self.history,
                self.context,
            )
        )
        if isinstance(outcome, Commit):
            self.history, done = commit(self.history, outcome.txn, stamp)
            assert not isinstance(done, Conflict)
            return outcome.respond(done)
        assert isinstance(outcome, Response)
        return outcome

    def create(self, obj: Any, namespace: str = "n") -> Response:
        resource = resources.by_kind(obj.api_version, obj.kind)
        assert resource is not None
        return self.ask("create", resource, namespace if resource.namespaced else "", body=obj)

    def pod(self, name: str = "p", **spec: Any) -> Response:
        tree = {
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec},
        }
        return self.create(codec.decode_tolerant(Pod, tree)[0])


WORLD = Cluster()


# --- the form


@pytest.mark.parametrize(
    "resource", KINDS, ids=lambda resource: f"{resource.kind}.{resource.api_version}"
)
def test_adm_11_whatever_the_object_it_is_admitted_or_refused_below_500(resource):
    @given(objects(resource.type), objects(resource.type), st.booleans())
    def law(new, old, is_update):
        named = replace(
            new, metadata=replace(new.metadata, namespace="n" if resource.namespaced else None)
        )
        namespace = "n" if resource.namespaced else ""
        request = Request(
            "update" if is_update else "create",
            resource,
            namespace,
            named.metadata.name or "",
            body=named,
            user=ADMIN,
        )
        before = replace(old, metadata=named.metadata) if is_update else None
        try:
            exchange = Exchange(request, WORLD.history, WORLD.context)
            made = admit(exchange, default(resource, named), before).object
        except ApiError as error:
            assert 400 <= error.status.code < 500
        else:
            assert made.kind == new.kind and made.metadata.name == new.metadata.name
            # still canonical
            assert codec.to_tree(
                codec.decode_tolerant(resource.type, codec.to_tree(made))[0]
            ) == codec.to_tree(made)

    law()


@given(pods())
def test_adm_1_what_was_read_of_the_namespace_must_still_be_so(pod):
    """The namespace begins to go between the look and the commit: the commit fails, and the second
    look refuses."""
    cluster = Cluster()
    pod = replace(pod, metadata=ObjectMeta(name="p"), spec=replace(pod.spec, node_name=None))
    request = Request("create", resources.PODS, "n", body=pod, user=ADMIN)
    wanted = handle(Exchange(request, cluster.history, cluster.context))
    assume(isinstance(wanted, Commit))
    assert cluster.ask("delete", resources.NAMESPACES, name="n", body=DeleteOptions()).ok
    cluster.history, done = commit(cluster.history, wanted.txn, stamp)
    assert isinstance(done, Conflict)
    assert handle(Exchange(request, cluster.history, cluster.context)).code == 403


# --- namespaces


@pytest.mark.parametrize(("namespace", "code"), [("n", 201), ("gone", 403), ("absent", 404)])
def test_adm_2_objects_begin_only_in_a_living_namespace(namespace, code):
    response = Cluster().create(ConfigMap(metadata=ObjectMeta(name="c")), namespace)
    assert response.code == code
    if code == 403:
        (cause,) = response.body.details.causes
        assert (cause.reason, cause.field) == ("NamespaceTerminating", "metadata.namespace")
    if code == 404:
        assert (response.body.details.kind, response.body.details.name) == ("namespaces", "absent")


def test_adm_2_what_is_there_already_can_be_changed_while_its_namespace_goes():
    cluster = Cluster()
    held = ConfigMap(metadata=ObjectMeta(name="c", finalizers=("a.b/c",)))
    assert cluster.create(held).ok
    assert cluster.ask("delete", resources.NAMESPACES, name="n", body=DeleteOptions()).ok
    changed = cluster.ask(
        "patch", resources.CONFIG_MAPS, "n", "c", Patch(MERGE, {"data": {"k": "v"}})
    )
    assert changed.code == 200 and changed.body.data == {"k": "v"}


# --- pods


def test_adm_3_a_pod_is_somebody_who_exists():
    cluster = Cluster()
    assert cluster.pod("a").body.spec.service_account_name == "default"
    assert cluster.pod("b", serviceAccountName="robot").code == 403
    secrets = [{"name": "s"}]
    robot = codec.decode_tolerant(
        ServiceAccount, {"metadata": {"name": "robot"}, "imagePullSecrets": secrets}
    )[0]
    assert cluster.create(robot).ok
    spec = cluster.pod("b", serviceAccountName="robot").body.spec
    assert (spec.service_account_name, spec.service_account) == ("robot", "robot")
    assert [secret.name for secret in spec.image_pull_secrets] == ["s"]
    own = cluster.pod(
        "c", serviceAccountName="robot", imagePullSecrets=[{"name": "mine"}]
    ).body.spec
    assert [secret.name for secret in own.image_pull_secrets] == ["mine"]


@given(st.sampled_from([True, False, None]), st.sampled_from([True, False, None]))
def test_adm_4_the_pod_and_then_its_account_say_whether_there_is_a_token(by_pod, by_account):
    cluster = Cluster()
    assert cluster.create(
        ServiceAccount(
            metadata=ObjectMeta(name="default"), automount_service_account_token=by_account
        )
    ).ok
    spec = cluster.pod(
        **({} if by_pod is None else {"automountServiceAccountToken": by_pod})
    ).body.spec
    wanted = by_pod if by_pod is not None else by_account is not False
    assert bool(spec.volumes) == wanted
    assert all(bool(container.volume_mounts) == wanted for container in spec.containers)


def test_adm_4_what_admission_adds_is_what_validation_would_take():
    """Validation does not look at it again, so it is looked at here, as a copy."""
    copy = codec.decode(ProjectedVolumeSource, codec.encode(TOKEN_SOURCE))
    assert copy == TOKEN_SOURCE and copy is not TOKEN_SOURCE
    assert not validate_projected(copy, "spec.volumes[0].projected")
    assert validate_projected(replace(copy, default_mode=-1), "spec.volumes[0].projected")


@given(pods(), st.booleans())
def test_adm_4_the_token_is_mounted_where_nothing_else_is(pod, occupied):
    cluster = Cluster()
    tree = codec.to_tree(
        replace(pod, metadata=ObjectMeta(name="p"), spec=replace(pod.spec, node_name=None))
    )
    if occupied:
        tree["spec"]["volumes"] = [{"name": "mine"}]
        tree["spec"]["containers"][0]["volumeMounts"] = [{"name": "mine", "mountPath": TOKEN_PATH}]
    response = cluster.create(codec.decode_tolerant(Pod, tree)[0])
    assert response.code == 201, response.body
    spec = response.body.spec
    mounts = [
        [mount.name for mount in container.volume_mounts or () if mount.mount_path == TOKEN_PATH]
        for container in spec.containers
    ]
    added = [
        volume.name for volume in spec.volumes or () if volume.name.startswith("kube-api-access-")
    ]
    alone = occupied and len(spec.containers) == 1
    assert len(added) == (0 if alone else 1)
    assert mounts == [
        ["mine"] if occupied and number == 0 else added for number in range(len(mounts))
    ]


@given(pods())
def test_adm_4_pods_of_one_template_have_one_spec(pod):
    """Shows ADM-4 and D-180: what admission adds follows from the spec alone."""
    cluster = Cluster()

    def admitted(name: str) -> Any:
        tree = codec.to_tree(
            replace(pod, metadata=ObjectMeta(name=name), spec=replace(pod.spec, node_name=None))
        )
        response = cluster.create(codec.decode_tolerant(Pod, tree)[0])
        assert response.code == 201, response.body
        return response.body.spec

    assert admitted("a") == admitted("b")


def covers(toleration: Toleration, key: str) -> bool:
    return toleration.key in (None, "", key) and toleration.effect in (None, "", "NoExecute")


own_tolerations = st.lists(
    st.one_of(
        tolerations(),
        st.builds(
            Toleration,
            key=st.sampled_from([UNREADY, UNREACHABLE]),
            operator=st.just("Exists"),
            effect=st.sampled_from(["NoExecute", "NoSchedule"]),
        ),
        st.just(Toleration(operator="Exists")),
    ),
    max_size=3,
).map(tuple)


@given(own_tolerations)
def test_adm_5_a_pod_is_patient_unless_it_says_how_long(own):
    cluster = Cluster()
    pod = codec.decode_tolerant(
        Pod, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )[0]
    got = cluster.create(
        replace(pod, spec=replace(pod.spec, tolerations=own or None))
    ).body.spec.tolerations
    assert got[: len(own)] == own
    expected = [key for key in (UNREADY, UNREACHABLE) if not any(covers(one, key) for one in own)]
    assert [
        (one.key, one.operator, one.effect, one.toleration_seconds) for one in got[len(own) :]
    ] == [(key, "Exists", "NoExecute", 300) for key in expected]


amounts = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["0", "100m", "0.1", "1"]),
        "memory": memory_quantities,
        "example.com/gpu": st.just("1"),
    },
)
shapes = st.lists(st.tuples(amounts, amounts), min_size=1, max_size=3)


@given(shapes)
@example([({"cpu": "1", "memory": "1Gi"}, {"cpu": "1000m", "memory": "1Gi"})])
def test_adm_6_the_class_follows_from_what_is_asked(shape):
    containers = [
        {"name": f"c{n}", "resources": {"limits": limits, "requests": requests}}
        for n, (limits, requests) in enumerate(shape)
    ]
    pod = default(
        resources.PODS, codec.decode_tolerant(Pod, {"spec": {"containers": containers}})[0]
    )

    def some(amounts_of, name):
        return quantity.parse((amounts_of or {}).get(name, "0")).nano

    pairs = [
        (some(c.resources.limits, name), some(c.resources.requests, name))
        for c in pod.spec.containers
        for name in ("cpu", "memory")
    ]
    if not any(limit or request for limit, request in pairs):
        expected = "BestEffort"
    elif all(limit and limit == request for limit, request in pairs):
        expected = "Guaranteed"
    else:
        expected = "Burstable"
    assert compute_qos_class(pod.spec) == expected


def test_adm_6_a_new_pod_is_pending_whatever_it_says():
    tree = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Running"},
    }
    status = Cluster().create(codec.decode_tolerant(Pod, tree)[0]).body.status
    assert (status.phase, status.qos_class) == ("Pending", "BestEffort")


# --- priorities

classes = st.dictionaries(
    st.sampled_from(["high", "low", "odd"]),
    st.tuples(st.integers(-5, 5), st.booleans(), st.booleans()),
    max_size=3,
)


@given(
    classes, st.none() | st.sampled_from(["high", "low", "none"]), st.none() | st.integers(-5, 5)
)
def test_adm_7_a_pod_gets_its_classs_number_or_the_defaults_or_none(made, asked, own):
    cluster = Cluster()
    known = {}
    for name, (value, never, is_default) in made.items():
        policy = "Never" if never else "PreemptLowerPriority"
        metadata = ObjectMeta(name=name)
        body = PriorityClass(
            metadata=metadata,
            value=value or None,
            preemption_policy=policy,
            global_default=is_default or None,
        )
        response = cluster.create(body)
        second = is_default and any(other[2] for other in known.values())
        assert response.code == (403 if second else 201)  # ADM-8
        if not second:
            known[name] = (value, policy, is_default)
    fallback = next((name for name in known if known[name][2]), None)
    name = asked or fallback
    value, policy, _ = known.get(name, (0, "PreemptLowerPriority", False))
    response = cluster.pod(
        **({"priorityClassName": asked} if asked else {}),
        **({"priority": own} if own is not None else {}),
    )
    if (asked and asked not in known) or own not in (None, value):
        assert response.code == 403
    else:
        spec = response.body.spec
        assert (spec.priority, spec.preemption_policy, spec.priority_class_name) == (
            value,
            policy,
            name,
        )


def test_adm_7_what_was_computed_is_kept_when_an_older_client_leaves_it_out():
    cluster = Cluster()
    pod = cluster.pod().body
    dropped = replace(pod, spec=replace(pod.spec, priority=None, preemption_policy=None))
    response = cluster.ask("update", resources.PODS, "n", "p", dropped)
    # nothing has changed, neither generation nor revision
    assert response.code == 200 and response.body == pod


def test_adm_8_an_invalid_class_has_causes_and_a_new_one_with_the_name_of_the_default_is_forbidden():
    cluster = Cluster()
    default = PriorityClass(metadata=ObjectMeta(name="a"), value=1, global_default=True)
    assert cluster.create(default).ok
    assert cluster.create(default).code == 403
    assert cluster.create(replace(default, metadata=ObjectMeta(name="-"))).code == 422


def test_adm_8_a_default_class_can_be_changed_and_a_second_one_cannot_become_it():
    cluster = Cluster()
    assert cluster.create(
        PriorityClass(metadata=ObjectMeta(name="a"), value=1, global_default=True)
    ).ok
    assert cluster.create(PriorityClass(metadata=ObjectMeta(name="b"), value=1)).ok
    described = Patch(MERGE, {"description": "x"})
    assert cluster.ask("patch", resources.PRIORITY_CLASSES, "", "a", described).code == 200
    assert (
        cluster.ask(
            "patch", resources.PRIORITY_CLASSES, "", "b", Patch(MERGE, {"globalDefault": True})
        ).code
        == 403
    )


# --- others


some_taints = [
    Taint(key="a", effect="NoSchedule"),
    Taint(key=UNREADY, effect="NoSchedule"),
    Taint(key=UNREADY, effect="NoExecute"),
]


@given(st.lists(st.sampled_from(some_taints), unique=True))
def test_adm_9_a_new_node_is_not_ready(taints):
    cluster = Cluster()
    made = cluster.create(
        Node(metadata=ObjectMeta(name="x"), spec=NodeSpec(taints=tuple(taints) or None))
    ).body
    assert [(taint.key, taint.effect) for taint in made.spec.taints].count(
        (UNREADY, "NoSchedule")
    ) == 1
    assert list(made.spec.taints)[: len(taints)] == taints
    bare = cluster.ask(
        "patch", resources.NODES, "", "x", Patch(MERGE, {"spec": {"taints": None}})
    ).body
    assert bare.spec.taints is None


def test_adm_10_a_namespace_begins_active_and_held():
    cluster = Cluster()
    tree = {
        "metadata": {"generateName": "made-"},
        "spec": {"finalizers": ["a.b/c"]},
        "status": {"phase": "Terminating"},
    }
    made = cluster.create(codec.decode_tolerant(Namespace, tree)[0]).body
    assert made.status.phase == "Active" and made.spec.finalizers == ("a.b/c", "kubernetes")
    assert made.metadata.labels == {"kubernetes.io/metadata.name": made.metadata.name}


TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


def test_adm_10_a_daemon_set_counts_its_templates():
    cluster = Cluster()
    tree = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE},
    }
    annotation = "deprecated.daemonset.template.generation"
    made = cluster.create(codec.decode_tolerant(resources.DAEMON_SETS.type, tree)[0]).body
    assert made.metadata.annotations == {annotation: "1"}
    same = cluster.ask(
        "patch", resources.DAEMON_SETS, "n", "d", Patch(MERGE, {"spec": {"minReadySeconds": 3}})
    ).body
    assert same.metadata.annotations == {annotation: "1"}
    other = Patch(MERGE, {"spec": {"template": {"metadata": {"labels": {"app": "x", "v": "2"}}}}})
    assert cluster.ask(
        "patch", resources.DAEMON_SETS, "n", "d", other
    ).body.metadata.annotations == {annotation: "2"}


@given(st.booleans(), st.booleans())
def test_adm_10_a_job_selects_its_own_pods_unless_it_is_told_which(manual, labelled):
    cluster = Cluster()
    spec = {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
    if manual:
        spec |= {"manualSelector": True, "selector": {"matchLabels": {"app": "x"}}}
    tree = {"metadata": {"name": "j", "labels": {"own": "1"} if labelled else {}}, "spec": spec}
    response = cluster.create(codec.decode_tolerant(resources.JOBS.type, tree)[0])
    assert response.code == 201, response.body
    made = response.body
    labels = made.spec.template.metadata.labels
    if manual:
        assert labels == {"app": "x"} and made.spec.selector.match_labels == {"app": "x"}
    else:
        assert made.spec.selector.match_labels == {
            "batch.kubernetes.io/controller-uid": made.metadata.uid
        }
        assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "j"
        assert made.metadata.labels == ({"own": "1"} if labelled else labels)


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7", "2001:db8::7"])
def test_adm_12_a_cluster_begins_with_objects_that_can_be_created_as_any_other(address):
    cluster = Cluster()
    first = bootstrap_objects(address, 6443)
    for obj in first:
        response = cluster.create(obj, obj.metadata.namespace or "")
        assert response.code == 201, response.body
    kubernetes = cluster.history.get(resources.SERVICES.key("default", "kubernetes"))
    assert kubernetes.value.spec.cluster_ip == "10.96.0.1"
    kube_dns = cluster.history.get(resources.SERVICES.key("kube-system", "kube-dns")).value.spec
    assert (kube_dns.cluster_ip, kube_dns.internal_traffic_policy) == ("10.96.0.10", "Local")
    assert [(port.protocol, port.port) for port in kube_dns.ports] == [
        ("UDP", 53), ("TCP", 53), ("TCP", 9153),
    ]  # fmt: skip
    assert (cluster.history.get(resources.ENDPOINTS.key("default", "kubernetes")) is None) == (
        address == "127.0.0.1"
    )
    assert cluster.pod(priorityClassName="system-node-critical").body.spec.priority == 2_000_001_000
    for obj in first:  # being there already is no harm
        assert cluster.create(obj, obj.metadata.namespace or "").code == 409


KUBERNETES = (resources.SERVICES, resources.ENDPOINTS, resources.ENDPOINT_SLICES)


ADDRESSES = st.sampled_from(["192.0.2.7", "192.0.2.8", "2001:db8::7", "", "127.0.0.1"])
MEDDLING = st.sampled_from(
    ["delete Service", "delete Endpoints", "delete EndpointSlice", "label", "empty", "nothing"]
)


@given(
    st.lists(st.tuples(ADDRESSES, st.integers(1, 3)), min_size=1, max_size=5),
    st.lists(MEDDLING, min_size=5, max_size=5),
)
def test_host_2_whatever_was_changed_the_service_kubernetes_leads_to_the_api_server(
    places, meddling
):
    # Shows HOST-2.a.
    """The corrections of any state are accepted, and after them nothing is left to correct; what
    others added stays."""
    cluster = Cluster()
    for obj in bootstrap_objects("127.0.0.1", 6443):
        assert cluster.create(obj, obj.metadata.namespace or "").code == 201

    def current():
        records = [
            cluster.history.get(resource.key("default", "kubernetes")) for resource in KUBERNETES
        ]
        return [None if record is None else record.value for record in records]

    def corrections():
        service, endpoints, endpoint_slice = current()
        slices = [] if endpoint_slice is None else [endpoint_slice]
        return kubernetes_corrections(service, endpoints, slices, [Server(address, port)])

    for (address, port), meddled in zip(places, meddling, strict=False):
        for resource, obj in zip(KUBERNETES, current(), strict=True):
            if obj is not None and meddled == f"delete {obj.kind}":
                assert cluster.ask("delete", resource, "default", "kubernetes").ok
            elif obj is not None and obj.kind == "EndpointSlice" and meddled in ("label", "empty"):
                labels = {"added": "by-hand"} if meddled == "label" else obj.metadata.labels
                changed = replace(
                    obj,
                    metadata=replace(obj.metadata, labels=labels),
                    endpoints=() if meddled == "empty" else obj.endpoints,
                )
                assert cluster.ask("update", resource, "default", "kubernetes", changed).ok
        before = current()[2]
        for verb, obj in corrections():
            resource = next(resource for resource in KUBERNETES if resource.kind == obj.kind)
            body = None if verb == "delete" else obj
            response = cluster.ask(verb, resource, "default", "kubernetes", body)
            assert response.ok, response.body
        assert corrections() == []
        service, endpoints, endpoint_slice = current()
        assert service.spec.ports[0].target_port == port and service.spec.cluster_ip == "10.96.0.1"
        if address in ("", "127.0.0.1"):
            continue
        assert [
            (a.ip, p.port)
            for subset in endpoints.subsets
            for a in subset.addresses
            for p in subset.ports
        ] == [(address, port)]
        assert (
            endpoint_slice.endpoints[0].addresses == (address,)
            and endpoint_slice.ports[0].port == port
        )
        assert endpoint_slice.metadata.labels["kubernetes.io/service-name"] == "kubernetes"
        if before is not None and before.metadata.uid == endpoint_slice.metadata.uid:
            assert set(before.metadata.labels) <= set(endpoint_slice.metadata.labels)


@given(pods())
def test_adm_11_what_is_admitted_of_a_valid_pod_is_valid(pod):
    assume(
        all(
            t.effect == "NoExecute" or t.toleration_seconds is None
            for t in pod.spec.tolerations or ()
        )
    )
    pod = replace(pod, metadata=replace(pod.metadata, namespace="n"))
    request = Request("create", resources.PODS, "n", body=pod, user=ADMIN)
    exchange = Exchange(request, WORLD.history, WORLD.context)
    made = admit(exchange, default(resources.PODS, pod), None).object
    assert validate_create(resources.PODS, made) == ()


def test_adm_1_nothing_is_written_where_a_compare_fails():
    cluster = Cluster()
    before = cluster.history
    wanted = handle(
        Exchange(
            Request("create", resources.SERVICES, "n", body=_service(), user=ADMIN),
            before,
            cluster.context,
        )
    )
    assert isinstance(wanted, Commit)
    # the service and its address; neither is there, the namespace and the range of addresses are
    assert len(wanted.txn.writes) == 2 and len(wanted.txn.compares) == 4
    for compare in wanted.txn.compares:
        spoiled = replace(compare, mod_revision=compare.mod_revision + 1)
        compares = tuple([spoiled if one is compare else one for one in wanted.txn.compares])
        after, done = commit(before, Txn(compares, wanted.txn.writes), stamp)
        assert isinstance(done, Conflict) and after == before


def _service() -> Any:
    return codec.decode_tolerant(
        resources.SERVICES.type, {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    )[0]
