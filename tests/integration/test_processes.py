"""Components as processes of their own. Rules PROC-1 to PROC-4 (spec/processes.md)."""

import base64
import json
import re
import ssl
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from fake_cluster import free_port, until
from process_world import Start, kubectl


def apiserver(directory: Path, name: str, store: str = "memory", port: int = 0) -> list[str]:
    return [
        "apiserver", "--store", store, "--port", str(port), "--pki", str(directory / "pki"),
        "--data-dir", str(directory / name), "--kubeconfig", str(directory / f"{name}.kubeconfig"),
    ]  # fmt: skip


def test_proc_1_an_api_server_on_its_own_writes_one_line_and_is_used_by_kubectl(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-1.a, PROC-2.a.
    port = free_port()
    server = processes("a", *apiserver(tmp_path, "a", f"sqlite:{tmp_path}/store.db", port)).start()
    kubeconfig = tmp_path / "a.kubeconfig"
    assert server.said().splitlines() == [
        f"refk8s apiserver is ready at https://127.0.0.1:{port}: export KUBECONFIG={kubeconfig}"
    ]
    kubectl(kubeconfig, "create", "configmap", "one", "--from-literal=a=b")
    assert server.stop() == 0
    server.start()
    assert kubectl(kubeconfig, "get", "configmap", "one", "-o", "jsonpath={.data.a}") == "b"


def test_proc_1_a_start_that_fails_names_the_flag_and_leaves_nothing(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-1.b.
    port = free_port()
    processes("a", *apiserver(tmp_path, "a", port=port)).start()
    before = sorted(path for path in tmp_path.rglob("*"))
    failed = processes("b", *apiserver(tmp_path, "b", port=port)).begin()
    assert failed.process.wait(30) == 2
    assert failed.said() == (
        f"refk8s: port {port} is in use: choose another with --port, or 0 for any free one\n"
    )
    failed.log.unlink()
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_proc_3_servers_that_start_together_on_a_directory_have_the_same_keys(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-3.a, PROC-3.b, PROC-3.c, PROC-3.d.
    names = ("a", "b", "c", "d")
    ports = {name: free_port() for name in names}
    servers = [processes(name, *apiserver(tmp_path, name, port=ports[name])) for name in names]
    for server in servers:
        server.begin()
    for server in servers:
        server.wait_until_ready()
        assert server.said().count("\n") == 1, server.said()
    for name in names:  # the kubeconfig of one server, with the address of another
        text = (tmp_path / "a.kubeconfig").read_text()
        other = tmp_path / "other.kubeconfig"
        other.write_text(text.replace(str(ports["a"]), str(ports[name])))
        assert "kubernetes-admin" in kubectl(other, "auth", "whoami")
        kubectl(tmp_path / f"{name}.kubeconfig", "create", "serviceaccount", "robot")
        token = kubectl(other, "create", "token", "robot")
        header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        keys = json.loads(kubectl(tmp_path / "b.kubeconfig", "get", "--raw", "/openid/v1/jwks"))
        assert header["kid"] in [key["kid"] for key in keys["keys"]]
        assert (tmp_path / name / "pki/server.key").exists()
    assert sorted(path.name for path in (tmp_path / "pki").iterdir()) == [
        "admin.crt", "admin.key", "admin.token", "ca.crt", "ca.key", "front-proxy-ca.crt",
        "front-proxy-ca.key", "lock", "sa.key",
    ]  # fmt: skip
    certificates = {(tmp_path / name / "pki/server.crt").read_bytes() for name in names}
    assert len(certificates) == len(names)


def test_proc_3_a_server_waits_for_the_lock_for_a_limited_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Shows PROC-3.e.
    from refk8s.components import files
    from refk8s.components.credentials import load_credentials
    from refk8s.components.files import CannotRun, shared_lock

    monkeypatch.setattr(files, "SHARED_LOCK_SECONDS_MAX", 0.05)
    with shared_lock(tmp_path), pytest.raises(CannotRun, match="is locked by another process"):
        load_credentials(tmp_path, ("localhost",))
    load_credentials(tmp_path, ("localhost",))


def place(kubeconfig: Path, name: str, node: str, *command: str) -> None:
    """Create a pod on a node, without a scheduler or a controller manager."""
    kubectl(kubeconfig, "create", "serviceaccount", "default", fine=False)
    spec = {"nodeName": node, "automountServiceAccountToken": False}
    overrides = json.dumps({"spec": spec})
    more = ("--command", "--", *command) if command else ()
    kubectl(kubeconfig, "run", name, "--image=nginx", f"--overrides={overrides}", *more)


def test_proc_4_a_node_without_a_port_has_no_streams(processes: Start, tmp_path: Path) -> None:
    # Shows PROC-4.b, PROC-4.c.
    processes("a", *apiserver(tmp_path, "a")).start()
    kubeconfig = tmp_path / "a.kubeconfig"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "elsewhere"}}
    (tmp_path / "node.json").write_text(json.dumps(node))
    kubectl(kubeconfig, "create", "-f", str(tmp_path / "node.json"))
    for name, where in (("web", "elsewhere"), ("lost", "nowhere")):
        place(kubeconfig, name, where)
    words = "error dialing backend: node elsewhere reports no port of its kubelet"
    assert words in kubectl(kubeconfig, "logs", "web", fine=False)
    assert words in kubectl(kubeconfig, "exec", "web", "--", "true", fine=False)
    assert 'nodes "nowhere" not found' in kubectl(kubeconfig, "logs", "lost", fine=False)


def test_proc_4_streams_go_through_the_kubelet_of_another_process(
    processes: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STREAM-8, with kubectl in both of its protocols."""
    # Shows PROC-4.a, PROC-4.d.
    processes("a", *apiserver(tmp_path, "a")).start()
    kubeconfig = tmp_path / "a.kubeconfig"
    flags = ("--kubeconfig", str(kubeconfig), "--pki", str(tmp_path / "pki"), "--port", "0")
    kubelet = processes("kubelet", "kubelet", "--nodes", "2", *flags).start()
    until(lambda: "node-2" in kubectl(kubeconfig, "get", "nodes"), "there is no node")
    script = "echo start; echo wrong >&2; while true; do sleep 1; echo tick; done"
    place(kubeconfig, "web", "node-2", "sh", "-c", script)
    kubectl(kubeconfig, "wait", "--for=condition=Ready", "pod/web", "--timeout=30s")
    assert kubectl(kubeconfig, "logs", "web").splitlines()[:2] == ["start", "wrong"]
    assert kubectl(kubeconfig, "logs", "web", "--limit-bytes=3") == "sta"
    for protocol in ("true", "false"):
        monkeypatch.setenv("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", protocol)
        assert kubectl(kubeconfig, "exec", "web", "--", "hostname") == "web"
        said = kubectl(kubeconfig, "exec", "web", "--", "sh", "-c", "exit 7", fine=False)
        assert said == "command terminated with exit code 7"
    kubelet.stop()
    said = kubectl(kubeconfig, "logs", "web", fine=False)
    assert "error dialing backend: the kubelet of node node-2 at " in said


CLIENTS = {
    "controller-manager": ("controller-manager", "--use-service-account-credentials"),
    "scheduler": ("scheduler",),
    "kubelet": ("kubelet", "--adapter", "fake", "--nodes", "3"),
}


def test_proc_5_four_processes_run_a_deployment_and_each_may_be_killed(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-2.a, PROC-5.a, PROC-5.b, PROC-20.b, PROC-21.a.
    """The controller manager and the scheduler have their own users and roles and no more."""
    port = free_port()
    kubeconfig = tmp_path / "a.kubeconfig"
    running = {
        "apiserver": processes(
            "apiserver", *apiserver(tmp_path, "a", f"sqlite:{tmp_path}/store.db", port)
        ).start()
    }
    for name, arguments in CLIENTS.items():
        own = tmp_path / "a" / f"{name}.kubeconfig"
        path = own if name != "kubelet" else kubeconfig
        running[name] = processes(name, *arguments, "--kubeconfig", str(path)).start()

    def scaled_to(replicas: int) -> None:
        kubectl(kubeconfig, "scale", "deployment/web", f"--replicas={replicas}")
        kubectl(kubeconfig, "rollout", "status", "deployment/web", "--timeout=90s")
        ready = "jsonpath={.status.readyReplicas}"
        assert kubectl(kubeconfig, "get", "deployment/web", "-o", ready) == str(replicas)
        names = kubectl(kubeconfig, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}")
        assert len(names.split()) == replicas

    kubectl(kubeconfig, "create", "deployment", "web", "--image=x", "--replicas=3")
    kubectl(kubeconfig, "rollout", "status", "deployment/web", "--timeout=90s")
    kubectl(kubeconfig, "expose", "deployment", "web", "--port=80")
    for replicas, name in enumerate(running, start=4):
        running[name].kill()
        running[name].start()
        scaled_to(replicas)
    slices = kubectl(
        kubeconfig, "get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o",
        "jsonpath={.items[*].endpoints[*].addresses[0]}",
    )  # fmt: skip
    ips = kubectl(kubeconfig, "get", "pods", "-o", "jsonpath={.items[*].status.podIP}")
    assert sorted(slices.split()) == sorted(ips.split())
    for name in ("scheduler", "controller-manager"):
        said = kubectl(tmp_path / "a" / f"{name}.kubeconfig", "get", "secrets", "-A", fine=False)
        assert ("Forbidden" in said) is (name == "scheduler"), said
    for name in (*CLIENTS, "apiserver"):
        assert running[name].stop() == 0, running[name].said()
        assert "Traceback" not in running[name].log.read_text()


def test_proc_5_a_component_waits_for_an_api_server_that_is_away(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-5.c.
    port = free_port()
    server = processes("apiserver", *apiserver(tmp_path, "a", port=port)).start()
    server.stop()
    kubeconfig = str(tmp_path / "a.kubeconfig")
    scheduler = processes("scheduler", "scheduler", "--kubeconfig", kubeconfig).start()
    until(lambda: "cannot reach the API server" in scheduler.said(), "the failure is not reported")
    server.start()
    until(lambda: "is reached again" in scheduler.said(), "it is not reached again")
    until(
        lambda: "kube-scheduler" in kubectl(tmp_path / "a.kubeconfig", "get", "leases", "-A"),
        "the scheduler does not act",
    )
    assert scheduler.said().count("cannot reach the API server") == 1
    assert scheduler.stop() == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--adapter", "docker", "--node-name", "Web_1"), "--node-name Web_1: not a name"),
        (
            ("--adapter", "docker", "--node-ip", "192.0.2.77"),
            "--node-ip 192.0.2.77: 192.0.2.77 is not",
        ),
        (("--adapter", "docker", "--node-ip", "::1"), "--node-ip ::1: not an IPv4 address, or"),
        (("--adapter", "docker", "--nodes", "3"), "--nodes is for simulated nodes"),
        (("--adapter", "fake", "--keep"), "--keep is for --adapter docker"),
        (("--adapter", "docker"), "no Docker engine answers"),
    ],
)
def test_proc_1_a_kubelet_that_cannot_start_says_why_and_leaves_nothing(
    processes: Start,
    tmp_path: Path,
    flags: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Shows PROC-7.c.
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing")
    config = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {"token": "t"}}
    tree = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "c"}
    config.write_text(json.dumps({"kind": "Config", "apiVersion": "v1", **tree}))
    data = () if "fake" in flags else ("--data-dir", str(tmp_path / "data" / "node"))
    failed = processes("kubelet", "kubelet", "--kubeconfig", str(config), *flags, *data).begin()
    assert failed.process.wait(30) == 2
    assert words in failed.said() and failed.said().count("\n") == 1, failed.said()
    assert not (tmp_path / "data").exists()


def test_proc_1_a_component_without_an_api_server_is_refused(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-1.b.
    broken = tmp_path / "broken"
    broken.write_text("kind: Config\ncurrent-context: a\n")
    for name, arguments in CLIENTS.items():
        for path, words in ((tmp_path / "none", "there is no"), (broken, "it has no contexts")):
            process = processes(name, *arguments, "--kubeconfig", str(path)).begin()
            assert process.process.wait(30) == 2
            assert process.said().count("\n") == 1 and words in process.said()


def test_proc_6_a_component_tells_its_health_and_its_metrics(
    processes: Start, tmp_path: Path
) -> None:
    # Shows PROC-6.a, PROC-6.b, PROC-6.c, PROC-6.d.
    port = free_port()
    server = processes("apiserver", *apiserver(tmp_path, "a", port=port)).start()
    kubeconfig = str(tmp_path / "a.kubeconfig")
    taken = free_port()
    flags = ("--kubeconfig", kubeconfig, "--secure-port", str(taken))
    scheduler = processes("scheduler", "scheduler", *flags).start()
    kubelet = processes("kubelet", *CLIENTS["kubelet"], "--kubeconfig", kubeconfig).start()
    manager = processes("controller-manager", *CLIENTS["controller-manager"], "--secure-port", "0", *flags[:2]).start()  # fmt: skip
    started = (scheduler, kubelet, manager)
    urls = [each.said().split("health at ")[1].split()[0] for each in started]
    assert urls[0] == f"https://127.0.0.1:{taken}/healthz" and urls[1].startswith("http://")

    def ask(url: str) -> tuple[int, str]:
        try:
            with urlopen(url, context=ssl._create_unverified_context(), timeout=20) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    for url in urls:
        assert ask(url) == (200, "ok")
        base = url.removesuffix("/healthz")
        until(lambda base=base: ask(base + "/readyz") == (200, "ok"), "it is not ready")  # type: ignore[misc]
        assert ask(base + "/nothing")[0] == 404
        metrics = ask(base + "/metrics")[1]
        assert 'rest_client_requests_total{code="200"' in metrics
        assert "process_resident_memory_bytes" in metrics
        assert 'workqueue_depth{name="' in metrics
        leader = re.findall(r'leader_election_master_status{name="(.*)"} 1.0', metrics)
        assert leader == [["kube-scheduler"], [], ["kube-controller-manager"]][urls.index(url)]
    failed = processes("other", "scheduler", *flags).begin()
    assert failed.process.wait(60) == 2 and "--secure-port" in failed.said()
    server.kill()
    waiting = processes("waiting", *CLIENTS["kubelet"], "--kubeconfig", kubeconfig).start()
    base = waiting.said().split("health at ")[1].split()[0].removesuffix("/healthz")
    assert ask(base + "/readyz")[0] == 500 and ask(base + "/livez") == (200, "ok")
