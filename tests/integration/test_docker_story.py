"""The main job on a real engine: a service of three web servers, killed, deleted, scaled, updated
under load, adopted, and taken down."""

import collections
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import IMAGE, NODE_IP, Cluster, Host, container, make_pod, until

SERVER = "hostname > /www/index.html; trap 'sleep 1; exit 0' TERM; httpd -f -p 8080 -h /www & wait"
NODE_PORT = 30080
NODE_URL = f"http://{NODE_IP}:{NODE_PORT}/"


def web(replicas: int = 3) -> list[dict[str, Any]]:
    """A Deployment of web servers that answer with their names, and a Service before them."""
    server = container("server", SERVER)
    server["ports"] = [{"containerPort": 8080, "name": "http"}]
    server["readinessProbe"] = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    pod = make_pod("web", server, terminationGracePeriodSeconds=5)
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod["spec"]},
        },
    }  # fmt: skip
    service = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http", "nodePort": NODE_PORT}]},
    }  # fmt: skip
    return [deployment, service]


class Story:
    """The cluster with the web servers in it."""

    def __init__(self, host: Host, cluster: Cluster) -> None:
        self.host = host
        self.cluster = cluster

    def names(self) -> set[str]:
        return set(
            self.cluster.kubectl(
                "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"
            ).split()
        )

    def servers(self) -> set[str]:
        return set(self.host.containers("--filter", "label=refk8s.container=server"))

    def rollout(self) -> None:
        self.cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")

    def cluster_ip(self) -> str:
        return str(self.cluster.get("service", "web")["spec"]["clusterIP"])

    def answers_of_all(self, url: str) -> None:
        """Every pod answers there, nobody else, and each a fair share."""
        until(
            lambda: {self.host.curl(url) for _ in range(12)} == self.names(),
            15,
            f"not exactly the pods answer at {url}",
        )
        answers = collections.Counter(self.host.curl(url) for _ in range(60))
        assert set(answers) == self.names()
        # One in 10,000 fair draws is worse than this.
        assert min(answers.values()) >= 5, f"unevenly: {answers}"


