"""The kubelet's port, and the API server as its client, with real TLS. Rules STREAM-1, STREAM-8,
STREAM-9, STREAM-10."""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import frozen
from hypothesis import example, given
from hypothesis import strategies as st

from refk8s.components import certificates
from refk8s.components.kubelet.local import LocalKubelet
from refk8s.components.kubelet.port import KubeletPort, Reviews
from refk8s.components.kubelet.remote import RemoteKubelet
from refk8s.components.kubelet.server import ServedNode
from refk8s.components.kubelet.stats import Stats
from refk8s.core.api import status
from refk8s.core.api.authorization_v1 import SubjectAccessReview, SubjectAccessReviewStatus
from refk8s.core.api.core_v1 import (
    Container,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeDaemonEndpoints,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request, Response
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.pod_exec import compute_exec_options
from refk8s.core.apiserver.pod_log import compute_log_options
from refk8s.core.client.kubeconfig import Pem
from refk8s.core.client.kubelet import (
    ATTACH,
    EXEC,
    FORWARD,
    LOGS,
    PodPath,
    Unreachable,
    compute_attributes,
    exec_parameters,
    find_kubelet,
    read_path,
    write_exec_query,
    write_log_query,
    write_path,
)
from refk8s.core.ports import (
    RUNNING,
    ContainerNotFound,
    ContainerStatus,
    ExecOptions,
    LogOptions,
    PodsListed,
    SandboxStatus,
    StreamFailed,
)

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
PATHS = st.builds(
    lambda action, namespace, pod, uid, container: PodPath(
        action, namespace, pod, "" if action == LOGS else uid, "" if action == FORWARD else container
    ),
    st.sampled_from([LOGS, EXEC, ATTACH, FORWARD]), NAMES, NAMES, st.uuids().map(str) | st.just(""), NAMES,
)  # fmt: skip


# --- the paths ------------------------------------------------------------------------------------


@given(PATHS)
def test_stream_10_the_kubelet_reads_the_path_that_the_api_server_writes(path: PodPath) -> None:
    # Shows STREAM-10.a.
    assert read_path(write_path(path)) == path


@given(
    st.sampled_from([LOGS, EXEC, ATTACH, FORWARD, "pods", ""]),
    st.lists(st.text("ab./%2e%2f\0\r\n ?#A", max_size=8), min_size=1, max_size=5),
)
@example(EXEC, ["default", "..%2f..%2fpods", "c"])
@example(LOGS, ["default", "a%00", "c"])
@example(LOGS, ["..", "..", "pods"])
def test_stream_10_a_path_leads_to_no_other_place(action: str, parts: list[str]) -> None:
    # Shows STREAM-10.b.
    found = read_path("/" + "/".join([action, *parts]))
    if found is not None:
        for text in (found.namespace, found.pod, found.uid, found.container):
            assert not set(text) & set("/%\0\r\n ?#") and ".." not in text
        assert read_path(write_path(found)) == found


@given(
    st.builds(
        LogOptions, follow=st.booleans(), previous=st.booleans(), timestamps=st.booleans(),
        since=st.integers(0, 4 * 10**15), tail_lines=st.integers(-1, 10**6),
        limit_bytes=st.integers(1, 10**9) | st.just(-1),
    )
)  # fmt: skip
def test_stream_10_a_part_of_a_log_is_the_same_at_the_kubelet(options: LogOptions) -> None:
    from urllib.parse import parse_qsl

    parameters = dict(parse_qsl(write_log_query(options, "u")))
    assert parameters.pop("uid") == "u"
    assert compute_log_options(parameters, "p", 10**15) == options


@given(
    st.builds(
        ExecOptions, command=st.lists(st.text(max_size=5), min_size=1, max_size=3).map(tuple),
        stdin=st.just(True), stdout=st.booleans(), stderr=st.booleans(), tty=st.just(False),
    )
)  # fmt: skip
def test_stream_10_a_command_is_the_same_at_the_kubelet(options: ExecOptions) -> None:
    from urllib.parse import parse_qsl

    parameters = exec_parameters(parse_qsl(write_exec_query(options), True))
    assert compute_exec_options(parameters, "exec") == options


def test_stream_9_the_attributes_of_a_request_are_those_of_upstream() -> None:
    for method, path, wanted in (
        ("GET", "/stats/summary", ("get", "stats")),
        ("GET", "/metrics/resource", ("get", "metrics")),
        ("GET", "/healthz", ("get", "healthz")),
        ("GET", "/pods", ("get", "pods")),
        ("POST", "/exec/a/b/c", ("create", "proxy")),
        ("GET", "/exec/a/b/c", ("get", "proxy")),
        ("GET", "/stats%2f..%2fexec/a/b/c", ("get", "stats")),
        ("DELETE", "/", ("delete", "proxy")),
    ):
        assert compute_attributes(method, path) == wanted
        if wanted[1] != "proxy":
            assert read_path(path) is None  # what is allowed for less opens no stream


# --- where a kubelet is ---------------------------------------------------------------------------


def node(*addresses: tuple[str, str], port: int = 10250) -> Node:
    endpoints = NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=port)) if port else None
    listed = tuple([NodeAddress(type=type, address=address) for type, address in addresses])
    return Node(
        metadata=ObjectMeta(name="node-1"),
        status=NodeStatus(addresses=listed or None, daemon_endpoints=endpoints),
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["InternalIP", "ExternalIP", "Hostname"]),
            st.ip_addresses().map(str) | st.sampled_from(["169.254.169.254", "::ffff:169.254.1.1", "224.0.0.1", "0.0.0.0", "::", "fe80::1", "fe80::1%eth0", "localhost", "10.0.0.1:80", ""]),
        ),
        max_size=4,
    ),
    st.sampled_from([0, 1, 10250, 65535]),
)  # fmt: skip
def test_stream_8_a_kubelet_is_at_a_reported_address_that_it_can_have(
    addresses: list[tuple[str, str]], port: int
) -> None:
    # Shows STREAM-8.b, STREAM-8.c.
    import ipaddress

    try:
        found, number = find_kubelet(node(*addresses, port=port))
    except Unreachable as error:
        assert "node-1" in str(error)
        return
    assert number == port and found in [text for type, text in addresses if type != "Hostname"]
    address = ipaddress.ip_address(found)
    address = getattr(address, "ipv4_mapped", None) or address
    assert not (address.is_link_local or address.is_multicast or address.is_unspecified)


