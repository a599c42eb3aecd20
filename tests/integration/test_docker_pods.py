"""Pods as real containers: what of a pod's specification becomes of its containers, seen by kubectl
and by the engine itself."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import (
    IMAGE,
    NEIGHBOUR_IP,
    NODE_IP,
    Cluster,
    Host,
    container,
    kubectl_path,
    make_pod,
    running_cluster,
    until,
)


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(docker_host, tmp_path_factory.mktemp("pods") / "data") as cluster:
        yield cluster


def phase(cluster: Cluster, name: str) -> str:
    return cluster.pod(name)["status"].get("phase", "")


def is_ready(cluster: Cluster, name: str) -> bool:
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in cluster.pod(name)["status"].get("conditions", [])
    )


def wait_ready(cluster: Cluster, name: str, seconds: float = 20) -> None:
    until(lambda: is_ready(cluster, name), seconds, f"pod {name} is not ready")


def waiting_reason(cluster: Cluster, name: str) -> str:
    statuses = cluster.pod(name)["status"].get("containerStatuses", [])
    return statuses[0]["state"].get("waiting", {}).get("reason", "") if statuses else ""


def test_init_containers_run_in_order_and_before_the_others(cluster: Cluster) -> None:
    volumes = [{"name": "shared", "emptyDir": {}}]
    mount = [{"name": "shared", "mountPath": "/shared"}]
    first = container("first", "echo first >> /shared/order", volumeMounts=mount)
    second = container("second", "echo second >> /shared/order", volumeMounts=mount)
    main = container(
        "main",
        "echo main >> /shared/order; trap 'exit 0' TERM; sleep 1000 & wait",
        volumeMounts=mount,
    )
    cluster.apply(make_pod("inits", main, initContainers=[first, second], volumes=volumes))
    wait_ready(cluster, "inits")
    assert cluster.inside("inits", "main", "cat", "/shared/order").split() == [
        "first",
        "second",
        "main",
    ]
    cluster.kubectl("delete", "pod", "inits", "--now")


def test_a_container_that_fails_again_and_again_is_in_crash_loop_back_off(cluster: Cluster) -> None:
    cluster.apply(make_pod("crash", container("main", "echo attempt; exit 7")))
    until(lambda: waiting_reason(cluster, "crash") == "CrashLoopBackOff", 15, "no CrashLoopBackOff")
    found = cluster.pod("crash")["status"]["containerStatuses"][0]
    assert found["restartCount"] >= 1
    assert found["lastState"]["terminated"]["exitCode"] == 7
    assert cluster.kubectl("logs", "crash", "--previous") == "attempt"
    assert "BackOff" in {reason for reason, _ in cluster.events("crash")}
    cluster.kubectl("delete", "pod", "crash", "--now")


def test_config_maps_and_secrets_are_files_and_follow_their_objects(cluster: Cluster) -> None:
    cluster.kubectl(
        "create", "configmap", "settings", "--from-literal=colour=blue", "--from-literal=size=7"
    )
    cluster.kubectl("create", "secret", "generic", "keys", "--from-literal=password=s3cret")
    volumes = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {
            "name": "about",
            "downwardAPI": {
                "items": [
                    {"path": "labels/name", "fieldRef": {"fieldPath": "metadata.labels['app']"}}
                ]
            },
        },
    ]
    mounts = [
        {"name": "settings", "mountPath": "/settings", "readOnly": True},
        {"name": "settings", "mountPath": "/one/colour", "subPath": "colour"},
        {"name": "keys", "mountPath": "/keys"},
        {"name": "about", "mountPath": "/about"},
    ]
    env = [
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}
    ]
    cluster.apply(
        make_pod("files", container("main", volumeMounts=mounts, env=env), volumes=volumes)
    )
    wait_ready(cluster, "files")
    assert cluster.inside("files", "main", "cat", "/settings/colour", "/one/colour") == "blueblue"
    assert cluster.inside("files", "main", "cat", "/keys/password") == "s3cret"
    assert cluster.inside("files", "main", "stat", "-L", "-c", "%a", "/keys/password") == "400"
    assert cluster.inside("files", "main", "cat", "/about/labels/name") == "files"
    assert cluster.inside("files", "main", "sh", "-c", "echo $COLOUR") == "blue"
    cluster.kubectl("delete", "pod", "files", "--now")


def test_empty_directories_are_shared_by_a_pods_containers_and_go_with_it(cluster: Cluster) -> None:
    mount = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]
    volumes = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    cluster.apply(
        make_pod(
            "shared",
            container("a", volumeMounts=mount),
            container("b", volumeMounts=mount),
            volumes=volumes,
        )
    )
    wait_ready(cluster, "shared")
    cluster.inside("shared", "a", "sh", "-c", "echo hello > /disk/word; echo quick > /memory/word")
    assert cluster.inside("shared", "b", "cat", "/disk/word", "/memory/word").split() == [
        "hello",
        "quick",
    ]
    assert "tmpfs" in cluster.inside("shared", "b", "df", "/memory")
    place = cluster.data / "pods" / cluster.pod("shared")["metadata"]["uid"]
    assert place.exists()
    cluster.kubectl("delete", "pod", "shared", "--now")
    until(lambda: not place.exists(), 10, "the volumes outlive their pod")


def test_an_exec_probe_decides_by_the_exit_code(cluster: Cluster) -> None:
    # Shows RT-10.c.
    probe = {
        "exec": {"command": ["/bin/test", "-e", "/tmp/ready"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    cluster.apply(make_pod("probed", container("main", readinessProbe=probe)))
    until(lambda: phase(cluster, "probed") == "Running", 20, "it does not run")
    until(
        lambda: "Unhealthy" in {reason for reason, _ in cluster.events("probed")},
        10,
        "the probe did not fail",
    )
    assert not is_ready(cluster, "probed")
    cluster.inside("probed", "main", "touch", "/tmp/ready")
    wait_ready(cluster, "probed", 10)
    cluster.kubectl("delete", "pod", "probed", "--now")


def test_a_failing_liveness_probe_restarts_the_container(cluster: Cluster) -> None:
    probe = {
        "tcpSocket": {"port": 9999},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 1,
    }
    cluster.apply(make_pod("dies", container("main", livenessProbe=probe)))
    until(
        lambda: (
            cluster.pod("dies")["status"].get("containerStatuses", [{}])[0].get("restartCount", 0)
            >= 1
        ),
        20,
        "no restart",
    )
    words = [message for reason, message in cluster.events("dies") if reason == "Unhealthy"]
    assert "connect: connection refused" in words[0]
    cluster.kubectl("delete", "pod", "dies", "--now")


def test_a_pod_on_the_hosts_network_has_the_nodes_address(cluster: Cluster) -> None:
    script = "echo here > /www/index.html; trap 'exit 0' TERM; httpd -f -p 8099 -h /www & wait"
    probe = {"httpGet": {"path": "/", "port": 8099}, "periodSeconds": 1}
    cluster.apply(
        make_pod("hosted", container("main", script, readinessProbe=probe), hostNetwork=True)
    )
    wait_ready(cluster, "hosted")
    status = cluster.pod("hosted")["status"]
    assert status["podIP"] == status["hostIP"] == NODE_IP
    assert cluster.host.curl(f"http://{NODE_IP}:8099/") == "here"
    cluster.kubectl("delete", "pod", "hosted", "--now")


def test_a_host_port_leads_to_the_pod(cluster: Cluster) -> None:
    script = "echo mapped > /www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait"
    ports = [{"containerPort": 8080, "hostPort": 8098}]
    cluster.apply(make_pod("mapped", container("main", script, ports=ports)))
    wait_ready(cluster, "mapped")
    until(
        lambda: cluster.host.curl(f"http://{NODE_IP}:8098/") == "mapped",
        5,
        "the host port does not answer",
    )
    cluster.kubectl("delete", "pod", "mapped", "--now")


def test_an_image_that_there_is_not_is_said_and_tried_again(cluster: Cluster) -> None:
    missing = {**container("main"), "image": "127.0.0.1:9/nowhere/missing:1"}
    never = {**container("main"), "image": "never-here:1", "imagePullPolicy": "Never"}
    bad = {**container("main"), "image": "Not A Name"}
    cluster.apply(make_pod("missing", missing), make_pod("never", never), make_pod("bad", bad))
    until(
        lambda: waiting_reason(cluster, "never") == "ErrImageNeverPull", 15, "no ErrImageNeverPull"
    )
    until(lambda: waiting_reason(cluster, "bad") == "InvalidImageName", 15, "no InvalidImageName")
    until(
        lambda: waiting_reason(cluster, "missing") in ("ErrImagePull", "ImagePullBackOff"),
        30,
        "no ErrImagePull",
    )
    until(
        lambda: waiting_reason(cluster, "missing") == "ImagePullBackOff", 30, "no ImagePullBackOff"
    )
    assert cluster.kubectl("logs", "missing", fails=True).endswith(
        "waiting to start: trying and failing to pull image"
    )
    cluster.kubectl("delete", "pod", "missing", "never", "bad", "--now")


def test_limits_user_rights_and_names_reach_the_engine(cluster: Cluster) -> None:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    rights = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    security = {
        "runAsUser": 1234,
        "runAsGroup": 2345,
        "readOnlyRootFilesystem": True,
        "capabilities": rights,
    }
    main = container("main", resources=resources, securityContext=security, workingDir="/tmp")
    cluster.apply(
        make_pod("bounded", main, hostAliases=[{"ip": "192.0.2.99", "hostnames": ["elsewhere"]}])
    )
    wait_ready(cluster, "bounded")
    told = json.loads(cluster.host.docker("inspect", cluster.ids("bounded", "main")[0]))[0]
    assert told["HostConfig"]["Memory"] == 64 << 20
    assert (told["HostConfig"]["CpuQuota"], told["HostConfig"]["CpuShares"]) == (50_000, 102)
    assert told["HostConfig"]["ReadonlyRootfs"] is True
    assert cluster.inside("bounded", "main", "id").startswith("uid=1234 gid=2345")
    assert cluster.inside("bounded", "main", "hostname") == "bounded"
    assert "192.0.2.99\telsewhere" in cluster.inside("bounded", "main", "cat", "/etc/hosts")
    cluster.kubectl("delete", "pod", "bounded", "--now")


def test_a_container_has_its_grace_period_and_is_killed_after_it(cluster: Cluster) -> None:
    gentle = container(
        "main", "trap 'echo asked; sleep 1; echo done; exit 0' TERM; sleep 1000 & wait"
    )
    stubborn = container("main", "trap '' TERM; while true; do sleep 1; done")
    cluster.apply(make_pod("gentle", gentle, terminationGracePeriodSeconds=10))
    cluster.apply(make_pod("stubborn", stubborn, terminationGracePeriodSeconds=2))
    wait_ready(cluster, "gentle")
    wait_ready(cluster, "stubborn")
    [id] = cluster.ids("gentle", "main")
    cluster.kubectl("delete", "pod", "gentle", "--wait=false")
    until(lambda: "asked" in cluster.host.docker("logs", id), 5, "it was not asked to end")
    until(
        lambda: cluster.host.docker("ps", "-aq", "--filter", f"id={id}") == "",
        10,
        "it is still there",
    )
    cluster.kubectl("delete", "pod", "stubborn", "--timeout=15s")
    assert "stubborn" not in cluster.kubectl("get", "pods", "-o", "name")


def test_a_pod_that_ends_well_has_succeeded_and_keeps_its_log(cluster: Cluster) -> None:
    cluster.apply(make_pod("once", container("main", "echo all done"), restartPolicy="Never"))
    until(lambda: phase(cluster, "once") == "Succeeded", 15, "it has not succeeded")
    assert cluster.kubectl("logs", "once") == "all done"
    cluster.kubectl("delete", "pod", "once", "--now")


def test_a_container_says_why_it_ended(cluster: Cluster) -> None:
    told = container("told", "echo no disk > /dev/termination-log; exit 1")
    fell = container(
        "fell", "echo the end of the log; exit 2", terminationMessagePolicy="FallbackToLogsOnError"
    )
    cluster.apply(make_pod("why", told, fell, restartPolicy="Never"))
    until(lambda: phase(cluster, "why") == "Failed", 15, "it has not failed")
    ended = {
        one["name"]: one["state"]["terminated"]
        for one in cluster.pod("why")["status"]["containerStatuses"]
    }
    assert ended["told"]["message"] == "no disk\n" and ended["told"]["exitCode"] == 1
    assert ended["fell"]["message"] == "the end of the log\n" and ended["fell"]["exitCode"] == 2
    cluster.kubectl("delete", "pod", "why", "--now")


def test_logs_by_container_from_a_line_on_and_as_they_come(cluster: Cluster) -> None:
    script = (
        "for i in 1 2 3; do echo line $i; done; echo wrong >&2; trap 'exit 0' TERM; "
        "sleep 1000 & wait"
    )
    cluster.apply(
        make_pod(
            "talks",
            container("a", script),
            container("b", "echo other; trap 'exit 0' TERM; sleep 1000 & wait"),
        )
    )
    wait_ready(cluster, "talks")
    # The engine reads output and errors by two pipes, so which comes first between them is open.
    until(
        lambda: len(cluster.kubectl("logs", "talks", "-c", "a").splitlines()) == 4,
        15,
        "the log is not whole",
    )
    lines = cluster.kubectl("logs", "talks", "-c", "a").splitlines()
    assert [line for line in lines if line != "wrong"] == [
        "line 1",
        "line 2",
        "line 3",
    ] and "wrong" in lines
    assert cluster.kubectl("logs", "talks", "-c", "b") == "other"
    assert len(cluster.kubectl("logs", "talks", "-c", "a", "--tail=2").splitlines()) == 2
    assert cluster.kubectl("logs", "talks", "-c", "a", "--limit-bytes=4") in ("line", "wron")
    stamped = cluster.kubectl("logs", "talks", "-c", "b", "--timestamps").split()
    assert stamped[0].endswith("Z") and stamped[1:] == ["other"]
    raw = cluster.kubectl("get", "--raw", "/api/v1/namespaces/default/pods/talks/log", fails=True)
    assert "a container name must be specified for pod talks, choose one of: [a b]" in raw
    cluster.kubectl("delete", "pod", "talks", "--now")


@pytest.fixture(params=["true", "false"], ids=["websocket", "spdy"])
def protocol(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, cluster: Cluster
) -> None:
    """Which protocol kubectl speaks (STREAM-4)."""
    for variable in ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"):
        monkeypatch.setitem(cluster.environment, variable, request.param)


def test_commands_in_containers_have_input_output_and_an_exit_code(
    cluster: Cluster, protocol: None
) -> None:
    cluster.apply(make_pod("shell", container("main")))
    wait_ready(cluster, "shell")
    assert cluster.kubectl("exec", "shell", "--", "echo", "hello world") == "hello world"
    assert cluster.kubectl("exec", "-i", "shell", "--", "cat", stdin="from here") == "from here"
    much = "0123456789abcdef" * (1 << 16)
    assert cluster.kubectl("exec", "-i", "shell", "--", "cat", stdin=much) == much
    words = cluster.kubectl("exec", "shell", "--", "sh", "-c", "echo wrong >&2; exit 7", fails=True)
    assert words == "wrong\ncommand terminated with exit code 7"
    assert "not found" in cluster.kubectl("exec", "nobody", "--", "ls", fails=True)
    assert "exit code 126" in cluster.kubectl("exec", "shell", "--", "no-such-program", fails=True)
    cluster.kubectl("delete", "pod", "shell", "--now")


def test_an_id_that_a_client_wrote_into_a_status_reaches_no_container(cluster: Cluster) -> None:
    """STREAM-1: the id of another pod's container, of a foreign container, and of a path of the
    engine."""
    # Shows STREAM-1.a STREAM-1.b.
    cluster.apply(
        make_pod(
            "victim", container("main", "echo of the victim; trap 'exit 0' TERM; sleep 1000 & wait")
        )
    )
    cluster.apply(
        make_pod(
            "plain", container("main", "echo of my own; trap 'exit 0' TERM; sleep 1000 & wait")
        )
    )
    wait_ready(cluster, "victim")
    wait_ready(cluster, "plain")
    foreign = cluster.host.docker("run", "-d", IMAGE, "/bin/sleep", "1000")
    before = cluster.host.containers("-a")
    status = cluster.pod("plain")["status"]["containerStatuses"][0]
    forged = [
        cluster.ids("victim", "main")[0],
        foreign,
        f"{foreign}/../../images/x",
        "x\r\nPOST /containers/create HTTP/1.1\r\n\r\n",
    ]
    for id in forged:
        patch = {"status": {"containerStatuses": [{**status, "containerID": f"docker://{id}"}]}}
        cluster.kubectl(
            "patch", "pod", "plain", "--subresource=status", "--type=merge", "-p", json.dumps(patch)
        )
        assert cluster.kubectl("exec", "plain", "--", "hostname") == "plain"
        assert cluster.kubectl("logs", "plain") == "of my own"
    assert sorted(cluster.host.containers("-a")) == sorted(before)
    cluster.host.docker("rm", "-f", foreign)
    cluster.kubectl("delete", "pod", "victim", "plain", "--now")


def test_a_terminal_has_the_clients_size(cluster: Cluster, protocol: None) -> None:
    """kubectl needs a real terminal for this: one is made, of 44 rows and 55 columns."""
    cluster.apply(make_pod("screen", container("main")))
    wait_ready(cluster, "screen")
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 55, 0, 0))
    script = (
        "i=0; while [ $i -lt 50 ]; do stty size; [ \"$(stty size)\" = '44 55' ] && exit 5; "
        "sleep 0.1; i=$((i+1)); done"
    )
    command = [
        *cluster.host.inside,
        kubectl_path(),
        "exec",
        "-it",
        "screen",
        "--",
        "sh",
        "-c",
        script,
    ]
    done = subprocess.run(
        command,
        env=cluster.environment,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        timeout=20,
    )
    assert done.returncode == 5, os.read(leader, 4096)
    os.close(leader)
    os.close(follower)
    cluster.kubectl("delete", "pod", "screen", "--now")


def test_a_client_joins_a_running_program(cluster: Cluster) -> None:
    main = container(
        "main", "read line; echo heard $line; trap 'exit 0' TERM; sleep 1000 & wait", stdin=True
    )
    cluster.apply(make_pod("joined", main))
    wait_ready(cluster, "joined")
    command = [*cluster.host.inside, kubectl_path(), "attach", "-i", "joined"]
    client = subprocess.Popen(
        command,
        env=cluster.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdin is not None and client.stdout is not None
    client.stdin.write(b"a word\n")
    client.stdin.flush()
    assert client.stdout.readline() == b"heard a word\n"
    client.kill()
    client.communicate()
    cluster.kubectl("delete", "pod", "joined", "--now")


def test_rt_14_the_end_of_a_clients_stdin_ends_that_of_a_program_with_stdin_once(
    cluster: Cluster,
) -> None:
    """As `kubectl run -i --rm` does it, whose program reads to the end."""
    # Shows RT-14.f.
    cluster.apply(
        make_pod(
            "once",
            container("main", "cat; exit 7", stdin=True, stdinOnce=True),
            restartPolicy="Never",
        )
    )
    wait_ready(cluster, "once")
    assert cluster.kubectl("attach", "-i", "once", stdin="all of it") == "all of it"
    state = until(
        lambda: cluster.pod("once")["status"]["containerStatuses"][0]["state"].get("terminated"),
        10,
        "it has not ended",
    )
    assert state["exitCode"] == 7
    cluster.kubectl("delete", "pod", "once", "--now")


def test_a_port_of_a_pod_is_forwarded_also_one_that_only_the_pod_itself_can_reach(
    cluster: Cluster, protocol: None
) -> None:
    script = (
        "echo inside > /www/index.html; trap 'exit 0' TERM; "
        "httpd -f -p 127.0.0.1:8080 -h /www & wait"
    )
    cluster.apply(make_pod("inner", container("main", script)))
    wait_ready(cluster, "inner")
    command = [*cluster.host.inside, kubectl_path(), "port-forward", "pod/inner", ":8080", ":9"]
    client = subprocess.Popen(
        command, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert client.stdout is not None and client.stderr is not None
        ports = {}
        while len(ports) < 2:
            words = client.stdout.readline().split()  # Forwarding from 127.0.0.1:NNNN -> 8080
            if words[2].startswith("127.0.0.1:"):
                ports[words[4]] = words[2].rpartition(":")[2]
        until(
            lambda: cluster.host.curl(f"http://127.0.0.1:{ports['8080']}/") == "inside",
            5,
            "the port is not forwarded",
        )
        assert cluster.host.curl(f"http://127.0.0.1:{ports['8080']}/") == "inside"
        assert cluster.host.curl(f"http://127.0.0.1:{ports['9']}/") == ""
        assert (
            "error forwarding port 9 to pod inner: connection refused" in client.stderr.readline()
        )
    finally:
        client.kill()
        client.communicate()
    cluster.kubectl("delete", "pod", "inner", "--now")


def test_hooks_run_after_the_start_and_before_the_end(cluster: Cluster, tmp_path: Path) -> None:
    hooks = {
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo started >> /out/hooks"]}},
        "preStop": {"exec": {"command": ["/bin/sh", "-c", "echo stopping >> /out/hooks"]}},
    }
    mount = [{"name": "out", "mountPath": "/out"}]
    volumes = [{"name": "out", "hostPath": {"path": str(tmp_path), "type": "Directory"}}]
    main = container("main", lifecycle=hooks, volumeMounts=mount)
    cluster.apply(make_pod("hooked", main, volumes=volumes, terminationGracePeriodSeconds=5))
    wait_ready(cluster, "hooked")
    assert (tmp_path / "hooks").read_text() == "started\n"
    cluster.kubectl("delete", "pod", "hooked")
    assert (tmp_path / "hooks").read_text() == "started\nstopping\n"


def test_a_pod_whose_sandbox_is_killed_gets_a_new_one(cluster: Cluster) -> None:
    cluster.apply(make_pod("boxed", container("main")))
    wait_ready(cluster, "boxed")
    before = cluster.pod("boxed")["status"]["podIP"]
    uid = cluster.pod("boxed")["metadata"]["uid"]
    sandbox = cluster.host.containers(
        "--filter", f"label=refk8s.pod-uid={uid}", "--filter", "label=refk8s.type=sandbox"
    )[0]
    cluster.host.docker("kill", sandbox)
    until(
        lambda: is_ready(cluster, "boxed") and cluster.pod("boxed")["status"]["podIP"] != before,
        30,
        "no new sandbox",
    )
    assert cluster.pod("boxed")["status"]["containerStatuses"][0]["restartCount"] == 1
    cluster.kubectl("delete", "pod", "boxed", "--now")


SILENCE = (
    f"import socket, time; s = socket.create_server(('{NEIGHBOUR_IP}', 5000)); print(flush=True); "
    "time.sleep(600)"
)


def test_an_image_that_is_there_waits_for_no_registry(cluster: Cluster) -> None:
    """RT-33: a registry takes connections and never answers; twelve pods want its images."""
    inside = ["nsenter", f"--net=/var/run/netns/{cluster.host.neighbour}"]
    registry = subprocess.Popen([*inside, sys.executable, "-c", SILENCE], stdout=subprocess.PIPE)
    try:
        assert registry.stdout is not None
        registry.stdout.readline()
        stuck = [
            make_pod(f"stuck-{n}", container("main", image=f"{NEIGHBOUR_IP}:5000/app{n}:1"))
            for n in range(12)
        ]
        cluster.apply(*stuck)
        until(
            lambda: "Scheduled" in {reason for reason, _ in cluster.events("stuck-11")},
            10,
            "it is not on the node",
        )
        cluster.apply(make_pod("swift", container("main")))
        wait_ready(cluster, "swift", 10)
        cluster.kubectl("delete", "pod", "--now", "--all")
        cluster.apply(make_pod("swift-too", container("main")))
        wait_ready(cluster, "swift-too", 10)
    finally:
        registry.kill()
        registry.wait()
    cluster.kubectl("delete", "pod", "swift-too", "--now")


def test_the_node_tells_of_its_machine(cluster: Cluster) -> None:
    status = cluster.get("nodes")["items"][0]["status"]
    assert {"type": "InternalIP", "address": NODE_IP} in status["addresses"]
    assert status["nodeInfo"]["containerRuntimeVersion"].startswith("docker://")
    assert int(status["capacity"]["cpu"]) >= 1
    assert any(IMAGE in image["names"] for image in status["images"])
