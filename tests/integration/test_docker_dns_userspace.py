"""Pods resolve names where the kernel takes no service rules. Rules DNS-19 (spec/dns.md),
NET-17."""

import os
from pathlib import Path

from docker_host import Cluster, Host, container, make_pod, until


def test_dns_19_names_are_resolved_through_the_user_space_proxy(
    docker_host: Host, tmp_path: Path
) -> None:
    refuses = tmp_path / "bin" / "nft"
    refuses.parent.mkdir()
    refuses.write_text("#!/bin/sh\necho no rules here >&2\nexit 1\n")
    refuses.chmod(0o755)
    cluster = Cluster(docker_host, tmp_path / "data")
    cluster.environment["PATH"] = f"{refuses.parent}:{os.environ['PATH']}"
    cluster.start()
    try:
        said = "services are served by this process"
        until(lambda: said in cluster.words(), 20, "there are kernel rules")
        cluster.apply(make_pod("client", container("main")))
        until(lambda: cluster.pod("client")["status"].get("phase") == "Running", 30, "no pod")
        found = until(
            lambda: "10.96.0.1\n" in (words := look_up(cluster, "kubernetes")) and words,
            20,
            "the name is not resolved",
        )
        assert "Name:\tkubernetes.default.svc.cluster.local" in found
    finally:
        cluster.stop()


def look_up(cluster: Cluster, name: str) -> str:
    """What nslookup says in the pod, also if it fails."""
    return cluster.inside("client", "main", "sh", "-c", f"busybox nslookup {name} 2>&1; true")
