"""The cluster's DNS: records of any services and slices, and the answers to questions. Rules DNS-1
... DNS-11 (spec/dns.md)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from net_loop import InLoop

from refk8s.core.api.core_v1 import Namespace, Service, ServicePort, ServiceSpec
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.context import SECOND
from refk8s.core.loop.view import key_of
from refk8s.core.network.dns import CNAMES_MAX, Answer, answer, labels_of
from refk8s.core.network.dns_machine import dns
from refk8s.core.network.dns_records import NO_NAMES, change_records, compute_names
from refk8s.core.ports import Records
from refk8s.core.properties.predicates.dns import dns_1_answers_follow_from_the_objects
from refk8s.core.value import evolve

DOMAIN = "cluster.local"
NAMESPACES = ("default", "shop")

# --- services and slices --------------------------------------------------------------------------

rarely = st.integers(0, 9).map(lambda number: number == 9)
ready = st.sampled_from(
    [None, EndpointConditions(), EndpointConditions(ready=True), EndpointConditions(ready=False)]
)
addresses = st.sampled_from(
    ["10.244.0.2", "10.244.0.3", "10.244.1.2", "10.96.0.1", "fd00::2", "fd00::1:3", "::1"]
)
endpoints = st.builds(
    lambda some, host, state: Endpoint(addresses=tuple(some), hostname=host, conditions=state),
    st.lists(addresses, min_size=1, max_size=2, unique=True),
    st.sampled_from([None, None, "db-0", "db-1", "10-244-0-2"]),
    ready,
)
protocols = st.sampled_from(["TCP", "UDP", None])
port_names = st.sampled_from([None, "", "http", "dns"])
numbers = st.sampled_from([53, 80, 8080])
external_names = st.sampled_from(
    [
        "example.com",
        "Example.COM.",
        "a.default.svc.cluster.local",
        "b.default.svc.cluster.local.",
        "a.shop.svc.cluster.local",
        "nothing.shop.svc.cluster.local",
        "10-244-0-9.shop.pod.cluster.local",
        "2.0.244.10.in-addr.arpa",
        "9.9.9.9",
        "9.9.9.999",
        "cluster.local",
    ]
)


@st.composite
def services(draw):
    found = []
    for name in draw(st.lists(st.sampled_from(["a", "b", "kube-dns"]), max_size=3, unique=True)):
        namespace = "kube-system" if name == "kube-dns" else draw(st.sampled_from(NAMESPACES))
        ports = tuple(
            ServicePort(name=of[0], protocol=of[1], port=of[2])
            for of in draw(
                st.lists(st.tuples(port_names, protocols, numbers), max_size=3, unique=True)
            )
        )
        if draw(st.integers(0, 3)) == 0:
            spec = ServiceSpec(type="ExternalName", external_name=draw(external_names), ports=ports)
        else:
            one = f"10.96.0.{len(found) + 1}"
            ips = draw(
                st.sampled_from(
                    [("None",), ("None",), (one,), (one, f"fd00::{len(found)}"), (), None]
                )
            )
            spec = ServiceSpec(
                cluster_ip=ips[0] if ips else None if ips == () else one,
                cluster_ips=ips,
                ports=ports,
            )
        found.append(Service(metadata=ObjectMeta(name=name, namespace=namespace), spec=spec))
    return found


@st.composite
def worlds(draw):
    """Services with their slices and the namespaces: mostly those of the services."""
    of = draw(services())
    slices = []
    for service in [each for each in of for _ in range(draw(st.integers(0, 2)))]:
        labels = {"kubernetes.io/service-name": service.metadata.name}
        slices.append(
            EndpointSlice(
                metadata=ObjectMeta(
                    name=f"slice-{len(slices)}",
                    namespace=service.metadata.namespace,
                    labels=None if draw(rarely) else labels,
                ),
                address_type=draw(st.sampled_from(["IPv4", "IPv4", "IPv6", "FQDN"])),
                endpoints=tuple(draw(st.lists(endpoints, max_size=3))),
                ports=tuple(
                    EndpointPort(name=name, protocol=protocol, port=number)
                    for name, protocol, number in draw(
                        st.lists(st.tuples(port_names, protocols, numbers | st.none()), max_size=2)
                    )
                ),
            )
        )
    return of, slices, draw(st.sampled_from([NAMESPACES, (*NAMESPACES, "kube-system"), ("shop",)]))


def slices_of(service, slices):
    return [
        slice
        for slice in slices
        if slice.metadata.namespace == service.metadata.namespace
        and (slice.metadata.labels or {}).get("kubernetes.io/service-name") == service.metadata.name
    ]


def records_of(services, slices, namespaces) -> Records:
    records = Records()
    for service in services:
        names = compute_names(service, slices_of(service, slices), DOMAIN)
        records = change_records(records, key_of(service), names)
    for name in namespaces:
        records = evolve(records, namespaces=records.namespaces.set(name, None))
    return records


def ask(records: Records, name: str, type: str = "A") -> Answer | None:
    return answer(records, labels_of(name), type, labels_of(DOMAIN))


words = st.sampled_from(
    ["a", "b", "default", "shop", "svc", "pod", "cluster", "local", "_http", "_tcp", "in-addr", "arpa", "ip6", "10-244-0-2", "1-2", "db-0",
     "dns", "ns", "dns-version", "kube-dns", "kube-system", "2", "0", "fd00--1", "--1", "10", "com", "*"]
)  # fmt: skip
names = st.lists(words, max_size=7).map(".".join) | st.lists(words, max_size=5).map(
    lambda found: ".".join([*found, DOMAIN])
)
types = st.sampled_from(["A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "SOA", "NS", "MX", "ANY"])

# --- the law, for any services and slices ---------------------------------------------------------


@settings(max_examples=2 * settings.default.max_examples)
@given(worlds(), st.lists(st.tuples(names, types), max_size=20))
def test_dns_1_every_question_is_answered_as_a_zone_file_with_all_records_has_it(world, questions):
    """With DNS-2 to DNS-10: names and types of the zone, and any other questions."""
    more = [(f"{name}.", type) for name, type in questions]
    assert (
        list(dns_1_answers_follow_from_the_objects(records_of(*world), *world, DOMAIN, more)) == []
    )


@given(worlds(), st.randoms())
def test_dns_1_records_do_not_depend_on_the_order_of_objects_or_changes(world, chance):
    services, slices, namespaces = world
    shuffled = [
        replace(slice, endpoints=tuple(chance.sample(slice.endpoints, len(slice.endpoints))))
        for slice in chance.sample(slices, len(slices))
    ]
    one, other = (
        records_of(services, slices, namespaces),
        records_of(chance.sample(services, len(services)), shuffled, namespaces),
    )
    assert one.services == other.services and one.pointers == other.pointers


# --- examples -------------------------------------------------------------------------------------


def service(name="web", *, ips=("10.96.3.7",), ports=(("http", 80),), **spec):
    return Service(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(
            cluster_ip=ips[0] if ips else None,
            cluster_ips=ips,
            ports=tuple(ServicePort(name=name, port=port) for name, port in ports),
            **spec,
        ),
    )


def slice_of(name, *endpoints, ports=(("http", 8080),), family="IPv4"):
    """Endpoints are (address, ready, host name)."""
    return EndpointSlice(
        metadata=ObjectMeta(
            name=f"{name}-1", namespace="default", labels={"kubernetes.io/service-name": name}
        ),
        address_type=family,
        endpoints=tuple(
            Endpoint(
                addresses=(address,), hostname=host, conditions=EndpointConditions(ready=is_ready)
            )
            for address, is_ready, host in endpoints
        ),
        ports=tuple(EndpointPort(name=name, port=port) for name, port in ports),
    )


def known(*services, slices=()):
    return records_of(services, list(slices), ("default",))


def data(found: Answer | None) -> tuple[str, ...]:
    assert found is not None and found.code == "NOERROR" and len(found.answers) == 1
    return found.answers[0].data


def is_nothing(found: Answer | None, code: str) -> bool:
    """Whether it is a negative answer of this code, with the SOA of the domain."""
    assert found is not None
    (soa,) = found.authority
    return (found.code, found.answers, soa.type, soa.name) == (code, (), "SOA", f"{DOMAIN}.")


WEB = "web.default.svc.cluster.local"
DB = "db.default.svc.cluster.local"
HEADLESS = service("db", ips=("None",), ports=(("sql", 5432),))
PODS = slice_of(
    "db",
    ("10.244.0.7", True, "db-0"),
    ("10.244.0.8", True, None),
    ("10.244.0.9", False, "db-2"),
    ports=(("sql", 3306),),
)


def test_dns_2_a_service_has_its_cluster_ips_whatever_its_endpoints():
    records = known(service(ips=("10.96.3.7", "fd00::7")))
    assert data(ask(records, WEB)) == ("10.96.3.7",)
    assert data(ask(records, WEB.upper() + ".", "AAAA")) == ("fd00::7",)
    assert ask(records, WEB).answers[0].ttl == 30


def test_dns_3_a_headless_service_has_its_ready_endpoints_or_does_not_exist():
    records = known(HEADLESS, slices=[PODS])
    assert data(ask(records, DB)) == ("10.244.0.7", "10.244.0.8")
    none = known(HEADLESS, slices=[slice_of("db", ("10.244.0.9", False, None))])
    assert is_nothing(ask(none, DB), "NXDOMAIN")


def test_dns_4_endpoints_have_names_by_host_name_or_address():
    behind = slice_of("web", ("10.244.0.7", True, None))
    six = slice_of("web", ("fd00::1:7", True, None), family="IPv6")
    records = known(HEADLESS, service(), slices=[PODS, behind, six])
    assert data(ask(records, f"db-0.{DB}")) == ("10.244.0.7",)
    assert data(ask(records, f"10-244-0-8.{DB}")) == ("10.244.0.8",)
    assert data(ask(records, f"10-244-0-7.{WEB}")) == ("10.244.0.7",)
    assert data(ask(records, f"fd00--1-7.{WEB}", "AAAA")) == ("fd00::1:7",)
    for name in (f"db-2.{DB}", f"10-244-0-7.{DB}", f"x.db-0.{DB}"):
        assert is_nothing(ask(records, name), "NXDOMAIN")


def test_dns_5_named_ports_have_srv_records_with_the_addresses_of_their_targets():
    records = known(service(ports=(("http", 80), (None, 443))), HEADLESS, slices=[PODS])
    assert data(ask(records, f"_http._tcp.{WEB}", "SRV")) == (f"0 100 80 {WEB}.",)
    both = (f"0 50 443 {WEB}.", f"0 50 80 {WEB}.")
    assert data(ask(records, WEB, "SRV")) == both
    found = ask(records, f"_sql._tcp.{DB}", "SRV")
    assert data(found) == (f"0 50 3306 10-244-0-8.{DB}.", f"0 50 3306 db-0.{DB}.")
    also = [(each.name, each.type, each.data) for each in found.additional]
    assert also == [
        (f"10-244-0-8.{DB}.", "A", ("10.244.0.8",)),
        (f"db-0.{DB}.", "A", ("10.244.0.7",)),
    ]
    assert is_nothing(ask(records, f"_http._udp.{WEB}", "SRV"), "NXDOMAIN")


def test_dns_5_weights_are_never_zero():
    many = slice_of("db", *[(f"10.244.1.{n}", True, None) for n in range(200)])
    weights = {
        each.split()[1]
        for each in data(ask(known(HEADLESS, slices=[many]), f"_http._tcp.{DB}", "SRV"))
    }
    assert weights == {"1"}


def test_dns_6_addresses_have_the_names_of_their_services():
    also = slice_of("web", ("10.244.0.7", True, None))
    records = known(service(ips=("10.96.3.7", "fd00::7")), HEADLESS, slices=[PODS, also])
    assert data(ask(records, "7.3.96.10.in-addr.arpa", "PTR")) == (f"{WEB}.",)
    six = "7.0.0.0" + ".0" * 24 + ".0.0.d.f.ip6.arpa"
    assert data(ask(records, six, "PTR")) == (f"{WEB}.",)
    names = (f"10-244-0-7.{WEB}.", f"db-0.{DB}.")
    assert data(ask(records, "7.0.244.10.in-addr.arpa", "PTR")) == names
    all_digits = known(service(ips=("fedc:ba98:7654:3210::7",)))
    six = "7" + ".0" * 15 + ".0.1.2.3.4.5.6.7.8.9.a.b.c.d.e.f.ip6.arpa"
    assert data(ask(all_digits, six, "PTR")) == (f"{WEB}.",)
    short = known(service(ips=("::7", "10.96.3.7")))
    for name in ("7.ip6.arpa", "7.3.96.10.ip6.arpa", ("07" + ".0" * 30 + ".ip6.arpa")):
        assert ask(short, name, "PTR") is None
    for other in ("9.0.244.10", "1.7.0.244.10", "0.244.10", "x.0.244.10", "07.0.244.10"):
        assert ask(records, f"{other}.in-addr.arpa", "PTR") is None


def external(name: str, target: str) -> Service:
    return service(name, ips=(), ports=(), type="ExternalName", external_name=target)


def test_dns_7_an_external_name_is_a_cname_that_is_followed_in_the_domain():
    records = known(
        external("out", "Example.com"), external("in", WEB), external("gone", f"x.{DOMAIN}"), external("number", "192.0.2.1"), service()
    )  # fmt: skip
    at = "default.svc.cluster.local"
    out = ask(records, f"out.{at}")
    assert (out.answers[-1].data, out.elsewhere) == (("example.com.",), "example.com.")
    assert data(ask(records, f"out.{at}", "CNAME")) == ("example.com.",)
    assert [each.type for each in ask(records, f"in.{at}").answers] == ["CNAME", "A"]
    assert not known(external("none", "")).services
    gone = ask(records, f"gone.{at}")
    assert (gone.code, len(gone.answers), len(gone.authority)) == ("NXDOMAIN", 1, 1)
    assert is_nothing(ask(records, f"number.{at}"), "NXDOMAIN")
    assert is_nothing(ask(records, f"x.out.{at}", "CNAME"), "NXDOMAIN")


@given(st.lists(st.integers(0, 11), min_size=12, max_size=12))
def test_dns_7_chains_end_and_are_short(targets):
    """Twelve external names, each of which leads to one of them."""
    at = "default.svc.cluster.local"
    records = known(*[external(f"e{i}", f"e{to}.{at}") for i, to in enumerate(targets)])
    found = ask(records, f"e0.{at}")
    assert found.code == "NOERROR" and not found.elsewhere and found.authority
    chain = [each.name for each in found.answers]
    assert 1 <= len(chain) <= CNAMES_MAX and len(set(chain)) == len(chain)
    assert len(chain) == CNAMES_MAX or found.answers[-1].data[0] in chain


def test_dns_8_a_missing_type_is_an_empty_answer_and_a_missing_name_is_nxdomain():
    records = known(service())
    for name, type in (
        (WEB, "AAAA"), (f"_tcp.{WEB}", "A"), (f"_http._tcp.{WEB}", "A"), ("default.svc." + DOMAIN, "A"), ("svc." + DOMAIN, "NS"),
        ("pod." + DOMAIN, "A"), ("default.pod." + DOMAIN, "A"), (DOMAIN, "A"), (WEB, "ANY"),
    ):  # fmt: skip
        assert is_nothing(ask(records, name, type), "NOERROR"), (name, type)
    for name in ("wob.default.svc", f"x.{WEB}"[: -len(DOMAIN) - 1], "web.shop.svc", "shop.svc", "web", "x.default.foo"):  # fmt: skip
        assert is_nothing(ask(records, f"{name}.{DOMAIN}"), "NXDOMAIN"), name
    for name in ("example.com", "local", "xcluster.local", ""):
        assert ask(records, name) is None


def test_dns_9_a_pod_has_its_address_as_name_if_its_namespace_exists():
    records = known()
    assert data(ask(records, "10-244-0-7.default.pod.cluster.local")) == ("10.244.0.7",)
    assert data(ask(records, "fd00--7.default.pod.cluster.local", "AAAA")) == ("fd00::7",)
    assert data(ask(records, "fd00-0-0-0-0-0-0-7.default.pod.cluster.local", "AAAA")) == (
        "fd00::7",
    )
    assert data(ask(records, "1--2-3.default.pod.cluster.local", "AAAA")) == ("1::2:3",)
    for name in ("10-244-0-7.shop", "10-244-0.default", "10-244-0-256.default", "blah.default", "x.10-244-0-7.default"):  # fmt: skip
        assert is_nothing(ask(records, f"{name}.pod.cluster.local"), "NXDOMAIN"), name
    assert is_nothing(ask(records, "10-244-0-7.default.pod.cluster.local", "AAAA"), "NOERROR")


def test_dns_10_the_domain_has_a_version_and_a_name_server():
    dns = Service(
        metadata=ObjectMeta(name="kube-dns", namespace="kube-system"),
        spec=ServiceSpec(cluster_ip="10.96.0.10", cluster_ips=("10.96.0.10", "fd00::10")),
    )
    without = records_of([], [], ())
    records = records_of([dns], [], ("kube-system",))
    (version,) = ask(without, f"dns-version.{DOMAIN}", "TXT").answers
    assert (version.data, version.ttl) == (('"1.1.0"',), 28_800)
    assert data(ask(records, DOMAIN, "NS")) == ("ns.dns.cluster.local.",)
    assert data(ask(records, "ns.dns.cluster.local")) == ("10.96.0.10",)
    assert data(ask(records, "ns.dns.cluster.local", "AAAA")) == ("fd00::10",)
    assert is_nothing(ask(records, "ns.dns.cluster.local", "SRV"), "NOERROR")
    assert is_nothing(ask(without, DOMAIN, "NS"), "NOERROR")
    assert data(ask(without, DOMAIN, "SOA"))[0].startswith("ns.dns.cluster.local. hostmaster.")


# --- the machine ----------------------------------------------------------------------------------


def namespaces_of(names):
    return [Namespace(metadata=ObjectMeta(name=name)) for name in names]


def same(one: Records, other: Records) -> bool:
    return (dict(one.services), dict(one.namespaces), dict(one.pointers)) == (
        dict(other.services), dict(other.namespaces), dict(other.pointers),
    )  # fmt: skip


@given(st.lists(worlds(), min_size=1, max_size=4))
def test_dns_11_the_first_records_are_complete_and_later_ones_are_as_if_computed_at_once(history):
    loop = InLoop(dns())
    for number, (services, slices, names) in enumerate(history):
        (loop.change_to if number else loop.start)(services, slices, namespaces_of(names))
        assert number or len(loop.programmed) == 1
        left = {
            key: names for key, names in loop.programmed[-1].services.items() if names != NO_NAMES
        }
        assert left == dict(loop.programmed[-1].services)
        assert same(loop.programmed[-1], records_of(services, slices, names))
        assert loop.idle


@given(worlds())
def test_dns_11_records_that_failed_are_given_again_and_equal_ones_are_not(world):
    services, slices, names = world
    loop = InLoop(dns(), errors=["no such file", ""])
    loop.start(services, slices, namespaces_of(names))
    loop.settle(20 * SECOND)
    assert len(loop.programmed) == 2 and loop.programmed[0] is loop.programmed[1]
    labelled = [
        replace(each, metadata=replace(each.metadata, annotations={"a": "b"}))
        for each in (*services, *namespaces_of(names))
    ]
    loop.change_to(labelled[: len(services)], slices, labelled[len(services) :])
    assert len(loop.programmed) == 2


def test_dns_11_an_exception_about_one_service_leaves_the_records_of_the_others():
    loop = InLoop(dns())
    wrong = service("wrong")
    wrong = replace(wrong, spec=replace(wrong.spec, ports=(None,)))
    with pytest.raises(AttributeError):
        loop.start([service(), wrong, service("x")], [], [])
    assert sorted(loop.programmed[-1].services) == ["default/web", "default/x"]


def test_dns_11_a_namespace_is_known_when_it_is_created_and_until_it_is_removed():
    loop = InLoop(dns())
    loop.start([service()], [], [])
    for names, code in ((["default"], "NOERROR"), (["default", "shop"], "NOERROR"), (["shop"], "NXDOMAIN")):  # fmt: skip
        loop.change_to([service()], [], namespaces_of(names))
        assert ask(loop.programmed[-1], WEB).code == code
        assert set(loop.programmed[-1].namespaces) == set(names)


def test_dns_11_the_machine_has_the_name_and_the_user_of_the_cluster_dns():
    loop = dns("dns/n1")
    assert (dns().name, loop.name, loop.component) == ("dns", "dns/n1", "coredns")
    users = {user.name for user in (loop.user, *loop.users.values())}
    assert users == {"system:serviceaccount:kube-system:coredns"}
