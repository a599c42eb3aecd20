"""The proxy subresources: names, ports and endpoints, headers, links, and a whole server with a
destination. Rules STREAM-11 ... STREAM-16."""

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st
from test_http import TOKEN, USER, a_listener, a_server

from refk8s.components import proxy as proxying
from refk8s.components.client.exchange import Answer, ask, dial
from refk8s.components.http import Front
from refk8s.components.pod_streams import PodStreams
from refk8s.core.api import resources
from refk8s.core.api.addresses import is_proxyable
from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    DaemonEndpoint,
    Node,
    NodeDaemonEndpoints,
    NodeStatus,
    ObjectReference,
    Pod,
    PodIP,
    PodSpec,
    PodStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.proxy import (
    HOP_BY_HOP,
    PATHS,
    Named,
    Origin,
    choose_pod_port,
    compute_headers,
    compute_request,
    is_endpoint_of,
    list_endpoints,
    rest_of,
    split_name,
)
from refk8s.core.apiserver.proxy_links import Place, rewrite_html, rewrite_url
from refk8s.core.apiserver.route import route
from refk8s.core.ports import PodsListed, SandboxStatus, StreamFailed
from refk8s.core.store import Put, Txn

PODS = "/api/v1/namespaces/default/pods"
PLACE = Place(f"{PODS}/web/proxy", "localhost:6443", "10.0.0.1:80")


# --- the destination ------------------------------------------------------------------------------


@given(
    st.sampled_from(["", "http", "https", "ftp"]),
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True),
    st.sampled_from(["", "80", "web"]),
)
def test_stream_11_a_name_has_a_scheme_and_a_port(scheme: str, name: str, port: str) -> None:
    # Shows STREAM-11.a.
    text = f"{scheme}:{name}:{port}" if scheme else f"{name}:{port}" if port else name
    if scheme == "ftp":
        with pytest.raises(ApiError, match="invalid pod request"):
            split_name(text, "pod")
    else:
        assert split_name(text, "pod") == Named(scheme or "http", name, port)


@given(st.text("ab:/.-%@\0A", max_size=8))
@example("::")
@example(":web:80")
def test_stream_11_any_other_name_is_refused(text: str) -> None:
    try:
        named = split_name(text, "service")
    except ApiError as error:
        assert error.status.code == 400
        return
    assert named.name in text and not set(named.name) & set("/:%@\0")


@given(st.sampled_from(["", "/", "/a", "/a%2Fb/..//c", "/?x", "/proxy/proxy"]))
def test_stream_11_the_rest_of_the_path_stays_as_it_is_encoded(rest: str) -> None:
    # Shows STREAM-11.c.
    for prefix in (f"{PODS}/web:80/proxy", "/api/v1/nodes/n/proxy"):
        path = (prefix + rest).partition("?")[0]
        assert rest_of(path.encode()) == rest.partition("?")[0]
        target: Any = route("GET", path, "")
        assert (target.verb, target.subresource) == ("connect", "proxy")
    for other in (
        f"{PODS}/web/exec",
        f"{PODS}%2Fweb/proxy",
        "/api/v1/namespaces/proxy/pods/x/exec",
    ):
        assert PATHS.fullmatch(other.encode()) is None


def a_pod(name: str = "web", ip: str = "10.0.0.1", ports: tuple[int, ...] = ()) -> Pod:
    declared = tuple([ContainerPort(container_port=port) for port in ports]) or None
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=f"uid-{name}"),
        spec=PodSpec(containers=(Container(name="a", ports=declared),), node_name="node-1"),
        status=PodStatus(pod_ip=ip, pod_ips=(PodIP(ip=ip),)),
    )


def test_stream_12_the_port_of_a_pod() -> None:
    # Shows STREAM-12.a, STREAM-12.b.
    assert choose_pod_port(a_pod(), Named("http", "web")) == 80
    assert choose_pod_port(a_pod(), Named("https", "web")) == 443
    assert choose_pod_port(a_pod(ports=(8080, 9090)), Named("https", "web")) == 8080
    assert choose_pod_port(a_pod(ports=(8080,)), Named("http", "web", "9090")) == 9090
    for text in ("0", "65536", "http", "-1", "+1", "1e3", "٣", "000080"):
        with pytest.raises(ApiError) as refused:
            choose_pod_port(a_pod(), Named("http", "web", text))
        assert refused.value.status.code == 400


