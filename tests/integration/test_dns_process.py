"""The name server of a node as a process of its own. Rules PROC-1, PROC-2, PROC-5
(spec/processes.md), DNS-11, DNS-19 (spec/dns.md)."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
from fake_cluster import free_port, need_kubectl, until
from process_world import Start, kubectl

from refk8s.adapters.linux.address import node_address


def apply(kubeconfig: Path, *objects: dict[str, Any]) -> None:
    text = "\n---\n".join(json.dumps(obj) for obj in objects)
    subprocess.run(
        [need_kubectl(), f"--kubeconfig={kubeconfig}", "apply", "-f", "-"],
        input=text.encode(),
        check=True,
        capture_output=True,
    )


def service(name: str) -> dict[str, Any]:
    spec = {"ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def own_address() -> str:
    """An address of this machine that may be in a slice; without any the test is skipped."""
    found = node_address()
    if ip_address(found).is_loopback:
        pytest.skip("needs an address besides 127.0.0.1")
    return found


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}


def test_proc_5_a_name_server_on_its_own_answers_also_while_the_api_server_is_away(
    processes: Start, tmp_path: Path
) -> None:
    """It follows the services, writes the slice of its node, and outlives the API server."""
    here = own_address()
    kubeconfig = tmp_path / "a.kubeconfig"
    server = processes(
        "a", "apiserver", "--store", f"sqlite:{tmp_path}/store.db", "--port", str(free_port()),
        "--pki", str(tmp_path / "pki"), "--data-dir", str(tmp_path / "a"), "--kubeconfig", str(kubeconfig),
    ).start()  # fmt: skip
    apply(kubeconfig, NODE, service("web"))
    names = processes(
        "dns", "dns", "--kubeconfig", str(kubeconfig), "--node-name", "n1",
        "--address", here, "--pod-cidr", "10.244.1.0/24",
    ).start()  # fmt: skip
    line = names.said().splitlines()[0]
    found = re.match(
        rf"refk8s dns is ready at {re.escape(here)}:(\d+) for node n1: .* health at (http://\S+)",
        line,
    )
    assert found, line
    port = int(found[1])
    until(lambda: status_of(found[2].replace("healthz", "readyz")) == 200, "it is not ready")

    def ask(name: str) -> tuple[str, list[str]]:
        query = dns.message.make_query(f"{name}.default.svc.cluster.local", "A")
        reply = dns.query.udp(query, here, port=port, timeout=5)
        return dns.rcode.to_text(reply.rcode()), [str(data) for each in reply.answer for data in each]  # fmt: skip

    def address_of(name: str) -> str:
        return kubectl(kubeconfig, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}")

    until(lambda: ask("web")[0] != "SERVFAIL", "there are no records")
    assert ask("web") == ("NOERROR", [address_of("web")]) and ask("late")[0] == "NXDOMAIN"
    text = until(
        lambda: kubectl(kubeconfig, "get", "endpointslice", "-n", "kube-system", "kube-dns-n1", "-o", "json", fine=False).partition("Error")[0],
        "the slice is not written",
    )  # fmt: skip
    slice = json.loads(text)
    (endpoint,) = slice["endpoints"]
    assert (endpoint["addresses"], endpoint["nodeName"]) == ([here], "n1")
    assert {of["port"] for of in slice["ports"] if of["name"] != "metrics"} == {port}
    server.kill()
    assert ask("web")[0] == "NOERROR"
    server.start()
    apply(kubeconfig, service("late"))
    until(lambda: ask("late") == ("NOERROR", [address_of("late")]), "a new service has no name")
    assert names.stop() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--address", "203.0.113.1", "--pod-cidr", "10.244.1.0/24"), "cannot listen at 203.0.113.1"),
        (("--address", "here", "--pod-cidr", "10.244.1.0/24"), "--address here: not an IPv4 address"),
        (("--pod-cidr", "10.244.1.1/24"), "--pod-cidr 10.244.1.1/24: not a range"),
    ],
)  # fmt: skip
def test_proc_1_a_name_server_that_cannot_start_names_the_flag(
    processes: Start, tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: "
        "'https://127.0.0.1:1'}}]\n"
        "users: [{name: c, user: {token: x}}]\ncontexts: [{name: c, context: {cluster: "
        "c, user: c}}]\n"
    )
    failed = processes("dns", "dns", "--kubeconfig", str(kubeconfig), *flags).begin()
    assert failed.process.wait(60) == 2
    assert failed.said().startswith(f"refk8s: {words}") and len(failed.said().splitlines()) == 1


def test_dns_19_without_flags_the_address_is_the_first_of_the_range_of_the_node(
    processes: Start, tmp_path: Path
) -> None:
    """The range of the test is one of documentation, at which this machine cannot listen."""
    kubeconfig = tmp_path / "a.kubeconfig"
    processes(
        "a", "apiserver", "--store", "memory", "--port", str(free_port()), "--pki", str(tmp_path / "pki"),
        "--data-dir", str(tmp_path / "a"), "--kubeconfig", str(kubeconfig),
    ).start()  # fmt: skip
    names = processes("dns", "dns", "--kubeconfig", str(kubeconfig), "--node-name", "n1").start()
    until(lambda: "does not return the node n1" in names.said(), "it does not say what is missing")
    apply(
        kubeconfig, {**NODE, "spec": {"podCIDR": "203.0.113.0/24", "podCIDRs": ["203.0.113.0/24"]}}
    )
    until(lambda: "203.0.113.1" in names.said(), "it does not say where it cannot listen")
    assert names.stop() == 0
