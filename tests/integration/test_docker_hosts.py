"""Hosts that make it harder: packets dropped by default, a user without rights, two clusters on one
engine, people who meddle."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_host import NODE_IP, Cluster, Host, container, make_pod, missing_tools, until
from test_docker_story import NODE_URL, Story, web

NOBODY = 65534


@pytest.fixture(scope="module")
def hard_host() -> Iterator[Host]:
    """The engine switches forwarding on by itself, so it drops what it does not know; and it has no
    user-space proxy."""
    if missing_tools():
        pytest.fail(f"the Docker tests need {', '.join(missing_tools())}")
    host = Host(2, "--userland-proxy=false", forwards=False)
    try:
        host.start()
        yield host
    finally:
        host.stop()


def test_others_reach_the_service_where_packets_are_dropped_by_default(
    hard_host: Host, tmp_path: Path
) -> None:
    assert "-P FORWARD DROP" in hard_host.sh("iptables", "-S", "FORWARD")
    before = (
        hard_host.sh("iptables-save"),
        hard_host.sh("nft", "list", "tables"),
        hard_host.sh("ip", "-br", "addr"),
    )
    cluster = Cluster(hard_host, tmp_path / "data")
    cluster.start()
    cluster.apply(*web())
    story = Story(hard_host, cluster)
    story.rollout()
    story.answers_of_all(NODE_URL)
    until(
        lambda: {hard_host.curl(NODE_URL, neighbour=True) for _ in range(12)} == story.names(),
        10,
        "the neighbour is not answered",
    )
    asker = sorted(story.servers())[0]
    answers = [
        hard_host.docker("exec", asker, "wget", "-q", "-O-", f"http://{story.cluster_ip()}/")
        for _ in range(12)
    ]
    assert set(answers) <= story.names()
    assert cluster.stop() == 0
    after = (
        hard_host.sh("iptables-save"),
        hard_host.sh("nft", "list", "tables"),
        hard_host.sh("ip", "-br", "addr"),
    )
    for was, now in zip(before, after, strict=True):
        assert _rules(was) == _rules(now), "the host is not as it was"


def _rules(text: str) -> list[str]:
    """Without counters, comments with times, and the devices' changing state."""
    return sorted(
        line.split("[")[0].strip()
        for line in text.splitlines()
        if not line.startswith("#") and "docker0" not in line
    )


def kept_in_memory() -> set[Path]:
    """The directories in memory of clusters that this user has run without the right to mount."""
    return set(Path("/dev/shm").glob(f"refk8s-{NOBODY}-*"))


def test_a_user_without_the_rights_of_root_runs_a_cluster(hard_host: Host, tmp_path: Path) -> None:
    """What this user may not set is done without, and said: services go through a proxy of our
    own."""
    os.chown(hard_host.work / "sock", NOBODY, NOBODY)
    for place in (hard_host.work, *tmp_path.parents):
        if place.is_relative_to("/tmp") and place != Path("/tmp"):
            place.chmod(0o755)
    (tmp_path / "home").mkdir()
    os.chown(tmp_path / "home", NOBODY, NOBODY)
    os.chown(tmp_path, NOBODY, NOBODY)
    before = kept_in_memory()  # A run that was ended by force may have left some.
    cluster = Cluster(hard_host, tmp_path / "data", user=f"{NOBODY}:{NOBODY}")
    cluster.environment["HOME"] = str(tmp_path / "home")
    cluster.start()
    try:
        cluster.kubectl("create", "configmap", "settings", "--from-literal=colour=blue")
        cluster.kubectl("create", "secret", "generic", "keys", "--from-literal=password=s3cret")
        volumes = [
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "quick", "emptyDir": {"medium": "Memory"}},
            {"name": "keys", "secret": {"secretName": "keys"}},
        ]
        mounts = [
            {"name": "settings", "mountPath": "/settings"},
            {"name": "quick", "mountPath": "/quick", "subPath": "deep/inside"},
            {"name": "settings", "mountPath": "/one/colour", "subPath": "colour"},
            {"name": "keys", "mountPath": "/keys"},
        ]
        someone = make_pod(
            "someone",
            container(
                "main", "cat /var/run/secrets/kubernetes.io/serviceaccount/token && sleep 1000"
            ),
        )
        someone["spec"]["securityContext"] = {"runAsUser": 1000, "runAsNonRoot": True}
        cluster.apply(someone)
        owned = make_pod(
            "owned", container("main"), volumes=volumes, securityContext={"fsGroup": 2000}
        )
        cluster.apply(
            *web(),
            make_pod("files", container("main", volumeMounts=mounts), volumes=volumes),
            owned,
        )
        story = Story(hard_host, cluster)
        story.rollout()
        until(
            lambda: {hard_host.curl(NODE_URL) for _ in range(12)} == story.names(),
            10,
            "the node port is not answered by all",
        )
        until(
            lambda: cluster.pod("files")["status"].get("phase") == "Running",
            10,
            "the pod with files does not run",
        )
        assert cluster.inside("files", "main", "cat", "/settings/colour") == "blue"
        assert cluster.inside("files", "main", "cat", "/keys/password") == "s3cret"
        seen = cluster.inside("files", "main", "cat", "/proc/mounts").splitlines()
        assert {line.split()[1] for line in seen if line.startswith("tmpfs")} >= {"/keys", "/quick"}
        assert cluster.inside("files", "main", "touch", "/quick/mine") == ""
        until(
            lambda: cluster.pod("someone")["status"].get("phase") == "Running",
            10,
            "a user of its own cannot read its token",
        )
        until(
            lambda: any("fsGroup 2000" in message for _, message in cluster.events("owned")),
            10,
            "nobody says why it waits",
        )
        assert cluster.ids("owned", "main") == []
    finally:
        cluster.stop()
    lines = cluster.words().splitlines()
    assert sum("services are served by this process" in line for line in lines) == 1
    assert not any("volumes in memory are directories" in line for line in lines)
    assert sum("tokens can be read by every user" in line for line in lines) == 1
    assert kept_in_memory() == before, "secrets are left"
    assert hard_host.containers("-a") == []
    assert "Traceback" not in cluster.words(), cluster.words()


