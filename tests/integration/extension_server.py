"""An extension API server as a process of its own: flunders of wardle.example.com/v1alpha1, in
memory. It believes the headers of a client with a certificate of the given authority, and refuses
everybody else. Beside that: a path that says who asks, one that changes the protocol, and faults
that a file names."""

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

GROUP, VERSION = "wardle.example.com", "v1alpha1"
ROOT = f"/apis/{GROUP}/{VERSION}"
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": f"{GROUP}/{VERSION}",
    "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": VERBS, "shortNames": ["fl"]},
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get", "update"]},
        {"name": "whoami", "singularName": "whoami", "namespaced": True, "kind": "Who", "verbs": ["get"]},
    ],
}  # fmt: skip

Objects = dict[tuple[str, str], dict[str, Any]]


class Store:
    """The objects, and every change in order."""

    def __init__(self) -> None:
        self.objects: Objects = {}
        self.events: list[dict[str, Any]] = []
        self.changed = threading.Condition()

    def write(self, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            metadata = obj["metadata"]
            metadata["resourceVersion"] = str(len(self.events) + 1)
            key = metadata["namespace"], metadata["name"]
            if kind == "DELETED":
                self.objects.pop(key, None)
            else:
                self.objects[key] = obj
            self.events.append({"type": kind, "object": obj})
            self.changed.notify_all()
        return obj


STORE = Store()
MODE = Path("/dev/null")


def mode() -> str:
    return MODE.read_text().strip() if MODE.exists() else ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code: int, body: Any, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, code: int, reason: str, message: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}  # fmt: skip
        self.answer(code, {**status, "metadata": {}})

    def who(self) -> dict[str, Any]:
        headers = self.headers
        extra = {
            name[len("x-remote-extra-") :].lower(): values
            for name in headers
            if name.lower().startswith("x-remote-extra-")
            and (values := headers.get_all(name)) is not None
        }
        return {
            "users": headers.get_all("x-remote-user") or [],
            "groups": headers.get_all("x-remote-group") or [],
            "uid": headers.get("x-remote-uid"),
            "extra": extra,
            "authorization": headers.get("authorization"),
            "impersonate": headers.get("impersonate-user"),
            "forwarded": headers.get("x-forwarded-for"),
            "host": headers.get("host"),
            "path": self.path,
        }

    def handle_any(self) -> None:
        match mode():
            case "slow":
                time.sleep(30)
            case "drop":
                self.close_connection = True
                self.connection.close()
                return
            case "garbage":
                self.wfile.write(b"this is no answer\r\n\r\n")
                self.close_connection = True
                return
            case "broken":
                return self.answer(500, b"oops", "text/plain")
            case "redirect":
                self.send_response(302)
                self.send_header("location", "https://127.0.0.1:1/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()
                return
            case "liar" if urlsplit(self.path).path == ROOT:
                return self.answer(200, {"resources": [{"name": 7}] * 1000})
        peer = self.connection.getpeercert()  # type: ignore[attr-defined]
        if not peer:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            return self.refuse(401, "Unauthorized", "no certificate of the front proxy")
        self.serve()

    def serve(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("transfer-encoding") == "chunked":
            data = self.chunks()
        body = json.loads(data) if data and b"{" in data[:1] else None
        parts = url.path.removeprefix(ROOT).strip("/").split("/")
        if url.path == "/openapi/v3":
            paths = {ROOT[1:]: {"serverRelativeURL": f"/openapi/v3{ROOT}?hash=ABC"}}
            return self.answer(200, {"paths": paths})
        if url.path == f"/openapi/v3{ROOT}":
            return self.answer(200, {"openapi": "3.0.0", "info": {"title": "w", "version": "1"}, "paths": {}})  # fmt: skip
        if url.path == ROOT:
            return self.answer(200, RESOURCES)
        if "metrics.k8s.io" in url.path:
            return self.metrics(url.path.strip("/").split("/"), query)
        match parts:
            case ["namespaces", _, "whoami", *_]:
                return self.answer(200, self.who())
            case ["namespaces", _, "echo", _]:
                return self.upgrade()
            case ["namespaces", namespace, "flunders", *name]:
                return self.flunders(namespace, name, query, body)
            case ["flunders"]:
                return self.flunders("", [], query, body)
        self.refuse(404, "NotFound", "the server could not find the requested resource")

    def metrics(self, parts: list[str], query: dict[str, str]) -> None:
        """The value of each metric is `value` of the flunder of its name in the namespace."""
        group, version, *rest = parts[1:]
        if not rest:
            return self.answer(200, {"kind": "APIResourceList", "groupVersion": f"{group}/{version}", "resources": []})  # fmt: skip
        namespace, *place = rest[1:]
        known = STORE.objects.get((namespace, place[-1]))
        if known is None:
            return self.refuse(404, "NotFound", f"could not find the metric {place[-1]} for pods")
        item: dict[str, Any] = {"value": str(known["value"]), "timestamp": "2026-01-01T00:00:00Z"}
        items = [item]
        if place[0] == "pods":
            items = [
                {**item, "describedObject": {"kind": "Pod", "name": name, "namespace": namespace}}
                for name in known["pods"]
            ]
        kind = "ExternalMetricValueList" if group.startswith("external") else "MetricValueList"
        head = {"kind": kind, "apiVersion": f"{group}/{version}", "metadata": {}}
        self.answer(200, {**head, "items": items})

    def chunks(self) -> bytes:
        found = b""
        while length := int(self.rfile.readline(), 16):
            found += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def upgrade(self) -> None:
        """Sends back what it receives, in capital letters."""
        self.send_response(101)
        self.send_header("connection", "Upgrade")
        self.send_header("upgrade", "SPDY/3.1")
        self.end_headers()
        while data := self.connection.recv(1 << 16):
            self.connection.sendall(data.upper())
        self.close_connection = True

    def flunders(self, namespace: str, name: list[str], query: dict[str, str], body: Any) -> None:
        found = {
            key: obj
            for key, obj in sorted(STORE.objects.items())
            if namespace in ("", key[0]) and selects(query.get("labelSelector", ""), obj)
        }
        if name:
            return self.one(namespace, name[0], body)
        if self.command == "POST":
            metadata = body["metadata"]
            metadata.setdefault("namespace", namespace)
            metadata["uid"] = f"uid-{metadata['name']}"
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
            if (namespace, metadata["name"]) in STORE.objects:
                return self.refuse(409, "AlreadyExists", "it exists")
            return self.answer(201, STORE.write("ADDED", body))
        if self.command == "DELETE":
            for obj in found.values():
                STORE.write("DELETED", obj)
            return self.answer(200, self.list(found))
        if query.get("watch") in ("1", "true"):
            return self.watch(int(query.get("resourceVersion") or 0))
        self.answer(200, self.list(found))

    def list(self, found: Objects) -> dict[str, Any]:
        metadata = {"resourceVersion": str(len(STORE.events))}
        head = {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": metadata}
        return {**head, "items": list(found.values())}

    def one(self, namespace: str, name: str, body: Any) -> None:
        obj = STORE.objects.get((namespace, name))
        if obj is None:
            return self.refuse(404, "NotFound", f'flunders.{GROUP} "{name}" not found')
        if self.command == "DELETE":
            STORE.write("DELETED", obj)
        elif self.command == "PUT":
            obj = STORE.write("MODIFIED", body)
        elif self.command == "PATCH":
            metadata = {**obj["metadata"], **body.get("metadata", {})}
            obj = STORE.write("MODIFIED", {**obj, **body, "metadata": metadata})
        self.answer(200, obj)

    def watch(self, revision: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        while True:
            with STORE.changed:
                while len(STORE.events) <= revision:
                    STORE.changed.wait()
                events = STORE.events[revision:]
                revision = len(STORE.events)
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

    def log_message(self, *_: Any) -> None:
        """No log."""


def selects(selector: str, obj: dict[str, Any]) -> bool:
    """Whether an object has the labels of a selector `a=b,c=d`."""
    labels = obj["metadata"].get("labels") or {}
    wanted = [part.partition("=") for part in selector.split(",") if part]
    return all(labels.get(key) == value for key, _, value in wanted)


def main() -> None:
    global MODE
    certificate, key, authority, port_file, mode_file = sys.argv[1:]
    MODE = Path(mode_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cafile=authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    Path(port_file).write_text(str(server.server_address[1]))
    server.serve_forever()


if __name__ == "__main__":
    main()
