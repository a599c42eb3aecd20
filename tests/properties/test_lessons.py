"""Properties that real bugs asked for (spec/evidence/museum.md): where those that stood here did
not find one, the one that does was added."""

from functools import cache

from custom_world import GROUP, CustomWorld, a_definition, a_version, gadgets
from hypothesis import given
from hypothesis import strategies as st
from kubelet_bench import Bench
from kubelet_bench import make_pod as make_bench_pod
from msgspec.structs import replace
from runs import checked, choices, run
from runs import settle as settle_all
from sched_worlds import a_node, a_pod, deleted, with_node, with_pod
from sched_worlds import new_cluster as with_scheduler
from service_world import MAX, delete, make_node, make_pod, make_service, merge, report
from test_dep import all_become_ready, edit, is_settled, judged, roll
from workload_helpers import (
    ask,
    change,
    create,
    deployment,
    get,
    new_cluster,
    nothing_wrong,
    patch,
    pod,
    remove,
    replica_set,
    settle,
    stored,
    template,
)  # fmt: skip

from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.scenario import new_cluster as new_whole_cluster
from refk8s.checking.simulator.simulate import NOISE
from refk8s.core.actions import (
    CatchUp,
    Compact,
    Crash,
    CutWatch,
    Delay,
    Refuse,
    Stale,
    Submit,
    Switch,
)
from refk8s.core.api.core_v1 import ConfigMap, Namespace, Node
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
)
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.config import Config, Decision
from refk8s.core.cluster.enabled import enabled, is_enabled
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.controllers.garbage_collector import FOREGROUND, GarbageCollector
from refk8s.core.controllers.namespace import NamespaceController
from refk8s.core.controllers.replica_set import ReplicaSetReconciler
from refk8s.core.controllers.taint_eviction import TaintEviction
from refk8s.core.properties.laws.watch import views_are_past_states
from refk8s.core.properties.predicates.scheduler import sched_1_no_node_over_capacity

LATE = ["give up", "cut", "compact"]
"""Faults that make news late and lose none of what was sent."""


# --- a restart alone changes nothing --------------------------------------------------------------


@cache
def at_rest() -> Cluster:
    """A whole cluster in which everything is as it was wanted and nothing moves."""
    cluster = new_whole_cluster(2, b"lessons")
    for request in read_manifests(default_manifests()):
        cluster = step(cluster, Submit(request))
    return settle_all(cluster, nothing_wrong, steps_max=20_000, seconds_max=60)


def running(cluster: Cluster) -> list[str]:
    return sorted(
        container.id
        for name in sorted(cluster.worlds)
        for container in cluster.worlds[name].running()
    )


def same_rules_and_containers(before: Cluster, after: Cluster) -> list[str]:
    """Nothing was written but heartbeats, the same containers run, and packets go where they
    went."""
    wrong = []
    if after.last_commit is not None:
        wrong += [
            f"{change.key} was written"
            for change in after.last_commit.changes
            if not change.key.startswith(NOISE)
        ]
    if before.worlds is not after.worlds and running(before) != running(after):
        wrong.append(f"LOOP-8: {running(before)} ran, and {running(after)} do")
    for name in sorted(after.rules) if before.rules is not after.rules else ():
        if dict(before.rules[name].services) != dict(after.rules[name].services):
            wrong.append(f"NET-8: {name} sends packets elsewhere")
    return wrong


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), choices)
def test_loop_1_loop_8_a_restart_alone_changes_nothing(crashes, drawn):
    """LOOP-1, LOOP-8, KUBELET-40, NET-8: whoever starts again looks first, and finds everything as
    it should be."""
    cluster = at_rest()
    for which in crashes:
        cluster = step(cluster, Crash(sorted(cluster.components)[which % len(cluster.components)]))
    settle_all(
        run(cluster, drawn, same_rules_and_containers),
        same_rules_and_containers,
        steps_max=20_000,
        seconds_max=60,
    )


