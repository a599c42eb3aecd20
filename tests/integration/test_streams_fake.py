"""Streams to simulated containers by real clients: kubectl in both of its protocols, and the
official Python client."""

import base64
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, need_kubectl, until

SETTINGS = {
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "blue\n", "run.sh": "echo script $1\n"},
}  # fmt: skip


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {**spec, "containers": list(containers)},
    }


def container(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "command": list(command), **more}


WEB = pod(
    "web",
    container(
        "main", "sh", "-c", "echo start; cat /shared/seed; echo wrong >&2; while true; do sleep 1; echo tick; done",
        ports=[{"containerPort": 80}], env=[{"name": "A", "value": "1"}],
        volumeMounts=[{"name": "settings", "mountPath": "/etc/settings"}, {"name": "shared", "mountPath": "/shared"}],
    ),
    initContainers=[
        container("migrate", "/app/migrate"),
        container("seed", "sh", "-c", "echo seeded > /shared/seed", volumeMounts=[{"name": "shared", "mountPath": "/shared"}]),
    ],
    volumes=[{"name": "settings", "configMap": {"name": "settings"}}, {"name": "shared", "emptyDir": {}}],
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    running = FakeCluster(tmp_path_factory.mktemp("streams"), nodes=2).start()
    silent = pod("silent", container("main", "sleep", "1000"), container("side", "/app/serve"))
    crashed = pod("crashed", container("main", "sh", "-c", "echo attempt; exit 7"))
    running.kubectl(
        "apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, (SETTINGS, WEB, silent, crashed)))
    )
    running.kubectl("wait", "--for=condition=Ready", "pod/web", "pod/silent", "--timeout=30s")
    yield running
    assert running.stop() == 0
    log = running.log.read_text()
    assert not [words for words in ("Traceback", "internal error") if words in log]


@pytest.fixture(params=["true", "false"], ids=["websocket", "spdy"])
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"):
        monkeypatch.setenv(variable, request.param)


def test_exec_has_input_output_files_and_an_exit_code(cluster: FakeCluster, protocol: None) -> None:
    k = cluster.kubectl
    assert (
        k("exec", "web", "-c", "main", "--", "cat", "/etc/settings/colour", "/shared/seed")
        == "blue\nseeded"
    )
    assert k("exec", "web", "-c", "main", "--", "sh", "-c", "echo $A; hostname") == "1\nweb"
    assert k("exec", "-i", "web", "-c", "main", "--", "cat", stdin="from here") == "from here"
    much = "0123456789abcdef" * (1 << 14)
    assert k("exec", "-i", "web", "-c", "main", "--", "cat", stdin=much) == much
    assert k("exec", "web", "-c", "main", "--", "sh", "/etc/settings/run.sh", "x") == "script x"
    assert (
        k("exec", "web", "-c", "main", "--", "sh", "-c", "exit 7", fine=False)
        == "command terminated with exit code 7"
    )
    said = k("exec", "web", "-c", "main", "--", "sh", "-c", "x", fine=False)
    assert said == "sh: x: not found\ncommand terminated with exit code 127"
    assert 'exec: "x": executable file not found in $PATH' in k(
        "exec", "web", "-c", "main", "--", "x", fine=False
    )
    assert "container side is not valid for pod web" in k(
        "exec", "web", "-c", "side", "--", "ls", fine=False
    )
    assert 'container not found ("seed")' in k("exec", "web", "-c", "seed", "--", "ls", fine=False)
    raw = "/api/v1/namespaces/default/pods/{}/exec?command=ls&stdout=1"
    code, status = cluster.call("GET", raw.format("web"))
    assert (code, status["kind"], status["message"]) == (400, "Status", "Upgrade request required")
    code, status = cluster.call("POST", raw.format("silent"))
    assert (code, status["message"]) == (
        400,
        "a container name must be specified for pod silent, choose one of: [main side]",
    )


def test_a_pod_and_a_node_are_debugged(cluster: FakeCluster) -> None:
    """KUBELET-100, with kubectl."""
    k = cluster.kubectl
    command = ("--image=busybox", "--", "sh", "-c", "hostname; sleep 1000")
    k("debug", "silent", "-c", "debugger", "--target=main", *command)
    until(lambda: k("logs", "silent", "-c", "debugger", fine=False) == "silent", "it does not run")
    assert k("exec", "silent", "-c", "debugger", "--", "echo", "here") == "here"
    k("debug", "node/node-1", "--image=busybox", "--", "sh", "-c", "echo on the node")
    until(lambda: "Completed" in k("get", "pods"), "the pod of the node does not end")


def test_metrics_are_those_of_the_annotations(cluster: FakeCluster) -> None:
    """STREAM-17, SHELL-11, with kubectl."""
    k = cluster.kubectl
    k("annotate", "pod", "web", "refk8s/cpu-usage=250m", "refk8s/memory-usage=64Mi")
    until(lambda: "250m" in k("top", "pod", "web"), "kubectl top has another value")
    assert k("top", "pod", "web", "--containers").split()[-2:] == ["250m", "64Mi"]
    assert {line.split()[0] for line in k("top", "nodes").splitlines()[1:]} == {"node-1", "node-2"}
    path = "/api/v1/namespaces/default/pods/web:80/proxy/x?y=z"
    assert "request: GET /x?y=z" in k("get", "--raw", path)  # STREAM-11


def test_files_are_copied_both_ways(cluster: FakeCluster, protocol: None, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("content\n" * 1000)
    cluster.kubectl("cp", str(tmp_path / "there"), "web:/tmp", "-c", "main")
    cluster.kubectl("cp", "web:/tmp/there", str(tmp_path / "back"), "-c", "main")
    assert (tmp_path / "back/file").read_text() == "content\n" * 1000


def test_logs_are_what_the_command_prints(cluster: FakeCluster) -> None:
    k = cluster.kubectl
    until(lambda: "tick" in k("logs", "web", "-c", "main"), "the log grows")
    lines = k("logs", "web", "-c", "main").splitlines()
    assert lines[:3] == ["start", "seeded", "wrong"] and set(lines[3:]) == {"tick"}
    assert k("logs", "web", "-c", "main", "--tail=1") == "tick"
    assert k("logs", "web", "-c", "main", "--limit-bytes=3") == "sta"
    assert k("logs", "web", "-c", "main", "--timestamps", "--limit-bytes=36").split()[1] == "start"
    until(
        lambda: "attempt" in k("logs", "crashed", "--previous", fine=False),
        "there is a previous attempt",
    )
    code, status = cluster.call(
        "GET", "/api/v1/namespaces/default/pods/web/log?container=main&tailLines=-1"
    )
    assert (code, status["details"]["kind"]) == (422, "PodLogOptions")
    command = [
        need_kubectl(),
        "--kubeconfig",
        str(cluster.kubeconfig),
        "logs",
        "-f",
        "web",
        "-c",
        "main",
        "--tail=0",
    ]
    followed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert followed.stdout is not None and [followed.stdout.readline() for _ in range(2)] == [
        "tick\n",
        "tick\n",
    ]
    followed.kill()
    followed.communicate()


def test_a_silent_log_begins_at_once_and_is_left_again(cluster: FakeCluster) -> None:
    """STREAM-3"""
    connection = cluster.connect()
    path = "/api/v1/namespaces/default/pods/silent/log?follow=1&container=main"
    connection.request("GET", path, headers={"Authorization": f"Bearer {cluster.token}"})
    assert connection.getresponse().status == 200
    connection.close()


def test_a_client_attaches_and_runs_a_shell(cluster: FakeCluster, protocol: None) -> None:
    command = ["run", "box", "-i", "--rm", "--restart=Never", "--image=busybox", "--", "sh"]
    said = cluster.kubectl(*command, stdin="echo hi from $HOSTNAME\nexit 3\n", fine=False)
    assert "hi from box" in said and "terminated (Error)" in said
    attached = subprocess.Popen(
        [need_kubectl(), "--kubeconfig", str(cluster.kubeconfig), "attach", "web", "-c", "main"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert attached.stdout is not None and attached.stdout.readline() == "tick\n"
    attached.kill()
    attached.communicate()


def test_a_port_is_forwarded(cluster: FakeCluster, protocol: None) -> None:
    command = [
        need_kubectl(),
        "--kubeconfig",
        str(cluster.kubeconfig),
        "port-forward",
        "pod/web",
        ":80",
        "--address",
        "127.0.0.1",
    ]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert client.stdout is not None
        port = int(client.stdout.readline().split()[2].rpartition(":")[2])
        for path in ("/a", "/b"):
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
                )
                text = b"".join(
                    iter(lambda connection=connection: connection.recv(4096), b"")
                ).decode()
            assert (
                text.startswith("HTTP/1.1 200 OK")
                and "pod: web\n" in text
                and f"request: GET {path}\n" in text
            )
    finally:
        client.kill()
        client.communicate()


def test_the_official_client_executes_forwards_and_reads_logs(cluster: FakeCluster) -> None:
    import kubernetes
    from kubernetes.stream import portforward, stream

    kubernetes.config.load_kube_config(str(cluster.kubeconfig))
    api = kubernetes.client.CoreV1Api()
    flags = {"container": "main", "stderr": True, "stdout": True}
    script = ["sh", "-c", "echo out; echo err >&2"]
    assert (
        stream(
            api.connect_get_namespaced_pod_exec,
            "web",
            "default",
            command=script,
            stdin=False,
            tty=False,
            **flags,
        )
        == "out\nerr\n"
    )
    shell = stream(
        api.connect_post_namespaced_pod_exec,
        "web",
        "default",
        command=["/bin/sh"],
        stdin=True,
        tty=False,
        _preload_content=False,
        **flags,
    )
    shell.write_stdin("echo test string 1\n")
    assert shell.readline_stdout(timeout=10) == "test string 1"
    shell.write_stdin("echo test string 2 >&2\n")
    assert shell.readline_stderr(timeout=10) == "test string 2" and not shell.peek_stdout()
    shell.write_stdin("exit 5\n")
    shell.run_forever(timeout=10)
    assert shell.returncode == 5 and not shell.is_open()
    forwarded = portforward(
        api.connect_get_namespaced_pod_portforward, "web", "default", ports="80"
    )
    connection = forwarded.socket(80)
    connection.setblocking(True)
    connection.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = b"".join(iter(lambda: connection.recv(4096), b""))
    assert b"pod: web\n" in text and forwarded.error(80) is None
    assert api.read_namespaced_pod_log("web", "default", container="main").startswith(
        "start\nseeded\n"
    )


PROTOCOLS = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
]


def websocket(cluster: FakeCluster, path: str, *protocols: str) -> Any:
    import websocket as client  # comes with the official Python client

    return client.create_connection(
        f"wss://127.0.0.1:{cluster.port}/api/v1/namespaces/default/pods/web/{path}", timeout=20, sslopt={"cert_reqs": ssl.CERT_NONE},
        header=[f"Authorization: Bearer {cluster.token}"], subprotocols=list(protocols) or None,
    )  # fmt: skip


def messages(connection: Any, is_text: bool) -> Iterator[tuple[int, bytes]]:
    """(channel, data) until the other side closes."""
    while True:
        opcode, frame = connection.recv_data()
        if opcode == 8:
            return
        assert opcode == (1 if is_text else 2)
        yield (frame[0] - 48, base64.b64decode(frame[1:])) if is_text else (frame[0], frame[1:])


@pytest.mark.parametrize("protocol_name", PROTOCOLS)
def test_exec_speaks_every_websocket_protocol(cluster: FakeCluster, protocol_name: str) -> None:
    """STREAM-4, STREAM-5"""
    # Shows STREAM-4.b.
    query = "command=sh&command=-c&command=read+x%3B+echo+got+$x%3B+echo+wrong+%3E%262%3B+exit+3&stdin=1&stdout=1&stderr=1&container=main"
    connection = websocket(cluster, f"exec?{query}", *([protocol_name] if protocol_name else []))
    assert (connection.getsubprotocol() or "") == protocol_name
    is_text = "base64" in protocol_name
    if is_text:
        connection.send("0" + base64.b64encode(b"line\n").decode())
    else:
        connection.send_binary(b"\0line\n")
    said = list(messages(connection, is_text))
    assert said[0] == (1, b"")
    assert b"".join(data for channel, data in said if channel == 1) == b"got line\n"
    assert b"".join(data for channel, data in said if channel == 2) == b"wrong\n"
    end = b"".join(data for channel, data in said if channel == 3)
    if protocol_name[:2] in ("v4", "v5"):
        assert json.loads(end)["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    else:
        assert end.endswith(b"exit code 3") and not end.startswith(b"{")


@pytest.mark.parametrize("protocol_name", ["binary.k8s.io", "base64.binary.k8s.io", ""])
def test_a_log_speaks_every_websocket_protocol(cluster: FakeCluster, protocol_name: str) -> None:
    connection = websocket(
        cluster, "log?container=main&limitBytes=13", *([protocol_name] if protocol_name else [])
    )
    found = b""
    while (message := connection.recv_data())[0] != 8:
        found += base64.b64decode(message[1]) if protocol_name.startswith("base64") else message[1]
    assert found == b"start\nseeded\n"


@pytest.mark.parametrize("protocol_name", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""])
def test_port_forward_speaks_every_channel_protocol(
    cluster: FakeCluster, protocol_name: str
) -> None:
    """STREAM-6"""
    # Shows STREAM-6.a.
    connection = websocket(
        cluster, "portforward?ports=80,81", *([protocol_name] if protocol_name else [])
    )
    is_text = "base64" in protocol_name
    request = b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"
    if is_text:
        connection.send("0" + base64.b64encode(request).decode())
    else:
        connection.send_binary(b"\0" + request)
    heard: dict[int, bytes] = {}
    for channel, data in messages(connection, is_text):
        heard[channel] = heard.get(channel, b"") + data
    assert heard[0][:2] == heard[1] == b"\x50\0" and b"pod: web\n" in heard[0]
    assert (
        heard[2] == b"\x51\0"
        and heard[3] == b"\x51\0error forwarding port 81 to pod web: connection refused"
    )