def a_service(*ports: tuple[str, int]) -> Service:
    listed = tuple([ServicePort(name=name or None, port=port) for name, port in ports])
    return Service(
        metadata=ObjectMeta(name="web", namespace="default"), spec=ServiceSpec(ports=listed)
    )


def an_endpoint(pod: str, address: str, ready: bool | None = True, **target: str) -> Endpoint:
    reference = ObjectReference(kind="Pod", name=pod, namespace="default", uid=f"uid-{pod}")
    if target:
        reference = ObjectReference(**target)  # type: ignore[arg-type]
    conditions = EndpointConditions(ready=ready)
    return Endpoint(addresses=(address,), conditions=conditions, target_ref=reference)


def a_slice(endpoints: tuple[Endpoint, ...], *ports: tuple[str, int]) -> EndpointSlice:
    listed = tuple([EndpointPort(name=name, port=port) for name, port in ports])
    labels = {"kubernetes.io/service-name": "web"}
    metadata = ObjectMeta(name="web-1", namespace="default", labels=labels)
    return EndpointSlice(metadata=metadata, address_type="IPv4", endpoints=endpoints, ports=listed)


def test_stream_13_a_service_is_reached_by_the_name_or_number_of_a_port() -> None:
    # Shows STREAM-13.a, STREAM-13.b.
    service = a_service(("http", 80), ("", 81))
    slices = [a_slice((an_endpoint("a", "10.0.0.1"),), ("http", 8080), ("", 8081))]
    for text, port in (("http", 8080), ("80", 8080), ("", 8081), ("81", 8081)):
        [found] = list_endpoints(service, Named("http", "web", text), slices)
        assert (found.pod, found.port) == ("a", port)
    assert list_endpoints(service, Named("http", "web", "https"), slices) == []
    with pytest.raises(ApiError, match="no service port 82 found for service") as refused:
        list_endpoints(service, Named("http", "web", "82"), slices)
    assert refused.value.status.code == 503


def test_stream_13_only_ready_endpoints_that_are_pods_of_the_namespace_count() -> None:
    # Shows STREAM-13.d.
    endpoints = (
        an_endpoint("ready", "10.0.0.1"),
        an_endpoint("unknown", "10.0.0.2", None),
        an_endpoint("failing", "10.0.0.3", False),
        an_endpoint("x", "10.0.0.4", kind="Node", name="node-1"),
        an_endpoint("x", "10.0.0.5", kind="Pod", name="other", namespace="elsewhere"),
        Endpoint(addresses=("10.0.0.9",)),
    )
    found = list_endpoints(
        a_service(("", 80)), Named("http", "web"), [a_slice(endpoints, ("", 80))]
    )
    assert [each.pod for each in found] == ["ready", "unknown"]
    assert is_endpoint_of(found[0], a_pod("ready", "10.0.0.1"))
    assert not is_endpoint_of(found[0], a_pod("ready", "10.0.0.7"))
    assert not is_endpoint_of(found[0], a_pod("again", "10.0.0.1"))