# --- stale servers --------------------------------------------------------------------------------


def lists_are_of_the_newest_state(before: Cluster, after: Cluster) -> list[str]:
    """WATCH-4: what a component begins with is what the store has when it asks, whatever a cache
    still shows."""
    wrong = []
    for channel in sorted(after.flying) if before.flying is not after.flying else ():
        old, new = before.flying.get(channel), after.flying[channel]
        if (
            new.request.verb == "list"
            and new.answer is not None
            and new.answer.ok
            and (old is None or old.answer is None)
        ):
            revision = int(new.answer.body.metadata.resource_version)
            if revision != before.history.revision:
                wrong.append(
                    f"WATCH-4: {channel[0]} is told of revision {revision}, "
                    f"and the store is at {before.history.revision}"
                )
    return wrong


@given(choices, choices)
def test_watch_4_who_starts_again_at_a_stale_server_knows_no_less_than_before(first, second):
    cluster = settle(start_all(new_cluster()))
    cluster = step(cluster, Stale(1, cluster.now + 60 * SECOND))
    web = deployment("web", 2, uid=None)
    cluster = ask(cluster, Request("create", DEPLOYMENTS, "default", body=web, user=ADMIN))
    cluster = run(cluster, first, lists_are_of_the_newest_state, LATE)
    cluster = step(step(cluster, Crash("controllers")), Switch("controllers", 1))
    cluster = run(cluster, second, lists_are_of_the_newest_state, ["crash", *LATE])
    settle(
        step(cluster, CatchUp(1)) if 1 in cluster.caches else cluster, lists_are_of_the_newest_state
    )


# --- watches --------------------------------------------------------------------------------------


def every_view_is_the_store(cluster: Cluster) -> list[str]:
    """WATCH-1, WATCH-3: where nothing is on its way any more, what a component believes is what
    there is."""
    wrong = []
    for name in sorted(cluster.components):
        view = cluster.components[name].state.view
        for prefix in sorted(view.tables):
            now = {
                record.key.removeprefix(prefix): record.value
                for record in cluster.history.list(prefix).records
            }
            if odd := sorted(
                key
                for key in {**now, **view.tables[prefix].objects}
                if now.get(key) != view.tables[prefix].objects.get(key)
            ):
                wrong.append(f"WATCH-3: {name} is wrong about {prefix}{odd[0]}")
    return wrong


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "delete", "cut", "forget", "go on", "go on"]),
            st.integers(0, 3),
        ),
        max_size=14,
    )
)
def test_watch_1_watch_3_whatever_is_cut_and_forgotten_every_view_is_the_store_in_the_end(deeds):
    cluster = settle(start_all(new_cluster()))
    for number, (deed, which) in enumerate(deeds):
        there = [p.metadata.name for p in stored(cluster, PODS)]
        [watch] = [
            channel
            for channel in sorted(cluster.watches)
            if cluster.watches[channel].stream.resource == PODS
        ] or [None]
        if deed == "create":
            cluster = ask(
                cluster, Request("create", PODS, "default", body=pod(f"p{number}"), user=ADMIN)
            )
        elif deed == "delete" and there:
            cluster = remove(cluster, PODS, there[which % len(there)], grace_period_seconds=0)
        elif deed == "cut" and watch is not None:
            cluster = step(cluster, CutWatch(watch))
        elif deed == "forget" and cluster.history.revision > cluster.history.compacted:
            cluster = step(cluster, Compact(cluster.history.revision))
        elif deed == "go on":
            cluster = rounds(cluster, which, nothing_wrong)
    cluster = settle(cluster)
    wrong = [*views_are_past_states(cluster), *every_view_is_the_store(cluster)]
    assert not wrong, wrong[0]