def test_stream_8_the_internal_address_is_preferred() -> None:
    found = find_kubelet(node(("ExternalIP", "1.2.3.4"), ("InternalIP", "10.0.0.7"), port=10))
    assert found == ("10.0.0.7", 10)


# --- a port and its clients -----------------------------------------------------------------------


class Echo:
    """A command that sends its input back."""

    def __init__(self, world: "Containers", code: int) -> None:
        self.world, self.code = world, code
        self.parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        world.open_sessions += 1

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        yield 2, b"begin"
        while (data := await self.parts.get()) is not None:
            yield 1, data

    async def write(self, data: bytes) -> None:
        await self.parts.put(data)

    def end_input(self) -> None:
        self.parts.put_nowait(None)

    async def resize(self, columns: int, rows: int) -> None:
        await self.parts.put(f"{columns}x{rows}".encode())

    async def exit_code(self) -> int:
        return self.code

    def close(self) -> None:
        if self.code >= 0:
            self.world.open_sessions -= 1
            self.code = -1


class Containers:
    """The containers of a node with one pod."""

    def __init__(self) -> None:
        self.open_sessions = 0
        self.executed: list[tuple[str, ...]] = []
        self.logs: list[LogOptions] = []
        self.log_closed = False

    async def list_pod(self, pod_uid: str) -> PodsListed:
        if pod_uid != "uid":
            return PodsListed((), ())
        running = ContainerStatus("c" * 64, "s" * 64, "uid", "a", 0, RUNNING)
        sandbox = SandboxStatus("s" * 64, "uid", "default", "web", 0, True)
        return PodsListed((sandbox,), (running,))

    async def log(
        self, container: ContainerStatus, options: LogOptions
    ) -> AsyncGenerator[bytes, None]:
        self.logs.append(options)

        async def lines() -> AsyncGenerator[bytes, None]:
            try:
                yield b"one\n"
                if options.follow:
                    await asyncio.get_running_loop().create_future()
                yield b"two\n"
            finally:
                self.log_closed = True

        return lines()

    async def execute(
        self, container: ContainerStatus, command: tuple[str, ...], stdin: bool, tty: bool
    ) -> Echo:
        self.executed.append(command)
        if command == ("none",):
            raise StreamFailed("there is no such program")
        return Echo(self, 7)

    async def attach(self, container: ContainerStatus, stdin: bool) -> Echo:
        return Echo(self, 0)

    async def connect(self, pod: Pod, sandbox: SandboxStatus, port: int) -> Any:
        if port != 80:
            raise ConnectionRefusedError(111, "Connection refused")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"got " + await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return await asyncio.open_connection(*server.sockets[0].getsockname()[:2])


