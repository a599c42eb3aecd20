"""A served cluster whose users are those of another issuer (spec/oidc.md)."""

import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import yaml
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from fake_cluster import FakeCluster

from refk8s.components.credentials import load_credentials
from refk8s.components.listening import names_of


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class _Issuer:
    """An issuer at an address of this machine."""

    def __init__(self, directory: Path) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        credentials = load_credentials(directory, names_of("127.0.0.1", "localhost", "127.0.0.1"))
        self.authority = credentials.authority
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                numbers = outer.key.public_key().public_numbers()
                n = _encoded(numbers.n.to_bytes(256, "big"))
                documents: dict[str, Any] = {
                    "/.well-known/openid-configuration": {
                        "issuer": outer.url,
                        "jwks_uri": f"{outer.url}/keys",
                    },
                    "/keys": {"keys": [{"kty": "RSA", "kid": "k", "n": n, "e": "AQAB"}]},
                }
                body = json.dumps(documents[self.path]).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(credentials.certificate, credentials.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, **claims: Any) -> str:
        whole = {"iss": self.url, "aud": "kubectl", "exp": int(time.time()) + 600, **claims}
        text = ".".join(
            [_encoded(json.dumps(one).encode()) for one in ({"alg": "RS256", "kid": "k"}, whole)]
        )
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_encoded(signature)}"


def test_oidc_2_a_user_of_another_issuer_is_served(tmp_path: Path) -> None:
    issuer = _Issuer(tmp_path / "issuer")
    flags = (
        "--oidc-issuer-url", issuer.url, "--oidc-client-id", "kubectl",
        "--oidc-ca-file", str(issuer.authority), "--oidc-groups-claim", "groups",
        "--oidc-username-prefix", "-",
    )  # fmt: skip
    cluster = FakeCluster(tmp_path, "--nodes", "0", *flags).start()
    try:
        kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
        server = kubeconfig["clusters"][0]["cluster"]["server"]
        unverified = ssl._create_unverified_context()

        def ask(path: str, token: str) -> int:
            request = Request(server + path, headers={"Authorization": f"Bearer {token}"})
            try:
                return int(urlopen(request, context=unverified, timeout=10).status)
            except HTTPError as error:
                return error.code

        nodes = "/api/v1/nodes"
        assert ask(nodes, issuer.token(sub="jane", groups=["system:masters"])) == 200
        assert ask(nodes, issuer.token(sub="jane")) == 403
        assert ask(nodes, issuer.token(sub="jane", exp=1)) == 401
        before, issuer.key = issuer.token(sub="jane"), rsa.generate_private_key(65537, 2048)
        assert ask(nodes, before) == 403
        assert ask(nodes, issuer.token(sub="jane")) == 401  # the new key is not known yet
    finally:
        cluster.stop()
        issuer.server.shutdown()