@pytest.fixture(scope="module")
def story(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    cluster = Cluster(docker_host, tmp_path_factory.mktemp("story") / "data")
    cluster.start()
    cluster.apply(*web())
    story = Story(docker_host, cluster)
    story.rollout()
    yield story
    cluster.stop()


# These tests tell one story, in this order; each leaves three ready pods behind.


def test_three_servers_answer_by_node_port_and_cluster_ip(story: Story) -> None:
    assert len(story.names()) == len(story.servers()) == 3
    for url in (NODE_URL, f"http://{story.cluster_ip()}/"):
        story.answers_of_all(url)


def test_pods_reach_the_service_and_also_themselves_through_it(story: Story) -> None:
    """A pod that is picked for its own request answers at once: that takes hairpin mode and a
    masquerade, and fails silently else."""
    asker = sorted(story.servers())[0]
    name = story.host.docker("exec", asker, "hostname")
    begin = time.monotonic()
    answers = collections.Counter(
        story.host.docker("exec", asker, "wget", "-q", "-O-", f"http://{story.cluster_ip()}/")
        for _ in range(20)
    )
    seconds = time.monotonic() - begin
    assert set(answers) <= story.names() and sum(answers.values()) == 20
    assert answers[name] > 0, f"the asker never answered itself: {answers}"
    assert seconds < 20 * 0.9, f"20 requests took {seconds:.1f} s: some waited for a second packet"


def test_a_killed_container_is_restarted_and_counted(story: Story) -> None:
    story.host.docker("kill", sorted(story.servers())[0])

    def restarts() -> list[int]:
        return sorted(
            pod["status"]["containerStatuses"][0]["restartCount"]
            for pod in story.cluster.get("pods", "-l", "app=web")["items"]
        )

    until(lambda: restarts() == [0, 0, 1], 30, "a killed container was not restarted with count 1")
    story.rollout()


def test_a_deleted_pod_is_replaced(story: Story) -> None:
    victim = sorted(story.names())[0]
    story.cluster.kubectl("delete", "pod", victim)
    story.rollout()
    assert victim not in story.names() and len(story.names()) == 3


def test_scaling_up_and_down(story: Story) -> None:
    for replicas in (6, 2, 3):
        story.cluster.kubectl("scale", "deployment/web", f"--replicas={replicas}")
        until(
            lambda n=replicas: len(story.names()) == len(story.servers()) == n,
            60,
            f"scale to {replicas}",
            every=0.3,
        )
    story.rollout()


def test_no_request_fails_during_a_rolling_update(story: Story) -> None:
    stop, counts = threading.Event(), collections.Counter[str]()

    def ask_again_and_again() -> None:
        while not stop.is_set():
            counts["answered" if story.host.curl(NODE_URL) else "failed"] += 1

    streams = [threading.Thread(target=ask_again_and_again) for _ in range(2)]
    before = story.names()
    for stream in streams:
        stream.start()
    try:
        story.cluster.kubectl("set", "env", "deployment/web", "VERSION=2")
        story.rollout()
        until(lambda: not before & story.names(), 60, "old pods stayed after the update")
    finally:
        stop.set()
        for stream in streams:
            stream.join()
    assert counts["failed"] == 0 and counts["answered"] > 50, counts


def test_a_killed_refk8s_finds_its_containers_again_and_touches_none(story: Story) -> None:
    # Shows RT-2.b.
    def look() -> list[str]:
        format = "{{.Id}} {{.State.StartedAt}} {{.State.Status}}"
        return sorted(
            story.host.docker("inspect", "-f", format, *story.host.containers("-a")).splitlines()
        )

    until(lambda: len(story.host.containers("-a")) == 6, 20, "containers of the update are left")
    was, names = look(), story.names()
    uid = story.cluster.get("deployment", "web")["metadata"]["uid"]
    story.cluster.kill()
    assert story.host.curl(NODE_URL), "traffic stopped when refk8s was killed"
    seconds = story.cluster.start()
    assert story.cluster.get("deployment", "web")["metadata"]["uid"] == uid
    assert story.names() == names
    begin = time.monotonic()
    while time.monotonic() - begin < 5:
        assert look() == was, "a container was touched"
        time.sleep(0.5)
    story.answers_of_all(NODE_URL)
    assert seconds < 10, f"ready after {seconds:.1f} s"


def test_containers_go_on_after_a_stop_that_keeps_them(story: Story) -> None:
    story.cluster.stop()
    assert story.host.containers("-a") == [], "without --keep they are removed"
    story.cluster.start("--keep")
    until(lambda: len(story.servers()) == 3, 20, "the servers did not come back")
    story.answers_of_all(NODE_URL)
    was = sorted(story.host.containers())
    story.cluster.stop()
    assert sorted(story.host.containers()) == was
    assert story.host.curl(NODE_URL), "traffic stopped"
    story.cluster.start()
    until(lambda: len(story.names()) == 3, 10, "not three pods")
    assert sorted(story.host.containers()) == was


def test_the_engine_may_restart(story: Story) -> None:
    """Its containers are gone with it: the pods get new sandboxes and are counted as restarted."""
    story.host.stop_engine()
    story.host.start_engine()
    until(lambda: len(story.servers()) == 3, 60, "the servers did not come back", every=0.5)
    story.rollout()
    story.answers_of_all(NODE_URL)


def test_nothing_is_left_behind(story: Story) -> None:
    # Shows RT-8.b.
    address = story.cluster_ip()
    assert story.cluster.stop() == 0
    assert story.host.containers("-a") == []
    assert "refk8s" not in story.host.docker("network", "ls")
    rules = story.host.sh("nft", "list", "ruleset") + story.host.sh("iptables-save")
    assert "refk8s" not in rules.lower() and address not in rules
    assert not (Path(story.cluster.data) / "pods").exists()
    assert "Traceback" not in story.cluster.words(), story.cluster.words()
    links = subprocess.run(
        [*story.host.inside, "ip", "-br", "link"], capture_output=True, text=True
    ).stdout
    assert "refk8s" not in links


def test_without_an_engine_it_says_so_in_one_line(docker_host: Host, tmp_path: Path) -> None:
    cluster = Cluster(docker_host, tmp_path / "data")
    cluster.environment["DOCKER_HOST"] = f"unix://{tmp_path}/nobody.sock"
    with pytest.raises(AssertionError):
        cluster.start()
    assert cluster.process is not None and cluster.process.wait(10) == 2
    [line] = cluster.words().strip().splitlines()
    assert (
        line.startswith("refk8s: no Docker engine answers at unix://") and "--adapter fake" in line
    )
    assert not (tmp_path / "data").exists()


def test_an_image_of_another_name_than_ours_is_not_made(docker_host: Host, tmp_path: Path) -> None:
    """The sample of the demonstration is made from this machine's busybox; nothing else is."""
    cluster = Cluster(docker_host, tmp_path / "data")
    cluster.start()
    try:
        sample = {
            **container("main"),
            "image": "refk8s/sample:1",
            "command": ["/bin/sleep", "1000"],
        }
        other = {**container("main"), "image": "refk8s/other:1", "imagePullPolicy": "Never"}
        cluster.apply(make_pod("sample", sample), make_pod("other", other))
        until(
            lambda: cluster.pod("sample")["status"].get("phase") == "Running",
            20,
            "the sample does not run",
        )
        state = cluster.pod("other")["status"]["containerStatuses"][0]["state"]
        assert state["waiting"]["reason"] == "ErrImageNeverPull"
    finally:
        cluster.stop()
    assert IMAGE in docker_host.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
