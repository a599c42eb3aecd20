"""A web application on simulated nodes grows with its load and shrinks again. Rules HPA-1, HPA-4,
HPA-9 (spec/workloads/autoscaler.md)."""

import json
import subprocess
import time

from fake_cluster import FakeCluster, need_kubectl

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {refk8s/cpu-usage: 200m}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: 'web:1', resources: {requests: {cpu: 100m}}}]
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 1
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
"""


def test_hpa_1_hpa_4_hpa_9_a_loaded_application_grows_and_shrinks_again(tmp_path):
    """HPA-1, HPA-4, HPA-9: annotations of the pods are their load (SHELL-11)."""
    kubectl = need_kubectl()
    cluster = FakeCluster(tmp_path, nodes=2).start()
    try:
        base = [kubectl, "--kubeconfig", str(cluster.kubeconfig)]

        def k(*arguments: str, text: str | None = None) -> str:
            done = subprocess.run(
                [*base, *arguments], input=text, capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        def until_replicas(wanted: int) -> None:
            end = time.monotonic() + 150
            while True:
                found = json.loads(k("get", "deployment", "web", "-o", "json"))
                if found["spec"]["replicas"] == wanted:
                    return
                assert time.monotonic() < end, k("describe", "hpa", "web")
                time.sleep(1)

        k("apply", "-f", "-", text=MANIFEST)
        until_replicas(4)
        k("annotate", "pods", "-l", "app=web", "--overwrite", "refk8s/cpu-usage=1m")
        until_replicas(1)
        told = k("get", "events", "--field-selector", "reason=SuccessfulRescale", "-o", "json")
        messages = {event["message"] for event in json.loads(told)["items"]}
        assert "New size: 1; reason: All metrics below target" in messages
        assert any(
            message.startswith("New size: 4; reason: cpu resource utilization")
            for message in messages
        )
    finally:
        cluster.stop()