# --- names that come back -------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(["500m", "3"]), st.integers(0, 3)), min_size=1, max_size=4)
)
def test_sched_1_a_binding_is_for_the_pod_it_was_decided_for_and_not_for_the_next_of_its_name(pods):
    """A pod that has no node yet is deleted and made anew under its name, larger or smaller, so
    many rounds after the last."""

    def check(before: Cluster, after: Cluster) -> list[str]:
        return sched_1_no_node_over_capacity(stored(after, NODES), stored(after, PODS))

    cluster = settle(with_node(with_scheduler(), a_node("n0", cpu="1")), check)
    for cpu, count in pods:
        if (old := get(cluster, PODS, "p")) is not None and not old.spec.node_name:
            cluster = deleted(cluster, old, now=True)
        if get(cluster, PODS, "p") is None:
            cluster = with_pod(cluster, a_pod("p", {"cpu": cpu}))
        cluster = rounds(cluster, count, check)
    settle(cluster, check)


# --- endpoints ------------------------------------------------------------------------------------


def behind_a_service(count: int) -> Cluster:
    cluster = make_node(new_cluster(EndpointSliceController(MAX)), "n0", "")
    cluster = make_service(cluster, "web", "plain", "web", (80,), False, None)
    for number in range(count):
        cluster = make_pod(cluster, number, "web", None, False, False, "n0", "", ready=True)
    return start_all(cluster)


def no_pod_stands_twice(before: Cluster, after: Cluster) -> list[str]:
    """SLICE-1, at every moment of one life of the controller."""
    told = [
        endpoint.target_ref.uid
        for slice in stored(after, ENDPOINT_SLICES)
        for endpoint in slice.endpoints or ()
    ]
    return [
        f"SLICE-1: pod {uid} stands {told.count(uid)} times"
        for uid in sorted({*told})
        if told.count(uid) > 1
    ]


@given(
    st.integers(1, 2), choices, st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=4)
)
def test_slice_1_no_pod_stands_twice_in_one_life_however_late_the_news(count, drawn, reports):
    cluster = run(behind_a_service(count), drawn[::2], no_pod_stands_twice, LATE)
    for number, (which, ready) in enumerate(reports):
        cluster = report(cluster, which % count, ready)
        cluster = run(cluster, drawn[number::4], no_pod_stands_twice, LATE)
    settle(cluster, no_pod_stands_twice)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=1, max_size=6), choices)
def test_ep_5_a_pod_that_comes_and_goes_is_told_of_as_it_is_in_the_end_however_late_the_news(
    reports, drawn
):
    """Its readiness changes again before the controller has seen what it wrote about the last
    time."""
    cluster = make_service(
        make_node(new_cluster(EndpointsController()), "n0", ""),
        "web",
        "plain",
        "web",
        (80,),
        False,
        None,
    )
    cluster = settle(
        start_all(make_pod(cluster, 0, "web", None, False, False, "n0", "", ready=True))
    )
    for number, (ready, count) in enumerate(reports):
        cluster = report(cluster, 0, ready)
        [watch] = [
            channel
            for channel in sorted(cluster.watches)
            if cluster.watches[channel].stream.resource == ENDPOINTS
        ] or [None]
        if watch is not None and number % 2 == 0:
            cluster = step(cluster, Delay(watch, cluster.now + SECOND))
        cluster = run(rounds(cluster, count, nothing_wrong), drawn[number::6], nothing_wrong, LATE)
    [told] = [
        endpoints
        for endpoints in stored(settle(cluster), ENDPOINTS)
        if endpoints.metadata.name == "web"
    ]
    assert [bool(subset.addresses) for subset in told.subsets or ()] == [reports[-1][0]]


