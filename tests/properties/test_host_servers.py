"""The service default/kubernetes of several API servers. Rule HOST-20 (spec/host.md)."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from test_adm import Cluster

from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from refk8s.core.apiserver.admission.bootstrap import (
    bootstrap_objects,
    is_of_servers,
    kubernetes_corrections,
)
from refk8s.core.apiserver.live_servers import (
    ADDRESS,
    LABEL,
    LIVE_SECONDS,
    RENEW_SECONDS,
    Server,
    find_live,
    server_lease,
    server_of,
)
from refk8s.core.context import SECOND

KINDS = {kind.kind: kind for kind in (SERVICES, ENDPOINTS, ENDPOINT_SLICES)}
SERVERS = st.builds(
    Server,
    st.sampled_from(["192.0.2.7", "192.0.2.8", "10.0.0.9", "2001:db8::7"]),
    st.sampled_from([6443, 6444, 443]),
)


def lease_of(server: Server, renewed: int, identity: str = "a"):
    """Its Lease after so many renewals, as it is in a store."""
    lease = server_lease(server, "host", identity, renewed * SECOND)
    return replace(lease, metadata=replace(lease.metadata, resource_version=str(renewed)))


@given(st.lists(st.sets(SERVERS, min_size=1), min_size=1, max_size=4))
@example([{Server("192.0.2.7", 6443), Server("192.0.2.7", 6444)}, {Server("192.0.2.7", 6444)}])
@settings(max_examples=40, deadline=None)
def test_host_20_the_objects_contain_exactly_the_servers(steps):
    # Shows HOST-20.c HOST-20.h.
    world = Cluster()
    for obj in bootstrap_objects("127.0.0.1", 6443):
        assert world.create(obj, obj.metadata.namespace or "").code == 201

    def current():
        single = [
            world.history.get(kind.key("default", "kubernetes")) for kind in (SERVICES, ENDPOINTS)
        ]
        slices = world.history.list(f"{ENDPOINT_SLICES.prefix}default/kubernetes").records
        service, endpoints = [record and record.value for record in single]
        return service, endpoints, [record.value for record in slices]

    for servers in steps:
        for verb, obj in kubernetes_corrections(*current(), sorted(servers)):
            body = None if verb == "delete" else obj
            name = obj.metadata.name
            assert world.ask(verb, KINDS[obj.kind], "default", name, body).ok, (verb, name)
        service, endpoints, slices = current()
        told = [
            (address.ip, port.port)
            for subset in endpoints.subsets
            for address in subset.addresses
            for port in subset.ports
        ]
        assert sorted(told) == sorted(servers)
        told = [
            (endpoint.addresses[0], one.ports[0].port)
            for one in slices
            for endpoint in one.endpoints
        ]
        assert sorted(told) == sorted(servers)
        assert [one.metadata.name for one in slices if not is_of_servers(one)] == ["kubernetes"]
        assert kubernetes_corrections(*current(), sorted(servers)[::-1]) == [], "all agree"
        assert service.spec.ports[0].target_port in {server.port for server in servers}


@given(
    st.sets(SERVERS, min_size=1, max_size=4),
    st.lists(st.sets(SERVERS, max_size=4), min_size=1, max_size=12),
)
def test_host_20_a_server_lives_until_its_lease_has_not_been_renewed_for_a_time(first, rounds):
    # Shows HOST-20.b HOST-20.d.
    leases = {server: lease_of(server, 0) for server in first}
    seen, renewed = {}, dict.fromkeys(first, 0)
    for number, renewing in enumerate(rounds):
        for server in renewing:
            leases[server] = lease_of(server, number + 1)
            renewed[server] = number
        now = number * RENEW_SECONDS * SECOND + 7
        live, seen, ended = find_live(leases.values(), seen, now)
        expected = {
            server
            for server, at in renewed.items()
            if (number - at) * RENEW_SECONDS <= LIVE_SECONDS
        }
        assert set(live) == expected and list(live) == sorted(live)
        assert {server_of(lease) for lease in ended} == set(leases) - expected
        for lease in ended:
            del leases[server_of(lease)], renewed[server_of(lease)]


def test_host_20_a_lease_that_is_malformed_is_no_server():
    server = Server("192.0.2.7", 6443)
    lease = lease_of(server, 1)
    assert server_of(lease) == server
    metadata = lease.metadata
    for words in ("", "x", "192.0.2.7", "192.0.2.7 0", "192.0.2.7 65536", "127.0.0.1 6443",
                  "fe80::1 6443", "192.0.2.7 6444", "192.0.2.7 \u0663", "192.0.2.7 -1", "192.0.2.7 0006443"):  # fmt: skip
        changed = replace(metadata, annotations={ADDRESS: words})
        assert server_of(replace(lease, metadata=changed)) is None, words
    for labels in (None, {}, {LABEL: "x"}):
        assert server_of(replace(lease, metadata=replace(metadata, labels=labels))) is None
    assert server_of(replace(lease, metadata=replace(metadata, name="apiserver-x"))) is None


def test_host_20_at_most_a_hundred_servers_are_listed():
    # Shows HOST-20.i.
    leases = [lease_of(Server(f"192.0.2.{n}", 6443), 1) for n in range(1, 120)]
    assert len(find_live(leases, {}, 0)[0]) == 100
