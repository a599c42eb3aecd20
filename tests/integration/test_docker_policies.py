"""Network policies of a cluster on a Docker engine: pods that are isolated from their first packet
on. Rules POLICY-1, POLICY-7, POLICY-10 to POLICY-13."""

from collections.abc import Iterator

import pytest
from docker_host import Cluster, Host, container, make_pod, until

SERVE = "echo db > /www/index.html; httpd -p 8080 -h /www; trap 'exit 0' TERM; sleep 1000 & wait"
TABLE = "refk8s_policy_"


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(docker_host, tmp_path_factory.mktemp("policies") / "data")
    cluster.start()
    until(lambda: cluster.kubectl("get", "nodes", "-o", "name"), 10, "no node")
    yield cluster
    cluster.stop()
    assert TABLE not in docker_host.sh("nft", "list", "tables")
    assert "Traceback" not in cluster.words(), cluster.words()


def policy(name: str, **spec: object) -> dict[str, object]:
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**kind, "metadata": {"name": name}, "spec": spec}


def written(cluster: Cluster, name: str) -> str:
    """What the container of a pod has written; empty before."""
    ids = cluster.ids(name, "main")
    read = ("docker", "-H", cluster.host.address, "exec", *ids[:1], "cat", "/tmp/out")
    return cluster.host.sh(*read).strip() if ids else ""


def test_policy_11_pods_are_isolated_from_their_first_packet_and_lose_none_that_is_allowed(
    cluster: Cluster, docker_host: Host
) -> None:
    cluster.apply(make_pod("db", container("main", SERVE)))
    address = until(lambda: cluster.pod("db")["status"].get("podIP"), 20, "db has no address")
    until(lambda: docker_host.curl(f"http://{address}:8080", 1) == "db", 10, "db does not answer")
    cluster.apply(
        policy(
            "db",
            podSelector={"matchLabels": {"app": "db"}},
            ingress=[
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "friend"}}}],
                    "ports": [{"port": 8080}],
                }
            ],
        ),
        policy("lonely", podSelector={"matchLabels": {"app": "lonely"}}, policyTypes=["Egress"]),
        policy("rest", podSelector={"matchLabels": {"app": "nothing-has-it"}}),
    )
    until(lambda: TABLE in docker_host.sh("nft", "list", "tables"), 10, "no table")
    # the first command of each container: a second attempt would come after 1 s
    fetch = f"wget -q -O- http://{address}:8080"
    tries = f"for i in 1 2 3; do nc -w 1 {address} 8080 < /dev/null && echo open; done; echo end"
    cluster.apply(
        make_pod("friend", container("main", f"{fetch} > /tmp/out; sleep 1000")),
        make_pod("stranger", container("main", f"({tries}) > /tmp/out; sleep 1000")),
        make_pod("lonely", container("main", f"({tries}) > /tmp/out; sleep 1000")),
    )
    until(lambda: written(cluster, "friend") == "db", 20, "the first packet was lost")
    sent = cluster.inside("friend", "main", "cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in sent if line.startswith("Tcp:"))
    assert dict(zip(names, values, strict=True))["RetransSegs"] == "0"
    for name in ("stranger", "lonely"):
        until(lambda name=name: "end" in written(cluster, name), 20, "it is still asking")
        assert written(cluster, name) == "end"
    assert docker_host.curl(f"http://{address}:8080", 1) == "db"  # its node
    assert docker_host.curl(f"http://{address}:8080", 1, neighbour=True) == ""
    cluster.kubectl("delete", "networkpolicy", "--all")
    until(lambda: TABLE not in docker_host.sh("nft", "list", "tables"), 10, "the table is left")
    assert cluster.inside("stranger", "main", *fetch.split()) == "db"
    cluster.kubectl("delete", "pod", "--all", "--now")
