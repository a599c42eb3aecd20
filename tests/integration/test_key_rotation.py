"""The key of service account tokens is replaced in a cluster that runs on. Rule HTTP-30
(spec/http.md)."""

import http.client
import ssl
from pathlib import Path

from fake_cluster import FakeCluster


def _code(cluster: FakeCluster, token: str) -> int:
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", cluster.port, context=context, timeout=30)
    connection.request("GET", "/version/", headers={"Authorization": f"Bearer {token}"})
    code = connection.getresponse().status
    connection.close()
    return code


def test_http_30_tokens_of_the_former_key_are_valid_while_it_is_given(tmp_path: Path) -> None:
    # Shows HTTP-30.e.
    def started(*flags: str) -> FakeCluster:
        return FakeCluster(tmp_path, "--nodes", "0", *flags).start()

    def token(cluster: FakeCluster) -> str:
        path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
        code, made = cluster.call("POST", path, {"spec": {"expirationSeconds": 3600}})
        assert code == 201, made
        return str(made["status"]["token"])

    cluster = started()
    where = "/api/v1/namespaces/default/serviceaccounts"
    assert cluster.call("POST", where, {"metadata": {"name": "robot"}})[0] == 201
    former = token(cluster)
    assert _code(cluster, former) == 200
    cluster.stop()

    key = tmp_path / "data/pki/sa.key"
    old = key.rename(tmp_path / "former.key")
    cluster = started("--service-account-key-file", str(old))
    present = token(cluster)
    assert present.split(".")[0] != former.split(".")[0]
    assert (_code(cluster, former), _code(cluster, present)) == (200, 200)
    assert len(cluster.call("GET", "/openid/v1/jwks")[1]["keys"]) == 2
    cluster.stop()

    cluster = started()
    assert (_code(cluster, former), _code(cluster, present)) == (401, 200)
    cluster.stop()
