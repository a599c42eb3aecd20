"""A client that speaks nothing but protobuf, over TLS to a running cluster (PROTO-9, PROTO-10). It
reads the bytes with a decoder of its own, and knows only the field numbers that it needs."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_cluster import FakeCluster, running_cluster, until

PROTOBUF = "application/vnd.kubernetes.protobuf"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("protobuf"), nodes=2) as cluster:
        yield cluster


# --- a decoder in 20 lines, and an encoder in 5


def number_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def fields(data: bytes) -> dict[int, list[Any]]:
    """Every field by its number: integers and bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = number_at(data, at)
        value: Any
        value, at = number_at(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        found.setdefault(tag >> 3, []).append(value)
    return found


def at(data: bytes, *path: int) -> Any:
    """The last value of a field of a field ..."""
    found: Any = data
    for number in path:
        found = fields(found)[number][-1]
    return found


def field(number: int, value: bytes) -> bytes:
    assert len(value) < 128 * 128
    size = len(value)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + value


def body(version: bytes, kind: bytes, message: bytes) -> bytes:
    return b"k8s\0" + field(1, field(1, version) + field(2, kind)) + field(2, message)


def opened(data: bytes) -> tuple[bytes, bytes]:
    """Kind and message of a body."""
    assert data[:4] == b"k8s\0"
    return at(data[4:], 1, 2), at(data[4:], 2)


class Client:
    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster

    def ask(
        self, method: str, path: str, data: bytes = b"", content_type: str = PROTOBUF
    ) -> http.client.HTTPResponse:
        connection = self.cluster.connect()
        headers = {
            "Authorization": f"Bearer {self.cluster.token}",
            "Accept": PROTOBUF,
            "Content-Type": content_type,
        }
        connection.request(method, path, data, headers)
        return connection.getresponse()

    def call(self, method: str, path: str, *more: Any) -> tuple[int, bytes, bytes]:
        """Code, kind and message of an answer."""
        answer = self.ask(method, path, *more)
        assert answer.headers["content-type"] == PROTOBUF
        return answer.status, *opened(answer.read())


def event(stream: http.client.HTTPResponse) -> tuple[bytes, bytes, bytes]:
    """Type of the next event of a watch, and kind and message of its object."""
    size = int.from_bytes(stream.read(4), "big")
    data = stream.read(size)
    return at(data, 1), *opened(at(data, 2, 1))


def test_proto_9_a_client_that_speaks_only_protobuf_uses_every_verb(cluster: FakeCluster) -> None:
    # Shows PROTO-9.a PROTO-10.a PROTO-10.c.
    client = Client(cluster)
    _, kind, message = client.call("GET", CONFIG_MAPS)
    assert kind == b"ConfigMapList"
    revision = at(message, 1, 2).decode()
    selected = f"resourceVersion={revision}&fieldSelector=metadata.name=wire"
    stream = client.ask("GET", f"{CONFIG_MAPS}?watch=1&{selected}")
    assert stream.headers["content-type"] == f"{PROTOBUF};stream=watch"
    assert stream.headers["x-kubernetes-pf-flowschema-uid"], "also the answer of a watch (FAIR-1)"

    created = field(1, field(1, b"wire")) + field(2, field(1, b"k") + field(2, b"v"))
    code, kind, message = client.call("POST", CONFIG_MAPS, body(b"v1", b"ConfigMap", created))
    assert (code, kind, at(message, 1, 1), at(message, 1, 3)) == (
        201,
        b"ConfigMap",
        b"wire",
        b"default",
    )
    changed = field(1, field(1, b"wire")) + field(2, field(1, b"k") + field(2, b"w"))
    code, _, message = client.call("PUT", f"{CONFIG_MAPS}/wire", body(b"v1", b"ConfigMap", changed))
    assert (code, at(message, 2, 2)) == (200, b"w")
    merge = "application/merge-patch+json"
    code, _, message = client.call("PATCH", f"{CONFIG_MAPS}/wire", b'{"data":{"k":"x"}}', merge)
    assert (code, at(message, 2, 2)) == (200, b"x")
    _, _, message = client.call("GET", f"{CONFIG_MAPS}/wire")
    assert at(message, 2, 2) == b"x"
    assert client.call("DELETE", f"{CONFIG_MAPS}/wire")[:2] == (200, b"Status")
    code, kind, message = client.call("GET", f"{CONFIG_MAPS}/wire")
    assert (code, kind, at(message, 4), at(message, 6)) == (404, b"Status", b"NotFound", 404)

    seen = [event(stream) for _ in range(4)]
    assert [(type_, kind) for type_, kind, _ in seen] == [
        (type_, b"ConfigMap") for type_ in (b"ADDED", b"MODIFIED", b"MODIFIED", b"DELETED")
    ]
    assert [at(message, 2, 2) for _, _, message in seen] == [b"v", b"w", b"x", b"x"]


def test_proto_9_pods_that_run_are_listed_with_their_phase(cluster: FakeCluster) -> None:
    client = Client(cluster)
    container = field(1, b"c") + field(2, b"nginx")
    for number in range(20):
        pod = field(1, field(1, b"wire-%d" % number)) + field(2, field(2, container))
        assert client.call("POST", PODS, body(b"v1", b"Pod", pod))[0] == 201

    def phases() -> list[bytes]:
        _, kind, message = client.call("GET", PODS)
        assert kind == b"PodList"
        return [at(item, 3, 1) for item in fields(message)[2]]

    until(lambda: phases() == [b"Running"] * 20, "the pods do not run")
    partial = f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    connection = cluster.connect()
    connection.request(
        "GET", PODS, headers={"Authorization": f"Bearer {cluster.token}", "Accept": partial}
    )
    kind, message = opened(connection.getresponse().read())
    assert kind == b"PartialObjectMetadataList"
    assert all(set(fields(item)) == {1} for item in fields(message)[2])


def test_proto_9_a_kind_without_a_message_is_refused(cluster: FakeCluster) -> None:
    """A kind without a message is refused, and one request later the connection still serves."""
    client = Client(cluster)
    rules = "/apis/resource.k8s.io/v1/devicetaintrules"
    answer = client.ask("GET", rules)
    assert (answer.status, answer.headers["content-type"]) == (406, PROTOBUF)
    assert client.call("GET", CONFIG_MAPS)[0] == 200


COMMANDS = (
    "deployment web --image=nginx --replicas=2",
    "configmap a --from-literal=k=v",
    "service clusterip s --tcp=80:8080",
    "quota q --hard=cpu=5,memory=2Gi",
    "job j --image=busybox",
    "ingress i --rule=a.b/x=s:80",
    "role r --verb=get --resource=pods",
    "cronjob cj --image=i --schedule=1,2,3,4,5,*,*,*,*",
    "pdb p --selector=a=b --min-available=1",
    "priorityclass pc --value=5",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_proto_9_kubectl_reads_the_answers_with_gos_decoder(
    cluster: FakeCluster, command: str
) -> None:
    """It creates with a client of Go's types, which asks for protobuf, and gets as JSON."""
    words = [word.replace("1,2,3,4,5,*,*,*,*", "1,2 * * * *") for word in command.split()]
    shown = json.loads(cluster.kubectl("create", *words, "-o", "json"))
    kind, name = shown["kind"], shown["metadata"]["name"]
    stored = json.loads(cluster.kubectl("get", kind, name, "-o", "json"))
    assert {key: value for key, value in shown.items() if key not in ("metadata", "status")} == {
        key: value for key, value in stored.items() if key not in ("metadata", "status")
    }
    assert shown["metadata"]["uid"] == stored["metadata"]["uid"]
    said = cluster.kubectl("-v=8", "create", *words[:1], *_renamed(words[1:]), fine=False)
    types = [line for line in said.splitlines() if "Content-Type:" in line]
    assert PROTOBUF in types[-1], said


def _renamed(words: list[str]) -> list[str]:
    """The same for another name, which comes after the type of a service."""
    at = 1 if words[0] == "clusterip" else 0
    return [*words[:at], f"{words[at]}-again", *words[at + 1 :]]
