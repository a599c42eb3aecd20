"""An API server with a file for `--admission-control-config-file`: QUOTA-9 (spec/quota.md), HOOK-13
(spec/webhooks.md)."""

import json
from pathlib import Path

from fake_cluster import FakeCluster
from test_webhooks import CONFIG_MAPS, configure, webhook
from webhook_process import WebhookServer

VERSION = "apiserver.config.k8s.io/v1"


def test_quota_9_hook_13_a_cluster_follows_the_file(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "webhooks"
    kubeconfig.write_text('users: [{name: "*", user: {token: letmein}}]')
    limited = [{"resource": "pods", "matchContains": ["requests.cpu"]}]
    hooks = {"apiVersion": VERSION, "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": str(kubeconfig)}  # fmt: skip
    quota = {"apiVersion": VERSION, "kind": "ResourceQuotaConfiguration", "limitedResources": limited}  # fmt: skip
    plugins = [
        {"name": "ResourceQuota", "configuration": quota},
        {"name": "ValidatingAdmissionWebhook", "configuration": hooks},
    ]
    file = tmp_path / "file"
    file.write_text(json.dumps({"apiVersion": VERSION, "kind": "AdmissionConfiguration", "plugins": plugins}))  # fmt: skip
    directory = tmp_path / "cluster"
    directory.mkdir()
    cluster = FakeCluster(
        directory, "--nodes", "1", "--admission-control-config-file", str(file)
    ).start()
    server = WebhookServer(tmp_path, cluster)
    try:
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
        pod = {"metadata": {"name": "a"}, "spec": {"containers": [container]}}
        code, answer = cluster.call("POST", "/api/v1/namespaces/default/pods", pod)
        assert code == 403
        assert answer["message"].endswith("insufficient quota to consume: requests.cpu")
        configure(cluster, "Validating", webhook(server, "who"))
        configure(cluster, "Mutating", webhook(server, "who"), name="m")
        connection = cluster.connect()
        headers = {"Authorization": f"Bearer {cluster.token}"}
        body = json.dumps({"metadata": {"name": "a"}})
        connection.request("POST", CONFIG_MAPS, body, headers)
        reply = connection.getresponse()
        warnings = sorted(reply.headers.get_all("warning") or ())
        assert reply.status == 201 and len(warnings) == 2
        assert "seen: Bearer letmein" in warnings[0] and "seen: nobody" in warnings[1]
    finally:
        server.stop()
        assert cluster.stop() == 0
    assert "letmein" not in cluster.log.read_text()
