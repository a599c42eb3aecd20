"""An application of three tiers on three machines, which calls itself by name, under a steady
stream of requests: rolling update, drain, loss and return of a node.

Planned changes must fail no request. The loss of a node may fail those that it had, and those sent
to its pods until it is found to be lost (NODE-1). At the end nothing is left of many pods.
"""

import difflib
import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import IMAGE, until
from docker_nodes import DockerNodes
from process_world import Process
from test_node_join import Machine, commands, is_ready

TIERS = {"web": "api", "api": "db", "db": ""}
NODE_PORT = 30088
LOST_SECONDS = 50
CALL = (
    'at=$(busybox nslookup {next} | busybox awk "/^Name/ {{ getline; print \\$2 }}"); '
    "wget -q -O- http://$at/cgi-bin/{next} | busybox tail -n 1"
)


def script(tier: str) -> str:
    """A web server that answers with its name, after that of each tier below."""
    below = TIERS[tier]
    call = f"echo $(hostname) $({CALL.format(next=below)})" if below else "echo $(hostname)"
    lines = ["#!/bin/sh", "echo", call]
    file = f"/www/cgi-bin/{tier}"
    write = "".join(f"cat >> {file} <<'EOF'\n{line}\nEOF\n" for line in lines)
    return (
        f"busybox mkdir -p /www/cgi-bin\n{write}busybox chmod +x {file}\n"
        "trap 'sleep 3; exit 0' TERM\nhttpd -f -p 8080 -h /www & wait"
    )


def objects(tier: str, replicas: int) -> list[dict[str, Any]]:
    labels = {"app": tier}
    server = {
        "name": "server", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script(tier)],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    port: dict[str, Any] = {"port": 80, "targetPort": 8080}
    kind = {"type": "NodePort"} if tier == "web" else {}
    if tier == "web":
        port["nodePort"] = NODE_PORT
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": tier},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 10, "containers": [server]},
            },
        },
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": tier},
        "spec": {**kind, "selector": labels, "ports": [port]},
    }  # fmt: skip
    return [deployment, service]


class Stream:
    """Requests to the node ports of some machines in turn, from the first one, until it is
    stopped."""

    def __init__(self, machines: list[Machine], of: int) -> None:
        self._inside = machines[0].node.inside
        self._addresses = [machine.node.node_ip for machine in machines[:of]]
        self._stop = threading.Event()
        self.answers: list[tuple[float, str]] = []  # (when it was sent, the answer; empty: none)
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(2)]

    def start(self) -> "Stream":
        for thread in self._threads:
            thread.start()
        return self

    def _send(self, number: int) -> None:
        addresses = itertools.cycle(self._addresses[number:] + self._addresses[:number])
        while not self._stop.is_set():
            url = f"http://{next(addresses)}:{NODE_PORT}/cgi-bin/web"
            sent = time.monotonic()
            done = subprocess.run(
                [*self._inside, "curl", "-sf", "-m", "3", url], capture_output=True, text=True
            )
            answer = done.stdout.strip() if done.returncode == 0 else ""
            self.answers.append((sent, answer if len(answer.split()) == 3 else ""))
            time.sleep(0.05)

    def failures(self, since: float, until: float = float("inf")) -> list[float]:
        return [at for at, answer in list(self.answers) if not answer and since <= at < until]

    def count(self, since: float) -> int:
        return sum(1 for at, answer in list(self.answers) if at >= since and answer)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Application:
    """The cluster of three machines with the application in it."""

    def __init__(self, nodes: DockerNodes, directory: Path) -> None:
        self.machines = [
            Machine(node, directory / f"home-{number}", f"host-{number}")
            for number, node in enumerate(nodes.nodes, start=1)
        ]
        self.first = self.machines[0]
        self.processes: list[Process] = []

    def start(self) -> None:
        run, create_token = commands()
        self.processes.append(self.first.process("run", run).start())
        line = self.first.run(create_token)
        joined = [machine.process("join", line).begin() for machine in self.machines[1:]]
        self.processes += joined
        for process in joined:
            process.wait_until_ready()
        for machine in self.machines:
            until(lambda machine=machine: is_ready(self.first, machine.name), 30, machine.name)
        for tier, replicas in (("db", 2), ("api", 3), ("web", 3)):
            for obj in objects(tier, replicas):
                file = self.first.home / "object.json"
                file.write_text(json.dumps(obj))
                self.first.run(f"kubectl apply -f {file}")
        for tier in TIERS:
            self.first.run(f"kubectl rollout status deployment/{tier} --timeout=60s")

    def pods(self, tier: str) -> list[Any]:
        """Those that are not being deleted."""
        found = self.first.get("pods", "-l", f"app={tier}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def nodes_of(self, tier: str) -> set[str]:
        return {pod["spec"]["nodeName"] for pod in self.pods(tier)}

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()


@pytest.fixture(scope="module")
def application(
    docker_nodes: DockerNodes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Application]:
    application = Application(docker_nodes, tmp_path_factory.mktemp("three"))
    try:
        application.start()
        yield application
    finally:
        application.stop()


# These tests tell one story, in this order.


def test_the_tiers_are_spread_and_call_each_other_by_name(application: Application) -> None:
    assert (
        application.nodes_of("web")
        == application.nodes_of("api")
        == {machine.name for machine in application.machines}
    )
    ranges = [node["spec"]["podCIDR"] for node in application.first.get("nodes")["items"]]
    assert len(set(ranges)) == 3
    stream = Stream(application.machines, 3).start()
    until(lambda: stream.count(0) >= 30, 30, "the application does not answer")
    stream.stop()
    answers = [answer.split() for _, answer in stream.answers if answer]
    for place, tier in enumerate(TIERS):
        names = {pod["metadata"]["name"] for pod in application.pods(tier)}
        assert {answer[place] for answer in answers} == names


def test_lb_2_net_7_a_load_balancer_has_the_addresses_of_the_nodes_that_serve_it(
    application: Application, docker_nodes: DockerNodes
) -> None:
    """With externalTrafficPolicy Local each node answers by its own pods only."""
    first = application.first
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "balanced"},
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "web"},
            "ports": [{"port": 8088, "targetPort": 8080}],
        },
    }  # fmt: skip
    (first.home / "balanced.json").write_text(json.dumps(service))
    first.run(f"kubectl apply -f {first.home}/balanced.json")
    addresses = sorted(machine.node.node_ip for machine in application.machines)

    def balanced() -> list[str]:
        status = first.get("service balanced")["status"]
        return [entry["ip"] for entry in status["loadBalancer"].get("ingress", ())]

    until(lambda: balanced() == addresses, 10, "no addresses")
    for machine in application.machines:
        own = {
            pod["metadata"]["name"]
            for pod in application.pods("web")
            if pod["spec"]["nodeName"] == machine.name
        }
        url = f"http://{machine.node.node_ip}:8088/cgi-bin/web"
        curl = ["curl", "-sf", "-m", "3", "--retry", "5", "--retry-connrefused", url]
        answers = [docker_nodes.switch.run(*curl).split()[0] for _ in range(4)]
        assert set(answers) <= own
    first.run("kubectl delete service balanced")


