"""A served cluster with an audit log (spec/audit.md)."""

import json
from pathlib import Path
from typing import Any

from fake_cluster import FakeCluster

POLICY = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources: [{group: "", resources: [configmaps]}]
- level: Metadata
"""


def test_d_143_requests_of_the_same_process_are_not_recorded(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    log = tmp_path / "audit.log"
    flags = ("--audit-policy-file", str(tmp_path / "policy.yaml"), "--audit-log-path", str(log))
    cluster = FakeCluster(tmp_path, "--nodes", "1", *flags).start()
    try:
        connection = cluster.connect()
        path = "/api/v1/namespaces/default/configmaps"
        headers = {
            "Authorization": f"Bearer {cluster.token}",
            "Content-Type": "application/json",
            "Audit-Id": "mine",
        }
        connection.request("POST", path, json.dumps({"metadata": {"name": "a"}}), headers)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Audit-Id")) == (201, "mine")
        answer.read()
        connection.request("GET", path, headers={"Authorization": "Bearer wrong"})
        assert connection.getresponse().status == 401
    finally:
        cluster.stop()
    events: list[Any] = [json.loads(line) for line in log.read_text().splitlines()]
    # the scheduler, the controllers and the kubelet have made many requests, none of them over HTTP
    assert {one["user"]["username"] for one in events} <= {"kubernetes-admin", "system:anonymous"}
    made = next(one for one in events if one["auditID"] == "mine")
    assert made["responseObject"]["metadata"]["name"] == "a"
    assert [one["responseStatus"]["code"] for one in events][-1] == 401