@given(
    st.ip_addresses().map(str)
    | st.sampled_from(["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "255.255.255.255", "localhost", "", "10.0.0.1%x", "0x7f000001", "127.1"])
)  # fmt: skip
def test_stream_14_no_address_of_this_machine_is_connected_to(address: str) -> None:
    # Shows STREAM-14.c.
    import ipaddress

    if is_proxyable(address):
        found = ipaddress.ip_address(address)
        found = getattr(found, "ipv4_mapped", None) or found
        assert not (found.is_loopback or found.is_link_local or found.is_unspecified)
    else:
        assert address not in ("10.0.0.1", "fd00::1")
    assert is_proxyable("10.0.0.1") and is_proxyable("fd00::1")


# --- the headers ----------------------------------------------------------------------------------

NAMES = st.sampled_from([
    b"host", b"cookie", b"accept", b"Authorization", b"connection", b"x-debug", b"keep-alive", b"te", b"upgrade", b"expect",
    b"impersonate-user", b"X-Remote-User", b"x-remote-extra-a", b"proxy-authorization", b"transfer-encoding", b"content-length", b"x-forwarded-for",
])  # fmt: skip
HEADERS = st.lists(
    st.tuples(NAMES, st.sampled_from([b"1", b"x-debug, close", b"a\r\nb: c", b"chunked", b"\0"])),
    max_size=8,
)


@given(HEADERS, st.sampled_from([b"", b"websocket"]))
def test_stream_15_the_destination_gets_no_credentials_and_no_headers_of_the_connection(
    headers: list[tuple[bytes, bytes]], upgrade: bytes
) -> None:
    # Shows STREAM-15.b, STREAM-15.c.
    origin = Origin("192.0.2.7", "localhost:6443", f"{PODS}/web/proxy")
    head = compute_request("POST", "/a?b", headers, origin, upgrade)
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == b"POST /a?b HTTP/1.1" and b"" not in lines
    found = [line.partition(b": ")[0].lower() for line in lines]
    for secret in (
        b"authorization",
        b"impersonate-user",
        b"x-remote-user",
        b"x-remote-extra-a",
        b"proxy-authorization",
        b"te",
        b"expect",
        b"b",
    ):
        assert secret not in found
    if any(name == b"connection" and b"x-debug" in value for name, value in headers):
        assert b"x-debug" not in found
    assert (b"upgrade" in found) == bool(upgrade)
    assert not (b"transfer-encoding" in found and b"content-length" in found)
    assert found.count(b"x-forwarded-for") == 1
    forwarded = next(line for line in lines if line.startswith(b"x-forwarded-for"))
    assert forwarded.endswith(b"192.0.2.7")
    assert f"x-forwarded-uri: {PODS}/web/proxy/a".encode() in lines


@given(HEADERS)
def test_stream_15_the_client_gets_no_headers_of_the_connection(
    headers: list[tuple[bytes, bytes]],
) -> None:
    # Shows STREAM-15.b, STREAM-15.d, STREAM-15.e.
    allowed = (b"Access-Control-Allow-Origin", b"*")
    found = compute_headers([*headers, allowed, (b"set-cookie", b"a=b")])
    assert (b"set-cookie", b"a=b") in found
    for name, value in found:
        assert name not in HOP_BY_HOP and not name.startswith(b"access-control-allow-")
        assert not set(value) & set(b"\r\n\0")


# --- links ----------------------------------------------------------------------------------------

SEGMENTS = st.lists(st.sampled_from(["a", "..", ".", "", "%2e%2e", "proxy"]), max_size=5)


@given(st.sampled_from(["", "http://10.0.0.1:80", "//localhost:6443", "https://other", "//other", "x:"]), st.booleans(), SEGMENTS)  # fmt: skip
@example("", True, ["", "", "a"])
def test_stream_16_a_link_leads_through_the_proxy_or_to_another_host(
    host: str, is_absolute: bool, segments: list[str]
) -> None:
    # Shows STREAM-16.a, STREAM-16.b, STREAM-16.c.
    url = (
        host + ("/" if is_absolute or host.endswith(("80", "43", "r")) else "") + "/".join(segments)
    )
    changed = rewrite_url(url, PLACE)
    parts = urlsplit(url)
    is_other = parts.netloc not in ("", PLACE.host, PLACE.destination)
    if is_other or (parts.scheme and not parts.netloc) or not parts.path.startswith("/"):
        assert changed == url
    else:
        path = changed.removeprefix("https://localhost:6443").partition("?")[0]
        assert path == PLACE.prefix or path.startswith(f"{PLACE.prefix}/")
        assert ".." not in path.split("/")
    assert rewrite_url(changed, PLACE) == changed


def test_stream_16_the_links_of_a_document() -> None:
    prefix = PLACE.prefix
    for text, wanted in (
        ('<a href="/rewriteme">test</a>', f'<a href="{prefix}/rewriteme">test</a>'),
        ("<a class=x href=/x/ id=y>", f'<a class=x href="{prefix}/x/" id=y>'),
        ("<IMG SRC='/a?b&amp;c'>", f'<IMG SRC="{prefix}/a?b&amp;c">'),
        ('<img src="a"><p title="/b">/c', '<img src="a"><p title="/b">/c'),
        ('<script>"<a href=/b>"</script><!-- <a href="/b"> --><a href="/c">', f'<script>"<a href=/b>"</script><!-- <a href="/b"> --><a href="{prefix}/c">'),
        ('<a href="/b', '<a href="/b'),
        ('<a title="x>" href="//other/b">', '<a title="x>" href="//other/b">'),
    ):  # fmt: skip
        assert rewrite_html(text, PLACE) == wanted


@given(st.text("<>a=\"' /-!hrefscipt", max_size=60))
def test_stream_16_any_document_is_read_once(text: str) -> None:
    without = rewrite_html(text, Place(""))
    assert rewrite_html(without, Place("")) == without


@pytest.mark.parametrize("piece", ['<a "', "<a ", '<a href="', "<script>", "<!--", "<a href= "])
def test_stream_16_a_hostile_document_takes_time_in_step_with_its_length(piece: str) -> None:
    def seconds(count: int) -> float:
        begin = time.process_time()
        rewrite_html(piece * count, PLACE)
        return time.process_time() - begin

    short = min(seconds(2_000) for _ in range(3))
    assert seconds(32_000) < 100 * (short + 0.002)  # quadratic: 256 times


# --- a whole server -------------------------------------------------------------------------------


@define
class Destination:
    """The pod: it keeps what it is sent and answers as told. `hold`: it does not end by itself."""

    answer: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    reads: int = 0  # bytes of the body before the answer
    hold: bool = False
    received: bytes = b""
    dialed: list[tuple[str, int]] = field(factory=list)
    ended: asyncio.Event = field(factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.received = head + await reader.readexactly(self.reads)
            writer.write(self.answer)
            while self.hold or b"101 " in self.answer:
                data = await reader.read(1 << 16)
                if not data:
                    break
                writer.write(data)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.set()
            writer.close()

    # --- the containers of its node

    def containers_of(self, node_name: str) -> "Destination | None":
        return self if node_name == "node-1" else None

    async def list_pod(self, pod_uid: str) -> PodsListed:
        if pod_uid == "uid-gone":
            return PodsListed((), ())
        return PodsListed((SandboxStatus("s", pod_uid, "default", "web", 0, True),), ())

    async def dial(self, pod: Pod, sandbox: SandboxStatus, port: int) -> Any:
        self.dialed.append((sandbox.pod_uid, port))
        if port == 81:
            raise ConnectionRefusedError(111, "Connection refused")
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return await asyncio.open_connection(*server.sockets[0].getsockname()[:2])


Ask = Callable[..., Awaitable[Answer]]


def with_server(destination: Destination, body: Callable[[Ask], Awaitable[None]]) -> None:
    async def main() -> None:
        api = await a_server(config=Config(users={TOKEN: USER}))
        endpoints = (an_endpoint("web", "10.0.0.1"), an_endpoint("liar", "10.0.0.66"))
        kubelet = NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=10250))
        node = Node(metadata=ObjectMeta(name="node-1"), status=NodeStatus(daemon_endpoints=kubelet))
        for resource, obj in (
            (resources.PODS, a_pod(ports=(8080,))),
            (resources.PODS, a_pod("liar", "169.254.169.254")),
            (resources.PODS, a_pod("gone")),
            (resources.SERVICES, a_service(("http", 80))),
            (resources.ENDPOINT_SLICES, a_slice(endpoints, ("http", 8080))),
            (resources.NODES, node),
        ):
            done = asyncio.get_running_loop().create_future()
            key = resource.key(obj.metadata.namespace or "", obj.metadata.name or "")
            api.store.submit(Txn((), (Put(key, obj),)), done.set_result)
            await done
        front = Front(api)
        front.connect = PodStreams(api, destination)  # type: ignore[arg-type]
        server, _ = await a_listener(front)
        server.passed_on = lambda path: PATHS.fullmatch(path) is not None
        port = server._listening[0].listener.getsockname()[1]

        async def request(
            method: str, path: str, *headers: str, body: bytes = b"", token: str = TOKEN
        ) -> Answer:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost:6443", *headers]
            lines += [f"Authorization: Bearer {token}"] if token else []
            lines += [f"Content-Length: {len(body)}"] if body else []
            head = "\r\n".join([*lines, "", ""]).encode() + body
            return await ask(await dial("127.0.0.1", port), head)

        try:
            await asyncio.wait_for(body(request), 30)
        finally:
            api.stop()
            await server.close(0.1)

    asyncio.run(main())


WEB = f"{PODS}/web/proxy"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_stream_11_every_method_is_passed_on_with_its_body(method: str) -> None:
    # Shows STREAM-11.b, STREAM-15.a.
    destination = Destination(reads=3)

    async def body(request: Ask) -> None:
        answer = await request(method, f"{WEB}/a%2Fb?c=d", body=b"abc")
        assert (answer.code, await answer.read(100)) == (200, b"ok")

    with_server(destination, body)
    head, _, sent = destination.received.partition(b"\r\n\r\n")
    assert head.startswith(f"{method} /a%2Fb?c=d HTTP/1.1\r\n".encode()) and sent == b"abc"
    assert TOKEN.encode() not in head and b"host: localhost:6443" in head.lower()
    assert destination.dialed == [("uid-web", 8080)]


def test_stream_11_the_answers_of_the_api_server_itself() -> None:
    # Shows STREAM-11.d, STREAM-11.e, STREAM-12.b, STREAM-13.e, STREAM-14.b.
    destination = Destination()
    services = "/api/v1/namespaces/default/services"

    async def body(request: Ask) -> None:
        for method in ("GET", "HEAD"):
            answer = await request(method, f"{WEB}?a=b")
            assert (answer.code, answer.header(b"location")) == (301, f"{WEB}/?a=b".encode())
            answer.close()
        for path, code, words in (
            (f"{PODS}/web:81/proxy/", 503, b"error trying to reach service: connection refused"),
            (f"{PODS}/web:x/proxy/", 400, b"invalid port"),
            (f"{PODS}/ftp:web:80/proxy/", 400, b"invalid pod request"),
            (f"{PODS}/none/proxy/", 404, b'pods \\"none\\" not found'),
            (f"{PODS}/gone/proxy/", 503, b"pod not found"),
            (f"{services}/web:99/proxy/", 503, b"no service port 99"),
            (f"{services}/web/proxy/", 503, b"no endpoints available for service"),
            ("/api/v1/nodes/node-1:22/proxy/", 400, b"is not that of its kubelet"),
            ("/api/v1/nodes/none/proxy/", 404, b"not found"),
        ):
            answer = await request("GET", path)
            content = await answer.read(1000)
            assert answer.code == code and words in content, content
        assert (await request("GET", f"{WEB}/", token="wrong" * 8)).code == 401

    with_server(destination, body)
    assert destination.dialed == [("uid-web", 81)]


def test_stream_13_a_service_never_leads_to_an_endpoint_that_lies() -> None:
    """STREAM-14: the address comes from the runtime, whatever the pod's status says."""
    # Shows STREAM-13.c, STREAM-13.d, STREAM-14.a, STREAM-14.b.
    destination = Destination()

    async def body(request: Ask) -> None:
        for _ in range(8):
            path = "/api/v1/namespaces/default/services/http:web:80/proxy/x"
            assert (await request("GET", path)).code == 200
        assert (await request("GET", f"{PODS}/liar:80/proxy/")).code == 200

    with_server(destination, body)
    assert destination.dialed == [("uid-web", 8080)] * 8 + [("uid-liar", 80)]


def test_stream_15_a_changed_protocol_is_copied_both_ways() -> None:
    # Shows STREAM-15.f.
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nhello"
    destination = Destination(upgrade)

    async def body(request: Ask) -> None:
        headers = (
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Key: x",
            "Sec-WebSocket-Version: 13",
        )
        answer = await request("GET", f"{WEB}/ws", *headers)
        assert answer.code == 101 and answer.header(b"sec-websocket-accept") == b"x"
        data = answer.after_upgrade()
        assert await anext(data) == b"hello"
        answer.writer.write(b"x" * 100)
        assert await anext(data) == b"x" * 100
        answer.close()
        await destination.ended.wait()

    with_server(destination, body)
    head = destination.received.lower()
    assert b"upgrade: websocket" in head and b"sec-websocket-key: x" in head


def test_stream_15_a_client_that_leaves_ends_the_connection_to_the_pod() -> None:
    # Shows STREAM-15.a.
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"

    async def body(request: Ask) -> None:
        answer = await request("GET", f"{WEB}/stream")
        assert await anext(answer.body()) == b"abc"
        answer.close()
        await destination.ended.wait()

    destination = Destination(head, hold=True)
    with_server(destination, body)


def test_stream_15_an_answer_that_breaks_off_breaks_off_for_the_client() -> None:
    # Shows STREAM-15.g.
    destination = Destination(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")

    async def body(request: Ask) -> None:
        answer = await request("GET", f"{WEB}/x")
        with pytest.raises(OSError):
            await answer.read(100)
        destination.answer = b"220 mail ready\r\n"
        assert (await request("GET", f"{WEB}/x")).code == 503

    with_server(destination, body)


def test_stream_16_documents_and_locations_are_rewritten() -> None:
    # Shows STREAM-16.a, STREAM-16.d.
    page = b'<a href="/x">y</a>'
    prefix = WEB.encode()

    async def body(request: Ask) -> None:
        for content, encoding in ((page, ""), (gzip.compress(page), "content-encoding: gzip\r\n")):
            destination.answer = (
                f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n{encoding}content-length: {len(content)}\r\n\r\n".encode()
                + content
            )
            answer = await request("GET", f"{WEB}/")
            found = await answer.read(1000)
            found = gzip.decompress(found) if encoding else found
            assert found == b'<a href="' + prefix + b'/x">y</a>'
        long = page + b" " * proxying.HTML_BYTES_MAX
        destination.answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n" + long
        answer = await request("GET", f"{WEB}/")
        assert await answer.read(1 << 21) == long
        destination.answer = (
            b"HTTP/1.1 302 Found\r\nlocation: /login?a=b\r\ncontent-length: 0\r\n\r\n"
        )
        answer = await request("GET", f"{WEB}/")
        assert (answer.code, answer.header(b"location")) == (302, prefix + b"/login?a=b")

    destination = Destination()
    with_server(destination, body)


def test_stream_11_only_so_many_requests_are_passed_on_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows STREAM-11.f.
    monkeypatch.setattr(proxying, "PROXIED_MAX", 1)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    destination = Destination(head, hold=True)

    async def body(request: Ask) -> None:
        first = await request("GET", f"{WEB}/")
        assert (await request("GET", f"{WEB}/")).code == 429
        first.close()
        await destination.ended.wait()
        destination.answer, destination.hold = Destination().answer, False
        while (await request("GET", f"{WEB}/")).code != 200:
            await asyncio.sleep(0.01)

    with_server(destination, body)


def test_stream_14_a_node_connects_to_no_address_of_its_own() -> None:
    """The Docker adapter, with an address that no sandbox may have."""
    # Shows STREAM-14.c.
    from refk8s.adapters.docker.streams.containers import DockerContainers

    async def main() -> None:
        containers = DockerContainers(None, None)  # type: ignore[arg-type]
        for ips in (("127.0.0.1",), ("169.254.169.254",), ()):
            sandbox = SandboxStatus("s", "u", "default", "web", 0, True, ips)
            with pytest.raises(StreamFailed, match="address not allowed"):
                await containers.dial(a_pod(), sandbox, 80)

    asyncio.run(main())