@given(st.lists(st.sampled_from(["delete", "empty", "relabel", "go on"]), max_size=4), choices)
def test_slice_1_what_somebody_else_does_to_a_slice_is_put_right(deeds, drawn):
    cluster = settle(behind_a_service(2))
    for number, deed in enumerate(deeds):
        slices = stored(cluster, ENDPOINT_SLICES)
        if deed != "go on" and slices:
            name = slices[0].metadata.name
            document = (
                {"endpoints": []}
                if deed == "empty"
                else {"metadata": {"labels": {"kubernetes.io/service-name": "other"}}}
            )
            cluster = (
                delete(cluster, ENDPOINT_SLICES, name)
                if deed == "delete"
                else merge(cluster, ENDPOINT_SLICES, name, document)
            )
        cluster = run(cluster, drawn[number::4], nothing_wrong, [*LATE, "crash"])
    mine = [
        s
        for s in stored(settle(cluster), ENDPOINT_SLICES)
        if s.metadata.labels.get("kubernetes.io/service-name") == "web"
    ]
    told = sorted(endpoint.target_ref.name for slice in mine for endpoint in slice.endpoints or ())
    assert told == ["p0", "p1"]


# --- namespaces -----------------------------------------------------------------------------------


def nothing_without_its_namespace(before: Cluster, after: Cluster) -> list[str]:
    """NS-2, ADM-2: whatever lies in a namespace, the namespace is there."""
    there = {namespace.metadata.name for namespace in stored(after, NAMESPACES)}
    lost = [
        obj
        for resource in (CONFIG_MAPS, PODS)
        for obj in stored(after, resource)
        if obj.metadata.namespace not in there
    ]
    return [
        f"NS-2: {obj.kind} {obj.metadata.name} is left of namespace {obj.metadata.namespace}"
        for obj in lost
    ]


deeds = st.lists(st.one_of(st.just("create"), st.just("refuse"), st.integers(1, 4)), max_size=8)
"""What happens to a namespace that goes: somebody creates something, the store does not answer, or
so many rounds pass."""


@given(st.integers(0, 2), deeds)
def test_ns_2_nothing_is_left_of_a_namespace_whatever_is_created_and_refused_meanwhile(
    count, drawn
):
    cluster = ask(
        new_cluster(NamespaceController()),
        Request(
            "create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name="stage")), user=ADMIN
        ),
    )
    for number in range(count):
        cluster = made_in_stage(cluster, number)
    cluster = ask(
        settle(start_all(cluster)), Request("delete", NAMESPACES, name="stage", user=ADMIN)
    )
    for number, deed in enumerate(drawn):
        if deed == "create":
            cluster = made_in_stage(cluster, 10 + number)
        elif deed == "refuse":
            for channel in [
                channel
                for channel in sorted(cluster.flying)
                if cluster.flying[channel].answer is None
            ]:
                cluster = step(cluster, Refuse(channel))
        else:
            cluster = rounds(cluster, deed, nothing_without_its_namespace)
    cluster = settle(cluster, nothing_without_its_namespace)
    assert get(cluster, NAMESPACES, "stage") is None, "NS-4: it stays for ever"


def rounds(cluster: Cluster, count: int, check) -> Cluster:
    """All that can happen happens, and so many times over."""
    for _ in range(count):
        for action in list(enabled(cluster)):
            if is_enabled(cluster, action):
                cluster = checked(cluster, action, check)
    return cluster


def made_in_stage(cluster: Cluster, number: int) -> Cluster:
    """A user tries to make something there."""
    body = ConfigMap(metadata=ObjectMeta(name=f"c{number}"))
    after = step(
        cluster,
        Submit(Request("create", CONFIG_MAPS, "stage", f"c{number}", body=body, user=ADMIN)),
    )
    assert not (wrong := nothing_without_its_namespace(cluster, after)), wrong[0]
    return after


# --- garbage collection ---------------------------------------------------------------------------