def pod(name: str = "web", uid: str = "uid") -> Pod:
    containers = (Container(name="a"), Container(name="b"))
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=uid),
        spec=PodSpec(containers=containers, node_name="node-1"),
        status=PodStatus(),
    )


@frozen
class Keys:
    """The certificates of a cluster, in files."""

    directory: Path

    def make(self, authority: str, name: str, group: str = "", *hosts: str) -> tuple[Pem, Pem]:
        """A client's certificate, or with hosts a server's."""
        now, own = datetime.now(UTC), certificates.make_key()
        signing = (self.directory / f"{authority}.key").read_bytes()
        signed = (
            certificates.make_server(own, signing, hosts, now)
            if hosts
            else certificates.make_client(own, signing, name, group, now)
        )
        return Pem(content=signed), Pem(content=own)

    def client(self, *pair: Pem, authority: str = "ca") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.directory / f"{authority}.crt"))
        if pair:
            for name, pem in zip(("c.crt", "c.key"), pair, strict=True):
                (self.directory / name).write_bytes(pem.content)
            context.load_cert_chain(self.directory / "c.crt", self.directory / "c.key")
        return context


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    found = Keys(tmp_path_factory.mktemp("keys"))
    for name in ("ca", "other"):
        key = certificates.make_key()
        (found.directory / f"{name}.key").write_bytes(key)
        made = certificates.make_self_signed(key, certificates.AUTHORITY_NAME, datetime.now(UTC))
        (found.directory / f"{name}.crt").write_bytes(made)
    return found


@frozen
class World:
    keys: Keys
    port: int
    containers: Containers
    reviews: list[Request]

    def kubelet(self, *pair: Pem, node: str = "node-1") -> RemoteKubelet:
        pair = pair or self.keys.make("ca", "kube-apiserver-kubelet-client", "system:masters")
        return RemoteKubelet(node, "127.0.0.1", self.port, self.keys.client(*pair))

    async def get(self, path: str, *pair: Pem, host: str = "node-1") -> tuple[int, bytes]:
        kubelet = self.kubelet(*pair)
        kubelet.host = host
        answer = await kubelet.get(path)
        return answer.code, await answer.read(1 << 20)


def run(
    keys: Keys,
    body: Callable[[World], Awaitable[None]],
    nodes: tuple[str, ...] = ("node-1",),
    allowed: tuple[str, ...] = (),
    serving: tuple[Pem, Pem] | None = None,
) -> World:
    """Serve the port and run the body."""

    async def main() -> World:
        containers, reviews = Containers(), []

        async def call(request: Request) -> Response:
            reviews.append(request)
            review: SubjectAccessReview = request.body
            attributes = review.spec.resource_attributes
            assert attributes is not None
            is_allowed = attributes.subresource in allowed
            return Response(201, evolve_status(review, is_allowed))

        component: Any = SimpleNamespace(
            api=SimpleNamespace(call=call), clock=SimpleNamespace(now=lambda: 10**15)
        )
        port = KubeletPort(component, (keys.directory / "ca.crt").read_bytes())
        port.use(*(serving or keys.make("ca", "", "", "127.0.0.1")))
        port.listen("127.0.0.1", 0)
        known = {"default/web": pod(), "default/again": pod("again", "another")}
        served = {
            name: ServedNode(
                name,
                LocalKubelet(containers),
                lambda name=name: known if name == "node-1" else {},  # type: ignore[misc]
                Stats(name, containers, lambda: known, lambda: 10**15),  # type: ignore[arg-type]
            )
            for name in nodes
        }
        port.serve(served, {})
        world = World(keys, port.number, containers, reviews)
        try:
            await asyncio.wait_for(body(world), 30)
        finally:
            await port.close()
        return world

    return asyncio.run(main())


def evolve_status(review: SubjectAccessReview, is_allowed: bool) -> SubjectAccessReview:
    from msgspec.structs import replace

    return replace(review, status=SubjectAccessReviewStatus(allowed=is_allowed))


EXEC_OPTIONS = ExecOptions("a", ("cat",), stdin=True, stdout=True, stderr=True)


