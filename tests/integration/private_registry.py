"""A registry with one image, for users with a password: the parts of the OCI distribution
specification that a pull needs.

    private_registry.py PORT USER:PASSWORD LAYER.tar
"""

import hashlib
import json
import sys
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

DOCKER = "application/vnd.docker"
MANIFEST = f"{DOCKER}.distribution.manifest.v2+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def serve(port: int, login: str, layer: bytes) -> None:
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    ).encode()
    parts = {
        kind: {"mediaType": f"{DOCKER}.{name}", "size": len(content), "digest": digest_of(content)}
        for kind, name, content in (
            ("config", "container.image.v1+json", config),
            ("layer", "image.rootfs.diff.tar", layer),
        )
    }
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": parts["config"],
            "layers": [parts["layer"]],
        }
    ).encode()
    blobs = {digest_of(content): content for content in (config, layer, manifest)}
    expected = f"Basic {b64encode(login.encode()).decode()}"

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="private"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            kind, _, name = self.path.rpartition("/")
            content = manifest if name == "1" else blobs.get(name, b"{}")
            self.send_response(200)
            is_manifest = kind.endswith("/manifests")
            self.send_header("Content-Type", MANIFEST if is_manifest else "application/json")
            self.send_header("Docker-Content-Digest", digest_of(content))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", port), Registry)
    print(flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes())
