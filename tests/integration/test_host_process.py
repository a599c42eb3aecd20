"""`refk8s run` among the other processes of its machine: its address, data directory and kubeconfig
(spec/host.md)."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import yaml
from fake_cluster import FakeCluster, free_port, need_kubectl, until


def refk8s(*arguments: str, **environment: str) -> tuple[int, str]:
    """Status and all output of a command that ends by itself."""
    command = [sys.executable, "-m", "refk8s.cli.main", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def refused(*arguments: str) -> str:
    code, words = refk8s("run", "--adapter", "fake", "--port", str(free_port()), *arguments)
    assert code == 2 and words.startswith("refk8s: ") and "\n" not in words, words
    return words


def test_host_4_a_second_run_on_a_data_directory_is_refused_with_any_store(tmp_path: Path) -> None:
    # Shows HOST-4.b.
    cluster = FakeCluster(tmp_path, nodes=1).start()
    try:
        data = str(tmp_path / "data")
        for store in (("--store", "memory"), ("--store", f"sqlite:{tmp_path}/other.db"), ()):
            words = refused("--data-dir", data, *store)
            assert (
                f"in use by another refk8s (process {cluster.process.pid})" in words
                and "--data-dir" in words
            )
        assert not (tmp_path / "other.db").exists()
        for path in (tmp_path / "data", tmp_path / "data/pki"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        for path in (tmp_path / "data").glob("store.db*"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    finally:
        cluster.kill()
    cluster.start()
    assert cluster.stop() == 0


def test_host_19_the_address_for_others_is_that_of_the_flag(tmp_path: Path) -> None:
    # Shows HOST-19.c.
    flags = ("--nodes", "1", "--bind", "0.0.0.0", "--advertise-address", "127.0.0.3")
    cluster = FakeCluster(tmp_path, *flags).start()
    try:
        url = f"https://127.0.0.3:{cluster.port}"
        info = cluster.kubectl(
            "-n", "kube-public", "get", "configmap", "cluster-info", "-o", "yaml"
        )
        assert f'"server": "{url}"' in info
        # kubectl verifies that the certificate is for this address
        assert "kubernetes" in cluster.kubectl("--server", url, "get", "services")
    finally:
        cluster.stop()


def test_host_1_only_the_address_of_bind_is_listened_at(tmp_path: Path) -> None:
    # Shows HOST-1.a, HOST-1.f.
    for name in ("default", "bound"):
        (tmp_path / name).mkdir()
    default = FakeCluster(tmp_path / "default", nodes=1).start()
    try:
        other = socket.socket()
        other.bind(("127.0.0.2", default.port))  # in use, if every address were listened at
        other.close()
    finally:
        default.stop()
    bound = FakeCluster(tmp_path / "bound", "--nodes", "1", "--bind", "127.0.0.3").start()
    try:
        assert (
            yaml.safe_load(bound.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
            == f"https://127.0.0.3:{bound.port}"
        )
        assert "kubernetes" in bound.kubectl("get", "services")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", bound.port))
    finally:
        bound.stop()
    data = str(tmp_path / "nothing")
    every = ("--data-dir", data, "--bind", "0.0.0.0", "--advertise-address")
    assert "--advertise-address" in refused(*every, "192.0.2.250")
    assert "--advertise-address" in refused(*every, "::1")
    assert "--advertise-address" in refused("--data-dir", data, "--advertise-address", "127.0.0.3")
    assert "--bind" in refused("--data-dir", data, "--bind", "example.org")
    assert "--bind" in refused("--data-dir", data, "--bind", "192.0.2.250")
    assert not (tmp_path / "nothing").exists()


def test_host_7_a_users_kubeconfig_is_merged_into_and_cleaned_again(tmp_path: Path) -> None:
    # Shows HOST-7.a, HOST-7.g, HOST-7.h.
    cluster = FakeCluster(tmp_path, nodes=1).start()
    config = tmp_path / "config"
    environment = {**os.environ, "KUBECONFIG": str(config)}

    def kubectl(*arguments: str) -> str:
        done = subprocess.run(
            [need_kubectl(), *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    cluster.stop()
    kubectl("config", "set-cluster", "prod", "--server=https://192.0.2.1:6443")
    kubectl("config", "set-credentials", "me", "--token=theirs")
    kubectl("config", "set-context", "prod", "--cluster=prod", "--user=me")
    kubectl("config", "use-context", "prod")
    before = yaml.safe_load(config.read_text())
    config.chmod(0o640)
    code, words = 0, ""
    process = subprocess.Popen(
        [sys.executable, "-m", "refk8s.cli.main", "run", "--adapter", "fake", "--port", str(cluster.port), "--data-dir",
         str(tmp_path / "data"), "--kubeconfig", str(config)], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and "is ready" in process.stdout.readline()
        assert stat.S_IMODE(config.stat().st_mode) == 0o640
        assert "kubernetes" in kubectl("get", "services") and "prod" in kubectl(
            "config", "get-contexts", "-o", "name"
        )
        user = next(
            user
            for user in yaml.safe_load(config.read_text())["users"]
            if user["name"] == "refk8s-admin"
        )["user"]
        assert {"client-certificate-data", "client-key-data", "token"} <= set(user)
        code, words = refk8s("kubeconfig", "remove", KUBECONFIG=str(config))
    finally:
        process.terminate()
        process.wait(30)
    assert code == 0 and "removed" in words
    after = yaml.safe_load(config.read_text())
    assert after == {**before, "current-context": ""}
    config.write_text("clusters: [")
    assert "--kubeconfig" in refused(
        "--data-dir", str(tmp_path / "data"), "--kubeconfig", str(config)
    )
    assert config.read_text() == "clusters: ["


def test_host_6_damaged_keys_and_ids_are_one_line_with_the_next_step(tmp_path: Path) -> None:
    # Shows HOST-6.b, HOST-6.i.
    cluster = FakeCluster(tmp_path, nodes=1).start()
    cluster.kubectl("create", "configmap", "kept")
    cluster.stop()
    data = tmp_path / "data"
    for name in ("sa.key", "ca.key", "ca.crt", "admin.token"):
        path = data / "pki" / name
        content = path.read_bytes()
        path.write_bytes(b"")
        words = refused("--data-dir", str(data))
        assert name in words and "restore" in words
        path.write_bytes(content)
    (data / "cluster-id").unlink()
    cluster.start()
    assert "kept" in cluster.kubectl("get", "configmaps")
    cluster.stop()
    assert "Traceback" not in cluster.log.read_text()


def test_host_9_the_cluster_works_after_the_reader_of_its_story_has_gone_or_stalled(
    tmp_path: Path,
) -> None:
    # Shows HOST-9.e.
    """A reader that exits and one that never reads: the controllers are told of every write all the
    same."""
    for name in ("gone", "stalled"):
        (tmp_path / name).mkdir()
        cluster = FakeCluster(tmp_path / name, nodes=1)
        command = [
            sys.executable,
            "-m",
            "refk8s.cli.main",
            "run",
            "--adapter",
            "fake",
            "--port",
            str(cluster.port),
            "--story",
        ]
        command += [
            "--kubeconfig",
            str(cluster.kubeconfig),
            "--data-dir",
            str(cluster.directory / "data"),
        ]
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while name == "stalled":
                os.write(writer, b"x" * 4096)  # the pipe is full before the cluster begins
        os.set_blocking(writer, True)
        cluster.process = subprocess.Popen(
            command, stdout=writer, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        os.close(writer)
        if name == "gone":
            assert os.read(reader, 10)
            os.close(reader)
        try:
            until(cluster.kubeconfig.exists, "the cluster is ready")
            cluster.kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2")
            cluster.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
        finally:
            assert cluster.stop() == 0
            if name == "stalled":
                os.close(reader)


def test_host_10_what_is_applied_is_told_line_by_line_after_the_ready_line(tmp_path: Path) -> None:
    manifest = tmp_path / "two.yaml"
    manifest.write_text(
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}, dataa: {}}\n"
        "- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {a: b}}, "
        "template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}\n"
    )
    (tmp_path / "none.yaml").write_text("")
    cluster = FakeCluster(
        tmp_path, "--apply", str(manifest), "--apply", str(tmp_path / "none.yaml")
    ).start()
    try:
        lines = until(
            lambda: len(found := cluster.log.read_text().splitlines()) >= 4 and found, "all is told"
        )
    finally:
        cluster.stop()
    assert "is ready at" in lines[0] and lines[2] == "deployment.apps/web created"
    assert 'unknown field "dataa"' in lines[1] and "it has no objects" in lines[3]


def test_adm_12_a_cluster_starts_though_a_user_has_given_away_the_address_of_its_dns(
    tmp_path: Path,
) -> None:
    """Another service at 10.96.0.10, and no service kube-dns any more."""
    cluster = FakeCluster(tmp_path).start()
    path = "/api/v1/namespaces/{}/services/{}"
    spec = {"clusterIP": "10.96.0.10", "ports": [{"port": 80}]}
    try:
        assert cluster.call("DELETE", path.format("kube-system", "kube-dns"))[0] == 200
        other = {"metadata": {"name": "other"}, "spec": spec}
        until(
            lambda: cluster.call("POST", path.format("default", ""), other)[0] == 201,
            "the address is not free",
        )
        assert cluster.stop() == 0
        cluster.start()
        assert cluster.call("GET", path.format("kube-system", "kube-dns"))[0] == 404
        assert "pods cannot resolve names: cannot make Service kube-dns" in cluster.log.read_text()
    finally:
        assert cluster.stop() == 0