def test_stream_8_a_session_has_both_directions_an_end_and_an_exit_code(keys: Keys) -> None:
    async def body(world: World) -> None:
        session = await world.kubelet().execute(pod(), "a", EXEC_OPTIONS)
        output = session.output()
        assert await anext(output) == (2, b"begin")
        await session.write(b"x" * 300_000)
        found = b""
        while len(found) < 300_000:
            channel, data = await anext(output)
            assert channel == 1
            found += data
        await session.resize(80, 24)
        assert await anext(output) == (1, b"80x24")
        session.end_input()
        assert [part async for part in output] == []
        assert await session.exit_code() == 7
        session.close()

    assert run(keys, body).containers.executed == [("cat",)]


def test_stream_8_a_session_ends_at_the_node_when_its_client_leaves(keys: Keys) -> None:
    async def body(world: World) -> None:
        session = await world.kubelet().attach(pod(), "a", EXEC_OPTIONS)
        assert await anext(session.output()) == (2, b"begin")
        assert world.containers.open_sessions == 1
        session.close()
        while world.containers.open_sessions:
            await asyncio.sleep(0.01)
        lines = await world.kubelet().log(pod(), "a", LogOptions(follow=True))
        assert await anext(lines) == b"one\n"
        await lines.aclose()
        while not world.containers.log_closed:
            await asyncio.sleep(0.01)

    run(keys, body)


def test_stream_8_a_log_and_a_connection_are_those_of_the_pod(keys: Keys) -> None:
    async def body(world: World) -> None:
        kubelet = world.kubelet()
        lines = await kubelet.log(pod(), "a", LogOptions(tail_lines=3, since=5))
        assert b"".join([part async for part in lines]) == b"one\ntwo\n"
        reader, writer = await kubelet.connect(pod(), 80)
        writer.write(b"this")
        await writer.drain()
        writer.write_eof()
        assert await reader.read(100) == b"got this" and await reader.read(100) == b""
        writer.close()
        with pytest.raises(OSError, match="connection refused"):
            await kubelet.connect(pod(), 81)

    assert run(keys, body).containers.logs == [LogOptions(tail_lines=3, since=5)]


def test_stream_8_what_the_node_refuses_is_the_answer(keys: Keys) -> None:
    # Shows STREAM-8.e, STREAM-10.c.
    async def body(world: World) -> None:
        kubelet = world.kubelet()
        with pytest.raises(ContainerNotFound, match='container not found \\("b"\\)'):
            await kubelet.execute(pod(), "b", EXEC_OPTIONS)
        with pytest.raises(StreamFailed, match=r"^there is no such program$"):
            await kubelet.execute(pod(), "a", evolve_command("none"))
        for stranger in (pod(uid="older"), pod("elsewhere")):
            with pytest.raises(ApiError) as refused:
                await kubelet.execute(stranger, "a", EXEC_OPTIONS)
            assert refused.value.status.code == 404
            with pytest.raises(ApiError):
                await kubelet.log(stranger, "a", LogOptions())
            with pytest.raises(ApiError):
                await kubelet.connect(stranger, 80)
        # the runtime has no container for the uid, whatever the pod's status says (STREAM-1)
        with pytest.raises(ContainerNotFound):
            await kubelet.execute(pod("again", "another"), "a", EXEC_OPTIONS)

    assert run(keys, body).containers.executed == [("none",)]


def evolve_command(*command: str) -> ExecOptions:
    return ExecOptions("a", command, stdin=True, stdout=True, stderr=True)


def test_stream_9_a_kubelet_answers_only_clients_of_the_clusters_authority(keys: Keys) -> None:
    # Shows STREAM-9.a, STREAM-9.b.
    async def body(world: World) -> None:
        for path in ("/healthz", "/pods", "/exec/default/web/a?command=id&output=1", "/nothing"):
            kubelet = world.kubelet()
            kubelet._tls = world.keys.client()  # without a certificate
            answer = await kubelet.get(path)
            assert answer.code == 401, path
            answer.close()
            kubelet._tls = world.keys.client(
                *world.keys.make("other", "kube-apiserver-kubelet-client", "system:masters")
            )
            with pytest.raises(OSError):  # the handshake fails
                await kubelet.get(path)
        assert await world.get("/healthz") == (200, b"ok")
        code, content = await world.get("/pods")
        assert code == 200
        assert [each["metadata"]["name"] for each in json.loads(content)["items"]] == [
            "again",
            "web",
        ]

    world = run(keys, body)
    assert not world.containers.executed and not world.reviews