def test_planned_changes_fail_no_request(application: Application) -> None:
    first = application.first
    stream = Stream(application.machines, 3).start()
    begin = time.monotonic()
    try:
        until(lambda: stream.count(begin) >= 10, 20, "no answers")
        before = {pod["metadata"]["uid"] for pod in application.pods("api")}
        first.run("kubectl set env deployment/api VERSION=2")
        first.run("kubectl rollout status deployment/api --timeout=60s")
        assert not before & {pod["metadata"]["uid"] for pod in application.pods("api")}
        first.run("kubectl drain host-2 --delete-emptydir-data --timeout=40s")
        assert all("host-2" not in application.nodes_of(tier) for tier in TIERS)
        for tier in TIERS:
            first.run(f"kubectl rollout status deployment/{tier} --timeout=60s")
        first.run("kubectl uncordon host-2")
    finally:
        stream.stop()
    assert stream.count(begin) >= 50
    assert stream.failures(begin) == []


def mover() -> dict[str, Any]:
    """A Deployment with a pod on each node, which is evicted at once from a node that is lost."""
    labels = {"app": "mover"}
    server = {
        "name": "server", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"],
    }  # fmt: skip
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }  # fmt: skip
    kinds = ("not-ready", "unreachable")
    tolerations = [
        {
            "key": f"node.kubernetes.io/{kind}", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 1,
        }
        for kind in kinds
    ]  # fmt: skip
    spec = {
        "terminationGracePeriodSeconds": 1, "containers": [server], "tolerations": tolerations,
        "topologySpreadConstraints": [spread],
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mover"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }  # fmt: skip


def uids_on(application: Application, node: str, *apps: str) -> set[str]:
    found = [pod for app in apps for pod in application.pods(app)]
    return {pod["metadata"]["uid"] for pod in found if pod["spec"]["nodeName"] == node}


def test_a_node_that_is_cut_off_fails_requests_only_until_it_is_lost_and_serves_again_after_its_return(
    application: Application,
) -> None:
    """Its kubelet goes on. Pods that tolerate the loss are the same after it; one that does not is
    replaced on another node, and its container ends when the node is back."""
    first, victim = application.first, application.machines[2]
    (first.home / "mover.json").write_text(json.dumps(mover()))
    first.run(f"kubectl create -f {first.home}/mover.json")
    first.run("kubectl rollout status deployment/mover --timeout=60s")
    uids = uids_on(application, victim.name, *TIERS)
    [evicted] = uids_on(application, victim.name, "mover")
    assert uids
    stream = Stream(application.machines, 2).start()
    try:
        begin = time.monotonic()
        victim.node.pull_out()
        until(lambda: not is_ready(first, victim.name), LOST_SECONDS + 15, "the node is not lost")
        lost = time.monotonic()
        assert lost - begin < LOST_SECONDS + 15
        time.sleep(4)  # requests that were on their way, and a round of rules
        settled = time.monotonic()
        until(lambda: stream.count(settled) >= 20, 20, "no answers without the node")
        assert stream.failures(settled) == []
        until(lambda: len(application.pods("mover")) == 3, 20, "the pod is not replaced")
        assert not uids_on(application, victim.name, "mover")
        assert evicted in running_on(victim)
        victim.node.plug_in()
        until(lambda: is_ready(first, victim.name), 60, "the node does not return")
        back = time.monotonic()
        until(lambda: stream.count(back) >= 20, 20, "no answers after the return")
        assert stream.failures(settled) == []
    finally:
        stream.stop()
    # its other pods are the same, and none was started twice
    assert uids_on(application, victim.name, *TIERS) == uids
    until(lambda: sorted(running_on(victim)) == sorted(uids), 20, "not the containers of its pods")
    found = first.get("pods", "-l", "app=mover")["items"]
    assert len(found) == 3 and evicted not in [pod["metadata"]["uid"] for pod in found]
    first.run("kubectl delete deployment mover --cascade=foreground --timeout=30s")


def running_on(machine: Machine) -> list[str]:
    """The uids of the pods whose server runs there, once for each container."""
    labels = machine.node.docker("ps", "--filter", "label=refk8s.container=server", "--format", '{{.Label "refk8s.pod-uid"}}')  # fmt: skip
    return labels.split()


LIVES = int(os.environ.get("REFK8S_LIVES", "36"))
"""Of pods; 1,000 show a leak of one in a hundred."""


def kept(application: Application) -> dict[str, Any]:
    """What pods could leave behind: on every host, in its process, and in the API."""
    found: dict[str, Any] = {}
    for machine, process in zip(application.machines, application.processes, strict=True):
        found |= {f"{machine.name} {what}": text for what, text in machine.footprint().items()}
        place = Path(f"/proc/{process.process.pid}")
        found[f"{machine.name} threads"] = len(list((place / "task").iterdir()))
        found[f"{machine.name} descriptors"] = len(list((place / "fd").iterdir()))
        found[f"{machine.name} volumes of pods"] = sorted(
            name
            for folder, names, _ in os.walk(machine.home / ".refk8s")  # some go meanwhile
            if Path(folder).name == "pods"
            for name in names
        )
    leases = application.first.get("leases", "--all-namespaces")["items"]
    found["leases"] = sorted(each["metadata"]["name"] for each in leases)
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> set[tuple[str, str]]:
    """What is more or less than before: (where, the line that has come or gone)."""
    found = set()
    for what, value in before.items():
        now = after[what]
        if isinstance(value, int):
            lines = [f"{value} before"] * (now > value + 6)
        elif isinstance(value, str):
            changed = difflib.unified_diff(value.splitlines(), now.splitlines(), lineterm="", n=0)
            lines = [line for line in changed if not line.startswith(("---", "+++", "@@"))]
        else:
            lines = [str(each) for each in {*value} ^ {*now}]
        found |= {(what, line) for line in lines}
    return found


def settled(application: Application) -> dict[str, Any]:
    """What is kept when two readings are equal: sandboxes end after their pods are deleted."""
    found, end = kept(application), time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(2)
        if (again := kept(application)) == found:
            break
        found = again
    return found


def run_lives(application: Application, name: str, count: int) -> None:
    """So many pods with a volume live and end on all nodes; then they are deleted."""
    first = application.first
    mount = {"name": "v", "mountPath": "/v"}
    main = {
        "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", "echo x > /v/x"], "volumeMounts": [mount],
    }  # fmt: skip
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never", "containers": [main],
            "volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"app": name}},
                }
            ],
        },
    }  # fmt: skip
    job = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"completions": count, "parallelism": min(count, 12), "template": template},
    }  # fmt: skip
    (first.home / "job.json").write_text(json.dumps(job))
    first.run(f"kubectl create -f {first.home}/job.json")
    seconds = 60 + 5 * count  # two a second on a quiet machine
    first.run(f"kubectl wait --for=condition=complete job/{name} --timeout={seconds}s")
    ran_on = {pod["spec"]["nodeName"] for pod in application.pods(name)}
    assert ran_on == {machine.name for machine in application.machines}
    first.run(f"kubectl delete job {name} --cascade=foreground --timeout={seconds}s")
    until(lambda: not first.get("pods", "-l", f"app={name}")["items"], 30, "pods are left")


def test_nothing_is_left_of_many_pods(application: Application) -> None:
    run_lives(application, "first", 12)  # threads and connections that are kept
    before = settled(application)
    run_lives(application, "lives", LIVES)
    # Connections are closed, and sandboxes and volumes removed, after their pods are deleted. What
    # is left is in every reading from then on: on a busy machine a pod of the application may just
    # not be ready, so that the rules of its service differ in one reading and not in the next.
    end = time.monotonic() + 20 + LIVES / 5
    left = differences(before, kept(application))
    while left and time.monotonic() < end:
        time.sleep(0.5)
        left &= differences(before, kept(application))
    assert not left, "\n".join(" ".join(each) for each in sorted(left))
