"""Laws (refk8s/core/properties/laws/): each of them can fail, and says so of a step that breaks
its rule; none is left out."""

import json
from collections.abc import Callable
from typing import Any

import device_lies
import pytest
from election_world import Hand, elector, lease
from immutables import Map
from lies import (
    NOW,
    SERVICE_ACCOUNT,
    Lie,
    Runtime,
    decides,
    key,
    loop,
    node,
    on_node,
    put,
    queries,
    request,
    take,
    told,
    view_of,
    with_component,
    with_container,
    world,
    written,
)
from msgspec import Raw
from msgspec.structs import replace
from workload_helpers import (
    change,
    daemon_set,
    deployment,
    pod,
    reference_to,
    replica_set,
    stateful_set,
    with_status,
)

from refk8s.checking.simulator import admission_user
from refk8s.checking.simulator.extender import AVOIDED, SimulatedExtender
from refk8s.checking.simulator.scenario import SERVERS
from refk8s.checking.simulator.webhooks import SimulatedWebhooks
from refk8s.core.actions import Answer, Arrive, Compact, Elapse, Notify, Operate, Submit, Wake
from refk8s.core.api import core_v1
from refk8s.core.api.admissionregistration_v1 import (
    ValidatingWebhook,
    ValidatingWebhookConfiguration,
)
from refk8s.core.api.autoscaling_v1 import Scale, ScaleSpec
from refk8s.core.api.autoscaling_v2 import (
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus,
)
from refk8s.core.api.batch_v1 import (
    CronJob,
    CronJobSpec,
    Job,
    JobCondition,
    JobSpec,
    UncountedTerminatedPods,
)
from refk8s.core.api.codec import from_tree
from refk8s.core.api.core_v1 import (
    Binding,
    ConfigMap,
    ConfigMapKeySelector,
    Container,
    CSIPersistentVolumeSource,
    EndpointAddress,
    Endpoints,
    EndpointSubset,
    EnvVar,
    EnvVarSource,
    Namespace,
    NamespaceSpec,
    NamespaceStatus,
    NodeAddress,
    NodeStatus,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
    PersistentVolumeStatus,
    PodCondition,
    PodStatus,
    ResourceQuota,
    ResourceQuotaSpec,
    ResourceQuotaStatus,
    ResourceRequirements,
    Service,
    ServicePort,
    ServiceSpec,
    Taint,
    Toleration,
    Volume,
)
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    LabelSelector,
    ListMeta,
    ManagedFieldsEntry,
    ObjectMeta,
    Preconditions,
)
from refk8s.core.api.networking_v1 import IPAddress, IPAddressSpec, ParentReference
from refk8s.core.api.policy_v1 import (
    PodDisruptionBudget,
    PodDisruptionBudgetSpec,
    PodDisruptionBudgetStatus,
)
from refk8s.core.api.request import Options, Patch, Request, Response
from refk8s.core.api.resources import CONFIG_MAPS, PODS, REPLICA_SETS, by_kind
from refk8s.core.api.storage_v1 import (
    CSIDriver,
    VolumeAttachment,
    VolumeAttachmentSource,
    VolumeAttachmentSpec,
)
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.live_servers import Server
from refk8s.core.cluster.state import Cache, Component, Cursor, Flying, Pending
from refk8s.core.components import server_machines
from refk8s.core.context import MINUTE, SECOND, parse_timestamp, timestamp
from refk8s.core.loop.elector import ElectorState
from refk8s.core.loop.view import Viewer
from refk8s.core.network.dns_records import change_records, compute_names
from refk8s.core.ports import (
    ContainerConfig,
    CreateContainer,
    NodeNetwork,
    Records,
    Rule,
    RuleSet,
    StartContainer,
    Target,
)
from refk8s.core.ports.node_network import Peer
from refk8s.core.properties import laws
from refk8s.core.properties.law import Broken, Law
from refk8s.core.store import Delete, History, Put, compact
from refk8s.core.value import evolve

A = ConfigMap(metadata=ObjectMeta(name="a", namespace="default", uid="uid-a", resource_version="2"))
B = ConfigMap(metadata=ObjectMeta(name="b", namespace="default", uid="uid-b"))
FOR_EVER = "2026-01-01T00:00:00Z"
GONE = {"deletion_timestamp": FOR_EVER, "deletion_grace_period_seconds": 0}


def broken(lie: Lie) -> list[Broken]:
    return laws.judge(*lie)


# --- changes --------------------------------------------------------------------------------------


def meta(obj: Any, **parts: Any) -> Any:
    return replace(obj, metadata=replace(obj.metadata, **parts))


UNNAMED = meta(A, resource_version=None, uid=None)


def unstamped() -> Lie:
    before = world(A)
    after = put(before, meta(A, labels={"x": "y"}))
    [made] = after.last_commit.changes
    wrong = replace(
        made, record=replace(made.record, value=meta(made.record.value, resource_version="99"))
    )
    return (
        before,
        queries("update", A, body=UNNAMED),
        evolve(after, last_commit=replace(after.last_commit, changes=(wrong,))),
    )


def forged(**parts: Any) -> Lie:
    """What was stored is told with something else in it."""
    before = world(A)
    after = put(before, meta(A, labels={"x": "y"}))
    [made] = after.last_commit.changes
    return (
        before,
        queries("update", A),
        evolve(after, last_commit=replace(after.last_commit, changes=(replace(made, **parts),))),
    )


def overfull() -> Lie:
    before = world(node(cpu="1"), BIG)
    return before, queries("create", BIG, sub="binding"), put(before, change(BIG, node_name="n1"))


ROOM = ResourceRequirements(requests={"cpu": "2"})
BIG = change(pod("p"), containers=(replace(pod("p").spec.containers[0], resources=ROOM),))


def reborn() -> Lie:
    before = take(world(pod("p")), pod("p"))
    return (
        evolve(before, last_commit=None),
        queries("create", pod("q")),
        put(before, change(pod("q"), uid="uid-p")),
    )


def created_where_nobody_lives(phase: str) -> Lie:
    namespace = Namespace(metadata=ObjectMeta(name="default", uid="n"))
    before = world() if phase == "absent" else world(meta(namespace, deletion_timestamp=FOR_EVER))
    return before, queries("create", B), put(before, B)


TERMINATING = Namespace(
    metadata=ObjectMeta(name="default", uid="n", deletion_timestamp=FOR_EVER), spec=NamespaceSpec(finalizers=("kubernetes",)),
    status=NamespaceStatus(phase="Terminating"),
)  # fmt: skip


def namespace_goes_first() -> Lie:
    before = world(TERMINATING, B)
    return before, queries("update", TERMINATING, sub="finalize"), take(before, TERMINATING)


def service(name: str = "web", address: str = "10.0.0.1", app: str = "web") -> Service:
    spec = ServiceSpec(
        cluster_ip=address,
        cluster_ips=(address,),
        selector={"app": app},
        ports=(ServicePort(port=80),),
        type="ClusterIP",
    )
    return Service(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"), spec=spec
    )


def same_address() -> Lie:
    before = world(service())
    return before, queries("create", service("other")), put(before, service("other"))


def held(name: str) -> IPAddress:
    """An address or a node port, held for the service web."""
    owner = ParentReference(group="", resource="services", namespace="default", name="web")
    labels = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}
    return IPAddress(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", labels=labels),
        spec=IPAddressSpec(parent_ref=owner),
    )


def address_left_behind() -> Lie:
    before = world(held("10.0.0.1"), service())
    return before, queries("delete", service()), take(before, service())


def address_of_nobody() -> Lie:
    before = world(service())
    return before, queries("update", service()), put(before, held("10.0.0.2"))