def test_stream_9_other_users_are_reviewed_and_refused_without_an_answer(keys: Keys) -> None:
    # Shows STREAM-9.c, STREAM-9.d, STREAM-9.e.
    async def body(world: World) -> None:
        user = world.keys.make("ca", "system:node:node-2", "system:nodes")
        for _ in range(2):
            assert (await world.get("/pods", *user))[0] == 200
            code, content = await world.get("/exec/default/web/a?command=id&output=1", *user)
            assert code == 403 and b"user=system:node:node-2, verb=get" in content
        with pytest.raises(StreamFailed, match="it answers 403"):
            await world.kubelet(*user).execute(pod(), "a", EXEC_OPTIONS)

    world = run(keys, body, allowed=("pods",))
    assert not world.containers.executed
    asked = [request.body.spec.resource_attributes for request in world.reviews]
    assert [(each.verb, each.resource, each.subresource, each.name) for each in asked] == [
        ("get", "nodes", "pods", "node-1"),
        ("get", "nodes", "proxy", "node-1"),
    ]


def test_stream_9_an_answer_is_used_for_a_limited_time_and_its_absence_is_a_refusal() -> None:
    # Shows STREAM-9.e, STREAM-9.g.
    async def main() -> None:
        answers: list[Response | None] = [
            None,
            Response(500, status.internal_error("x")),
            Response(201, evolve_status(SubjectAccessReview(), True)),
        ]
        asked = []

        async def call(request: Request) -> Response | None:
            asked.append(request)
            return answers.pop(0)

        reviews = Reviews(call)
        user = User("jane", groups=("system:authenticated",))
        loop = asyncio.get_running_loop()
        begin, later = loop.time(), 0.0
        loop.time = lambda: begin + later  # type: ignore[method-assign]
        for seconds, is_allowed, count in (
            (0, False, 1), (9, False, 1), (11, False, 2), (22, True, 3), (81, True, 3),
        ):  # fmt: skip
            later = seconds
            assert (await reviews.why_not(user, "get", "proxy", "n") == "") == is_allowed
            assert len(asked) == count
        assert await reviews.why_not(User("root", groups=("system:masters",)), "x", "y", "z") == ""

    asyncio.run(main())


def test_stream_9_the_api_server_sends_nothing_to_a_kubelet_that_it_cannot_verify(
    keys: Keys,
) -> None:
    # Shows STREAM-9.f.
    async def body(world: World) -> None:
        with pytest.raises(StreamFailed, match=r"node node-1 at 127\.0\.0\.1:.*not valid"):
            await world.kubelet().execute(pod(), "a", EXEC_OPTIONS)
        with pytest.raises(StreamFailed, match="not valid"):
            await world.kubelet().log(pod(), "a", LogOptions())

    for serving in (
        keys.make("other", "", "", "127.0.0.1"),  # of another authority
        keys.make("ca", "", "", "127.0.0.2", "node-1"),  # for another address
    ):
        assert not run(keys, body, serving=serving).containers.executed


def test_stream_10_a_port_of_several_nodes_serves_the_one_of_the_header_host(keys: Keys) -> None:
    # Shows STREAM-10.d.
    async def body(world: World) -> None:
        log = "/containerLogs/default/web/a"
        assert await world.get(log, host="node-1:10250") == (200, b"one\ntwo\n")
        assert (await world.get(log, host="node-2"))[0] == 404  # another node's pod
        assert (await world.get("/healthz", host="127.0.0.1:10250"))[0] == 404

    run(keys, body, nodes=("node-1", "node-2"))


def test_stream_8_a_kubelet_that_is_away_is_an_error_with_its_address(keys: Keys) -> None:
    # Shows STREAM-8.g.
    async def main() -> None:
        pair = keys.make("ca", "a", "system:masters")
        kubelet = RemoteKubelet("node-9", "127.0.0.1", 1, keys.client(*pair))
        for attempt in (
            kubelet.execute(pod(), "a", EXEC_OPTIONS), kubelet.log(pod(), "a", LogOptions()), kubelet.connect(pod(), 80),
        ):  # fmt: skip
            with pytest.raises(StreamFailed, match=r"node node-9 at 127\.0\.0\.1:1: "):
                await attempt

    asyncio.run(main())
