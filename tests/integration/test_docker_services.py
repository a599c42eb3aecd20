"""Services, host ports and the proxy of the API server, with servers in containers: what changes of
a Service do to its clients. Rules NET-4, NET-5 (spec/network.md), STREAM-11, STREAM-16
(spec/streams.md).

The containers run this machine's Python in a root of its own, as in test_docker_webhooks.py.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import NODE_IP, Cluster, Host, container, make_pod, until

PORT = 9376
PYTHON = ["/bin/busybox", "chroot", "/host", os.path.realpath(sys.executable)]
FETCH = """
import sys, urllib.request
for _ in range(int(sys.argv[2])):
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=2).read().decode())
    except OSError:
        print("-")
"""
DATAGRAM = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
    asked.settimeout(2)
    asked.sendto(b"name", (sys.argv[1], int(sys.argv[2])))
    try:
        print(asked.recv(1024).decode())
    except OSError:
        print("-")
"""


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    running = Cluster(docker_host, tmp_path_factory.mktemp("services") / "data")
    running.start()
    until(lambda: running.kubectl("get", "nodes", "-o", "name"), 10, "no node")
    running.apply(a_server("client", {"app": "client"}))
    is_ready(running, "client")
    yield running
    running.stop()
    assert "Traceback" not in running.words(), running.words()


def a_server(name: str, labels: dict[str, str], *ports: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).with_name("echo_server.py")
    server = container(
        "server",
        command=[*PYTHON, str(script), str(PORT)],
        volumeMounts=[{"name": "host", "mountPath": "/host", "readOnly": True}],
        readinessProbe={"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        ports=list(ports),
    )
    pod = make_pod(name, server, volumes=[{"name": "host", "hostPath": {"path": "/"}}])
    pod["metadata"]["labels"] = labels
    return pod


def is_ready(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.kubectl("wait", "--for=condition=Ready", "--timeout=90s", f"pod/{name}")


def a_service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": PORT}]
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": ports, **spec},
    }  # fmt: skip


def in_client(cluster: Cluster, script: str, *arguments: str) -> list[str]:
    """The lines that a script prints in the pod of the client."""
    said = cluster.kubectl("exec", "client", "--", *PYTHON, "-c", script, *arguments)
    return said.splitlines()


def who_answers(cluster: Cluster, url: str, times: int = 12) -> set[str]:
    return set(in_client(cluster, FETCH, url, str(times)))


def test_net_5_clients_stay_with_a_pod_as_long_as_the_service_says_so(cluster: Cluster) -> None:
    pods = [f"sticky-{number}" for number in range(3)]
    servers = [a_server(name, {"app": "sticky"}) for name in pods]
    cluster.apply(*servers, a_service("sticky", type="NodePort", sessionAffinity="ClientIP"))
    is_ready(cluster, *pods)
    spec = cluster.get("service", "sticky")["spec"]
    urls = (f"http://{spec['clusterIP']}/", f"http://{NODE_IP}:{spec['ports'][0]['nodePort']}/")

    def is_one(url: str) -> bool:
        found = who_answers(cluster, url)
        return len(found) == 1 and found <= set(pods)

    for url in urls:
        until(lambda: is_one(url), 20, "several pods answer")  # noqa: B023
    cluster.kubectl("patch", "service", "sticky", "-p", '{"spec":{"sessionAffinity":"None"}}')
    for url in urls:
        until(lambda: len(who_answers(cluster, url) & set(pods)) > 1, 20, "one pod answers")  # noqa: B023
    cluster.kubectl("patch", "service", "sticky", "-p", '{"spec":{"sessionAffinity":"ClientIP"}}')
    for url in urls:
        until(lambda: is_one(url), 20, "several pods answer")  # noqa: B023


def test_net_4_a_port_number_has_a_protocol(cluster: Cluster) -> None:
    both = [
        {"name": protocol.lower(), "port": 80, "targetPort": PORT, "protocol": protocol}
        for protocol in ("TCP", "UDP")
    ]
    cluster.apply(a_server("both", {"app": "both"}), a_service("both", ports=both))
    is_ready(cluster, "both")
    address = cluster.get("service", "both")["spec"]["clusterIP"]

    def protocols() -> set[str]:
        found = {"TCP"} if who_answers(cluster, f"http://{address}/", 1) == {"both"} else set()
        return found | ({"UDP"} if in_client(cluster, DATAGRAM, address, "80") == ["both"] else set())  # fmt: skip

    until(lambda: protocols() == {"TCP", "UDP"}, 20, "not both protocols")
    for left in both:
        patch = [{"op": "replace", "path": "/spec/ports", "value": [left]}]
        cluster.kubectl("patch", "service", "both", "--type=json", "-p", json.dumps(patch))
        until(lambda: protocols() == {left["protocol"]}, 20, "another protocol")  # noqa: B023


def test_pods_share_a_host_port_at_different_addresses_and_protocols(
    cluster: Cluster, docker_host: Host
) -> None:
    places = {"local": ("127.0.0.1", "TCP"), "stream": (NODE_IP, "TCP"), "datagram": (NODE_IP, "UDP")}  # fmt: skip
    for name, (address, protocol) in places.items():
        port = {"hostPort": 54323, "containerPort": PORT, "hostIP": address, "protocol": protocol}
        cluster.apply(a_server(name, {"app": name}, port))
    is_ready(cluster, *places)
    for _ in range(2):
        assert docker_host.curl("http://127.0.0.1:54323/") == "local"
        said = docker_host.sh("curl", "-s", "--interface", NODE_IP, "http://127.0.0.1:54323/")
        assert said == "local"
        assert docker_host.curl(f"http://{NODE_IP}:54323/") == "stream"
        asked = docker_host.sh(sys.executable, "-c", DATAGRAM, NODE_IP, "54323")
        assert asked.strip() == "datagram"


def test_stream_11_stream_16_the_api_server_leads_to_pods_and_services(cluster: Cluster) -> None:
    cluster.apply(
        a_server("proxied", {"app": "proxied"}, {"containerPort": PORT}), a_service("proxied")
    )
    is_ready(cluster, "proxied")
    base = "/api/v1/namespaces/default"
    roots = [
        f"{base}/pods/proxied/proxy",
        f"{base}/pods/http:proxied:{PORT}/proxy",
        f"{base}/services/proxied:http/proxy",
        f"{base}/services/http:proxied:80/proxy",
    ]

    def is_there() -> bool:
        return cluster.get("endpoints", "proxied").get("subsets") is not None

    until(is_there, 20, "no endpoints")
    for root in roots:
        assert cluster.kubectl("get", "--raw", f"{root}/") == "proxied"
        page = cluster.kubectl("get", "--raw", f"{root}/page")
        assert f'href="{root}/next"' in page  # leads through the proxy again
    server = ["curl", "-sk", "-H", f"Authorization: Bearer {token(cluster)}"]
    address = f"https://127.0.0.1:{cluster.port}"
    for root in (roots[0], roots[2]):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            url = f"{address}{root}/echo/some/path?method={method}"
            told = json.loads(cluster.host.sh(*server, "-X", method, url))
            assert told == {"method": method, "path": f"/echo/some/path?method={method}", "body": ""}  # fmt: skip
        said = cluster.host.sh(*server, "-I", f"{address}{root}?method=HEAD").lower()
        assert " 301" in said.partition("\n")[0]
        assert f"location: {root}/?method=head" in said


def token(cluster: Cluster) -> str:
    return (cluster.data / "pki/admin.token").read_text().strip()
