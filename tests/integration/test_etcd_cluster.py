"""API servers as processes on a real etcd. Rules ETCD-2, ETCD-3, ETCD-5, ETCD-6, ETCD-9, ETCD-10,
ETCD-12 (spec/etcd.md), ALLOC-9, LIST-14, HOST-20."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer, etcd_server
from fake_cluster import FakeCluster, free_port, until
from process_world import Process

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
SERVICES = "/api/v1/namespaces/default/services"


class Server:
    """One API server, and a client of it."""

    def __init__(self, directory: Path, name: str, etcd: EtcdServer) -> None:
        self.port = free_port()
        self.token_file = directory / "pki/admin.token"
        self.process = Process(
            directory,
            name,
            *("apiserver", "--store", f"etcd://{etcd.endpoint}", "--port", str(self.port)),
            *("--pki", str(directory / "pki"), "--data-dir", str(directory / name)),
            *("--kubeconfig", str(directory / f"{name}.kubeconfig"), "--event-ttl", "3s"),
        )

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=ssl._create_unverified_context(), timeout=30
        )

    @property
    def headers(self) -> dict[str, str]:
        token = self.token_file.read_text().strip()
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = self.connect()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, self.headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text)

    def get(self, path: str) -> Any:
        status, body = self.call("GET", path)
        assert status == 200, body
        return body

    def create(self, path: str, name: str, **rest: Any) -> Any:
        status, body = self.call("POST", path, {"metadata": {"name": name}, **rest})
        assert status == 201, body
        return body

    def watch(self, path: str, revision: str, count: int) -> list[Any]:
        """The first events after the revision."""
        connection = self.connect()
        try:
            connection.request(
                "GET", f"{path}?watch=1&resourceVersion={revision}", headers=self.headers
            )
            answer = connection.getresponse()
            assert answer.status == 200
            return [json.loads(answer.readline()) for _ in range(count)]
        finally:
            connection.close()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with etcd_server(tmp_path / "etcd") as server:
        yield server


@pytest.fixture
def servers(tmp_path: Path, etcd: EtcdServer) -> Iterator[tuple[Server, Server]]:
    """Two API servers that were started at the same time on an empty etcd."""
    made = Server(tmp_path, "a", etcd), Server(tmp_path, "b", etcd)
    try:
        for server in made:
            server.process.begin()
        for server in made:
            server.process.wait_until_ready()
        yield made
    finally:
        for server in made:
            if server.process.process.poll() is None:
                server.process.kill()


def test_etcd_6_and_list_14_what_one_server_has_written_is_read_at_the_other(
    servers: tuple[Server, Server],
) -> None:
    for number in range(40):
        one, other = servers if number % 2 else servers[::-1]
        name = f"c{number}"
        made = one.create(CONFIG_MAPS, name, data={"n": "1"})
        assert other.get(f"{CONFIG_MAPS}/{name}") == made
        changed = {**made, "data": {"n": "2"}}
        status, updated = other.call("PUT", f"{CONFIG_MAPS}/{name}", changed)
        assert status == 200, updated
        assert one.call("PUT", f"{CONFIG_MAPS}/{name}", changed)[0] == 409
        assert one.call("DELETE", f"{CONFIG_MAPS}/{name}")[0] == 200
        assert other.call("GET", f"{CONFIG_MAPS}/{name}")[0] == 404
        assert name not in [each["metadata"]["name"] for each in other.get(CONFIG_MAPS)["items"]]


SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


def test_host_20_the_service_kubernetes_leads_to_the_servers_that_live(
    servers: tuple[Server, Server], tmp_path: Path, etcd: EtcdServer
) -> None:
    # Shows HOST-20.a HOST-20.c HOST-20.f HOST-20.g.
    first, second = servers

    def listed() -> set[int]:
        """The ports of the servers; those of the Endpoints and of the slices must agree."""
        status, endpoints = first.call("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
        subsets = endpoints["subsets"] if status == 200 else []  # they are not written yet
        told = sorted(
            (address["ip"], port["port"])
            for subset in subsets
            for address in subset["addresses"]
            for port in subset["ports"]
        )
        slices = first.get(f"{SLICES}?labelSelector=kubernetes.io/service-name%3Dkubernetes")
        also = sorted(
            (endpoint["addresses"][0], one["ports"][0]["port"])
            for one in slices["items"]
            for endpoint in one["endpoints"]
        )
        return {port for _, port in told} if told == also else set()

    both, one = {first.port, second.port}, {first.port}
    until(lambda: listed() == both, "not both servers are listed", 30)
    revision = first.get("/api/v1/namespaces/default/endpoints/kubernetes")["metadata"]
    time.sleep(12)
    again = first.get("/api/v1/namespaces/default/endpoints/kubernetes")["metadata"]
    assert again["resourceVersion"] == revision["resourceVersion"], "they do not agree"
    assert second.process.stop() == 0
    assert listed() == one, "a server that was stopped is listed"
    later = Server(tmp_path, "c", etcd)
    try:
        later.process.start()
        until(lambda: listed() == {first.port, later.port}, "a new server is not listed", 30)
    finally:
        later.process.kill()
    until(lambda: listed() == one, "a server that was killed is listed", 60)
    leases = first.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")["items"]
    assert len([lease for lease in leases if "apiserver-" in lease["metadata"]["name"]]) == 1


def test_etcd_7_a_watch_goes_on_at_the_other_server(servers: tuple[Server, Server]) -> None:
    revision = servers[0].get(CONFIG_MAPS)["metadata"]["resourceVersion"]
    names = [f"c{number}" for number in range(12)]
    for number, name in enumerate(names):
        servers[number % 2].create(CONFIG_MAPS, name)
    seen: list[str] = []
    for number in range(4):
        events = servers[number % 2].watch(CONFIG_MAPS, revision, 3)
        assert {event["type"] for event in events} == {"ADDED"}
        seen += [event["object"]["metadata"]["name"] for event in events]
        revision = events[-1]["object"]["metadata"]["resourceVersion"]
    assert seen == names


def test_alloc_9_two_servers_never_give_an_address_or_a_node_port_twice(
    servers: tuple[Server, Server],
) -> None:
    def create(number: int) -> Any:
        spec = {"type": "NodePort", "ports": [{"port": 80}]}
        return servers[number % 2].create(SERVICES, f"s{number}", spec=spec)

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(60)))
    assert len({each["spec"]["clusterIP"] for each in made}) == 60
    assert len({each["spec"]["ports"][0]["nodePort"] for each in made}) == 60


def test_etcd_2_and_3_objects_lie_in_etcd_as_upstream_lays_them_down(
    servers: tuple[Server, Server], etcd: EtcdServer
) -> None:
    made = servers[0].create(CONFIG_MAPS, "a", data={"k": "v"})
    lines = etcd.ctl("get", "/registry/configmaps/default/a", "-w", "json")
    (kv,) = json.loads(lines)["kvs"]
    assert str(kv["mod_revision"]) == made["metadata"].pop("resourceVersion")
    value = etcd.ctl("get", "/registry/configmaps/default/a", "--print-value-only")
    assert json.loads(value) == made and (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")
    assert etcd.ctl("get", "/registry/services/specs/default/kubernetes", "--keys-only")
    # and what another program writes there is served
    made["metadata"]["name"] = "b"
    etcd.ctl("put", "/registry/configmaps/default/b", json.dumps(made))
    (kv,) = json.loads(etcd.ctl("get", "/registry/configmaps/default/b", "-w", "json"))["kvs"]
    found = servers[1].get(f"{CONFIG_MAPS}/b")
    assert found["metadata"].pop("resourceVersion") == str(kv["mod_revision"])
    assert found == made


def test_alloc_10_a_server_on_the_data_of_upstream_gives_no_node_port_twice(
    servers: tuple[Server, Server], etcd: EtcdServer
) -> None:
    spec = {"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}
    servers[0].create(SERVICES, "old", spec=spec)
    etcd.ctl("del", "/registry/refk8s/nodeports/30080")
    servers[1].process.kill()
    servers[1].process.start()
    status, body = servers[1].call("POST", SERVICES, {"metadata": {"name": "new"}, "spec": spec})
    assert status == 422 and "already allocated" in body["message"], body


def test_etcd_9_bytes_that_are_no_object_disturb_only_who_reads_them(
    servers: tuple[Server, Server], etcd: EtcdServer
) -> None:
    servers[0].create(CONFIG_MAPS, "good")
    etcd.ctl("put", "/registry/configmaps/default/bad", '{"metadata":')
    for server in servers:
        status, body = server.call("GET", CONFIG_MAPS)
        assert status == 500 and "/core/configmaps/default/bad" in body["message"]
        assert server.call("GET", f"{CONFIG_MAPS}/bad")[0] == 500
        assert server.call("POST", CONFIG_MAPS, {"metadata": {"name": "bad"}})[0] == 500
        assert server.get(f"{CONFIG_MAPS}/good") and server.get(SERVICES)
    etcd.ctl("del", "/registry/configmaps/default/bad")
    for server in servers:
        names = [each["metadata"]["name"] for each in server.get(CONFIG_MAPS)["items"]]
        assert "good" in names and "bad" not in names


def test_etcd_12_events_are_deleted_after_their_time(servers: tuple[Server, Server]) -> None:
    path = "/api/v1/namespaces/default/events"
    body = {"involvedObject": {"namespace": "default"}, "reason": "a", "message": "b"}
    servers[0].create(path, "e", **body)
    assert [each["metadata"]["name"] for each in servers[1].get(path)["items"]] == ["e"]
    until(lambda: servers[1].get(path)["items"] == [], "the event is deleted", 30)


def test_del_9_a_collection_that_is_larger_than_a_transaction_of_etcd_is_deleted(
    servers: tuple[Server, Server],
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: servers[n % 2].create(CONFIG_MAPS, f"c{n}"), range(150)))
        big = {"blob": "x" * 500_000}  # three of these are larger than a request of etcd
        list(pool.map(lambda n: servers[0].create(CONFIG_MAPS, f"big{n}", data=big), range(4)))
    finalizers = {"metadata": {"name": "kept", "finalizers": ["example.com/keep"]}, "data": big}
    for number in range(4):
        finalizers["metadata"]["name"] = f"kept{number}"
        assert servers[0].call("POST", CONFIG_MAPS, finalizers)[0] == 201
    status, body = servers[1].call("DELETE", CONFIG_MAPS)
    assert status == 200, body
    left = servers[0].get(CONFIG_MAPS)["items"]
    assert [each["metadata"]["name"] for each in left] == [f"kept{n}" for n in range(4)]
    assert all(each["metadata"]["deletionTimestamp"] for each in left)


def test_etcd_10_a_cluster_on_etcd_rolls_out_while_etcd_is_killed(
    tmp_path: Path, etcd: EtcdServer
) -> None:
    cluster = FakeCluster(tmp_path, "--nodes", "3", "--store", f"etcd://{etcd.endpoint}")
    cluster.start()
    try:
        cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=30")
        etcd.kill()
        etcd.start()
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        etcd.kill()
        etcd.start()
        cluster.kubectl("set", "image", "deployment/web", "nginx=nginx:2")
        cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
        pods = json.loads(cluster.kubectl("get", "pods", "-o", "json"))["items"]
        alive = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        assert len(alive) == 30
        assert cluster.stop() == 0
    finally:
        if cluster.process.poll() is None:
            cluster.kill()
