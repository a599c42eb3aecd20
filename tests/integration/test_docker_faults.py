"""Faults of a Docker host: the kubelet is killed at any point of a pod's life, the engine hangs,
the API server is away. After each of them there is no duplicate container, no pod is twice in a
Service, nothing that was acknowledged is lost, and nothing is left behind. Rules KUBELET-40,
LOOP-8, PROC-5.

The simulator has the same faults: crash, stop; runtime, engine; stop-server (spec/simulation.md).
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from docker_host import container, until
from test_docker_kubelet_process import World, world

__all__ = ["world"]  # a fixture

ROUNDS = 5
WAYS = ("scale", "delete", "template")


class Life:
    """A Deployment with a Service, whose pods are made and removed all the time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.replicas = 2
        self.version = 0

    def objects(self) -> list[Any]:
        labels = {"app": "web"}
        main = container(
            "main", "httpd -p 8080 -h /www; trap 'exit 0' TERM; sleep 1000 & wait",
            readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        )  # fmt: skip
        spec = {
            "terminationGracePeriodSeconds": 2,
            "initContainers": [container("first", "exec true")],
            "containers": [main, container("second")],
        }
        deployment = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": self.replicas, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": {"version": str(self.version)}},
                    "spec": spec,
                },
            },
        }  # fmt: skip
        service = {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        }  # fmt: skip
        return [deployment, service]

    def apply(self) -> None:
        objects = {"apiVersion": "v1", "kind": "List", "items": self.objects()}
        self.world.kubectl("apply", "-f", "-", stdin=json.dumps(objects))

    def change(self, how: str) -> None:
        if how == "scale":
            self.replicas = 5 - self.replicas
            self.apply()
        elif how == "delete":
            names = [pod["metadata"]["name"] for pod in self.pods()]
            self.world.kubectl("delete", "pod", names[0], "--wait=false")
        else:
            self.version += 1
            self.apply()

    def pods(self) -> list[Any]:
        return self.world.get("pods", "-l", "app=web")["items"]

    def running(self) -> Counter[str]:
        """How many containers run, by "uid of the pod/name". Sandboxes have no name.

        Each is inspected: a list shows a dead container as running until the engine has removed
        its network.
        """
        host = self.world.host
        form = (
            '{{if .State.Running}}{{index .Config.Labels "refk8s.pod-uid"}}/'
            '{{with index .Config.Labels "refk8s.container"}}{{.}}{{end}}{{end}}'
        )
        ids = host.containers("--filter", "label=refk8s.pod-uid")
        text = subprocess.run(  # it fails if one of them has been removed meanwhile
            ["docker", "-H", host.address, "inspect", "--format", form, *ids],
            capture_output=True,
            text=True,
        ).stdout
        return Counter(text.split())

    def check_no_duplicate(self) -> None:
        twice = {which: n for which, n in self.running().items() if n > 1}
        assert not twice, f"run more than once: {twice}"

    def is_whole(self) -> bool:
        """Each pod is ready, has its containers and is in the Service, once."""
        self.check_no_duplicate()
        pods = self.pods()
        ready = [pod for pod in pods if is_ready(pod)]
        if len(pods) != self.replicas or len(ready) != self.replicas:
            return False
        if {pod["metadata"]["annotations"]["version"] for pod in pods} != {str(self.version)}:
            return False
        wanted = Counter(
            f"{pod['metadata']['uid']}/{name}" for pod in pods for name in ("", "main", "second")
        )
        slices = self.world.get("endpointslices", "-l", "kubernetes.io/service-name=web")["items"]
        addresses = sorted(
            address
            for each in slices
            for endpoint in each["endpoints"] or ()
            if endpoint["conditions"]["ready"]
            for address in endpoint["addresses"]
        )
        return self.running() == wanted and addresses == sorted(p["status"]["podIP"] for p in pods)

    def remove(self) -> None:
        self.world.kubectl("delete", "deployment,service", "web", "--cascade=foreground")
        until(lambda: not self.pods(), 30, "the pods are not deleted")
        until(lambda: self.world.containers() == [], 20, "containers are left")


def is_ready(pod: Any) -> bool:
    conditions = pod["status"].get("conditions", ())
    alive = "deletionTimestamp" not in pod["metadata"]
    return alive and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def while_stopped(send: Callable[[int], None], seconds: float, act: Callable[[], None]) -> None:
    """Act while a process does not run, for so long at least."""
    send(signal.SIGSTOP)
    try:
        begin = time.monotonic()
        act()
        time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
    finally:
        send(signal.SIGCONT)


def test_no_fault_of_a_docker_host_duplicates_or_leaks_anything(world: World) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance, life = random.Random(seed), Life(world)
    until(lambda: "worker" in world.kubectl("get", "nodes"), 20, "there is no node")
    life.apply()

    # the kubelet is killed at any point of the life of pods
    for number in range(ROUNDS):
        life.change(WAYS[number % len(WAYS)] if number else "scale")
        time.sleep(chance.random() * 2.5)
        world.kubelet.kill()
        life.check_no_duplicate()
        world.kubelet.begin()
    world.kubelet.wait_until_ready()
    until(life.is_whole, 40, "after kills of the kubelet")

    # the engine hangs: what runs goes on, and what is wanted meanwhile comes later, once
    before = life.running()
    engine = world.host.engine
    assert engine is not None
    while_stopped(engine.send_signal, 6, lambda: life.change("scale"))
    until(life.is_whole, 40, "after the engine hung")
    restarts = [
        s["restartCount"] for pod in life.pods() for s in pod["status"]["containerStatuses"]
    ]
    assert set(restarts) == {0}
    if life.replicas > 2:
        assert not before - life.running(), "what ran before has been replaced"

    # the API server is killed: what runs goes on, and nothing acknowledged is lost
    before = life.running()
    life.change("scale")
    replicas = life.replicas
    world.server.kill()
    time.sleep(4)
    life.check_no_duplicate()
    world.server.start()
    assert world.get("deployment", "web")["spec"]["replicas"] == replicas
    until(life.is_whole, 40, "after the API server was away")
    fewer, more = sorted((before, life.running()), key=lambda each: each.total())
    assert not fewer - more, "what ran before has been replaced"

    life.remove()
    assert world.kubelet.stop() == 0, world.kubelet.said()
    assert "refk8s-" not in world.host.docker("network", "ls")
