"""Clusters with two families of addresses, and several ServiceCIDRs: ALLOC-2, ALLOC-6, ALLOC-9,
ALLOC-11, ALLOC-12 (spec/admission.md), PROT-4 (spec/workloads/protection.md), SLICE-9, EP-2
(spec/workloads/endpoints.md), IPAM-7 (spec/node_network.md), KUBELET-119 (spec/kubelet.md), HOST-18
(spec/host.md)."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_alloc import Servers, service
from test_prot import decoded
from workload_helpers import NOW, get, stored, view_of

from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.scenario import service as service_manifest
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.components.files import CannotRun
from refk8s.components.range_flags import pod_ranges, service_ranges
from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Node, ServicePort
from refk8s.core.api.families import IPV4, IPV6
from refk8s.core.api.finalizers import SERVICE_CIDR_PROTECTION
from refk8s.core.api.meta_v1 import ListMeta
from refk8s.core.api.networking_v1 import IPAddress, IPAddressList, ServiceCIDR
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects, service_cidr_correction
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.admission.service_ranges import is_ready
from refk8s.core.controllers.node_ipam import ALLOCATE, NodeIPAM
from refk8s.core.controllers.service_cidr import ServiceCIDRController
from refk8s.core.loop.plan import Local

FOUR, SIX = IPv4Network("10.0.0.0/28"), IPv6Network("fd00::/124")
STACKS = {
    (IPV4,): AdmissionConfig((FOUR,)),
    (IPV6,): AdmissionConfig((SIX,)),
    (IPV4, IPV6): AdmissionConfig((FOUR, SIX)),
    (IPV6, IPV4): AdmissionConfig((SIX, FOUR)),
}
stacks = st.sampled_from(list(STACKS))
policies = st.sampled_from([None, "SingleStack", "PreferDualStack", "RequireDualStack"])
families = st.sampled_from([None, (IPV4,), (IPV6,), (IPV4, IPV6), (IPV6, IPV4)])
wanted_ips = st.sampled_from(
    [None, ("10.0.0.3",), ("fd00::3",), ("10.0.0.3", "fd00::3"), ("fd00::3", "10.0.0.3"), ("None",)]
)


def family(address: str) -> str:
    return IPV6 if ip_address(address).version == 6 else IPV4


def expected(
    stack: tuple[str, ...], policy: str | None, named: Any, ips: Any, selector: bool
) -> tuple[str, ...] | None:
    """The families of a new service; None if it is refused. By the page "IPv4/IPv6 dual-stack"."""
    headless = ips == ("None",)
    of_ips = () if headless or ips is None else tuple(family(each) for each in ips)
    named = named or ()
    if any(a != b for a, b in zip(of_ips, named, strict=False)):
        return None
    if policy is None and headless and not selector and len(named) != 1:
        policy = "RequireDualStack"
    if policy in (None, "SingleStack") and (len(named) > 1 or len(of_ips) > 1):
        return None
    found = named if len(named) >= len(of_ips) else of_ips
    if len(of_ips) > len(named) and not set(of_ips[len(named) :]) <= set(stack):
        return None
    is_free = headless and not selector
    if not is_free and (not set(found) <= set(stack)):
        return None
    if not is_free and policy == "RequireDualStack" and len(stack) < 2:
        return None
    found = found or stack[:1]
    if policy in ("PreferDualStack", "RequireDualStack") and len(found) == 1:
        other = IPV6 if found[0] == IPV4 else IPV4
        found = (*found, other) if is_free or len(stack) == 2 else found
    return found


@settings(max_examples=300)
@given(stacks, policies, families, wanted_ips, st.booleans())
def test_alloc_2_a_service_has_one_address_of_each_of_its_families(
    stack, policy, named, ips, selector
):
    # Shows ALLOC-2.a ALLOC-2.b ALLOC-2.c ALLOC-2.d.
    servers = Servers(STACKS[stack])
    asked: dict[str, Any] = {"ip_family_policy": policy, "ip_families": named}
    if ips is not None:
        asked |= {"cluster_ips": ips, "cluster_ip": ips[0]}
    if selector:
        asked["selector"] = {"a": "b"}
    made = servers.create("a", **asked)
    wanted = expected(stack, policy, named, ips, selector)
    assert (made.code == 201) == (wanted is not None), made.body
    assert servers.wrong() == []
    if wanted is None:
        assert made.code == 422 and servers.held() == (0, 0)
        return
    spec = made.body.spec
    assert spec.ip_families == wanted
    if ips == ("None",):
        assert spec.cluster_ips == ("None",) and servers.held() == (0, 0)
        return
    assert tuple(map(family, spec.cluster_ips)) == wanted and spec.cluster_ip == spec.cluster_ips[0]
    assert spec.cluster_ips[: len(ips or ())] == (ips or ())
    held = {one.metadata.name: one for one in servers.all(resources.IP_ADDRESSES.prefix)}
    assert {
        name: one.metadata.labels["ipaddress.kubernetes.io/ip-family"] for name, one in held.items()
    } == {each: family(each) for each in spec.cluster_ips}
    servers.delete("a")
    assert servers.held() == (0, 0)


def test_alloc_1_an_address_is_held_by_its_canonical_form():
    servers = Servers(STACKS[IPV6, IPV4])
    made = servers.create("a", cluster_ip="FD00:0::000A")
    assert made.code == 201 and made.body.spec.cluster_ips == ("FD00:0::000A",)
    assert servers.wrong() == []
    assert servers.create("b", cluster_ip="fd00::a").code == 422
    servers.delete("a")
    assert servers.held() == (0, 0)


changes = st.fixed_dictionaries(
    {},
    optional={
        "ipFamilyPolicy": policies,
        "ipFamilies": st.sampled_from([None, [IPV4], [IPV6], [IPV4, IPV6], [IPV6, IPV4]]),
        "clusterIPs": st.sampled_from([None, "first", "both"]),
        "type": st.sampled_from(["ClusterIP", "NodePort", "ExternalName"]),
        "externalName": st.just("a.b"),
    },
)


@settings(max_examples=200)
@given(st.sampled_from([(IPV4, IPV6), (IPV6, IPV4)]), policies, st.lists(changes, max_size=6))
def test_alloc_12_a_second_family_comes_and_goes_by_the_policy_alone(stack, policy, drawn):
    # Shows ALLOC-12.a ALLOC-12.b ALLOC-12.c ALLOC-6.a.
    servers = Servers(STACKS[stack])
    before = servers.create("a", ip_family_policy=policy).body.spec
    for change in drawn:
        change = dict(change)
        ips = change.pop("clusterIPs", None)
        if ips and before.cluster_ips:
            second = "fd00::e" if family(before.cluster_ips[0]) == IPV4 else "10.0.0.14"
            change["clusterIPs"] = [before.cluster_ips[0], *[second] * (ips == "both")]
        answer = servers.patch("a", change)
        assert answer.code in (200, 422) and servers.wrong() == []
        after = servers.history.get(resources.SERVICES.key("n", "a")).value.spec
        if answer.code == 422:
            assert after == before
        elif after.type == "ExternalName":
            assert not after.cluster_ips and servers.held()[0] == 0
        else:
            assert tuple(map(family, after.cluster_ips)) == after.ip_families
            assert len(after.ip_families) == 1 if after.ip_family_policy == "SingleStack" else True
            assert len(after.ip_families) == 2 or after.ip_family_policy != "RequireDualStack"
            if before.cluster_ips:
                assert after.cluster_ips[0] == before.cluster_ips[0]
                was, now = len(before.cluster_ips), len(after.cluster_ips)
                assert now >= was or after.ip_family_policy == "SingleStack"
                assert now <= was or after.ip_family_policy != "SingleStack"
        before = after


def test_alloc_12_a_service_that_prefers_two_families_is_not_changed_with_the_cluster():
    # Shows ALLOC-12.d.
    servers = Servers(STACKS[IPV4,])
    servers.create("a", ip_family_policy="PreferDualStack")
    servers.config = replace(servers.config, admission=STACKS[IPV4, IPV6])
    kept = servers.patch("a", {"externalIPs": ["192.0.2.1"]})
    assert kept.code == 200 and kept.body.spec.ip_families == (IPV4,)
    more = servers.patch("a", {"ipFamilyPolicy": "RequireDualStack"})
    assert more.code == 200 and more.body.spec.ip_families == (IPV4, IPV6)
    assert servers.wrong() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ipFamilies": [IPV4]}, "must be 'SingleStack' to release the secondary IP family"),
        ({"clusterIPs": "first"}, "must be 'SingleStack' to release the secondary cluster IP"),
    ],
)
def test_alloc_12_without_single_stack_nothing_is_taken_away(change, words):
    # Shows ALLOC-12.c.
    servers = Servers(STACKS[IPV4, IPV6])
    made = servers.create("a", ip_family_policy="RequireDualStack").body.spec
    if "clusterIPs" in change:
        change = {"clusterIPs": [made.cluster_ip]}
    refused = servers.patch("a", change)
    assert refused.code == 422 and words in refused.body.message
    released = servers.patch("a", {"ipFamilyPolicy": "SingleStack"})
    assert released.body.spec.cluster_ips == made.cluster_ips[:1] and servers.held() == (1, 0)


# --- ServiceCIDRs -----------------------------------------------------------------------------------


def a_range(name: str, *cidrs: str, **more: Any) -> ServiceCIDR:
    metadata = {"name": name, "finalizers": [SERVICE_CIDR_PROTECTION], **more}
    return decoded(ServiceCIDR, metadata=metadata, spec={"cidrs": list(cidrs)})


def make_range(servers: Servers, name: str, *cidrs: str) -> Response:
    body = a_range(name, *cidrs)
    return servers.ask(Request("create", resources.SERVICE_CIDRS, body=body, user=ADMIN))


CIDRS = {
    "kubernetes": ("10.0.0.0/29", "fd00::/125"),
    "b": ("10.0.0.0/30", "fd00::/125"),
    "c": ("10.9.0.0/30",),
}
names = st.sampled_from(["s", "t", "u"])
steps = st.one_of(
    st.tuples(st.sampled_from(["range", "end", "ready", "unready"]), st.sampled_from(list(CIDRS))),
    st.tuples(st.sampled_from(["create", "create", "delete"]), names),
    st.integers(0, 5),
)


def ready_networks(servers: Servers) -> list[Any]:
    """Those of the ready ServiceCIDRs, and those of the flags while theirs does not exist."""
    found = servers.all(resources.SERVICE_CIDRS.prefix)
    has_default = any(one.metadata.name == "kubernetes" for one in found)
    of_flags = () if has_default else servers.config.admission.service_cidrs
    return [*of_flags] + [
        ip_network(text) for one in found if is_ready(one) for text in one.spec.cidrs
    ]


def request_of(verb: str, name: str) -> Request:
    if verb == "create":
        body = service(name, ports=(ServicePort(port=80),), ip_family_policy="PreferDualStack")
        return Request("create", resources.SERVICES, "n", body=body, user=ADMIN)
    if verb == "delete":
        return Request("delete", resources.SERVICES, "n", name, user=ADMIN)
    if verb == "range":
        body = a_range(name, *CIDRS[name])
        return Request("create", resources.SERVICE_CIDRS, body=body, user=ADMIN)
    if verb == "end":
        return Request("delete", resources.SERVICE_CIDRS, "", name, user=ADMIN)
    condition = {
        "type": "Ready", "status": "True" if verb == "ready" else "False", "reason": "x",
        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    body = Patch("application/merge-patch+json", {"status": {"conditions": [condition]}})
    return Request("patch", resources.SERVICE_CIDRS, "", name, "status", body=body, user=ADMIN)


@settings(max_examples=200)
@given(st.lists(steps, max_size=25))
def test_alloc_11_an_address_comes_from_a_range_that_is_ready_when_it_is_allocated(drawn):
    # Shows ALLOC-11.a ALLOC-11.b ALLOC-11.c.
    servers = Servers(STACKS[IPV4, IPV6])

    def check(act: Any) -> None:
        before, ready = set(addresses(servers)), ready_networks(servers)
        act()
        for new in set(addresses(servers)) - before:
            assert any(
                new.version == each.version
                and new in each
                and new != each[0]
                and (new.version == 6 or new != each[-1])
                for each in ready
            ), (new, ready)
        assert servers.wrong() == []

    for step in drawn:
        if isinstance(step, tuple):
            answer = servers.look(request_of(*step))
            assert answer is None or answer.code != 500 or "range is full" in answer.body.message
        elif servers.waiting:
            check(lambda step=step: servers.land(step))
    while servers.waiting:
        check(lambda: servers.land(0))


def addresses(servers: Servers) -> list[Any]:
    return [ip_address(one.metadata.name) for one in servers.all(resources.IP_ADDRESSES.prefix)]


def test_alloc_11_every_ready_range_is_used_up_before_none_is_left():
    # Shows ALLOC-11.a.
    servers = Servers(AdmissionConfig((IPv4Network("10.0.0.0/30"),)))
    assert make_range(servers, "kubernetes", "10.0.0.0/30").ok
    make_range(servers, "more", "10.9.0.0/30")
    given_out = [servers.create(f"s{n}").body.spec.cluster_ip for n in range(4)]
    assert sorted(given_out) == ["10.0.0.1", "10.0.0.2", "10.9.0.1", "10.9.0.2"]
    full = servers.create("late")
    assert full.code == 500 and "range is full" in full.body.message
    refused = servers.create("other", cluster_ip="10.8.0.1")
    assert refused.code == 422
    assert "the provided network does not match the current range" in refused.body.message


def test_prot_4_an_address_that_the_view_does_not_show_yet_holds_its_range():
    controller = ServiceCIDRController()
    going = a_range("a", "10.0.0.0/24", uid="u", deletionTimestamp="2026-01-01T00:00:00Z")
    plan = controller.reconcile(
        view_of(controller, going), "a", NOW, Local(controller.start_memory(NOW))
    )
    assert not plan.waves and [request.verb for request in plan.queries] == ["list"]
    for held, lets_go in (("10.0.0.5", False), ("10.1.0.5", True)):
        item = decoded(IPAddress, metadata={"name": held})
        answer = Response(
            200, IPAddressList(metadata=ListMeta(resource_version="9"), items=(item,))
        )
        memory, _ = controller.answered(plan.memory, "a", plan.queries[0], answer, NOW)
        view = view_of(controller, going)
        assert bool(controller.reconcile(view, "a", NOW, Local(memory)).waves) == lets_go
    # an answer that was given while another range had the addresses does not count without it
    other = a_range("b", "10.0.0.0/16", uid="v")
    plan = controller.reconcile(
        view_of(controller, going, other), "a", NOW, Local(controller.start_memory(NOW))
    )
    item = decoded(IPAddress, metadata={"name": "10.0.0.5"})
    answer = Response(200, IPAddressList(metadata=ListMeta(resource_version="9"), items=(item,)))
    memory, _ = controller.answered(plan.memory, "a", plan.queries[0], answer, NOW)
    assert controller.reconcile(view_of(controller, going, other), "a", NOW, Local(memory)).waves
    assert not controller.reconcile(view_of(controller, going), "a", NOW, Local(memory)).waves


# --- whole clusters -------------------------------------------------------------------------------

IN_BOTH = read_manifests(
    (
        *default_manifests()[:1],
        service_manifest("web", "web", ipFamilyPolicy="PreferDualStack"),
        service_manifest("six", "web", ipFamilies=[IPV6]),
        service_manifest("none", "web", ipFamilyPolicy="RequireDualStack", clusterIP="None"),
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "b"},
            "spec": {"cidrs": ["10.0.0.0/24", "fd00:1::/112"]},
        },
    )
)  # fmt: skip


@given(st.integers(0, 2**32))
@example(12518)  # a node that gets its second address after the status of a pod was written
@settings(max_examples=4, deadline=None)
def test_slice_9_ipam_7_kubelet_119_with_two_families_the_cluster_comes_to_rest_whatever_failed(
    seed,
):
    # Shows SLICE-9.a IPAM-7.a KUBELET-119.a EP-2.a.
    run = simulate(Setup(seed=seed, steps=1_000, requests=IN_BOTH, is_dual_stack=True, user=False))
    assert not run.broken, f"{run.broken[0]} (seed {seed})"
    cluster = run.cluster
    slices = stored(cluster, resources.ENDPOINT_SLICES)
    pods = [pod for pod in stored(cluster, resources.PODS) if pod.status.phase == "Running"]
    ips = {
        kind: sorted(i.ip for p in pods for i in p.status.pod_ips if family(i.ip) == kind)
        for kind in (IPV4, IPV6)
    }
    for name, kinds in (("web", {IPV4, IPV6}), ("six", {IPV6}), ("none", {IPV4, IPV6})):
        label = "kubernetes.io/service-name"
        mine = [each for each in slices if (each.metadata.labels or {}).get(label) == name]
        assert {each.address_type for each in mine} == kinds
        for kind in kinds:
            of_kind = [each for each in mine if each.address_type == kind]
            listed = [one.addresses[0] for each in of_kind for one in each.endpoints or ()]
            assert sorted(listed) == ips[kind]
    nodes = {node.metadata.name: node for node in stored(cluster, resources.NODES)}
    for pod in pods:
        ranges = [ip_network(text) for text in nodes[pod.spec.node_name].spec.pod_cidrs]
        assert [each.version for each in ranges] == [4, 6] and len(pod.status.host_ips) == 2
        own = [ip_address(ip.ip) for ip in pod.status.pod_ips]
        # one that started before its node had ranges has an address of IPv4 only
        assert len(own) == 1 or all(ip in each for ip, each in zip(own, ranges, strict=True))
    six = get(cluster, resources.ENDPOINTS, "six")
    found = [
        address.ip
        for subset in six.subsets or ()
        for address in (*(subset.addresses or ()), *(subset.not_ready_addresses or ()))
    ]
    assert sorted(found) == ips[IPV6]


@given(st.integers(0, 2**32))
@settings(max_examples=4, deadline=None)
def test_alloc_12_slice_9_families_that_come_and_go_leave_nothing_whatever_failed(seed):
    """The user changes the policies of Services. At rest each has an address and slices of its
    families, and no other address is held."""
    # Shows ALLOC-12.a SLICE-9.a.
    run = simulate(Setup(seed=seed, steps=1_500, requests=IN_BOTH, is_dual_stack=True))
    assert not run.broken, f"{run.broken[0]} (seed {seed})"
    cluster = run.cluster
    label, slices = "kubernetes.io/service-name", stored(cluster, resources.ENDPOINT_SLICES)
    held = set()
    for one in stored(cluster, resources.SERVICES):
        spec, metadata = one.spec, one.metadata
        if spec.type == "ExternalName":
            continue
        families = spec.ip_families or ()
        assert len(families) == (2 if spec.ip_family_policy != "SingleStack" else 1)
        if spec.cluster_ip != "None":
            assert [family(text) for text in spec.cluster_ips] == list(families)
            held |= {str(ip_address(text)) for text in spec.cluster_ips}
        if spec.selector:
            mine = [
                each for each in slices if (each.metadata.labels or {}).get(label) == metadata.name
            ]
            assert {each.address_type for each in mine} == set(families)
    assert {each.metadata.name for each in stored(cluster, resources.IP_ADDRESSES)} == held


networks = st.one_of(
    st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.integers(1 << 26, 1 << 27), st.integers(8, 32)),
    st.builds(lambda a, n: IPv6Network((a, n), strict=False), st.integers(0xFD << 120, 0xFE << 120), st.integers(8, 128)),
)  # fmt: skip


@given(st.lists(networks, min_size=1, max_size=3))
def test_host_18_the_ranges_of_services_are_one_of_each_family(drawn):
    # Shows HOST-18.a HOST-18.b.
    text = ",".join(str(each) for each in drawn)
    kinds = [each.version for each in drawn]
    bits = all(
        (8, each.prefixlen) <= (8, 30) if each.version == 4 else 64 <= each.prefixlen <= 126
        for each in drawn
    )
    is_right = len(set(kinds)) == len(kinds) and bits
    try:
        found = service_ranges(text)
    except CannotRun as refused:
        assert not is_right and text in str(refused)
    else:
        assert is_right and found == tuple(drawn)


@given(
    st.integers(8, 28), st.integers(0, 20), st.integers(16, 120), st.integers(0, 20), st.booleans()
)
def test_ipam_7_a_node_gets_a_range_of_each_family_or_none(length, more, length6, more6, first):
    # Shows IPAM-7.a HOST-18.b.
    four = IPv4Network(("10.0.0.0", length), strict=False)
    six = IPv6Network(("fd00::", length6), strict=False)
    text = f"{six},{four}" if first else f"{four},{six}"
    is_right = more <= 16 and length + more <= 30 and more6 <= 16 and length6 + more6 <= 126
    try:
        ranges = pod_ranges(text, (), None, length + more, length6 + more6)
    except CannotRun:
        assert not is_right
        return
    assert is_right
    controller = NodeIPAM(ranges)
    memory = controller.reconcile(
        view_of(controller), ALLOCATE, NOW, Local(controller.start_memory(NOW))
    ).memory
    nodes = [decoded(Node, metadata={"name": n, "uid": n, "resourceVersion": "1"}) for n in "abc"]
    plan = controller.reconcile(view_of(controller, *nodes), ALLOCATE, NOW, Local(memory))
    given_out = [request.body.document["spec"] for request in plan.requests]
    assert len(given_out) == min(3, 2**more, 2**more6)
    for spec in given_out:
        assert spec["podCIDR"] == spec["podCIDRs"][0]
        found = [ip_network(each) for each in spec["podCIDRs"]]
        assert [each.version for each in found] == ([6, 4] if first else [4, 6])
        assert {each.prefixlen for each in found} == {length + more, length6 + more6}
    every = [text for spec in given_out for text in spec["podCIDRs"]]
    assert len(set(every)) == len(every)
    with pytest.raises(CannotRun, match="mask-size-ipv4"):
        pod_ranges(text, (), 24)


@pytest.mark.parametrize(
    ("stored_cidrs", "flags", "verb"),
    [
        (None, (FOUR, SIX), "create"),
        ((FOUR,), (FOUR,), None),
        ((FOUR,), (FOUR, SIX), "update"),
        ((FOUR,), (SIX, FOUR), None),
        ((FOUR, SIX), (FOUR,), None),
        ((SIX,), (FOUR,), None),
    ],
)
def test_host_18_the_service_cidr_of_the_flags_is_made_and_gets_a_second_range(
    stored_cidrs, flags, verb
):
    # Shows HOST-18.c HOST-18.d HOST-18.e.
    found = a_range("kubernetes", *map(str, stored_cidrs)) if stored_cidrs else None
    correction = service_cidr_correction(found, AdmissionConfig(flags))
    assert (correction and correction[0]) == verb
    if correction:
        assert correction[1].spec.cidrs == tuple(map(str, flags))
    objects = bootstrap_objects("", 6443, AdmissionConfig(flags))
    addresses = {o.metadata.name: o.spec.cluster_ip for o in objects if o.kind == "Service"}
    assert addresses == {"kubernetes": str(flags[0][1]), "kube-dns": str(flags[0][10])}