def test_two_clusters_share_an_engine_and_leave_each_other_alone(
    docker_host: Host, tmp_path: Path
) -> None:
    one, two = Cluster(docker_host, tmp_path / "one"), Cluster(docker_host, tmp_path / "two")
    one.start()
    two.start()
    for cluster in (one, two):
        cluster.apply(make_pod("same", container("main")))
    for cluster in (one, two):
        until(
            lambda c=cluster: c.pod("same")["status"].get("phase") == "Running",
            20,
            "it does not run",
        )
    assert one.pod("same")["status"]["podIP"] != two.pod("same")["status"]["podIP"]
    assert len(docker_host.containers()) == 4
    one.stop()
    assert len(docker_host.containers()) == 2
    assert two.pod("same")["status"]["containerStatuses"][0]["restartCount"] == 0
    two.stop()
    assert docker_host.containers("-a") == []


def test_what_people_do_to_containers_by_hand_is_mended(docker_host: Host, tmp_path: Path) -> None:
    cluster = Cluster(docker_host, tmp_path / "data")
    cluster.start()
    try:
        cluster.apply(make_pod("meddled", container("main")))

        def restarts() -> int:
            found = cluster.pod("meddled")["status"].get("containerStatuses")
            return int(found[0]["restartCount"]) if found and "running" in found[0]["state"] else -1

        until(lambda: restarts() == 0, 20, "it does not run")
        docker_host.docker("stop", "-t", "1", cluster.ids("meddled", "main")[0])
        until(lambda: restarts() == 1, 20, "a stopped container is not restarted")
        docker_host.docker("rm", "-f", cluster.ids("meddled", "main")[0])
        until(lambda: restarts() == 2, 60, "a removed container is not made again")
        uid = cluster.pod("meddled")["metadata"]["uid"]
        sandbox = docker_host.containers(
            "--filter", f"label=refk8s.pod-uid={uid}", "--filter", "label=refk8s.type=sandbox"
        )[0]
        docker_host.docker("rm", "-f", sandbox)
        until(lambda: restarts() >= 3, 60, "a pod whose sandbox was removed does not run again")
    finally:
        cluster.stop()
    assert "Traceback" not in cluster.words(), cluster.words()


def test_a_container_that_wants_too_much_memory_is_killed_and_says_why(
    docker_host: Host, tmp_path: Path
) -> None:
    cluster = Cluster(docker_host, tmp_path / "data")
    cluster.start()
    try:
        greedy = container(
            "main",
            "a=12345678; while true; do a=$a$a; done",
            resources={"limits": {"memory": "16Mi"}},
        )
        cluster.apply(make_pod("greedy", greedy, restartPolicy="Never"))
        until(
            lambda: cluster.pod("greedy")["status"].get("phase") == "Failed",
            30,
            "it has not failed",
        )
        ended = cluster.pod("greedy")["status"]["containerStatuses"][0]["state"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
        privileged = container(
            "main",
            "id -u > /tmp/who; trap 'exit 0' TERM; sleep 1000 & wait",
            securityContext={"privileged": True},
        )
        cluster.apply(make_pod("mighty", privileged))
        until(
            lambda: cluster.pod("mighty")["status"].get("phase") == "Running",
            20,
            "a privileged container does not run",
        )
        told = json.loads(docker_host.docker("inspect", cluster.ids("mighty", "main")[0]))[0][
            "HostConfig"
        ]
        assert told["OomScoreAdj"] == 1000, "KUBELET-131"
        amounts = {"cpu": "10m", "memory": "32Mi"}
        sure = container(
            "main",
            "cat /proc/self/oom_score_adj; trap 'exit 0' TERM; sleep 1000 & wait",
            resources={"limits": amounts, "requests": amounts},
        )
        cluster.apply(make_pod("sure", sure))
        until(
            lambda: cluster.pod("sure")["status"].get("phase") == "Running",
            20,
            "a Guaranteed pod does not run, whatever the engine may do (RT-46)",
        )
        until(lambda: cluster.kubectl("logs", "sure").strip(), 10, "it prints no score")
        assert -997 <= int(cluster.kubectl("logs", "sure")) <= 0
        assert told["Privileged"] or (
            told["CapAdd"] == ["ALL"] and cluster.words().count("lacks the capabilities") == 1
        )
    finally:
        cluster.stop()


def test_pods_have_the_name_servers_that_they_ask_for(docker_host: Host, tmp_path: Path) -> None:
    cluster = Cluster(docker_host, tmp_path / "data")
    cluster.start()
    try:
        config = {
            "nameservers": ["192.0.2.53"],
            "searches": ["a.example"],
            "options": [{"name": "ndots", "value": "2"}],
        }
        cluster.apply(make_pod("named", container("main"), dnsPolicy="None", dnsConfig=config))
        until(
            lambda: cluster.pod("named")["status"].get("phase") == "Running", 20, "it does not run"
        )
        told = cluster.inside("named", "main", "cat", "/etc/resolv.conf").splitlines()
        assert told == ["nameserver 192.0.2.53", "search a.example", "options ndots:2"]
    finally:
        cluster.stop()
    assert NODE_IP not in docker_host.docker("network", "ls")
