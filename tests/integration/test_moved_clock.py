"""The clock of a host is set forward and back while its processes run (HOST-15, CLUSTER-11). The
fault `skew` of simulated runs (spec/simulation.md) is the same one.

Each process has a wall clock of its own (moving_clock/sitecustomize.py), which the test sets.
"""

import json
import os
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import free_port, until
from process_world import Process, kubectl

HOUR = 3600
CRON_JOB = {
    "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick"},
    "spec": {
        "schedule": "* * * * *", "successfulJobsHistoryLimit": 1000,
        "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "x", "command": ["/bin/sh", "-c", "exit 0"]}],
        }}}},
    },
}  # fmt: skip


class Clocked(Process):
    """A process with a wall clock of its own."""

    def __init__(self, directory: Path, name: str, *arguments: str) -> None:
        self.clock = directory / f"{name}.clock"
        self.set(0)
        super().__init__(
            directory, name, *arguments,
            PYTHONPATH=str(Path(__file__).parent / "moving_clock"), REFK8S_TEST_CLOCK=str(self.clock),
        )  # fmt: skip

    def set(self, ahead_seconds: int) -> None:
        """From now on its clock is so much ahead of the true time."""
        # the process has mapped the file
        descriptor = os.open(self.clock, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(descriptor, struct.pack("q", ahead_seconds * 10**9), 0)
        os.close(descriptor)


class Cluster:
    """Four processes, a Deployment with a Service, and a CronJob."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kubeconfig = directory / "a.kubeconfig"
        self.processes: dict[str, Clocked] = {}
        self.replicas = 3

    def start(self) -> None:
        directory = self.directory
        client = ("--kubeconfig", str(self.kubeconfig))
        self._start(
            "apiserver", "--store", f"sqlite:{directory}/store.db",
            "--port", str(free_port()), "--pki", str(directory / "pki"),
            "--data-dir", str(directory / "a"), *client,
        )  # fmt: skip
        own = directory / "a" / "controller-manager.kubeconfig"
        self._start(
            "controller-manager", "--use-service-account-credentials",
            "--kubeconfig", str(own), "--secure-port", "0",
        )  # fmt: skip
        self._start("scheduler", *client, "--secure-port", "0")
        self._start("kubelet", "--nodes", "3", *client, "--healthz-port", "0")

    def _start(self, name: str, *arguments: str) -> None:
        self.processes[name] = Clocked(self.directory, name, name, *arguments)
        self.processes[name].start()

    def get(self, *what: str) -> list[dict[str, Any]]:
        return json.loads(kubectl(self.kubeconfig, "get", *what, "-o", "json"))["items"]  # type: ignore[no-any-return]

    def pods(self) -> dict[str, dict[str, Any]]:
        """By uid."""
        return {pod["metadata"]["uid"]: pod for pod in self.get("pods", "-l", "app=web")}

    def is_whole(self) -> bool:
        """Whether every pod runs, and each is in the Service once."""
        pods = list(self.pods().values())
        addresses = [
            address
            for one in self.get("endpointslices", "-l", "kubernetes.io/service-name=web")
            for endpoint in one["endpoints"] or ()
            if endpoint["conditions"]["ready"]
            for address in endpoint["addresses"]
        ]
        nodes = self.get("nodes")
        return (
            len(pods) == self.replicas
            and sorted(addresses) == sorted(pod["status"].get("podIP", "") for pod in pods)
            and all(
                condition["status"] == "True"
                for one in nodes
                for condition in one["status"]["conditions"]
                if condition["type"] == "Ready"
            )
        )

    def is_renewed(self, ahead_seconds: int) -> bool:
        """Whether every Lease of a node has the time of a clock that is so much ahead."""
        leases = self.get("leases", "-n", "kube-node-lease")
        renewed = [datetime.fromisoformat(one["spec"]["renewTime"]) for one in leases]
        true_time = datetime.now(UTC)
        return all((at - true_time).total_seconds() > ahead_seconds - HOUR / 2 for at in renewed)

    def moved(self, ahead_seconds: int, *names: str) -> None:
        """Set the clocks of these processes; then the cluster works, and nothing is lost."""
        before = self.pods()
        for name in names:
            self.processes[name].set(ahead_seconds)
        self.replicas += 1
        words = f"{ahead_seconds} s ahead: {' '.join(names)}"
        kubectl(self.kubeconfig, "scale", "deployment/web", f"--replicas={self.replicas}")
        if "kubelet" in names and ahead_seconds > 0:
            until(lambda: self.is_renewed(ahead_seconds), f"{words}: no Lease has its time", 60)
        until(self.is_whole, words, 180)
        after = self.pods()
        assert before.keys() <= after.keys(), f"{words}: pods were replaced"
        for pod in after.values():
            [status] = pod["status"]["containerStatuses"]
            assert status["restartCount"] == 0, words
        for uid, pod in before.items():
            # the same container, started once
            assert after[uid]["status"]["containerStatuses"] == pod["status"]["containerStatuses"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        for process in made.processes.values():
            if process.process.poll() is None:
                process.kill()


def test_host_15_a_clock_that_is_set_forward_and_back_loses_and_doubles_nothing(
    cluster: Cluster,
) -> None:
    """Tokens of controllers end, Leases of nodes and leaders seem to be old, and a CronJob has
    missed an hour."""
    kubeconfig = cluster.kubeconfig
    kubectl(kubeconfig, "create", "deployment", "web", "--image=x", "--replicas=3")
    kubectl(kubeconfig, "expose", "deployment", "web", "--port=80")
    cron_job = kubeconfig.parent / "cron_job.json"
    cron_job.write_text(json.dumps(CRON_JOB))
    kubectl(kubeconfig, "create", "-f", str(cron_job))
    until(cluster.is_whole, "it does not begin", 90)
    every = tuple(cluster.processes)
    for name in every:
        cluster.moved(2 * HOUR, name)
        cluster.moved(0, name)
    cluster.moved(-HOUR, *every)
    cluster.moved(4 * HOUR, *every)

    def ticks() -> list[str]:
        label = "batch.kubernetes.io/cronjob-scheduled-timestamp"
        return [job["metadata"]["annotations"][label] for job in cluster.get("jobs")]

    until(ticks, "the CronJob does not tick", 90)
    found = ticks()
    assert len(found) == len(set(found)), "a time of the schedule has two Jobs"
    # of the hours that a jump has passed over, only the last time has a Job
    assert len(found) <= 20, found
    for name in every:
        assert cluster.processes[name].stop() == 0, cluster.processes[name].said()
        assert "Traceback" not in cluster.processes[name].log.read_text()
