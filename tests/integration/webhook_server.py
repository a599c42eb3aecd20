"""A webhook server as a process of its own, over TLS: what it does is in the path of the URL. Its
port is a given one, or a free one, which it writes into a file."""

import base64
import json
import os
import ssl
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATCH = base64.b64encode(
    json.dumps([{"op": "add", "path": "/metadata/labels", "value": {"mutated": "yes"}}]).encode()
).decode()


def converted(request: dict[str, Any]) -> dict[str, Any]:
    """The objects of a ConversionReview: v1 has `host: a:1`, v2 has `name: a, port: 1`."""
    found = []
    for one in request["objects"]:
        made = {**one, "apiVersion": request["desiredAPIVersion"]}
        if made["apiVersion"].endswith("v2"):
            if "host" in made:
                made["name"], _, made["port"] = made.pop("host").partition(":")
        elif "name" in made:
            made["host"] = f"{made.pop('name')}:{made.pop('port')}"
        found.append(made)
    return {"convertedObjects": found, "result": {"status": "Success"}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        review = json.loads(body)
        uid = review["request"]["uid"]
        path = self.path.partition("?")[0].split("/")
        response: dict[str, Any] = {"uid": uid, "allowed": True}
        match path[1]:
            case "deny":
                response |= {"allowed": False, "status": {"code": 403, "message": "this is denied"}}
            case "warn":
                response["warnings"] = ["mind the step"]
            case "who":
                response["warnings"] = [f"seen: {self.headers.get('authorization', 'nobody')}"]
            case "patch":
                response |= {"patchType": "JSONPatch", "patch": PATCH}
            case "slow":
                time.sleep(float(path[2]))
            case "silent":
                time.sleep(60)
                return
            case "drip":
                self.send_response(200)
                self.end_headers()
                for _ in range(600):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.1)
                return
            case "huge":
                self.send_response(200)
                self.end_headers()
                for _ in range(1 << 10):
                    self.wfile.write(b"x" * (1 << 20))
                return
            case "redirect":
                self.send_response(307)
                self.send_header("location", "/allow")
                self.send_header("content-length", "0")
                self.end_headers()
                return
            case "uid":
                response["uid"] = "another"
            case "back":  # writes the same kind of object, which is asked about too
                call_back(review["request"])
            case "convert":
                response = {"uid": uid, **converted(review["request"])}
            case "break":
                response = {"uid": uid, "result": {"status": "Failed", "message": "no way"}}
        kind = {"apiVersion": review["apiVersion"], "kind": review["kind"]}
        answer = json.dumps({**kind, "response": response}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """No log."""


def call_back(request: dict[str, Any]) -> None:
    server, token = os.environ["API_SERVER"], os.environ["API_TOKEN"]
    name = f"{request['name']}-x"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    asked = urllib.request.Request(
        f"{server}/api/v1/namespaces/default/configmaps",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    try:
        urllib.request.urlopen(asked, context=ssl._create_unverified_context(), timeout=20).read()
    except OSError:
        return


def main() -> None:
    certificate, key, port_file = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    port = int(port_file) if port_file.isdigit() else 0
    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    if not port:
        Path(port_file).write_text(str(server.server_address[1]))
    server.serve_forever()


if __name__ == "__main__":
    main()
