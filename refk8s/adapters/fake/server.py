"""A simulated HTTP server behind each port of a simulated pod: it names the pod. Rule SHELL-10."""

import asyncio
import contextlib
import socket

HEAD_BYTES_MAX = 1 << 15
BODY_BYTES_MAX = 1 << 24
_serving: set["asyncio.Task[None]"] = set()


async def serve(
    pod: str, namespace: str, node: str, port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the server of this pod and port."""
    ours, theirs = socket.socketpair()
    near = await asyncio.open_connection(sock=ours, limit=HEAD_BYTES_MAX)
    far = await asyncio.open_connection(sock=theirs, limit=HEAD_BYTES_MAX)
    task = asyncio.ensure_future(
        _answer(*far, f"pod: {pod}\nnamespace: {namespace}\nnode: {node}\nport: {port}\n")
    )
    _serving.add(task)
    task.add_done_callback(_serving.discard)
    return near


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, facts: str) -> None:
    """Answer requests in order, until the client closes or sends invalid HTTP."""
    with contextlib.suppress(
        OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError
    ):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            method, target, version = first.split(" ")
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines)
            }
            left = int(headers.get("content-length") or 0)
            if not version.startswith("HTTP/1.") or not 0 <= left <= BODY_BYTES_MAX:
                break
            while left and (data := await reader.read(min(left, HEAD_BYTES_MAX))):
                left -= len(data)
            body = f"{facts}request: {method} {target}\n".encode()
            closes = headers.get("connection", "").lower() == "close" or version == "HTTP/1.0"
            answer = [
                "HTTP/1.1 200 OK",
                "Content-Type: text/plain; charset=utf-8",
                f"Content-Length: {len(body)}",
                "Server: refk8s-fake",
            ]
            answer += ["Connection: close"] if closes else []
            writer.write(
                "\r\n".join([*answer, "", ""]).encode("latin-1")
                + (b"" if method == "HEAD" else body)
            )
            await writer.drain()
            if closes:
                break
    writer.close()
