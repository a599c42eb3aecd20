"""A pod's resolv.conf: which servers, search domains and options it has. Rules KUBELET-51,
KUBELET-96 (spec/kubelet.md)."""

from hypothesis import given
from hypothesis import strategies as st
from kubelet_bench import make_pod
from test_kubelet_making import ready, sandbox

from refk8s.adapters.docker.machine import EMBEDDED, resolver_of
from refk8s.adapters.linux.resolv_conf import ResolvConf
from refk8s.core.api.core_v1 import PodDNSConfig, PodDNSConfigOption
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Facts
from refk8s.core.kubelet.resolver import compute_resolution
from refk8s.core.ports import NodeDescribed, Resolver

addresses = st.lists(st.sampled_from([f"192.0.2.{n}" for n in range(5)]), max_size=3)
searches = st.lists(
    st.sampled_from(["a.example", "b.example", "cluster.local", "."])
    | st.integers(1, 300).map(lambda length: "x" * length),
    max_size=32,
)
options = st.lists(
    st.tuples(st.sampled_from(["ndots", "timeout", "rotate"]), st.sampled_from([None, "", "1"])),
    max_size=3,
)
words = st.builds(
    Resolver,
    st.lists(st.sampled_from(["192.0.2.1", "127.0.0.53"]), max_size=4).map(tuple),
    searches.map(tuple),
    options.map(lambda found: tuple(f"{name}:{value}" if value else name for name, value in found)),
    st.just(("127.0.0.11",)),
)


@given(
    st.sampled_from([None, "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    st.booleans(),
    st.booleans(),
    words,
    addresses,
    searches,
    options,
)
def test_kubelet_51_and_96_resolv_conf_has_what_policy_and_node_and_pod_name_within_limits(
    policy, host, has_dns, node, own_servers, own_searches, own_options
):
    """Every entry is of the base that the policy chooses or of dnsConfig, in that order and once; a
    warning says whether one is missing."""
    own = PodDNSConfig(
        nameservers=tuple(own_servers),
        searches=tuple(own_searches),
        options=tuple(PodDNSConfigOption(name=name, value=value) for name, value in own_options),
    )
    described = NodeDescribed(
        "node", "10.0.0.9", 1000, 1 << 30, 1 << 30, 10, "amd64", "linux", "os", "kernel", "fake://1",
        resolver=node,
    )  # fmt: skip
    facts = Facts(KubeletConfig(cluster_dns=("10.96.0.10",) if has_dns else ()), described)
    pod = make_pod(dns_policy=policy, host_network=host, dns_config=own)
    found = compute_resolution(facts, pod)
    is_cluster = has_dns and (
        policy == "ClusterFirstWithHostNet" or (policy in (None, "ClusterFirst") and not host)
    )
    is_node = policy != "None" and not is_cluster
    servers = [
        *(["10.96.0.10"] if is_cluster else []),
        *((node.servers if host else node.pod_servers) if is_node else []),
        *own_servers,
    ]
    domains = [
        *(
            ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
            if is_cluster
            else []
        ),
        *(node.searches if is_cluster or is_node else []),
        *own_searches,
    ]
    servers, domains = list(dict.fromkeys(servers)), list(dict.fromkeys(domains))
    assert list(found.servers) == servers[:3]
    fitting = [each for each in domains[:32] if len(each) <= 253]
    assert list(found.searches) == fitting[: len(found.searches)]
    assert len(" ".join(found.searches)) <= 2048
    following = fitting[: len(found.searches) + 1]
    assert following == list(found.searches) or len(" ".join(following)) > 2048
    names = [each.partition(":")[0] for each in found.options]
    assert len(set(names)) == len(names)
    last = {name: f"{name}:{value}" if value else name for name, value in own_options}
    assert {last[name] for name in last} <= set(found.options)
    assert ("ndots:5" in found.options) == (is_cluster and "ndots" not in last)
    complete = (found.servers, found.searches) == (tuple(servers), tuple(domains))
    assert complete != bool(found.warnings)


def test_kubelet_96_what_is_left_out_is_told_in_an_event():
    own = PodDNSConfig(nameservers=("192.0.2.1", "192.0.2.2", "192.0.2.3"), searches=("x" * 254,))
    bench = ready(make_pod(dns_config=own), config=KubeletConfig(cluster_dns=("10.96.0.10",)))
    config = sandbox(bench)
    assert config.dns_servers == ("10.96.0.10", "192.0.2.1", "192.0.2.2")
    assert "x" * 254 not in config.dns_searches
    assert bench.reasons().count("DNSConfigForming") == 2


def test_kubelet_51_a_server_that_pods_cannot_reach_is_asked_by_the_engine():
    stub = ResolvConf(("127.0.0.53", "::1"), ("a.example",), ("rotate",))
    assert resolver_of(stub) == Resolver(stub.servers, stub.searches, stub.options, (EMBEDDED,))
    both = ResolvConf(("127.0.0.1", "192.0.2.1"))
    assert resolver_of(both).pod_servers == ("192.0.2.1",)