@given(
    st.lists(
        st.sampled_from(["foreground", "background", "let go", "go on"]), min_size=1, max_size=5
    ),
    st.booleans(),
    choices,
)
def test_gc_5_a_foreground_deletion_is_carried_out_however_often_it_is_asked_for(
    deeds, with_child, drawn
):
    """The owner is held by somebody else's finalizer, so that it is still there when it is deleted
    in the foreground once more."""
    cluster = new_cluster(GarbageCollector())
    body = ConfigMap(metadata=ObjectMeta(name="owner", finalizers=("example.com/hold",)))
    cluster = ask(cluster, Request("create", CONFIG_MAPS, "default", body=body, user=ADMIN))
    if with_child:
        owner = get(cluster, CONFIG_MAPS, "owner")
        reference = OwnerReference(
            api_version="v1",
            kind="ConfigMap",
            name="owner",
            uid=owner.metadata.uid,
            block_owner_deletion=True,
        )
        body = ConfigMap(metadata=ObjectMeta(name="child", owner_references=(reference,)))
        cluster = ask(cluster, Request("create", CONFIG_MAPS, "default", body=body, user=ADMIN))
    cluster = settle(start_all(cluster))
    for number, deed in enumerate(deeds):
        if deed in ("foreground", "background"):
            options = DeleteOptions(propagation_policy=deed.capitalize())
            cluster = step(
                cluster,
                Submit(
                    Request("delete", CONFIG_MAPS, "default", "owner", body=options, user=ADMIN)
                ),
            )
        elif deed == "let go":
            cluster = settle(cluster)
        cluster = run(cluster, drawn[number::5], nothing_wrong, ["lose", *LATE, "crash"])
    cluster = settle(cluster)
    owner = get(cluster, CONFIG_MAPS, "owner")
    assert FOREGROUND not in (owner.metadata.finalizers or ()), (
        "GC-5: it waits for dependents, and there are none"
    )


# --- pods by number -------------------------------------------------------------------------------


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["touch", "late", "go on"]), st.integers(0, 3)), max_size=8),
)
def test_rs_2_never_a_pod_too_many_however_late_the_watch_of_pods(replicas, deeds):
    """In one life, where nobody asks for fewer: the controller is woken again before it hears of
    what it has made."""

    def check(before: Cluster, after: Cluster) -> list[str]:
        count = len(stored(after, PODS))
        return [f"RS-2: {count} pods, where {replicas} are asked for"] if count > replicas else []

    cluster = settle(start_all(new_cluster(ReplicaSetReconciler())), check)
    cluster = ask(
        cluster,
        Request(
            "create",
            REPLICA_SETS,
            "default",
            body=change(replica_set(replicas=replicas), uid=None),
            user=ADMIN,
        ),
    )
    for number, (deed, count) in enumerate(deeds):
        if deed == "touch":
            cluster = patch(
                cluster,
                REPLICA_SETS,
                "web",
                {"metadata": {"annotations": {"touched": str(number)}}},
            )
        elif deed == "late":
            watches = [
                channel
                for channel in sorted(cluster.watches)
                if cluster.watches[channel].stream.resource == PODS
            ]
            cluster = step(cluster, Delay(watches[0], cluster.now + SECOND)) if watches else cluster
        cluster = rounds(cluster, count, check)
    settle(cluster, check)


@given(
    st.integers(0, 2),
    st.integers(1, 3),
    st.lists(st.sampled_from(["unown", "delete the other", "go on"]), max_size=4),
    choices,
)
def test_own_7_who_loses_its_controller_is_found_by_the_next(mine, others, deeds, drawn):
    """Two ReplicaSets with one selector: what one of them lets go the other adopts, and has then no
    more than it wants."""
    cluster = create(
        new_cluster(ReplicaSetReconciler(), GarbageCollector()),
        replica_set("mine", mine),
        replica_set("other", others),
    )
    cluster = settle(start_all(cluster))
    for number, deed in enumerate(deeds):
        owned = [p.metadata.name for p in stored(cluster, PODS) if p.metadata.owner_references]
        if deed == "unown" and owned:
            cluster = patch(
                cluster, PODS, owned[number % len(owned)], {"metadata": {"ownerReferences": None}}
            )
        elif deed == "delete the other" and get(cluster, REPLICA_SETS, "other") is not None:
            cluster = remove(cluster, REPLICA_SETS, "other", propagation_policy="Orphan")
        cluster = run(cluster, drawn[number::4], nothing_wrong, LATE)
    cluster = settle(cluster)
    free = [p.metadata.name for p in stored(cluster, PODS) if not p.metadata.owner_references]
    assert not free, f"OWN-7: {free} stand free, and are selected"
    wanted = sum(rs.spec.replicas for rs in stored(cluster, REPLICA_SETS))
    assert len(stored(cluster, PODS)) == wanted, "RS-1"


