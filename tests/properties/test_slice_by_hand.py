"""One endpoint, one port, one slice's metadata, beside a plain reading: EP-1 to EP-7, SLICE-3,
SLICE-5, SLICE-7.

(spec/workloads/endpoints.md)
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NOW, ago, change, pod, sent, view_of

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Node,
    ObjectReference,
    PodCondition,
    PodIP,
    Service,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import EndpointConditions
from refk8s.core.api.discovery_v1 import EndpointPort as SlicePort
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.resources import ENDPOINTS, NODES, PODS, SERVICES
from refk8s.core.controllers import endpoint_slice as of_pods
from refk8s.core.controllers import endpoint_slice_mirroring as mirrored
from refk8s.core.controllers import endpoints as plain
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoints import EndpointsController
from refk8s.core.controllers.endpoints_of import (
    address_of,
    hostname_of,
    services_of_pod,
    target_port,
)
from refk8s.core.loop.plan import NOTHING, Local

ZONE = "topology.kubernetes.io/zone"
protocols = st.sampled_from([None, "TCP", "UDP"])


def service(*ports, selector=None, **more):
    spec = ServiceSpec(
        selector={"app": "web"} if selector is None else selector,
        ports=ports or None,
        cluster_ip="10.96.0.1",
    )
    return Service(
        metadata=ObjectMeta(name="s", namespace="default", uid="uid-s"), spec=replace(spec, **more)
    )


def keys_of(reconciler, resource):
    return next(interest.keys for interest in reconciler.interests if interest.resource is resource)


def reference(one):
    return ObjectReference(
        kind="Pod", namespace="default", name=one.metadata.name, uid=one.metadata.uid
    )


# --- ports and addresses --------------------------------------------------------------------------

container_ports = st.lists(
    st.builds(
        ContainerPort,
        name=st.sampled_from([None, "http", "dns"]),
        container_port=st.integers(1, 9),
        protocol=protocols,
    ),
    max_size=3,
).map(tuple)


@settings(max_examples=3 * settings.default.max_examples)
@given(
    container_ports,
    container_ports,
    st.booleans(),
    st.sampled_from([None, 0, 8080, "", "http", "dns"]),
    protocols,
    st.sampled_from([None, "grpc"]),
)
def test_ep_3_where_a_port_of_the_service_leads(main, beside, sidecar, target, protocol, app):
    spec = {
        "containers": (Container(name="c", ports=main),),
        "init_containers": (
            Container(name="i", ports=beside, restart_policy="Always" if sidecar else None),
        ),
    }
    one = pod("p", **spec)
    port = ServicePort(
        name="a" if target else None,
        port=80,
        target_port=target,
        protocol=protocol,
        app_protocol=app,
    )
    named = [
        p
        for p in (*main, *(beside if sidecar else ()))
        if p.name == target and (p.protocol or "TCP") == (protocol or "TCP")
    ]
    if isinstance(target, str) and target:
        expected = named[0].container_port if named else None
    else:
        expected = target or 80
    assert target_port(one, port) == expected
    found = (
        ()
        if expected is None
        else (
            SlicePort(
                name=port.name or "", port=expected, protocol=protocol or "TCP", app_protocol=app
            ),
        )
    )
    assert of_pods.compute_ports(service(port), one) == found
    found = (
        []
        if expected is None
        else [
            EndpointPort(
                name=port.name, port=expected, protocol=protocol or "TCP", app_protocol=app
            )
        ]
    )
    assert plain.compute_ports(service(port), one) == found
    assert plain.compute_ports(service(), one) == [None]


@given(
    st.lists(st.sampled_from(["10.0.0.1", "fd00::1", "10.0.0.2"]), max_size=2),
    st.sampled_from([None, "10.0.0.9", "fd00::9"]),
    st.sampled_from(["Pending", "Running", "Failed", "Succeeded"]),
)
def test_ep_2_the_address_is_the_first_of_the_family(ips, ip, phase):
    one = pod("p", pod_ips=tuple(PodIP(ip=text) for text in ips) or None, pod_ip=ip, phase=phase)
    for family, is_v6 in (("IPv4", False), ("IPv6", True)):
        usable = [text for text in (ips or [ip or ""]) if text and (":" in text) is is_v6]
        expected = usable[0] if usable and phase in ("Pending", "Running") else None
        assert address_of(one, family) == expected


@given(
    st.sampled_from([None, "h"]),
    st.sampled_from([None, "s", "other"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, "", "z"]),
)
def test_ep_4_slice_3_what_is_told_of_one_pod(host, subdomain, is_ready, dying, publish, zone):
    ready = (PodCondition(type="Ready", status="True"),) if is_ready else None
    one = pod(
        "p",
        hostname=host,
        subdomain=subdomain,
        conditions=ready,
        deletion_timestamp=ago(1) if dying else None,
        node_name="n",
    )
    of = service(publish_not_ready_addresses=publish or None)
    name = host if host and subdomain == "s" else None
    assert hostname_of(one, of) == name
    node = (
        None
        if zone is None
        else Node(metadata=ObjectMeta(name="n", labels={ZONE: zone} if zone else None))
    )
    told = of_pods.compute_endpoint(of, one, "10.0.0.1", node)
    assert told.conditions == EndpointConditions(
        ready=publish or (is_ready and not dying), serving=is_ready, terminating=dying
    )
    assert (told.addresses, told.hostname, told.node_name, told.zone) == (
        ("10.0.0.1",),
        name,
        "n",
        zone or None,
    )
    assert told.target_ref == reference(one)
    assert plain.compute_address(of, one, "10.0.0.1") == EndpointAddress(
        ip="10.0.0.1", hostname=name, node_name="n", target_ref=reference(one)
    )


# --- what is news to whom -------------------------------------------------------------------------

parts = st.sampled_from(
    [
        {},
        {"labels": {"app": "db"}},
        {"labels": {"app": "web", "x": "y"}},
        {"uid": "another"},
        {"deletion_timestamp": ago(1)},
        {"pod_ip": "10.0.0.5"},
        {"pod_ips": (PodIP(ip="10.0.0.5"),)},
        {"phase": "Failed"},
        {"phase": "Running"},
        {"hostname": "h"},
        {"conditions": (PodCondition(type="Ready", status="True"),)},
        {"annotations": {"a": "b"}},
        {"start_time": ago(3)},
    ]
)


@given(parts, st.sampled_from(["changes", "comes", "goes"]))
def test_ep_5_a_pod_is_news_to_the_services_that_choose_it_before_or_after(part, how):
    """Only where something changed that an endpoint tells of."""
    db = Service(
        metadata=ObjectMeta(name="db", namespace="default"),
        spec=ServiceSpec(selector={"app": "db"}),
    )
    both = Service(
        metadata=ObjectMeta(name="both", namespace="default"),
        spec=ServiceSpec(selector={"app": "web", "x": "y"}),
    )
    far = Service(
        metadata=ObjectMeta(name="s", namespace="far"), spec=ServiceSpec(selector={"app": "web"})
    )
    everything = [
        service(),
        db,
        both,
        far,
        Service(
            metadata=ObjectMeta(name="n", namespace="default"), spec=ServiceSpec(selector=None)
        ),
    ]
    old, new = (
        (None if how == "comes" else pod("p")),
        (None if how == "goes" else change(pod("p"), **part)),
    )
    view = view_of(EndpointsController(), *everything)
    silent = how == "changes" and (
        not part or set(part) <= {"annotations", "start_time"} or part == {"phase": "Running"}
    )
    chosen = set()
    for one in (old, new):
        for of in everything if one is not None and not silent else ():
            selector = of.spec.selector
            if (
                selector
                and of.metadata.namespace == "default"
                and selector.items() <= one.metadata.labels.items()
            ):
                chosen.add(f"default/{of.metadata.name}")
    assert set(services_of_pod(view, old, new)) == chosen


@given(st.sampled_from([None, "endpoint-controller", "other"]), st.booleans(), st.booleans())
def test_ep_7_endpoints_are_news_where_they_are_ours_or_have_a_service(manager, has_service, goes):
    controller = EndpointsController()
    labels = {"endpoints.kubernetes.io/managed-by": manager} if manager else None
    obj = Endpoints(metadata=ObjectMeta(name="s", namespace="default", labels=labels))
    keys = keys_of(controller, ENDPOINTS)(
        view_of(controller, *([service()] if has_service else [])), obj, None if goes else obj
    )
    assert bool(keys) == (has_service or (manager == "endpoint-controller" and not goes))
    assert set(keys) <= {"default/s"}


@given(
    st.sampled_from([None, "", "a"]),
    st.sampled_from([None, "", "a", "b"]),
    st.sampled_from(["changes", "comes", "goes"]),
)
def test_slice_6_a_node_is_news_where_it_comes_goes_or_changes_its_zone(before, after, how):
    controller = EndpointSliceController()

    def node(zone):
        return Node(metadata=ObjectMeta(name="n", labels=None if zone is None else {ZONE: zone}))

    old, new = (None if how == "comes" else node(before)), (None if how == "goes" else node(after))
    view = view_of(
        controller, service(), pod("p", node_name="n"), pod("q", node_name="m"), pod("r")
    )
    keys = keys_of(controller, NODES)(view, old, new)
    assert set(keys) == ({"default/s"} if how != "changes" or before != after else set())
    assert keys_of(controller, PODS) is services_of_pod and keys_of(controller, SERVICES)(
        view, service(), None
    ) == ("default/s",)


# --- metadata -------------------------------------------------------------------------------------


@given(
    st.sampled_from(
        [
            None,
            {},
            {"a": "b"},
            {"kubernetes.io/service-name": "x", "service.kubernetes.io/headless": ""},
        ]
    ),
    st.booleans(),
)
def test_slice_7_a_slice_is_the_services_own(labels, headless):
    of = service(cluster_ip="None" if headless else "10.96.0.1")
    of = replace(of, metadata=replace(of.metadata, labels=labels))
    found = of_pods.compute_metadata(of)
    own = {
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    others = {key: value for key, value in (labels or {}).items() if key == "a"}
    assert found.labels == {
        **others,
        **own,
        **({"service.kubernetes.io/headless": ""} if headless else {}),
    }
    assert (found.generate_name, found.namespace) == ("s-", "default")
    owner = OwnerReference(
        api_version="v1",
        kind="Service",
        name="s",
        uid="uid-s",
        controller=True,
        block_owner_deletion=True,
    )
    assert found.owner_references == (owner,)


@given(
    st.sampled_from([None, {"a": "b"}]),
    st.sampled_from([None, {"c": "d"}, {"c": "d", mirrored.NOT_COPIED[0]: "x"}]),
)
def test_slice_7_a_mirror_is_the_endpoints_own(labels, annotations):
    obj = Endpoints(
        metadata=ObjectMeta(
            name="s", namespace="default", uid="uid-e", labels=labels, annotations=annotations
        )
    )
    found = mirrored.compute_metadata(obj)
    own = {
        "kubernetes.io/service-name": "s",
        "endpointslice.kubernetes.io/managed-by": mirrored.CONTROLLER,
    }
    assert found.labels == {**(labels or {}), **own}
    assert found.annotations == ({"c": "d"} if annotations else None)
    owner = OwnerReference(
        api_version="v1",
        kind="Endpoints",
        name="s",
        uid="uid-e",
        controller=True,
        block_owner_deletion=True,
    )
    assert (found.generate_name, found.namespace, found.owner_references) == (
        "s-",
        "default",
        (owner,),
    )


addresses = st.lists(
    st.builds(
        EndpointAddress,
        ip=st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]),
        hostname=st.sampled_from([None, "", "h"]),
        node_name=st.sampled_from([None, "n"]),
        target_ref=st.sampled_from([None, ObjectReference(kind="Pod", name="p")]),
    ),
    max_size=3,
).map(lambda found: tuple(found) or None)
ports = st.lists(
    st.builds(
        EndpointPort,
        name=st.sampled_from([None, "http"]),
        port=st.integers(1, 3),
        protocol=protocols,
        app_protocol=st.sampled_from([None, "grpc"]),
    ),
    max_size=2,
).map(tuple)


@given(st.lists(st.tuples(addresses, addresses, ports), max_size=3))
def test_slice_5_a_mirror_says_what_the_endpoints_say(drawn):
    """Each subset is (ready addresses, others, ports)."""
    subsets = tuple(
        EndpointSubset(addresses=a, not_ready_addresses=b, ports=p or None) for a, b, p in drawn
    )
    found = mirrored.compute_endpoints(
        Endpoints(metadata=ObjectMeta(name="s"), subsets=subsets or None)
    )
    expected = {}
    for ready, others, drawn_ports in drawn:
        told = tuple(
            SlicePort(
                name=p.name or "",
                port=p.port,
                protocol=p.protocol or "TCP",
                app_protocol=p.app_protocol,
            )
            for p in drawn_ports
        )
        for is_ready, list_ in ((True, ready), (False, others)):
            for one in list_ or ():
                entry = (
                    (one.ip,),
                    is_ready,
                    one.hostname or None,
                    one.node_name,
                    one.target_ref,
                )
                family = "IPv6" if ":" in one.ip else "IPv4"
                expected.setdefault((family, told), []).append(entry)
    shown = {
        (family, told): [
            (e.addresses, e.conditions.ready, e.hostname, e.node_name, e.target_ref)
            for e in endpoints
        ]
        for family, of_family in found.items()
        for told, endpoints in of_family.items()
    }
    assert shown == expected


# --- the older Endpoints --------------------------------------------------------------------------


@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, {"a": "b"}]),
    st.sampled_from([None, {"x": "y"}, {"endpoints.kubernetes.io/over-capacity": "truncated"}]),
)
def test_ep_5_endpoints_in_full(headless, exists, labels, annotations):
    controller = EndpointsController()
    of = service(
        ServicePort(port=80, protocol="TCP"), cluster_ip="None" if headless else "10.96.0.1"
    )
    of = replace(
        of,
        metadata=replace(
            of.metadata,
            labels={**(labels or {}), "service.kubernetes.io/headless": "old"} if labels else None,
        ),
    )
    ready = (PodCondition(type="Ready", status="True"),)
    pods = [
        pod("b", pod_ip="10.0.0.2", conditions=ready, node_name="n"),
        pod("a", pod_ip="10.0.0.1", conditions=ready),
        pod("c", pod_ip="10.0.0.3"),
    ]
    # without an address, and on its way out
    pods = [*pods, pod("0"), pod("00", pod_ip="10.0.0.9", deletion_timestamp=ago(1))]
    before = Endpoints(
        metadata=ObjectMeta(name="s", namespace="default", uid="uid-e", annotations=annotations)
    )
    plan = controller.reconcile(
        view_of(controller, of, *pods, *([before] if exists else [])), "default/s", NOW, Local()
    )
    [request] = [request for wave in plan.waves for request in wave]
    assert (request.verb, request.resource, request.namespace, request.name) == (
        "update" if exists else "create",
        ENDPOINTS,
        "default",
        "s",
    )
    assert request.because and (request.body.metadata.name, request.body.metadata.namespace) == (
        "s",
        "default",
    )
    managed = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    assert request.body.metadata.labels == {
        **(labels or {}),
        **managed,
        **({"service.kubernetes.io/headless": ""} if headless else {}),
    }
    assert request.body.metadata.annotations == (
        {"x": "y"} if exists and annotations == {"x": "y"} else None
    )
    [subset] = request.body.subsets
    assert [(one.ip, one.node_name) for one in subset.addresses] == [
        ("10.0.0.1", None),
        ("10.0.0.2", "n"),
    ]
    assert [one.target_ref for one in subset.not_ready_addresses] == [reference(pods[2])]
    assert subset.ports == (EndpointPort(port=80, protocol="TCP"),)
    assert (
        controller.reconcile(
            view_of(controller, of, *pods, request.body), "default/s", NOW, Local()
        )
        == NOTHING
    )


def test_ep_7_endpoints_go_with_their_service():
    controller = EndpointsController()
    obj = Endpoints(metadata=ObjectMeta(name="s", namespace="default", uid="uid-e"))
    [request] = sent(
        controller.reconcile(view_of(controller, obj), "default/s", NOW, Local()), "delete"
    )
    assert (request.resource, request.namespace, request.name, request.body.preconditions.uid) == (
        ENDPOINTS,
        "default",
        "s",
        "uid-e",
    )
    assert (
        request.because
        and controller.reconcile(view_of(controller), "default/s", NOW, Local()) == NOTHING
    )


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=3))
def test_ep_6_ready_addresses_are_kept_before_others(counts):
    """Each subset has so many ready addresses and so many others; there is room for five."""
    room = plain.ADDRESSES_MAX
    plain.ADDRESSES_MAX = 5
    try:
        subsets = [
            EndpointSubset(
                addresses=tuple(EndpointAddress(ip=f"10.{n}.0.{i}") for i in range(ready)) or None,
                not_ready_addresses=tuple(
                    EndpointAddress(ip=f"10.{n}.1.{i}") for i in range(others)
                )
                or None,
            )
            for n, (ready, others) in enumerate(counts)
        ]
        kept, over = plain._truncated(subsets)
    finally:
        plain.ADDRESSES_MAX = room
    total = sum(ready + others for ready, others in counts)
    assert over == (total > 5)
    if over:
        assert sum(len(s.addresses or ()) + len(s.not_ready_addresses or ()) for s in kept) == 5
        assert sum(len(s.addresses or ()) for s in kept) == min(
            5, sum(ready for ready, _ in counts)
        )
    else:
        assert kept == tuple(subsets)
