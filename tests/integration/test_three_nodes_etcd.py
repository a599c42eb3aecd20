"""The application of test_three_nodes on three machines whose control plane is there several times:
three members of etcd, two API servers, two controller managers and two schedulers. The death of any
one of them fails no request to the application (ETCD-10, ELECT-9, HOST-20, PROC-5)."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import until
from docker_nodes import DockerNodes
from etcd_server import etcd_program
from process_world import Process
from test_node_join import commands, is_ready
from test_three_nodes import TIERS, Application, Stream, objects

PAIRS = ("controller-manager", "scheduler")


class Member:
    """A member of etcd on a machine."""

    def __init__(self, application: Application, number: int, directory: Path) -> None:
        machines = application.machines
        self._directory = directory / f"etcd-{number}"
        self._directory.mkdir()
        address = machines[number].node.node_ip
        peers = [f"m{n}=http://{each.node.node_ip}:2380" for n, each in enumerate(machines)]
        client, peer = f"http://{address}:2379", f"http://{address}:2380"
        self._command = [
            *machines[number].node.inside, etcd_program(), "--name", f"m{number}",
            *("--data-dir", str(self._directory / "data"), "--initial-cluster", ",".join(peers)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        ]  # fmt: skip

    def start(self) -> "Member":
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Replicated(Application):
    """The cluster without a part that is there once."""

    def start(self) -> None:
        directory = self.first.home.parent
        self.members = [Member(self, n, directory).start() for n in range(3)]
        store = ",".join(f"{machine.node.node_ip}:2379" for machine in self.machines)
        keys, self.parts = directory / "pki", dict[tuple[str, int], Process]()
        for number, machine in enumerate(self.machines[:2]):
            data = machine.home / ".refk8s"
            flags = f"--pki {keys} --kubeconfig {data}/kubeconfig"
            self.parts["apiserver", number] = machine.process(
                "apiserver",
                f"refk8s apiserver --store etcd://{store} --bind {machine.node.node_ip} "
                f"--data-dir {data} {flags}",
            ).start()
            ranges = {"controller-manager": f"--pki {keys} --cluster-cidr 10.244.0.0/16"}
            for name in PAIRS:
                line = f"refk8s {name} {ranges.get(name, '')} --kubeconfig {data}/kubeconfig"
                self.parts[name, number] = machine.process(name, line).begin()
        self.processes += self.parts.values()
        # All nodes join at the second API server, which is killed first (CLIENT-15).
        addresses = [machine.node.node_ip for machine in self.machines]
        line = self.first.run(commands()[1]).replace(addresses[0], addresses[1])
        joined = [machine.process("join", line).begin() for machine in self.machines]
        self.processes += joined
        for process in joined:
            process.wait_until_ready()
        for machine in self.machines:
            until(lambda machine=machine: is_ready(self.first, machine.name), 60, machine.name)
        for tier, replicas in (("db", 2), ("api", 3), ("web", 3)):
            for obj in objects(tier, replicas):
                file = self.first.home / "object.json"
                file.write_text(json.dumps(obj))
                self.first.run(f"kubectl apply -f {file}")
        for tier in TIERS:
            self.first.run(f"kubectl rollout status deployment/{tier} --timeout=90s")

    def roll_out(self, version: str) -> None:
        """New pods of a tier, made by what is left of the control plane."""
        self.first.run(f"kubectl set env deployment/api VERSION={version}")
        self.first.run("kubectl rollout status deployment/api --timeout=120s")

    def leader(self, name: str) -> Process:
        """The instance that leads, by its Lease."""
        lease = self.first.get(f"lease kube-{name} --namespace kube-system")
        holder = lease["spec"]["holderIdentity"].partition("_")[0]
        return self.parts[name, int(holder.removeprefix("host-")) - 1]

    def servers(self) -> list[str]:
        slices = self.first.get("endpointslices", "-l", "kubernetes.io/service-name=kubernetes")
        found = [endpoint for each in slices["items"] for endpoint in each["endpoints"]]
        return sorted(endpoint["addresses"][0] for endpoint in found)

    def stop(self) -> None:
        super().stop()
        for member in self.members:
            member.kill()


@pytest.fixture(scope="module")
def application(
    docker_nodes: DockerNodes, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replicated]:
    application = Replicated(docker_nodes, tmp_path_factory.mktemp("replicated"))
    try:
        application.start()
        yield application
    finally:
        application.stop()


def test_the_death_of_any_part_of_the_control_plane_fails_no_request(
    application: Replicated,
) -> None:
    # Shows HOST-20.c ELECT-9.a.
    addresses = [machine.node.node_ip for machine in application.machines]
    stream = Stream(application.machines, 3).start()
    begin = time.monotonic()
    try:
        until(lambda: stream.count(begin) >= 10, 30, "no answers")
        until(lambda: application.servers() == addresses[:2], 30, "not both API servers")
        second = application.parts["apiserver", 1]
        second.kill()
        application.roll_out("2")
        until(lambda: application.servers() == addresses[:1], 60, "the killed one is listed")
        second.start()
        until(lambda: application.servers() == addresses[:2], 30, "it is not listed again")
        for number, member in enumerate(application.members):  # one of them is the leader
            member.kill()
            application.roll_out(f"member-{number}")
            member.start()
            time.sleep(3)
        leading = [application.leader(name) for name in PAIRS]
        for leader in leading:
            leader.kill()
        application.roll_out("4")
        assert all(application.leader(name) not in leading for name in PAIRS)
        for leader in leading:
            leader.start()
    finally:
        stream.stop()
    killed = f"https://{addresses[1]}:6443"
    joined = [each for each in application.processes if each.name == "join"]
    assert all(f"cannot reach the API server {killed}" in each.said() for each in joined)
    assert stream.count(begin) >= 100
    assert stream.failures(begin) == []
