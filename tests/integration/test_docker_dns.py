"""Pods resolve names by the name server of their node. Rules DNS-2 to DNS-6, DNS-8, DNS-13, DNS-14,
DNS-16, DNS-17, DNS-19, DNS-20 (spec/dns.md), KUBELET-51."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import Cluster, Host, container, make_pod, until

DNS = "10.96.0.10"
RESOLVER = "127.0.0.53"
ASK = """
import dns.message, dns.query, dns.rcode, json, sys
how, name, type, server, port = sys.argv[1:]
query = dns.message.make_query(name, type)
try:
    reply = getattr(dns.query, how)(query, server, port=int(port), timeout=2)
except Exception:
    print(json.dumps(["no answer", []]))
else:
    print(json.dumps([dns.rcode.to_text(reply.rcode()), sorted(str(data) for each in reply.answer for data in each)]))
"""

RESOLVE = """
import dns.resolver, json, sys
found = dns.resolver.Resolver(filename=sys.argv[1]).resolve(sys.argv[2], "A", search=True)
print(json.dumps(sorted(str(data) for data in found)))
"""


class World:
    """A cluster with pods, and the resolver of its host."""

    def __init__(self, host: Host, work: Path) -> None:
        self.host = host
        self.log = work / "resolver.log"
        (work / "resolv.conf").write_text(
            f"nameserver {RESOLVER}\nsearch corp.example\noptions timeout:1\n"
        )
        with open(self.log, "wb") as log:
            self.resolver = subprocess.Popen(
                [*host.inside, sys.executable, Path(__file__).with_name("fake_resolver.py"), RESOLVER],
                stdout=log,
            )  # fmt: skip
        self.cluster = Cluster(host, work / "data", "--resolv-conf", str(work / "resolv.conf"))

    def close(self) -> None:
        self.cluster.stop()
        self.resolver.terminate()
        self.resolver.wait()

    def asked(self, name: str) -> int:
        """How often the resolver was asked for a name."""
        return self.log.read_text().count(f" {name}. ")

    def in_pod(self, pod: str, *command: str) -> str:
        """What a program of busybox says in a pod."""
        id = self.cluster.ids(pod, "main")[0]
        done = subprocess.run(
            ["docker", "-H", self.host.address, "exec", id, *command],
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    def ask(self, pod: str, name: str, type: str = "A", how: str = "udp", server: str = DNS, port: int = 53) -> tuple[str, list[str]]:  # fmt: skip
        """(code, data) of an answer, in the network of a pod."""
        return self.ask_in(["nsenter", f"--net=/proc/{self.process(pod)}/ns/net"], name, type, how, server, port)  # fmt: skip

    def ask_in(self, inside: list[str], name: str, type: str = "A", how: str = "udp", server: str = DNS, port: int = 53) -> tuple[str, list[str]]:  # fmt: skip
        command = [*inside, sys.executable, "-c", ASK, how, name, type, server, str(port)]
        code, data = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return code, data

    def resolve(self, pod: str, name: str) -> list[str]:
        """The addresses that a resolver with the pod's own resolv.conf finds."""
        conf = self.log.with_name(f"{pod}.conf")
        conf.write_text(self.in_pod(pod, "cat", "/etc/resolv.conf"))
        inside = ["nsenter", f"--net=/proc/{self.process(pod)}/ns/net"]
        done = subprocess.run(
            [*inside, sys.executable, "-c", RESOLVE, conf, name], capture_output=True, check=True
        )
        return list(json.loads(done.stdout))

    def process(self, pod: str) -> str:
        id = self.cluster.ids(pod, "main")[0]
        return self.host.docker("inspect", "-f", "{{.State.Pid}}", id)

    def address(self, pod: str) -> str:
        return str(self.cluster.pod(pod)["status"]["podIP"])

    def await_running(self, *pods: str) -> None:
        for pod in pods:
            until(
                lambda pod=pod: self.cluster.pod(pod)["status"].get("phase") == "Running",
                30,
                f"{pod} does not run",
            )


