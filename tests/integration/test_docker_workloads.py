"""Workloads on a real engine, as the specifications of the conformance suite use them:
StatefulSets, DaemonSets, Jobs, resizes while containers run, and ephemeral containers; and a loaded
web application that is scaled."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker_host import IMAGE, Cluster, Host, container, make_pod, running_cluster, until

PROVISIONER = "refk8s.io/local-path"


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(docker_host, tmp_path_factory.mktemp("workloads") / "data") as cluster:
        yield cluster


def workload(kind: str, name: str, pod: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A workload of apps/v1 with the label app=name."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    return {
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }  # fmt: skip


def stateful_set(name: str, pod: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return workload("StatefulSet", name, pod, serviceName=name, **spec)


def pods(cluster: Cluster, name: str) -> dict[str, Any]:
    """The pods with the label app=name, by name."""
    found = cluster.get("pods", "-l", f"app={name}")["items"]
    return {pod["metadata"]["name"]: pod for pod in found}


def is_ready(pod: dict[str, Any]) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", [])
    )


def wait_ready(cluster: Cluster, name: str, *expected: str) -> dict[str, Any]:
    """The pods, when exactly these are there and ready."""

    def ready() -> dict[str, Any] | None:
        found = pods(cluster, name)
        good = set(found) == set(expected) and all(map(is_ready, found.values()))
        return found if good else None

    found: dict[str, Any] = until(ready, 40, f"{expected} are not ready", every=0.2)
    return found


def wait_gone(cluster: Cluster, name: str) -> None:
    until(lambda: not pods(cluster, name), 40, f"pods of {name} are left", every=0.2)


def node_name(cluster: Cluster) -> str:
    return str(cluster.get("nodes")["items"][0]["metadata"]["name"])


def test_sts_4_a_stateful_set_scales_in_order_and_waits_for_a_pod_that_is_not_ready(
    cluster: Cluster,
) -> None:
    probe = {"exec": {"command": ["test", "-f", "/tmp/well"]}, "periodSeconds": 1, "failureThreshold": 1}  # fmt: skip
    server = container("c", "touch /tmp/well; trap 'exit 0' TERM; sleep 1000 & wait")
    cluster.apply(stateful_set("web", make_pod("web", {**server, "readinessProbe": probe})))
    wait_ready(cluster, "web", "web-0")
    cluster.kubectl("exec", "web-0", "--", "busybox", "rm", "/tmp/well")
    until(lambda: not is_ready(pods(cluster, "web")["web-0"]), 10, "web-0 is ready")
    cluster.kubectl("scale", "statefulset/web", "--replicas=3")
    time.sleep(2)
    assert set(pods(cluster, "web")) == {"web-0"}
    cluster.kubectl("exec", "web-0", "--", "touch", "/tmp/well")
    wait_ready(cluster, "web", "web-0", "web-1", "web-2")
    cluster.kubectl("scale", "statefulset/web", "--replicas=0")
    wait_gone(cluster, "web")
    order = [
        event["message"].split()[2]
        for event in events(cluster, "StatefulSet", "web")
        if event["reason"] == "SuccessfulDelete"
    ]
    assert order == ["web-2", "web-1", "web-0"]
    cluster.kubectl("delete", "statefulset/web")


def test_sts_8_a_pod_that_comes_back_has_the_files_of_its_claim(cluster: Cluster) -> None:
    cluster.apply(
        {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"}, "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer"},
    )  # fmt: skip
    server = container("c", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    claim = {
        "metadata": {"name": "data"},
        "spec": {"storageClassName": "local", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }  # fmt: skip
    policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    cluster.apply(
        stateful_set("db", make_pod("db", server), volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy)
    )  # fmt: skip
    before = wait_ready(cluster, "db", "db-0")["db-0"]["metadata"]["uid"]
    cluster.kubectl("exec", "db-0", "--", "sh", "-c", "echo kept > /data/file")
    cluster.kubectl("delete", "pod", "db-0")
    until(
        lambda: pods(cluster, "db").get("db-0", {"metadata": {"uid": before}})["metadata"]["uid"] != before,
        20,
        "db-0 is not made again",
    )  # fmt: skip
    wait_ready(cluster, "db", "db-0")
    assert cluster.kubectl("exec", "db-0", "--", "cat", "/data/file") == "kept"
    cluster.kubectl("delete", "statefulset/db")
    until(lambda: not cluster.get("pvc")["items"], 20, "the claim is left")


def test_sts_14_a_pod_that_its_node_rejects_is_made_again_once_a_second(cluster: Cluster) -> None:
    port = {"ports": [{"containerPort": 8080, "hostPort": 21017}]}
    node = node_name(cluster)
    cluster.apply(make_pod("holder", container("c", **port), nodeName=node))
    until(lambda: is_ready(cluster.pod("holder")), 20, "the holder of the port does not run")
    cluster.apply(stateful_set("late", make_pod("late", container("c", **port), nodeName=node)))
    begin = time.monotonic()
    until(lambda: creations(cluster, "late") >= 2, 20, "late-0 is not made again")
    time.sleep(2)
    assert creations(cluster, "late") <= time.monotonic() - begin + 2
    cluster.kubectl("delete", "pod", "holder")
    wait_ready(cluster, "late", "late-0")
    cluster.kubectl("delete", "statefulset/late")
    wait_gone(cluster, "late")


def events(cluster: Cluster, kind: str, name: str) -> list[dict[str, Any]]:
    """What was recorded about an object, in its order."""
    selector = f"involvedObject.kind={kind},involvedObject.name={name}"
    found = cluster.get("events", "--field-selector", selector)["items"]
    return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))


def creations(cluster: Cluster, name: str) -> int:
    """How often a pod of a StatefulSet was created."""
    return sum(
        event.get("count") or 1
        for event in events(cluster, "StatefulSet", name)
        if event["reason"] == "SuccessfulCreate"
    )


def test_ds_2_a_daemon_set_follows_the_labels_of_its_node(cluster: Cluster) -> None:
    node = node_name(cluster)
    agent = make_pod("agent", container("c"), nodeSelector={"color": "blue"})
    cluster.apply(workload("DaemonSet", "agent", agent))
    cluster.kubectl("label", "node", node, "color=blue")
    until(lambda: [*map(is_ready, pods(cluster, "agent").values())] == [True], 20, "no agent runs")
    cluster.kubectl("label", "node", node, "color=green", "--overwrite")
    wait_gone(cluster, "agent")
    change = {"spec": {"template": {"spec": {"nodeSelector": {"color": "green"}}}}}
    cluster.kubectl("patch", "daemonset/agent", "-p", json.dumps(change))
    until(lambda: [*map(is_ready, pods(cluster, "agent").values())] == [True], 20, "no agent runs")
    cluster.kubectl("label", "node", node, "color-")
    wait_gone(cluster, "agent")
    cluster.kubectl("delete", "daemonset/agent")


def job(name: str, script: str, **spec: Any) -> dict[str, Any]:
    pod = make_pod(name, container("c", script), restartPolicy="Never")
    template = {"metadata": {"labels": {"app": name}}, "spec": pod["spec"]}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"completionMode": "Indexed", "template": template, **spec},
    }  # fmt: skip


def ended(cluster: Cluster, name: str, how: str) -> dict[str, Any]:
    """The status of a Job once it has this condition; and the reason of the condition."""

    def found() -> dict[str, Any] | None:
        status: dict[str, Any] = cluster.get("job", name)["status"]
        held = [
            c for c in status.get("conditions", []) if (c["type"], c["status"]) == (how, "True")
        ]
        return {**status, "why": held[0]["reason"]} if held else None

    status: dict[str, Any] = until(found, 40, f"Job {name} is not {how}", every=0.2)
    return status


def test_jobs_end_as_their_policies_say(cluster: Cluster) -> None:
    """JOB-7, JOB-8 and JOB-9 with the exit codes of real containers."""
    odd = "exit $((JOB_COMPLETION_INDEX % 2))"
    one = {"operator": "In", "values": [1]}
    cluster.apply(
        job("index", odd, completions=2, parallelism=2, backoffLimitPerIndex=1,
            podFailurePolicy={"rules": [{"action": "FailIndex", "onExitCodes": one}]}),
        job("early", odd, completions=2, parallelism=2,
            podFailurePolicy={"rules": [{"action": "FailJob", "onExitCodes": one}]}),
        job("enough", "[ $JOB_COMPLETION_INDEX = 0 ] || sleep 1000", completions=3, parallelism=2,
            successPolicy={"rules": [{"succeededIndexes": "0"}]}),
    )  # fmt: skip
    index = ended(cluster, "index", "Failed")
    assert (index["failedIndexes"], index["completedIndexes"]) == ("1", "0")
    assert (index["failed"], index["succeeded"]) == (1, 1)
    assert ended(cluster, "early", "Failed")["why"] == "PodFailurePolicy"
    enough = ended(cluster, "enough", "Complete")
    assert (enough["why"], enough["completedIndexes"]) == ("SuccessPolicy", "0")
    assert (enough.get("active", 0), enough["terminating"]) == (0, 0)
    cluster.kubectl("delete", "jobs", "--all")
    for name in ("index", "early", "enough"):
        wait_gone(cluster, name)


# The limits of a container, as the kernel shows them to it (cgroups v2, or v1).
LIMITS = """
cd /sys/fs/cgroup
if [ -f cpu.max ]; then cat cpu.max memory.max
else cat cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes; fi
"""


def test_resize_4_a_container_that_runs_gets_other_limits(cluster: Cluster) -> None:
    def resources(cpu: str, memory: str) -> dict[str, Any]:
        amounts = {"cpu": cpu, "memory": memory}
        return {"requests": amounts, "limits": amounts}

    small, large = resources("20m", "32Mi"), resources("40m", "64Mi")
    restart = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    cluster.apply(
        make_pod("resized", container("stays", resources=small), container("restarts", resources=small, resizePolicy=restart))
    )  # fmt: skip
    until(lambda: is_ready(cluster.pod("resized")), 20, "the pod does not run")
    change = {"spec": {"containers": [{"name": n, "resources": large} for n in ("stays", "restarts")]}}  # fmt: skip
    cluster.kubectl("patch", "pod", "resized", "--subresource=resize", "-p", json.dumps(change))

    def is_resized() -> bool:
        pod = cluster.pod("resized")
        pending = [c for c in pod["status"]["conditions"] if c["type"].startswith("PodResize")]
        shown = [status.get("resources") for status in pod["status"]["containerStatuses"]]
        return shown == [large, large] and not pending and is_ready(pod)

    until(is_resized, 30, "the pod is not resized", every=0.2)
    counts = {s["name"]: s["restartCount"] for s in cluster.pod("resized")["status"]["containerStatuses"]}  # fmt: skip
    assert counts == {"stays": 0, "restarts": 1}, cluster.events("resized")
    for name in counts:
        seen = cluster.kubectl("exec", "resized", "-c", name, "--", "sh", "-c", LIMITS).split()
        assert (seen[0], seen[-1]) == ("4000", str(64 * 2**20))
    cluster.kubectl("delete", "pod", "resized")


def test_kubelet_106_a_container_without_limits_has_those_of_its_pod(cluster: Cluster) -> None:
    amounts = {"cpu": "40m", "memory": "64Mi"}
    cluster.apply(make_pod("whole", container("c"), resources={"limits": amounts}))
    until(lambda: is_ready(cluster.pod("whole")), 20, "the pod does not run")
    seen = cluster.kubectl("exec", "whole", "--", "sh", "-c", LIMITS).split()
    assert (seen[0], seen[-1]) == ("4000", str(64 * 2**20))
    cluster.kubectl("delete", "pod", "whole")


def test_an_ephemeral_container_joins_a_pod_that_runs(cluster: Cluster) -> None:
    cluster.apply(make_pod("joined", container("c")))
    until(lambda: is_ready(cluster.pod("joined")), 20, "the pod does not run")
    for number in (1, 2):
        debugger = {"name": f"d{number}", "image": IMAGE, "stdin": True, "tty": True, "command": ["/bin/sh"]}  # fmt: skip
        change = {"spec": {"ephemeralContainers": [debugger]}}
        cluster.kubectl("patch", "pod", "joined", "--subresource=ephemeralcontainers", "-p", json.dumps(change))  # fmt: skip
        until(
            lambda n=number: [
                "running" in status["state"]
                for status in cluster.pod("joined")["status"].get("ephemeralContainerStatuses", [])
            ] == [True] * n,
            20,
            "an ephemeral container does not run",
        )  # fmt: skip
    assert cluster.kubectl("exec", "joined", "-c", "d2", "--", "hostname") == "joined"
    cluster.kubectl("delete", "pod", "joined")


def test_kubelet_21_an_image_that_is_corrected_is_used_at_once(cluster: Cluster) -> None:
    wrong = {**container("c"), "image": "127.0.0.1:1/none:1"}
    cluster.apply(make_pod("corrected", wrong))

    def waits() -> bool:
        statuses = cluster.pod("corrected")["status"].get("containerStatuses", [])
        return bool(statuses) and "Pull" in statuses[0]["state"]["waiting"]["reason"]

    until(waits, 20, "the image is not missing")
    begin = time.monotonic()
    cluster.kubectl("set", "image", "pod/corrected", f"c={IMAGE}")
    until(lambda: is_ready(cluster.pod("corrected")), 30, "the pod does not run")
    assert time.monotonic() - begin < 9, "the new image waited for the back-off of the old one"
    cluster.kubectl("delete", "pod", "corrected")


def test_pod_15_a_failed_pod_names_the_init_container_that_failed(cluster: Cluster) -> None:
    inits = [container("good", "exit 0"), container("bad", "exit 1")]
    cluster.apply(make_pod("broken", container("c"), initContainers=inits, restartPolicy="Never"))
    until(lambda: cluster.pod("broken")["status"].get("phase") == "Failed", 20, "it has not failed")
    held = {c["type"]: c for c in cluster.pod("broken")["status"]["conditions"]}["Initialized"]
    assert (held["status"], held["reason"]) == ("False", "ContainersNotInitialized")
    assert held["message"] == "containers with incomplete status: [bad]"
    cluster.kubectl("delete", "pod", "broken")


def test_rt_40_a_container_reads_the_files_of_an_image(cluster: Cluster) -> None:
    # Shows RT-40.a RT-40.b.
    mount = {"volumeMounts": [{"name": "image", "mountPath": "/image"}]}
    main = container("c", **mount)
    volumes = [{"name": "image", "image": {"reference": IMAGE}}]
    cluster.apply(make_pod("shown", main, volumes=volumes))
    until(lambda: is_ready(cluster.pod("shown")), 30, "the pod does not run")
    same = "cmp /bin/busybox /image/bin/busybox && ! touch /image/new 2>/dev/null && echo same"
    assert cluster.kubectl("exec", "shown", "--", "sh", "-c", same) == "same"
    assert not cluster.host.containers("-a", "--filter", "label=refk8s.type=copy")
    cluster.kubectl("delete", "pod", "shown")


# --- autoscaling ----------------------------------------------------------------------------------

PAGE = """#!/bin/sh
i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done
echo "Content-Type: text/plain"; echo; echo $i
"""
PORT = 8080


def web_application(name: str) -> list[dict[str, Any]]:
    """A web server whose answers take processor time, its Service, and an autoscaler."""
    amounts = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
    mount = {"name": "pages", "mountPath": "/www/cgi-bin"}
    server = container("c", f"exec httpd -f -p {PORT} -h /www", resources=amounts)
    server |= {"volumeMounts": [mount], "readinessProbe": {"tcpSocket": {"port": PORT}}}
    pages = {"name": "pages", "configMap": {"name": name, "defaultMode": 0o755}}
    metadata = {"name": name}
    half = {"type": "Utilization", "averageUtilization": 50}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"work": PAGE}},
        workload("Deployment", name, make_pod(name, server, volumes=[pages]), replicas=1),
        {
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"selector": {"app": name}, "ports": [{"port": PORT}]},
        },
        {
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "minReplicas": 1, "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": half}}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        },
    ]  # fmt: skip


def test_hpa_4_a_loaded_web_application_grows_and_shrinks_again(cluster: Cluster) -> None:
    """HPA-4 and HPA-8: the load is requests of another pod to the Service."""
    cluster.apply(*web_application("shop"))
    address = until(
        lambda: cluster.get("service", "shop")["spec"].get("clusterIP"), 10, "no address"
    )
    url = f"http://{address}:{PORT}/cgi-bin/work"
    visitor = container("c", f"while :; do wget -q -O - {url} || sleep 0.2; done")
    cluster.apply(make_pod("visitor", visitor))

    def replicas() -> int:
        return int(cluster.get("deployment", "shop")["spec"]["replicas"])

    until(lambda: replicas() == 2, 150, "it does not grow", every=1)
    until(lambda: len(pods(cluster, "shop")) == 2, 30, "no second pod", every=0.5)
    cluster.kubectl("delete", "pod", "visitor")
    until(lambda: replicas() == 1, 150, "it does not shrink", every=1)
    told = dict.fromkeys(message for _, message in cluster.events("shop"))
    assert any(one.startswith("New size: 2; reason: cpu resource utilization") for one in told)
    assert "New size: 1; reason: All metrics below target" in told
    cluster.kubectl("delete", "deployment,service,hpa,configmap", "shop")
    wait_gone(cluster, "shop")