def node_port_of_nobody() -> Lie:
    before = world(service())
    return (
        before,
        queries("update", service()),
        written(before, Put("/internal/nodeports/30001", held("30001"))),
    )


def endpoint(address: str, ready: bool, serving: bool, terminating: bool) -> Endpoint:
    target = ObjectReference(kind="Pod", uid=f"uid-{address}")
    conditions = EndpointConditions(ready=ready, serving=serving, terminating=terminating)
    return Endpoint(addresses=(address,), conditions=conditions, target_ref=target)


def slice_of(*endpoints: Endpoint) -> EndpointSlice:
    labels = {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    metadata = ObjectMeta(name="web-1", namespace="default", uid="uid-web-1", labels=labels)
    ports = (EndpointPort(name="", port=80, protocol="TCP"),)
    return EndpointSlice(metadata=metadata, address_type="IPv4", endpoints=endpoints, ports=ports)


def with_slice(*endpoints: Endpoint) -> Lie:
    before = world(service())
    return before, queries("create", slice_of()), put(before, slice_of(*endpoints))


OWNER = replica_set("web", replicas=1)
OTHER = replica_set("other", replicas=1)
TWO_CONTROLLERS = change(pod("p"), owner_references=(reference_to(OWNER), reference_to(OTHER)))
GOING = meta(A, deletion_timestamp=FOR_EVER, deletion_grace_period_seconds=5, generation=None)


def one_too_many(last: int, made: Callable[[int], Any], *others: Any) -> Lie:
    """What one owner has made, and one more of it."""
    before = world(*others, *[made(n) for n in range(last)])
    return before, queries("create", made(last)), put(before, made(last))


def made_pod(n: int) -> Any:
    return change(pod(f"web-{n}", OWNER), generate_name="web-")


def made_replica_set(n: int) -> Any:
    owner = deployment("web")
    return change(replica_set(f"web-{n}"), owner_references=(reference_to(owner),))


def made_slice(n: int) -> Any:
    return meta(
        slice_of(),
        name=f"web-{n}",
        uid=f"uid-{n}",
        generate_name="web-",
        owner_references=(reference_to(service()),),
    )


def leads(name: str, **changes: Any) -> ElectorState:
    """An instance that has begun to lead at the beginning."""
    return evolve(Hand(now=NOW).lead().state, identity=name, **changes)


def held_lease(holder: str, seconds_ago: int = 0) -> Any:
    """The Lease, renewed so long ago."""
    return meta(lease(holder, NOW - seconds_ago * SECOND), resource_version=None, uid="uid-lease")


def behind_election(*objects: Any, **states: Any) -> Any:
    """A cluster with these instances of the writer (election_world.py)."""
    cluster = evolve(world(*objects), machines={name: elector(name) for name in states})
    for name, state in states.items():
        cluster = with_component(cluster, name, state)
    return cluster


def sends(held: Any) -> Lie:
    """The instance `a` sends a request of its component, while the Lease is as given."""
    before = behind_election(held, a=leads("a"))
    after = with_component(before, "a", leads("a"))
    sent = Flying(request("create", B))
    return before, Wake("a"), evolve(after, flying=Map({("a", 1, 3): sent}))


def acquired_without_a_transition() -> Lie:
    before = behind_election(held_lease("a"), a=None)
    return before, queries("update", held_lease("b")), put(before, held_lease("b"))


def given_a_range(cidr: str) -> Lie:
    """The Node n2 gets a range; n1 has the second of the ranges of 256 addresses."""
    before = world(change(node("n1"), pod_cidr="10.244.1.0/24"), node("n2"))
    after = change(node("n2"), pod_cidr=cidr)
    return before, queries("update", after), put(before, after)


def a_job(**parts: Any) -> Any:
    metadata = ObjectMeta(name="work", namespace="default", uid="uid-work")
    made = Job(metadata=metadata, spec=JobSpec(completions=3, parallelism=1))
    return change(made, **parts)


def of_job(name: str = "p", **parts: Any) -> Any:
    return change(pod(name, a_job()), **parts)


def counts(succeeded: int, *uids: str) -> Any:
    return a_job(
        succeeded=succeeded, uncounted_terminated_pods=UncountedTerminatedPods(succeeded=uids)
    )


def frees_what_is_not_recorded() -> Lie:
    tracked = of_job(phase="Succeeded", finalizers=("batch.kubernetes.io/job-tracking",))
    before = world(a_job(), tracked)
    after = put(before, change(tracked, finalizers=None))
    return before, queries("patch", tracked), after


def ended(*kinds: str) -> Any:
    return a_job(conditions=tuple([JobCondition(type=kind, status="True") for kind in kinds]))


CRON_JOB = CronJob(
    metadata=ObjectMeta(name="cj", namespace="default", uid="uid-cj"),
    spec=CronJobSpec(schedule="* * * * *", concurrency_policy="Forbid"),
)


def of_cron_job(name: str, at: str) -> Any:
    return change(
        a_job(),
        name=name,
        uid=f"uid-{name}",
        owner_references=(reference_to(CRON_JOB),),
        annotations={"batch.kubernetes.io/cronjob-scheduled-timestamp": at},
    )


def starts_a_job(owner: Any, job: Any, *others: Any) -> Lie:
    before = world(owner, *others)
    return before, queries("create", job), put(before, job)


def volume_of(uid: str, **more: Any) -> Any:
    reference = ObjectReference(namespace="default", name=f"claim-{uid}", uid=uid)
    return PersistentVolume(
        metadata=ObjectMeta(name="v", uid="uid-v"),
        spec=PersistentVolumeSpec(claim_ref=reference),
        status=PersistentVolumeStatus(**more),
    )


def bound_claim() -> Any:
    return PersistentVolumeClaim(
        metadata=ObjectMeta(name="c", namespace="default", uid="one"),
        spec=PersistentVolumeClaimSpec(volume_name="v"),
        status=PersistentVolumeClaimStatus(phase="Bound"),
    )


def a_quota(limit: str, used: str, name: str = "q") -> ResourceQuota:
    hard = {"configmaps": limit}
    return ResourceQuota(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=ResourceQuotaSpec(hard=hard),
        status=ResourceQuotaStatus(hard=hard, used={"configmaps": used}),
    )


def beyond_the_quota() -> Lie:
    before = world(a_quota("1", "1"), A)
    return before, queries("create", B), put(before, B)


def written_as_less() -> Lie:
    before, after = world(a_quota("3", "1"), A), a_quota("3", "0")
    return before, queries("update", after, sub="status"), put(before, after)


def stored_without_its_webhook() -> Lie:
    webhook = ValidatingWebhook(name="x.example.com", failure_policy="Fail")
    configuration = ValidatingWebhookConfiguration(
        metadata=ObjectMeta(name="c", uid="uid-c"), webhooks=(webhook,)
    )
    before = evolve(world(configuration), webhooks=SimulatedWebhooks(0))
    return before, queries("create", B), put(before, pod("p"))


def stored_against_a_policy() -> Lie:
    def of(tree: dict[str, Any]) -> Any:
        resource = by_kind(tree["apiVersion"], tree["kind"])
        assert resource is not None
        return replace(made := from_tree(resource.type, tree), metadata=replace(made.metadata, uid="u"))  # fmt: skip

    before = world(of(admission_user.policy(30)), of(admission_user.binding()))
    new = change(pod("p"), active_deadline_seconds=31)
    return before, queries("create", new), put(before, new)


def attached_to_two_nodes() -> Lie:
    def attachment(name: str) -> VolumeAttachment:
        source = VolumeAttachmentSource(persistent_volume_name="v")
        spec = VolumeAttachmentSpec(attacher="x.example.com", source=source, node_name=name)
        return VolumeAttachment(metadata=ObjectMeta(name=f"csi-{name}", uid=name), spec=spec)

    volume = change(volume_of("one"), access_modes=("ReadWriteOnce",))
    before = world(volume, attachment("a"))
    return before, queries("create", attachment("b")), put(before, attachment("b"))


def bound_against_the_extender() -> Lie:
    extender = SimulatedExtender()
    name = next(name for name in "abcdefgh" if extender.rejects(name, AVOIDED))
    old, new = change(pod(name), node_name=None), change(pod(name), node_name=AVOIDED)
    before, request, after = told(old, new)
    return evolve(before, extender=extender), request, evolve(after, extender=extender)


def with_owners(obj: Any, **owners: dict[str, Any]) -> Any:
    """The object with these fields of managers that have applied it."""
    entries = tuple(
        ManagedFieldsEntry(
            manager=manager,
            operation="Apply",
            api_version="apps/v1",
            fields_type="FieldsV1",
            fields_v1=Raw(json.dumps(fields).encode()),
        )
        for manager, fields in owners.items()
    )
    return meta(obj, managed_fields=entries)


LABEL, STATUS = {"f:metadata": {"f:labels": {"f:x": {}}}}, {"f:status": {"f:replicas": {}}}


def applies(was: Any, now: Any) -> Lie:
    """An apply of the manager `me`, without force, makes one object the other."""
    body = Patch("application/apply-patch+yaml", b"{}")
    return told(was, now, verb="patch", body=body, options=Options(field_manager="me"))


def labelled(value: str, **owners: dict[str, Any]) -> Any:
    return with_owners(meta(replica_set(), labels={"x": value}), **owners)


def with_servers(cluster: Any) -> Any:
    """With two API servers that list themselves."""
    machines = server_machines(SERVERS[:2])
    components = Map({name: Component(None, 1) for name in machines})
    return evolve(cluster, machines=machines, components=components, apiservers=2)


def endpoints_of(*servers: Server) -> Endpoints:
    address, port = (
        [EndpointAddress(ip=one.address) for one in servers],
        core_v1.EndpointPort(port=6443),
    )
    subsets = (EndpointSubset(addresses=tuple(address), ports=(port,)),) if servers else ()
    return Endpoints(
        metadata=ObjectMeta(name="kubernetes", namespace="default", uid="e"), subsets=subsets
    )


def lists_no_server() -> Lie:
    before, action, after = told(endpoints_of(SERVERS[0]), endpoints_of())
    return with_servers(before), action, with_servers(after)


OF_CHANGES: dict[str, Callable[[], Lie]] = {
    "HOST-20": lists_no_server,
    **device_lies.OF_CHANGES,
    "APPLY-12": lambda: told(
        labelled("a", me=LABEL), labelled("b", me=LABEL, you=LABEL), verb="update"
    ),
    "HOOK-11": stored_without_its_webhook,
    "POL-6": stored_against_a_policy,
    "SCHED-58": bound_against_the_extender,
    "CRON-3": lambda: starts_a_job(
        change(CRON_JOB, last_schedule_time=FOR_EVER), of_cron_job("one", FOR_EVER)
    ),
    "CRON-5": lambda: starts_a_job(
        CRON_JOB, of_cron_job("one", FOR_EVER), of_cron_job("two", "2026-01-01T00:01:00Z")
    ),
    "ATTACH-3": attached_to_two_nodes,
    "VOL-1": lambda: told(volume_of("one"), volume_of("two")),
    "QUOTA-1": beyond_the_quota,
    "QUOTA-8": written_as_less,
    "JOB-3": lambda: told(counts(1, "u"), counts(3), sub="status"),
    "forgets_no_success": frees_what_is_not_recorded,
    "JOB-11": lambda: told(ended("Complete"), ended("Complete", "Failed"), sub="status"),
    "OWN-8": lambda: one_too_many(laws.owners.TIMES + laws.owners.MORE, made_pod, OWNER),
    "replica_sets_are_bounded": lambda: one_too_many(
        laws.owners.REPLICA_SETS_MAX, made_replica_set
    ),
    "slices_are_bounded": lambda: one_too_many(laws.owners.MORE, made_slice),
    "API-4": unstamped,
    "API-5": lambda: told(change(pod("p"), generation=3), change(pod("p"), generation=2)),
    "DEL-2": lambda: told(GOING, meta(GOING, deletion_timestamp=None)),
    "DEL-4": lambda: told(meta(A, finalizers=("x/y",)), None, verb="delete"),
    "DEL-12": lambda: told(GOING, meta(GOING, finalizers=("x/new",))),
    "SCHED-25": lambda: told(on_node("p"), on_node("p", "n2")),
    "SCHED-1": overfull,
    "POD-10": lambda: told(pod("p", ready=True), pod("p")),
    "POD-12": lambda: told(pod("p"), with_container(pod("p", ready=True), ready=False)),
    "POD-18": lambda: told(
        change(pod("p"), start_time="2026-01-01T00:00:00Z"),
        change(pod("p"), start_time="2026-01-02T00:00:00Z"),
    ),
    "KUBELET-16": lambda: told(with_container(pod("p"), 2), with_container(pod("p"), 1)),
    "STORE-5": lambda: forged(previous=None),
    "STORE-7": lambda: forged(previous=world(A).history.get(key(A))),
    "API-26": reborn,
    "VAL-4": lambda: told(pod("p"), TWO_CONTROLLERS),
    "ADM-2": lambda: created_where_nobody_lives("absent"),
    "DEL-7": namespace_goes_first,
    "ALLOC-1": same_address,
    "ALLOC-9": address_left_behind,
    "an_address_has_its_service": address_of_nobody,
    "a_node_port_has_its_service": node_port_of_nobody,
    "SLICE-2": lambda: with_slice(
        *[endpoint(f"10.1.0.{n}", True, True, False) for n in range(101)]
    ),
    "SLICE-3": lambda: with_slice(endpoint("10.1.0.1", True, True, True)),
    "ELECT-1": acquired_without_a_transition,
    "IPAM-1": lambda: given_a_range("10.244.0.0/23"),
}


def test_adm_2_nothing_is_created_where_a_namespace_is_going():
    assert "ADM-2" in [each.rule for each in broken(created_where_nobody_lives("going"))]


def test_del_7_terminating_never_reverts():
    assert "DEL-7" in [
        each.rule
        for each in broken(
            told(TERMINATING, replace(TERMINATING, status=NamespaceStatus(phase="Active")))
        )
    ]


# --- requests -------------------------------------------------------------------------------------

COLLECTOR = SERVICE_ACCOUNT + "generic-garbage-collector"
OWNED = pod("p", OWNER)


def meant(**preconditions: Any) -> DeleteOptions:
    return DeleteOptions(preconditions=Preconditions(**preconditions))


def refused_and_done() -> Lie:
    channel = ("c", 1, 1)
    before = with_component(
        world(A, flying=Map({channel: Flying(request("update", A))})), "c", None
    )
    after = put(before, meta(A, labels={"x": "y"}))
    return (
        before,
        Arrive(channel),
        evolve(after, flying=Map({channel: Flying(request("update", A), Response(409, None))})),
    )


def collected_with_its_owner_there() -> Lie:
    before = world(OWNER, OWNED)
    return (
        before,
        queries("delete", OWNED, COLLECTOR, body=meant(uid="uid-p", resource_version="3")),
        take(before, OWNED),
    )


def emptied(namespace: Namespace, *objects: Any, gone: Any) -> Lie:
    before = world(namespace, *objects)
    asked = Request(
        "deletecollection",
        CONFIG_MAPS,
        "default",
        user=User(SERVICE_ACCOUNT + "namespace-controller"),
    )
    return before, Submit(asked), take(before, gone)


NO_EXECUTE = (Taint(key="node.kubernetes.io/unreachable", effect="NoExecute"),)


def forced(where: str) -> Lie:
    before = world(node(), on_node("p", where))
    asked = queries(
        "delete",
        on_node("p", where),
        SERVICE_ACCOUNT + "pod-garbage-collector",
        body=DeleteOptions(grace_period_seconds=0),
    )
    return before, asked, take(before, on_node("p", where))


def on_its_kubelet(verb: str, now: Any) -> Lie:
    before = world(node(), on_node("p"), worlds=Map({"kubelet/n1": Runtime("uid-p")}))
    after = put(before, now) if now is not None else take(before, on_node("p"))
    body = DeleteOptions(grace_period_seconds=0) if verb == "delete" else now
    return before, queries(verb, on_node("p"), "system:node:n1", body=body), after


def evicted_under(allowed: int, left: int) -> Lie:
    """A ready pod is evicted under a budget that allowed so many disruptions, and then these."""
    status = PodStatus(phase="Running", conditions=(PodCondition(type="Ready", status="True"),))
    ready = replace(pod("p"), status=status)

    def budget(number: int) -> PodDisruptionBudget:
        return PodDisruptionBudget(
            metadata=ObjectMeta(name="b", namespace="default", uid="uid-b"),
            spec=PodDisruptionBudgetSpec(selector=LabelSelector()),
            status=PodDisruptionBudgetStatus(disruptions_allowed=number),
        )

    before = world(ready, budget(allowed))
    after = written(before, Delete(key(ready)), Put(key(budget(left)), budget(left)))
    return before, queries("create", ready, sub="eviction"), after


CRON_CONTROLLER = SERVICE_ACCOUNT + "cronjob-controller"


def job_deleted_before_its_time_is_written() -> Lie:
    minute = parse_timestamp(FOR_EVER) // MINUTE
    job = of_cron_job(f"{CRON_JOB.metadata.name}-{minute}", FOR_EVER)
    before = world(CRON_JOB, job)
    return before, queries("delete", job, who=CRON_CONTROLLER), take(before, job)


OF_REQUESTS: dict[str, Callable[[], Lie]] = {
    "PDB-6": lambda: evicted_under(0, -1),
    "CRON-3": lambda: told(
        change(CRON_JOB, last_schedule_time=FOR_EVER), CRON_JOB, sub="status", who=CRON_CONTROLLER
    ),
    "deletes_what_is_written": job_deleted_before_its_time_is_written,
    "APPLY-7": lambda: applies(labelled("a", me=LABEL), labelled("a", me={**LABEL, **STATUS})),
    "APPLY-15": lambda: applies(labelled("a", you=LABEL), labelled("b", me=LABEL)),
    "CLUSTER-7": refused_and_done,
    "API-6": lambda: told(A, meta(A, labels={"x": "y"}), body=meta(A, resource_version="99")),
    "API-8": lambda: told(replica_set(), change(replica_set(), replicas=9), sub="status"),
    "DEL-4": lambda: told(A, None, verb="update", body=meta(A, resource_version=None, uid=None)),
    "DEL-11": lambda: told(on_node("p", termination_grace_period_seconds=30), None, verb="delete"),
    "GC-1": lambda: told(OWNED, None, verb="delete", who=COLLECTOR, body=DeleteOptions()),
    "GC-2": collected_with_its_owner_there,
    "NS-1": lambda: emptied(Namespace(metadata=ObjectMeta(name="default", uid="n")), B, gone=B),
    "NS-3": lambda: emptied(TERMINATING, B, pod("p"), gone=B),
    "NODE-4": lambda: told(
        node(), node(taints=NO_EXECUTE), who=SERVICE_ACCOUNT + "node-controller"
    ),
    "PODGC-1": lambda: forced("n1"),
    "KUBELET-32": lambda: on_its_kubelet("delete", None),
    "POD-11": lambda: on_its_kubelet(
        "update", replace(on_node("p"), status=replace(on_node("p").status, phase="Failed"))
    ),
}


def test_cron_3_two_jobs_for_one_time_are_one_too_many():
    free = change(CRON_JOB, concurrency_policy="Allow")
    twice = starts_a_job(free, of_cron_job("one", FOR_EVER), of_cron_job("two", FOR_EVER))
    assert "CRON-3" in [each.rule for each in broken(twice)]
    apart = starts_a_job(
        free, of_cron_job("one", FOR_EVER), of_cron_job("two", "2026-01-01T00:01:00Z")
    )
    assert "CRON-3" not in [each.rule for each in broken(apart)]


def test_pdb_6_an_eviction_takes_one_of_the_allowed_disruptions():
    assert not broken(evicted_under(2, 1))
    assert "PDB-6" in [each.rule for each in broken(evicted_under(2, 2))]


def test_podgc_1_a_pod_whose_node_is_gone_may_be_forced():
    assert "PODGC-1" not in [each.rule for each in broken(forced("elsewhere"))]


# --- decisions ------------------------------------------------------------------------------------

POLICY = "replicaset-controller"
ROLLING = deployment("web", replicas=3, surge=1, unavailable=0)


def new_pod(name: str = "new", owner: Any = OWNER) -> Request:
    return request("create", pod(name, owner))


def adoption(owner: Any, obj: Any) -> Request:
    tree = {
        "metadata": {
            "uid": obj.metadata.uid,
            "ownerReferences": [{"uid": owner.metadata.uid, "name": owner.metadata.name}],
        }
    }
    return request("patch", obj, body=Patch("application/strategic-merge-patch+json", tree))


def of_deployment(owner: Any, view: tuple[Any, ...], *requests: Request) -> Lie:
    return decides(
        "deployment-controller", "default/web", view_of(owner, *view, resources=(PODS,)), requests
    )


def of_replica_set(owner: Any, view: tuple[Any, ...], *requests: Request, **more: Any) -> Lie:
    return decides(
        POLICY, "default/web", view_of(owner, *view, resources=(PODS,)), requests, **more
    )


def rs(name: str, size: int, available: int = 0, owner: Any = ROLLING) -> Any:
    made = change(replica_set(name, replicas=size), owner_references=(reference_to(owner),))
    return replace(made, status=replace(made.status, available_replicas=available))


def sized(replicas: Any, size: int) -> Request:
    return request("update", change(replicas, replicas=size))


def binding(name: str = "p", where: str = "n1") -> Request:
    body = Binding(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        target=ObjectReference(kind="Node", name=where),
    )
    return Request("create", PODS, "default", name, "binding", body=body, user=ADMIN)


RECREATE = replace(
    ROLLING,
    spec=replace(
        ROLLING.spec, strategy=replace(ROLLING.spec.strategy, type="Recreate", rolling_update=None)
    ),
)
DYING = change(OWNER, deletion_timestamp=FOR_EVER)
WAITING = change(OWNER, deletion_timestamp=FOR_EVER, finalizers=("foregroundDeletion",))
LETTING_GO = change(OWNER, deletion_timestamp=FOR_EVER, finalizers=("orphan",))


def unbound(owner: Any) -> Lie:
    body = Patch("application/merge-patch+json", {"metadata": {"finalizers": None}})
    return decides(
        "generic-garbage-collector",
        owner.metadata.uid,
        view_of(owner, OWNED),
        (request("patch", owner, body=body),),
    )


def evicted(taint: str, *tolerations: Toleration, grace: int | None = None) -> Lie:
    held = node(taints=(Taint(key=taint, effect="NoExecute"),))
    asked = request("delete", on_node("p"), body=DeleteOptions(grace_period_seconds=grace))
    return decides(
        "taint-eviction-controller",
        "default/p",
        view_of(held, change(on_node("p"), tolerations=tolerations)),
        (asked,),
    )


def of_job_controller(job: Any, view: tuple[Any, ...], *requests: Request) -> Lie:
    return decides(
        "job-controller", "default/work", view_of(job, *view, resources=(PODS,)), requests
    )


def of_index(name: str) -> Any:
    return of_job(name, annotations={"batch.kubernetes.io/job-completion-index": "0"})


ORDERED = stateful_set("web", replicas=2)


def of_set(owner: Any, view: tuple[Any, ...], *requests: Request) -> Lie:
    return decides(
        "statefulset-controller", "default/web", view_of(owner, *view, resources=(PODS,)), requests
    )


ON_NODES = daemon_set("web")
SURGING = daemon_set("web", max_unavailable=0, max_surge=1)


def daemon(name: str, where: str, owner: Any = ON_NODES) -> Any:
    return pod(name, owner, ready=True, node_name=where)


def of_daemons(owner: Any, view: tuple[Any, ...], *requests: Request) -> Lie:
    known = view_of(owner, node("n1"), node("n2"), *view, resources=(PODS,))
    return decides("daemon-set-controller", "default/web", known, requests)


def deleted(obj: Any) -> Request:
    return request("delete", obj, body=meant(uid=obj.metadata.uid))


def member(ordinal: int, ready: bool = True) -> Any:
    return pod(f"web-{ordinal}", ORDERED, ready=ready)


def scales_beyond_its_bounds() -> Lie:
    owner = HorizontalPodAutoscaler(
        metadata=ObjectMeta(name="web", namespace="default"),
        spec=HorizontalPodAutoscalerSpec(min_replicas=2, max_replicas=5),
    )
    body = Scale(spec=ScaleSpec(replicas=6))
    asked = Request("update", REPLICA_SETS, "default", "web", "scale", body=body, user=ADMIN)
    return decides("horizontal-pod-autoscaler", "default/web", view_of(owner), (asked,))


def flaps() -> Lie:
    """It went from 1 replica to 5 a minute ago, and now asks for 4."""
    owner = HorizontalPodAutoscaler(
        metadata=ObjectMeta(name="web", namespace="default", uid="uid-hpa"),
        spec=HorizontalPodAutoscalerSpec(max_replicas=5),
    )
    scaled = HorizontalPodAutoscalerStatus(
        current_replicas=1, desired_replicas=5, last_scale_time="2026-01-01T00:00:00Z"
    )
    cluster = put(
        put(world(replica_set(replicas=1), owner), replica_set(replicas=5)),
        replace(owner, status=scaled),
    )
    body = Scale(spec=ScaleSpec(replicas=4))
    asked = Request("update", REPLICA_SETS, "default", "web", "scale", body=body, user=ADMIN)
    now = replace(owner, status=replace(scaled, last_scale_time="2026-01-01T00:01:00Z"))
    who, view = "horizontal-pod-autoscaler", view_of(owner)
    report = request("update", now, "status")
    return decides(who, "default/web", view, (asked,), (report,), cluster=cluster)


OF_DECISIONS: dict[str, Callable[[], Lie]] = {
    "HPA-8": flaps,
    "HPA-10": scales_beyond_its_bounds,
    "JOB-2": lambda: of_job_controller(a_job(), (of_job(),), request("create", of_job("q"))),
    "JOB-6": lambda: of_job_controller(
        a_job(completion_mode="Indexed", parallelism=2),
        (of_index("p"),),
        request("create", of_index("q")),
    ),
    "DS-5": lambda: of_daemons(
        ON_NODES, (daemon("p", "n1"),), request("create", daemon("q", "n1"))
    ),
    "DS-8": lambda: of_daemons(
        ON_NODES,
        (daemon("p", "n1"), daemon("q", "n2")),
        deleted(daemon("p", "n1")),
        deleted(daemon("q", "n2")),
    ),
    "DS-9": lambda: of_daemons(
        SURGING,
        (daemon("p", "n1", SURGING), daemon("q", "n1", SURGING)),
        request("create", daemon("r", "n1", SURGING)),
    ),
    "DS-12": lambda: of_daemons(
        change(ON_NODES, deletion_timestamp=FOR_EVER), (), request("create", daemon("q", "n1"))
    ),
    "STS-2": lambda: of_set(ORDERED, (), new_pod("web-2", ORDERED)),
    "STS-4": lambda: of_set(ORDERED, (member(0, False),), new_pod("web-1", ORDERED)),
    "STS-6": lambda: of_set(ORDERED, (member(0), member(1, False)), deleted(member(0))),
    "STS-12": lambda: of_set(
        change(ORDERED, deletion_timestamp=FOR_EVER), (), new_pod("web-0", ORDERED)
    ),
    "deletes_no_more_than_surplus": lambda: of_replica_set(
        OWNER, (OWNED,), request("delete", OWNED, body=meant(uid="uid-p"))
    ),
    "LOOP-1": lambda: decides(
        POLICY, "default/web", Viewer([PODS, REPLICA_SETS], (), ()).empty(), (new_pod(),)
    ),
    "LOOP-3": lambda: of_replica_set(
        change(OWNER, replicas=9), (), new_pod("two"), earlier=[new_pod("one")]
    ),
    "LOOP-4": lambda: of_replica_set(OWNER, (), new_pod(), reached=Map({PODS.prefix: 7})),
    "OWN-1": lambda: of_replica_set(
        OWNER, (pod("p", OTHER),), request("delete", pod("p", OTHER), body=meant(uid="uid-p"))
    ),
    "OWN-2": lambda: of_replica_set(OWNER, (pod("p", OTHER),), adoption(OWNER, pod("p"))),
    "OWN-4": lambda: of_replica_set(DYING, (pod("p"),), adoption(OWNER, pod("p"))),
    "OWN-6": lambda: of_replica_set(
        OWNER, (OWNED,), request("delete", OWNED, body=DeleteOptions())
    ),
    "RS-2": lambda: of_replica_set(OWNER, (OWNED,), new_pod()),
    "RS-3": lambda: of_replica_set(DYING, (), new_pod()),
    "DEP-7": lambda: of_deployment(ROLLING, (rs("one", 3),), sized(rs("one", 3), 5)),
    "DEP-8": lambda: of_deployment(
        ROLLING, (rs("one", 3, 3), rs("two", 1)), sized(rs("one", 3, 3), 2)
    ),
    "DEP-10": lambda: of_deployment(
        RECREATE,
        (rs("one", 0), rs("two", 0), pod("p", rs("one", 0), ready=True)),
        sized(rs("two", 0), 3),
    ),
    "DEP-11": lambda: of_deployment(
        change(ROLLING, paused=True), (), request("create", rs("one", 3))
    ),
    "DEP-18": lambda: of_deployment(
        change(ROLLING, deletion_timestamp=FOR_EVER), (rs("one", 3),), sized(rs("one", 3), 2)
    ),
    "SCHED-28": lambda: decides(
        "default-scheduler", "default/p", view_of(node(), BIG), (binding(),)
    ),
    "GC-2": lambda: decides(
        "generic-garbage-collector",
        "uid-p",
        view_of(OWNER, OWNED),
        (request("delete", OWNED, body=DeleteOptions()),),
    ),
    "GC-5": lambda: unbound(WAITING),
    "GC-7": lambda: unbound(LETTING_GO),
    "NODE-6": lambda: decides(
        "node-controller",
        "n1",
        view_of(node(ready="Unknown")),
        (request("update", node(taints=NO_EXECUTE)),),
    ),
    "NODE-8": lambda: evicted("upkeep", Toleration(operator="Exists")),
    "PODGC-2": lambda: decides(
        "pod-garbage-collector",
        "default/p",
        view_of(node(), on_node("p")),
        (request("delete", on_node("p")),),
    ),
}


@pytest.mark.parametrize("where", ["on their way", "stored"])
def test_rs_2_creations_that_a_controller_does_not_see_yet_count(where):
    """A second decision before the view has moved, as if nothing had been asked for."""
    before, action, after = of_replica_set(
        OWNER, (), new_pod("two"), earlier=[new_pod("one")] if where == "on their way" else ()
    )
    if where == "stored":
        before, after = (
            evolve(each, history=world(pod("one", OWNER)).history) for each in (before, after)
        )
    assert "RS-2" in [each.rule for each in broken((before, action, after))]
    seen = of_replica_set(OWNER, (), new_pod("two"))
    assert not broken(seen)


def test_sched_28_a_pod_that_is_bound_and_not_seen_takes_its_room():
    half = replace(ROOM, requests={"cpu": "600m"})
    one, two = [
        change(pod(name), containers=(replace(pod(name).spec.containers[0], resources=half),))
        for name in ("one", "two")
    ]
    view = view_of(node(), one, two)
    assert not broken(decides("default-scheduler", "default/two", view, (binding("two"),)))
    flying = decides(
        "default-scheduler", "default/two", view, (binding("two"),), earlier=[binding("one")]
    )
    stored = decides(
        "default-scheduler",
        "default/two",
        view,
        (binding("two"),),
        cluster=world(node(), change(one, node_name="n1")),
    )
    assert all("SCHED-28" in [each.rule for each in broken(lie)] for lie in (flying, stored))


def test_loop_4_what_was_deleted_and_is_seen_as_it_was_has_not_been_seen():
    seen = change(OWNED, resource_version="5")
    gone = (PODS.prefix, "default/p", "uid-p", "5")
    lie = of_replica_set(OWNER, (seen,), request("update", OWNER, sub="status"), gone=(gone,))
    assert [each.rule for each in broken(lie)] == ["LOOP-4"]
    assert not broken(
        of_replica_set(
            OWNER,
            (change(seen, resource_version="6"),),
            request("update", OWNER, sub="status"),
            gone=(gone,),
        )
    )


def test_node_8_who_is_evicted_has_its_own_time():
    assert not broken(evicted("upkeep"))
    assert [each.rule for each in broken(evicted("upkeep", grace=0))] == ["NODE-8"]


@pytest.mark.parametrize(("seconds", "rules"), [(29, ["NODE-8"]), (31, [])])
def test_node_8_who_tolerates_for_a_while_stays_so_long(seconds, rules):
    held = node(
        taints=(
            Taint(key="upkeep", effect="NoExecute", time_added=timestamp(NOW - seconds * SECOND)),
        )
    )
    going = change(
        on_node("p"),
        tolerations=(Toleration(key="upkeep", operator="Exists", toleration_seconds=30),),
    )
    lie = decides(
        "taint-eviction-controller",
        "default/p",
        view_of(held, going),
        (request("delete", going, body=DeleteOptions()),),
    )
    assert [each.rule for each in broken(lie)] == rules


def test_gc_7_who_lets_go_first_may_go():
    """The same patch, after a wave that takes the reference off."""
    body = Patch("application/merge-patch+json", {"metadata": {"finalizers": None}})
    release = request(
        "patch",
        OWNED,
        body=Patch("application/merge-patch+json", {"metadata": {"ownerReferences": None}}),
    )
    view = view_of(LETTING_GO, OWNED)
    assert not broken(
        decides(
            "generic-garbage-collector",
            "uid-web",
            view,
            (release,),
            (request("patch", LETTING_GO, body=body),),
        )
    )


def test_decisions_are_judged_once_and_not_when_they_are_sent_again():
    """A later wave, and what is sent again, were decided on an earlier view."""
    before, action, after = of_replica_set(change(OWNER, replicas=0), (), new_pod("one"))
    assert broken((before, action, after))
    state = after.components["component"].state
    again = evolve(state, flights=Map({5: evolve(state.flights[1], is_retry=True)}), counter=5)
    assert not broken((after, action, with_component(after, "component", again)))
    waiting = loop(
        state.view,
        busy=Map(
            {
                item: evolve(busy, waves=((state.flights[1].request,),))
                for item, busy in state.busy.items()
            }
        ),
    )
    sent = evolve(
        state, busy=Map({item: evolve(busy, waves=()) for item, busy in state.busy.items()})
    )
    assert not broken(
        (
            with_component(after, "component", waiting),
            action,
            with_component(after, "component", sent),
        )
    )


# --- steps ----------------------------------------------------------------------------------------

WATCH = ("c", 1, 1)


def skipped_revision() -> Lie:
    before = world(A)
    return (
        before,
        queries("update", A),
        put(put(before, meta(A, labels={"x": "1"})), meta(A, labels={"x": "2"})),
    )


def forgot_too_much() -> Lie:
    before = world(A, B)
    return before, Compact(3), evolve(before, history=compact(take(before, B).history, 3))


def hears(
    was: tuple[Any, ...],
    now: tuple[Any, ...],
    selector: str = "",
    up_to: int = 3,
    answer: bool = False,
) -> Lie:
    """A watch of config maps (of pods, where it selects) tells what it tells; the store holds `A`,
    changed at revision 3."""
    resource = PODS if selector else CONFIG_MAPS
    history = (
        put(world(on_node("p")), on_node("p", "n2"))
        if selector
        else put(world(A), meta(A, labels={"x": "y"}))
    ).history
    cluster = evolve(world(), history=history, watches=Map({WATCH: Cursor(None, 2)}))  # type: ignore[arg-type]
    cluster = evolve(
        cluster,
        flying=Map({WATCH: Flying(Request("list", resource, user=ADMIN), Response(200, None))}),
    )
    before = with_component(
        cluster,
        "c",
        loop(view_of(*was, revision=2, resources=(resource,)), {1: resource}, selector),
    )
    after = with_component(
        cluster,
        "c",
        loop(view_of(*now, revision=up_to, resources=(resource,)), {1: resource}, selector),
    )
    return before, Answer(WATCH) if answer else Notify(WATCH), after


def old_list() -> Lie:
    answer = Response(200, ConfigMap(metadata=ListMeta(resource_version="2")))  # type: ignore[arg-type]
    asked = Flying(Request("list", CONFIG_MAPS, user=ADMIN))
    cluster = with_component(
        put(world(A), B), "c", loop(view_of(resources=(CONFIG_MAPS,)), {1: CONFIG_MAPS})
    )
    before = evolve(cluster, last_commit=None, flying=Map({WATCH: asked}))
    return before, Arrive(WATCH), evolve(before, flying=Map({WATCH: evolve(asked, answer=answer)}))


def watch_goes_to(revision: int) -> Lie:
    cluster = with_component(world(A), "c", None)
    before = evolve(cluster, watches=Map({WATCH: Cursor(None, 2)}))  # type: ignore[arg-type]
    return before, Notify(WATCH), evolve(before, watches=Map({WATCH: Cursor(None, revision)}))  # type: ignore[arg-type]


def starts(runtime: Runtime, **others: Runtime) -> Lie:
    worlds = Map(
        {"kubelet/n1": Runtime(), **{f"kubelet/{name}": held for name, held in others.items()}}
    )
    operations = Map({("kubelet/n1", 1, 1): Pending(StartContainer("uid-p", "c"))})
    before = world(
        on_node("p"),
        components=Map({"kubelet/n1": Component(None, 1)}),
        worlds=worlds,
        operations=operations,
    )
    return (
        before,
        Operate(("kubelet/n1", 1, 1)),
        evolve(before, worlds=worlds.set("kubelet/n1", runtime)),
    )


def create_of(name: str) -> Request:
    body = ConfigMap(metadata=ObjectMeta(name=name))
    return Request("create", CONFIG_MAPS, "default", name, body=body, user=ADMIN)


def behind(request: Request, code: int) -> Lie:
    """An API server that has not seen `b` answers a request by itself, and writes nothing."""
    namespace = Namespace(metadata=ObjectMeta(name="default"))
    old = with_component(world(A, namespace), "c", None)
    before = evolve(
        put(old, B),
        last_commit=None,
        caches=Map({0: Cache(old.history)}),
        flying=Map({WATCH: Flying(request)}),
    )
    flown = Flying(request, Response(code, None))
    return before, Arrive(WATCH), evolve(before, flying=Map({WATCH: flown}))


def from_another_life() -> Lie:
    before, _, after = hears((A,), (A,))
    return (
        with_component(before, "c", None, life=2),
        Notify(WATCH),
        with_component(after, "c", after.components["c"].state, life=2),
    )


def starts_what_has_ended() -> Lie:
    ended = replace(on_node("p"), status=replace(on_node("p").status, phase="Failed"))
    before = with_component(world(), "kubelet/n1", loop(view_of(ended)))
    pending = Pending(StartContainer("uid-p", "c"))
    return (
        before,
        Wake("kubelet/n1"),
        evolve(before, operations=Map({("kubelet/n1", 1, 1): pending})),
    )


def makes_with_an_old_value() -> Lie:
    """The config map was edited, then the pod was made; its container has the value of before."""
    settings = ConfigMap(
        metadata=ObjectMeta(name="settings", namespace="default"), data={"version": "1"}
    )
    reference = EnvVarSource(
        config_map_key_ref=ConfigMapKeySelector(name="settings", key="version")
    )
    variable = EnvVar(name="VERSION", value_from=reference)
    reader = on_node("p")
    reader = replace(
        reader, spec=replace(reader.spec, containers=(Container(name="main", env=(variable,)),))
    )
    before = put(put(world(settings), replace(settings, data={"version": "2"})), reader)
    config = ContainerConfig("uid-p", "default", "p", "main", "app:1", env=(("VERSION", "1"),))
    pending = Pending(CreateContainer("box", config))
    return (
        before,
        Wake("kubelet/n1"),
        evolve(before, operations=Map({("kubelet/n1", 1, 1): pending})),
    )


def programs(*targets: Target, front: str = "10.0.0.1") -> Lie:
    there = slice_of(
        endpoint("10.1.0.1", True, True, False), endpoint("10.1.0.2", False, True, True)
    )
    before = with_component(world(), "proxy/n1", loop(view_of(service(), there)))
    rules = RuleSet({"default/web": (Rule(front, "TCP", 80, targets),)})
    return before, Wake("proxy/n1"), evolve(before, rules=Map({"proxy/n1": rules}))


def routed(name: str, number: int) -> Any:
    """A Node with a range and an address."""
    addresses = (NodeAddress(type="InternalIP", address=f"192.0.2.{number}"),)
    made = change(node(name), pod_cidr=f"10.244.{number}.0/24")
    return replace(made, status=NodeStatus(addresses=addresses))


ALONE = NodeNetwork("10.244.1.0/24", "192.0.2.1")
"""The network of n1 if there is no other node."""


def networks(passed_on: NodeNetwork) -> Lie:
    """The machine of n1 passes this on, and its view has two Nodes."""
    seen = view_of(routed("n1", 1), routed("n2", 2))
    before = with_component(world(), "network/n1", loop(seen))
    return before, Wake("network/n1"), evolve(before, networks=Map({"network/n1": passed_on}))


def hides_the_client() -> Any:
    rule = Rule("10.0.0.1", "TCP", 80, (Target("10.1.0.9", 80),), masquerade=True)
    return evolve(world(service()), rules=Map({"proxy/n1": RuleSet({"default/web": (rule,)})}))


NAMESPACE = Namespace(metadata=ObjectMeta(name="default", uid="n"))


def names(address: str = "10.0.0.1") -> Records:
    """The records of the service default/web at this address."""
    of = compute_names(service(address=address), (), "cluster.local")
    records = change_records(Records(), "default/web", of)
    return evolve(records, namespaces=Map({"default": None}))


def names_another_address() -> Lie:
    before = with_component(world(), "dns", loop(view_of(service(), NAMESPACE)))
    return before, Wake("dns"), evolve(before, records=Map({"dns": names("10.0.0.9")}))


OF_STEPS: dict[str, Callable[[], Lie]] = {
    **device_lies.OF_STEPS,
    "DNS-11": names_another_address,
    "CLUSTER-3": from_another_life,
    "STORE-1": skipped_revision,
    "CLUSTER-5": lambda: (world(A), Wake("c"), put(world(A), B)),
    "CLUSTER-4": lambda: (world(), Wake("c"), evolve(world(), now=NOW + SECOND)),
    "STORE-11": lambda: forged(previous=None),
    "STORE-8": forgot_too_much,
    "WATCH-1": lambda: hears((A,), ()),
    "WATCH-2": lambda: hears((A,), (A,), up_to=1),
    "WATCH-4": old_list,
    "WATCHAPI-5": lambda: hears((on_node("p"),), (on_node("p"),), "spec.nodeName=n1"),
    "WATCHAPI-8": lambda: hears_of_nothing(),
    "CLUSTER-2": lambda: watch_goes_to(1),
    "LIST-14": lambda: behind(Request("get", CONFIG_MAPS, "default", "b", user=ADMIN), 404),
    "CLUSTER-15": lambda: behind(create_of("c"), 201),
    "KUBELET-4": lambda: starts(Runtime("uid-p", "uid-p")),
    "SCHED-25": lambda: starts(Runtime("uid-p"), n2=Runtime("uid-p")),
    "POD-2": starts_what_has_ended,
    "KUBELET-95": makes_with_an_old_value,
    "NET-3": lambda: programs(Target("10.1.0.1", 80), Target("10.1.0.2", 80)),
    "ELECT-4": lambda: sends(held_lease("a", 10)),
    "ELECT-5": lambda: sends(held_lease("b")),
    "ROUTE-1": lambda: networks(ALONE),
    "ROUTE-2": lambda: networks(NodeNetwork()),
}


def hears_of_nothing() -> Lie:
    """A bookmark comes, of a revision at which nothing of its kind was written, and something is
    gone."""
    history = put(world(A), pod("p")).history
    cluster = evolve(world(), history=history, watches=Map({WATCH: Cursor(None, 2)}))  # type: ignore[arg-type]
    there = world(A).history.get(key(A)).value
    before = with_component(cluster, "c", loop(view_of(there, revision=2), {1: CONFIG_MAPS}))
    return (
        before,
        Notify(WATCH),
        with_component(
            cluster, "c", loop(view_of(resources=(CONFIG_MAPS,), revision=3), {1: CONFIG_MAPS})
        ),
    )


def test_watch_1_a_list_is_taken_over_as_it_is():
    assert "WATCH-1" in [each.rule for each in broken(hears((A,), (A,), answer=True))]


def test_kubelet_2_one_sandbox():
    assert any("KUBELET-2" in str(each) for each in broken(starts(Runtime("uid-p", sandboxes=2))))


def test_cluster_2_a_watch_is_not_ahead_of_the_store():
    assert "CLUSTER-2" in [each.rule for each in broken(watch_goes_to(99))]


def test_net_1_every_service_has_its_rules_and_nobody_else():
    assert not broken(programs(Target("10.1.0.1", 80)))
    assert len(broken(programs(Target("10.1.0.1", 80), front="10.0.0.9"))) == 2


def test_cluster_4_time_goes_where_it_was_said_to_go():
    assert broken((world(), Elapse(NOW + 5), evolve(world(), now=NOW + 6)))


# --- at rest --------------------------------------------------------------------------------------


def rules_of_the_dead() -> Any:
    rule = Rule("10.0.0.1", "TCP", 80, (Target("10.1.0.9", 80),))
    return evolve(world(service()), rules=Map({"proxy/n1": RuleSet({"default/web": (rule,)})}))


def lost_view() -> Any:
    return with_component(
        world(A), "c", loop(view_of(resources=(CONFIG_MAPS,), revision=2), {1: CONFIG_MAPS})
    )


def with_address(name: str, **more: Any) -> Any:
    made = pod(name, ready=True)
    return replace(made, status=replace(made.status, pod_ip="10.1.0.1", **more))


SETTLED = replace(
    replica_set("web", replicas=1),
    status=replace(replica_set().status, observed_generation=1, replicas=1),
)


def used_and_not_attached() -> Any:
    csi = CSIPersistentVolumeSource(driver="x.example.com", volume_handle="h")
    volume = change(volume_of("one"), csi=csi, access_modes=("ReadWriteOnce",))
    source = PersistentVolumeClaimVolumeSource(claim_name="c")
    used = change(on_node("p"), volumes=(Volume(name="data", persistent_volume_claim=source),))
    driver = CSIDriver(metadata=ObjectMeta(name="x.example.com", uid="x"))
    return world(driver, volume, bound_claim(), used)


OF_REST: dict[str, Callable[[], Any]] = {
    "HOST-20": lambda: with_servers(world(endpoints_of(SERVERS[0]))),
    **device_lies.OF_REST,
    "ATTACH-6": used_and_not_attached,
    "JOB-1": lambda: world(a_job()),
    "QUOTA-7": lambda: world(a_quota("3", "0"), A),
    "RS-1": lambda: world(SETTLED),
    "VOL-2": lambda: world(bound_claim(), volume_of("two", phase="Released")),
    "VOL-7": lambda: world(volume_of("one", phase="Bound")),
    "DS-1": lambda: world(ON_NODES, node("n1")),
    "STS-1": lambda: world(with_status(ORDERED, observed_generation=1)),
    "DEP-19": lambda: world(ROLLING, rs("old", 3)),
    "GC-4": lambda: world(pod("p", OWNER)),
    "NS-4": lambda: world(TERMINATING),
    "SCHED-26": lambda: world(node(), pod("p")),
    "NODE-5": lambda: world(node(taints=NO_EXECUTE)),
    "PODGC-1": lambda: world(on_node("p", "gone")),
    "KUBELET-42": lambda: world(worlds=Map({"kubelet/n1": Runtime("uid-p")})),
    "KUBELET-30": lambda: world(on_node("p"), worlds=Map({"kubelet/n1": Runtime("uid-p")})),
    "WATCH-1": lost_view,
    "SLICE-1": lambda: world(service(), with_address("p"), slice_of()),
    "EP-5": lambda: world(
        service(),
        with_address("p"),
        Endpoints(metadata=ObjectMeta(name="web", namespace="default", uid="e")),
    ),
    "NET-1": rules_of_the_dead,
    "NET-2": rules_of_the_dead,
    "NET-13": hides_the_client,
    "ROUTE-1": lambda: evolve(
        world(routed("n1", 1), routed("n2", 2)), networks=Map({"network/n1": ALONE})
    ),
    "DNS-1": lambda: evolve(world(NAMESPACE), records=Map({"dns": names()})),
    "API-26": lambda: take(world(pod("q"), change(pod("p"), uid="uid-q")), pod("q")),
    "ELECT-9": lambda: behind_election(held_lease("a"), a=leads("a"), b=leads("b")),
    "IPAM-2": lambda: world(change(node("n1"), pod_cidr="10.244.1.0/24"), node("n2")),
}


def test_route_1_route_2_a_network_with_the_other_node_is_no_fault():
    whole = evolve(ALONE, peers=(Peer("n2", "10.244.2.0/24", "192.0.2.2"),))
    assert not broken(networks(whole))
    cluster = world(routed("n1", 1), routed("n2", 2))
    assert not laws.judge_rest(evolve(cluster, networks=Map({"network/n1": whole})))


def test_ipam_1_ranges_of_their_own_are_no_fault():
    assert not broken(given_a_range("10.244.2.0/24"))
    assert not laws.judge_rest(world(change(node("n1"), pod_cidr="10.244.1.0/24")))


def test_elect_4_elect_5_the_holder_may_act_until_its_lease_ends():
    assert not broken(sends(held_lease("a", 9)))
    assert not laws.judge_rest(
        behind_election(held_lease("a"), a=leads("a"), b=leads("b", leading=None))
    )


def test_elect_9_a_lease_whose_holder_does_not_lead_is_wrong():
    found = laws.judge_rest(behind_election(held_lease("a"), a=leads("a", leading=None)))
    assert [each.rule for each in found] == ["ELECT-9"]


# --- all of them ----------------------------------------------------------------------------------

KINDS = [
    (laws.OF_CHANGES, OF_CHANGES),
    (laws.OF_REQUESTS, OF_REQUESTS),
    (laws.OF_DECISIONS, OF_DECISIONS),
    (laws.OF_STEPS, OF_STEPS),
]
CASES = [(law, lies) for kind, lies in KINDS for law in kind]
LISTS = ("OF_CHANGES", "OF_REQUESTS", "OF_DECISIONS", "OF_STEPS")


def named(value: Any) -> str:
    return (
        f"{value.rule}-{getattr(value.check, '__name__', 'law')}" if isinstance(value, Law) else ""
    )


@pytest.mark.parametrize(("law", "lies"), CASES, ids=named)
def test_every_law_of_a_step_says_so_when_it_is_broken(law, lies, monkeypatch):
    """Asked alone, by the list that it is registered in."""
    assert law.rule in lies, f"{law.rule}: make a step that breaks it, above"
    lie = lies.get(law.check.__name__, lies[law.rule])()
    for name in LISTS:
        monkeypatch.setattr(laws, name, tuple(each for each in getattr(laws, name) if each is law))
    found = broken(lie)
    assert found and {each.rule for each in found} == {law.rule}, f"{law.rule} lets it pass"


@pytest.mark.parametrize("law", laws.OF_REST, ids=named)
def test_every_law_of_a_rest_says_so_when_it_is_broken(law):
    assert law.rule in OF_REST, f"{law.rule}: make a cluster that breaks it, above"
    assert law.rule in [each.rule for each in laws.judge_rest(OF_REST[law.rule]())]


def test_nothing_is_wrong_with_a_store_and_a_change_as_they_should_be():
    namespace = Namespace(
        metadata=ObjectMeta(name="default", uid="n"), status=NamespaceStatus(phase="Active")
    )
    before = world(namespace, A)
    stored = before.history.get(key(A)).value
    assert isinstance(before.history, History)
    assert not broken(
        (before, queries("update", stored), put(before, meta(stored, labels={"x": "y"})))
    )
    assert not broken((before, queries("create", B), put(before, B)))
    assert not laws.judge_rest(before)