# --- rollouts -------------------------------------------------------------------------------------


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([(0, 1), (1, 0), (0, "50%"), (1, 1)]),
    st.integers(0, 9),
)
def test_dep_19_dep_9_a_rollout_ends_that_was_scaled_on_its_way(first, then, strategy, count):
    cluster = judged(deployment("web", first, *strategy, uid=None, template=template("1", "n1")))
    cluster = roll("2")(all_become_ready(cluster))
    cluster = edit(replicas=then)(rounds(cluster, count, nothing_wrong))
    is_settled(all_become_ready(settle(cluster)))


@given(st.integers(1, 3), st.integers(1, 3), choices)
def test_dep_3_dep_19_of_two_replica_sets_with_the_template_one_is_left_with_pods(
    replicas, stray, drawn
):
    """Somebody made a second ReplicaSet with the same template, which the Deployment adopts."""
    cluster = all_become_ready(
        judged(deployment("web", replicas, uid=None, template=template("1", "n1")))
    )
    [own] = stored(cluster, REPLICA_SETS)
    labels = {**own.metadata.labels, "pod-template-hash": "stray"}
    made = change(
        own,
        name="web-stray",
        uid=None,
        resource_version=None,
        owner_references=None,
        labels=labels,
        replicas=stray,
    )
    pods = replace(made.spec.template, metadata=replace(made.spec.template.metadata, labels=labels))
    made = replace(
        made,
        spec=replace(
            made.spec, selector=replace(made.spec.selector, match_labels=labels), template=pods
        ),
    )
    cluster = ask(
        cluster,
        Request("create", REPLICA_SETS, "default", body=replace(made, status=None), user=ADMIN),
    )
    is_settled(all_become_ready(settle(run(cluster, drawn, nothing_wrong, LATE))))


# --- evictions ------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["taint", "well", "well and bound", "bind", "late"]), st.integers(0, 3)
        ),
        max_size=10,
    )
)
def test_node_9_nobody_is_evicted_for_a_taint_that_had_gone_before_he_came(deeds):
    """However late the eviction controller hears of nodes."""
    cluster = settle(
        start_all(create(new_cluster(TaintEviction()), Node(metadata=ObjectMeta(name="n"))))
    )
    cluster = settle(
        patch(cluster, NODES, "n", {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}})
    )
    shared: set[str] = set()  # who was on the node while it had the taint

    def check(before: Cluster, after: Cluster) -> list[str]:
        is_tainted = bool(get(after, NODES, "n").spec.taints)
        shared.update(p.metadata.name for p in stored(after, PODS) if is_tainted)
        gone = {p.metadata.name for p in stored(before, PODS)} - {
            p.metadata.name for p in stored(after, PODS)
        }
        gone |= {
            p.metadata.name
            for p in stored(after, PODS)
            if p.metadata.deletion_timestamp is not None
        }
        return [
            f"NODE-9: {name} is evicted, and never saw a taint" for name in sorted(gone - shared)
        ]

    for number, (deed, count) in enumerate(deeds):
        if deed in ("taint", "well", "well and bound"):
            taints = [{"key": "k", "effect": "NoExecute"}] if deed == "taint" else None
            cluster = patch(cluster, NODES, "n", {"spec": {"taints": taints}})
            assert not check(cluster, cluster)
        if deed in ("bind", "well and bound"):
            cluster = create(cluster, change(pod(f"p{number}", node_name="n"), uid=None))
            assert not check(cluster, cluster)
        if deed == "late":
            watches = [
                channel
                for channel in sorted(cluster.watches)
                if cluster.watches[channel].stream.resource == NODES
            ]
            cluster = step(cluster, Delay(watches[0], cluster.now + SECOND)) if watches else cluster
        cluster = rounds(cluster, count, check)
    cluster = settle(cluster, check)
    left = [p.metadata.name for p in stored(cluster, PODS) if p.metadata.deletion_timestamp is None]
    assert not (left and get(cluster, NODES, "n").spec.taints), f"NODE-8: {left} stays"


