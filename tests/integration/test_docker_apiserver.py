"""Pods reach the API server by the service kubernetes, though it listens at 127.0.0.1. Rule HOST-2
(spec/host.md)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from docker_host import NODE_IP, Cluster, Host, container, make_pod, until

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
BY_PROXY = ("ip", "ss", "conntrack", "sysctl")


class Client:
    """curl in the network of a pod, with the files that are mounted into its container."""

    def __init__(self, host: Host, cluster: Cluster, pod: str, work: Path) -> None:
        id = cluster.ids(pod, "c")[0]
        self.process = host.docker("inspect", "-f", "{{.State.Pid}}", id)
        self.token = host.docker("exec", id, "cat", f"{ACCOUNT}/token")
        self.authority = work / f"{pod}.crt"
        self.authority.write_text(host.docker("exec", id, "cat", f"{ACCOUNT}/ca.crt"))
        assert host.docker("exec", id, "cat", f"{ACCOUNT}/namespace") == "default"

    def status(self, url: str, *more: str, token: bool = True) -> str:
        """The status of an answer whose certificate was verified; 000 without any."""
        command = [
            "nsenter",
            f"--net=/proc/{self.process}/ns/net",
            "curl",
            "-s",
            "-m",
            "5",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]
        command += [
            "--cacert",
            str(self.authority),
            *more,
            *(["-H", f"Authorization: Bearer {self.token}"] if token else []),
            url,
        ]
        return subprocess.run(command, capture_output=True, text=True).stdout


@pytest.mark.parametrize("rules", ["kernel", "userspace"])
def test_host_2_a_pod_reaches_the_api_server_with_what_is_mounted(
    docker_host: Host, tmp_path: Path, rules: str
) -> None:
    # Shows HOST-2.a, HOST-2.d, HOST-2.e, HOST-2.f.
    """By address and by name, with kernel rules and with the proxy; authenticated as any request;
    nobody outside can connect."""
    cluster = Cluster(docker_host, tmp_path / "data")
    if rules == "userspace":
        (tmp_path / "bin").mkdir()
        for tool in BY_PROXY:
            if found := shutil.which(tool):
                (tmp_path / "bin" / tool).symlink_to(found)
        cluster.environment["PATH"] = str(tmp_path / "bin")
        cluster.host.inside[0] = shutil.which("nsenter") or ""
    cluster.start()
    environment = {"env": [{"name": "A", "value": "b"}]}
    try:
        cluster.environment["PATH"] = os.environ["PATH"]
        reader = ("--clusterrole=view", "--serviceaccount=default:default")
        cluster.kubectl("create", "rolebinding", "reads", *reader)
        cluster.apply(
            make_pod("asks", container("c", **environment)),
            make_pod("of-host", container("c"), hostNetwork=True),
        )
        until(
            lambda: (
                {cluster.pod(name)["status"].get("phase") for name in ("asks", "of-host")}
                == {"Running"}
            ),
            60,
            "the pods do not run",
        )
        slices = cluster.get("endpointslices", "-l", "kubernetes.io/service-name=kubernetes")[
            "items"
        ]
        assert [item["metadata"]["name"] for item in slices] == ["kubernetes"]
        (address,) = slices[0]["endpoints"][0]["addresses"]
        queries = Client(docker_host, cluster, "asks", tmp_path)
        pods = "https://10.96.0.1:443/api/v1/namespaces/default/pods"
        until(lambda: queries.status(pods) == "200", 30, "the pod is not answered")
        assert (
            queries.status(
                "https://kubernetes.default/api", "--resolve", "kubernetes.default:443:10.96.0.1"
            )
            == "200"
        )
        assert queries.status(pods, token=False) in ("401", "403")
        assert queries.status(f"https://{address}:{cluster.port}/api", "-k") == "200"
        of_host = Client(docker_host, cluster, "of-host", tmp_path)
        assert until(
            lambda: of_host.status(pods) == "200", 30, "a pod in the host's network is not answered"
        )
        _nobody_outside_can_connect(docker_host, address, cluster.port)
        cluster.kubectl("delete", "endpointslice", "kubernetes")
        until(
            lambda: cluster.get("endpointslices", "-l", "kubernetes.io/service-name=kubernetes")[
                "items"
            ],
            30,
            "it is not made again",
        )
    finally:
        assert cluster.stop() == 0
        words = cluster.words()
        assert "Traceback" not in words, words


def _nobody_outside_can_connect(host: Host, bridge: str, port: int) -> None:
    neighbour = f"/var/run/netns/{host.neighbour}"
    subprocess.run(
        ["ip", "-n", host.neighbour, "route", "replace", f"{bridge}/32", "via", NODE_IP], check=True
    )
    for address in (NODE_IP, bridge):
        command = [
            "nsenter",
            f"--net={neighbour}",
            "curl",
            "-sk",
            "-m",
            "3",
            "-o",
            "/dev/null",
            f"https://{address}:{port}/healthz",
        ]
        assert subprocess.run(command).returncode in (7, 28), f"a neighbour reaches {address}"