def make_service(name: str, app: str = "", **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app or name}, "ports": ports, **spec},
    }


@pytest.fixture(scope="module")
def world(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(docker_host, tmp_path_factory.mktemp("dns"))
    try:
        world.cluster.start()
        world.cluster.apply(
            make_service("web"),
            make_service("db", clusterIP="None"),
            make_service("out", type="ExternalName", externalName="outside.example"),
            make_pod("web", container("main")),
            make_pod("db", container("main"), hostname="db-0", subdomain="db"),
            make_pod("client", container("main")),
            make_pod("host", container("main"), hostNetwork=True, dnsPolicy="ClusterFirstWithHostNet"),
            make_pod("default", container("main"), dnsPolicy="Default"),
        )  # fmt: skip
        world.await_running("web", "db", "client", "host", "default")
        until(lambda: world.ask("client", "web.default.svc.cluster.local")[1], 20, "no answer")
        yield world
    finally:
        world.close()


def test_dns_19_a_pod_resolves_a_service_by_its_short_name(world: World) -> None:
    address = world.cluster.get("service", "web")["spec"]["clusterIP"]
    for name in ("web", "web.default.svc.cluster.local"):
        assert f"Address: {address}" in world.in_pod("client", "busybox", "nslookup", name)
    for name in ("web", "web.default", "web.default.svc", "web.default.svc.cluster.local"):
        assert world.resolve("client", name) == [address]
    assert world.ask("client", "kubernetes.default.svc.cluster.local") == ("NOERROR", ["10.96.0.1"])


def test_dns_3_dns_4_a_pod_of_a_headless_service_has_a_name(world: World) -> None:
    until(lambda: world.ask("client", "db.default.svc.cluster.local")[1], 10, "no endpoint")
    of_pod = world.address("db")
    assert world.resolve("client", "db-0.db") == [of_pod]
    assert world.ask("client", "db.default.svc.cluster.local") == ("NOERROR", [of_pod])
    srv = world.ask("client", "_http._tcp.db.default.svc.cluster.local", "SRV")
    assert srv == ("NOERROR", ["0 100 8080 db-0.db.default.svc.cluster.local."])


def test_dns_6_addresses_of_services_and_pods_have_names(world: World) -> None:
    address = world.cluster.get("service", "web")["spec"]["clusterIP"]
    assert "name = web.default.svc.cluster.local" in world.in_pod("client", "busybox", "nslookup", address)  # fmt: skip
    until(lambda: world.ask("client", "db.default.svc.cluster.local")[1], 10, "no endpoint")
    found = world.in_pod("client", "busybox", "nslookup", world.address("db"))
    assert "name = db-0.db.default.svc.cluster.local" in found


def test_dns_8_a_name_that_does_not_exist_is_nxdomain(world: World) -> None:
    assert "NXDOMAIN" in world.in_pod("client", "busybox", "nslookup", "nothing")
    for how in ("udp", "tcp"):
        assert world.ask("client", "wob.default.svc.cluster.local", how=how) == ("NXDOMAIN", [])
        assert world.ask("client", "web.default.svc.cluster.local", "AAAA", how) == ("NOERROR", [])


def test_dns_13_answers_over_tcp(world: World) -> None:
    address = world.cluster.get("service", "web")["spec"]["clusterIP"]
    found = world.ask("client", "web.default.svc.cluster.local", how="tcp")
    assert found == ("NOERROR", [address])


def test_dns_16_dns_17_names_outside_are_resolved_by_the_resolver_of_the_host(world: World) -> None:
    assert "Address: 192.0.2.77" in world.in_pod("client", "busybox", "nslookup", "outside.example")
    for _ in range(3):
        assert world.ask("client", "outside.example") == ("NOERROR", ["192.0.2.77"])
    assert world.log.read_text().count("udp outside.example. A\n") == 1
    assert world.ask("client", "nothing.example") == ("NXDOMAIN", [])
    code, texts = world.ask("client", "big.example", "TXT", "tcp")
    assert (code, len(texts)) == ("NOERROR", 10)
    assert "tcp big.example. TXT" in world.log.read_text()


def test_dns_7_an_external_name_leads_outside(world: World) -> None:
    found = world.ask("client", "out.default.svc.cluster.local")
    assert found == ("NOERROR", ["192.0.2.77", "outside.example."])


def test_kubelet_51_the_files_have_what_the_policies_say(world: World) -> None:
    cluster_first = [
        f"nameserver {DNS}",
        "search default.svc.cluster.local svc.cluster.local cluster.local corp.example",
        "options ndots:5",
    ]
    for pod in ("client", "host"):
        assert world.in_pod(pod, "cat", "/etc/resolv.conf").splitlines() == cluster_first
    # the host's resolver is at a loopback address, which only the engine's resolver reaches
    assert world.in_pod("default", "cat", "/etc/resolv.conf").splitlines() == [
        "nameserver 127.0.0.11", "search corp.example", "options timeout:1",
    ]  # fmt: skip


def test_dns_19_a_pod_on_the_network_of_the_host_resolves_names(world: World) -> None:
    address = world.cluster.get("service", "web")["spec"]["clusterIP"]
    assert f"Address: {address}" in world.in_pod("host", "busybox", "nslookup", "web")


def test_dns_11_answers_follow_services_and_pods_within_a_second(world: World) -> None:
    cluster = world.cluster
    cluster.apply(make_service("late", "client", clusterIP="None"))
    begin = time.monotonic()
    until(lambda: world.ask("client", "late.default.svc.cluster.local")[1], 1, "no answer", 0.02)
    followed = time.monotonic() - begin
    cluster.kubectl("delete", "service", "late")
    until(lambda: world.ask("client", "late.default.svc.cluster.local")[0] == "NXDOMAIN", 1, "it is still there", 0.02)  # fmt: skip
    print(f"an answer follows a service and its endpoints in {followed:.2f} s")


def test_dns_20_a_pod_reads_the_metrics(world: World) -> None:
    found = world.in_pod("client", "wget", "-q", "-O-", f"http://{DNS}:9153/metrics")
    assert 'coredns_dns_requests_total{zone="cluster.local.",proto="udp",type="A"}' in found


def test_dns_14_other_hosts_get_no_answer(world: World) -> None:
    slices = world.cluster.get("endpointslices", "-n", "kube-system")["items"]
    (slice,) = [each for each in slices if each["metadata"]["name"].startswith("kube-dns-")]
    (address,), port = slice["endpoints"][0]["addresses"], slice["ports"][0]["port"]
    name = "web.default.svc.cluster.local"
    assert world.ask("client", name, server=address, port=port)[0] == "NOERROR"
    neighbour = ["nsenter", f"--net=/var/run/netns/{world.host.neighbour}"]
    subprocess.run(
        ["ip", "-n", world.host.neighbour, "route", "replace", f"{address}/32", "dev", "wire0"],
        check=True,
    )
    for how in ("udp", "tcp"):
        assert world.ask_in(neighbour, name, how=how, server=address, port=port)[0] == "no answer"


def test_dns_19_after_a_restart_pods_resolve_names_again(world: World) -> None:
    world.cluster.kill()
    world.cluster.start()
    begin = time.monotonic()
    until(lambda: world.ask("client", "web.default.svc.cluster.local")[0] == "NOERROR", 10, "no answer")  # fmt: skip
    print(f"names are resolved {time.monotonic() - begin:.2f} s after the restart is ready")
    until(lambda: world.ask("client", "db-0.db.default.svc.cluster.local")[1], 10, "no endpoint")