# --- one node -------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 10), st.booleans()), min_size=1, max_size=5
    )
)
def test_kubelet_32_the_next_pod_of_the_name_survives_the_end_of_the_first(lives):
    """A pod leaves the API because somebody forced it out, or because it was deleted before; and
    under no other uid."""
    bench, forced = Bench().start(), set()
    for steps, seconds, is_replaced in lives:
        if not bench.has_pod():
            bench.add(make_bench_pod())
        bench.run_for(seconds)
        bench.delete(grace=1)
        for _ in range(steps):
            if choices := bench.choices():
                bench.do(choices[0])
            elif (at := bench.next_instant()) is not None:
                bench.elapse_to(at)
        if is_replaced and bench.has_pod():
            forced.add(bench.pod().metadata.uid)
            bench.delete(grace=0)
            bench.add(make_bench_pod())
    bench.run_for(60)
    lost = [
        uid
        for uid, pod in bench.deleted.items()
        if uid not in forced and pod.metadata.deletion_timestamp is None
    ]
    assert not lost, f"KUBELET-32: {lost} was deleted instead of another pod of its name"


# --- custom resources -----------------------------------------------------------------------------


@given(st.sampled_from(["GET", "PUT", "PATCH", "DELETE", "POST"]), st.booleans(), st.booleans())
def test_api_10_a_role_in_a_namespace_opens_no_custom_object_of_the_cluster(method, named, part):
    """The path says that the object is in a namespace, where the user has a role for everything."""
    version = a_version(subresources={"status": {}})
    world = CustomWorld(a_definition(version, scope="Cluster"))
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Gadget", "metadata": {"name": "a"}, "k": "secret"}
    assert world.send("POST", f"/apis/{GROUP}/v1/gadgets", body)[0] == 201

    def authorizer(attributes, store):
        return Decision(allowed=attributes.namespace == "default")

    world.config = Config(authorizer=authorizer)
    path = gadgets() + ("/a" if named else "") + ("/status" if named and part else "")
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    jane = User("jane", groups=("system:authenticated",))
    reply = world.http(method, path, {} if method != "GET" else b"", {"content-type": kind}, jane)
    assert reply.code in (403, 404), f"API-10: {method} {path} is answered {reply.code}"
    assert b"secret" not in reply.content, f"API-10: {method} {path} shows the object"
    assert world.history.get(f"/{GROUP}/gadgets/a") is not None, f"API-10: {method} {path}"


_SIZE = {"type": "integer"}


@given(st.booleans(), st.booleans(), st.sampled_from(["absent", "null", "value"]))
def test_crd_8_a_null_that_is_not_allowed_is_absent(nullable, has_default, given_as):
    size = {**_SIZE, "nullable": nullable, **({"default": 3} if has_default else {})}
    spec = {"type": "object", "properties": {"size": size}}
    schema = {"type": "object", "properties": {"spec": spec}}
    world = CustomWorld(a_definition(a_version(schema)))
    sent = {"absent": {}, "null": {"size": None}, "value": {"size": 7}}[given_as]
    code, made = world.put_gadget("a", spec=sent)
    expected = dict(sent)
    if given_as == "null" and not nullable:
        del expected["size"]
    if "size" not in expected and has_default:
        expected["size"] = 3
    assert code == 201, f"CRD-8: a null is refused: {made}"
    assert made["spec"] == expected, f"CRD-8: {sent} is stored as {made['spec']}"
