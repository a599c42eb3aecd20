"""The health check node ports of a node, at real sockets. Rule NET-22 (spec/network.md)."""

import asyncio
import contextlib
import json
import socket
import urllib.error
import urllib.request

import pytest

from refk8s.adapters.linux import health_checks
from refk8s.adapters.linux.health_checks import CONNECTIONS_MAX, HealthChecks
from refk8s.core.ports import HealthCheck


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(port):
    """(status, headers, body) of a GET."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/any", timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


async def ask(port):
    return await asyncio.to_thread(get, port)


def test_net_22_the_answer_has_the_number_of_endpoints():
    async def body():
        checks, port = HealthChecks(), free_port()
        await checks.program({"ns/web": HealthCheck(port, 0)})
        code, headers, answer = await ask(port)
        assert (code, headers["X-Load-Balancing-Endpoint-Weight"]) == (503, "0")
        assert answer == {
            "service": {"namespace": "ns", "name": "web"},
            "localEndpoints": 0,
            "serviceProxyHealthy": True,
        }
        await checks.program({"ns/web": HealthCheck(port, 3)})
        code, headers, answer = await ask(port)
        assert (code, headers["X-Load-Balancing-Endpoint-Weight"]) == (200, "3")
        assert answer["localEndpoints"] == 3
        moved = free_port()
        await checks.program({"ns/web": HealthCheck(moved, 1)})
        assert (await ask(moved))[0] == 200
        with pytest.raises(OSError):
            await ask(port)
        await checks.close()
        with pytest.raises(OSError):
            await ask(moved)

    asyncio.run(body())


def test_net_22_a_port_in_use_is_tried_again_and_the_others_answer(caplog):
    async def body():
        checks, port = HealthChecks(), free_port()
        with socket.socket() as taken:
            taken.bind(("0.0.0.0", 0))
            taken.listen()
            used = taken.getsockname()[1]
            wanted = {"ns/a": HealthCheck(used, 1), "ns/b": HealthCheck(port, 1)}
            await checks.program(wanted)
            await checks.program(wanted)
            assert (await ask(port))[0] == 200
        await checks.program(wanted)
        assert (await ask(used))[0] == 200
        await checks.close()

    asyncio.run(body())
    assert len([record for record in caplog.records if "cannot be opened" in record.message]) == 1


@pytest.mark.parametrize(
    "sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, b""]
)
def test_net_22_a_client_that_sends_no_request_is_disconnected(sent, monkeypatch):
    monkeypatch.setattr(health_checks, "SECONDS_MAX", 0.5)

    async def body():
        checks, port = HealthChecks(), free_port()
        await checks.program({"ns/web": HealthCheck(port, 1)})
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert (await ask(port))[0] == 200
        await checks.close()

    asyncio.run(body())


def test_net_22_the_number_of_connections_is_bounded():
    async def body():
        checks, port = HealthChecks(), free_port()
        await checks.program({"ns/web": HealthCheck(port, 1)})
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
        with pytest.raises(OSError):
            await ask(port)
        for _, writer in idle:
            writer.close()
        for _ in range(50):
            try:
                code = (await ask(port))[0]
                break
            except OSError:
                await asyncio.sleep(0.05)
        assert code == 200
        await checks.close()

    asyncio.run(body())
