"""Containers that attack the node through their volumes, and what security contexts become of:
RT-30 ... RT-35, KUBELET-90 ... 94."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_host import Cluster, Host, container, make_pod, until

MARK = "only-on-the-host"
SLEEP = "trap 'exit 0' TERM; sleep 1000 & wait"


@pytest.fixture(scope="module")
def cluster(docker_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(docker_host, tmp_path_factory.mktemp("security") / "data")
    (cluster.data / "seccomp").mkdir(parents=True)
    (cluster.data / "seccomp/no-chmod.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmodat"], '
        '"action": "SCMP_ACT_ERRNO"}]}'
    )
    cluster.data.chmod(0o700)
    cluster.start()
    until(lambda: cluster.kubectl("get", "nodes", "-o", "name"), 10, "no node")
    cluster.kubectl(
        "create", "configmap", "settings", "--from-literal=colour=blue", "--from-literal=size=7"
    )
    cluster.kubectl("create", "secret", "generic", "keys", "--from-literal=password=s3cret")
    yield cluster
    cluster.stop()
    assert "Traceback" not in cluster.words(), cluster.words()
    assert str(cluster.data) not in Path("/proc/self/mountinfo").read_text(), "a mount is left"
    assert not (cluster.data / "pods").exists(), "files of pods are left"


def wait_running(cluster: Cluster, name: str) -> None:
    until(
        lambda: cluster.pod(name)["status"].get("phase") == "Running",
        20,
        f"pod {name} does not run",
    )


def waiting(cluster: Cluster, name: str, kind: str = "containerStatuses") -> dict[str, str]:
    """The waiting state of the pod's last container."""
    found = cluster.pod(name)["status"].get(kind) or [{"state": {}}]
    state: dict[str, str] = found[-1]["state"].get("waiting", {})
    return state


def refused(cluster: Cluster, name: str) -> str:
    """Wait until the pod's last container cannot be made; the message."""
    until(
        lambda: waiting(cluster, name).get("reason") == "CreateContainerConfigError",
        20,
        "not refused",
    )
    return waiting(cluster, name)["message"]


# --- volumes --------------------------------------------------------------------------------------


def test_a_container_cannot_exchange_what_the_kubelet_writes(
    cluster: Cluster, tmp_path: Path
) -> None:
    """RT-30, KUBELET-90: the mount is read-only; and what a link in the volume on the host leads to
    is not touched."""
    volumes = [{"name": "settings", "configMap": {"name": "settings"}}]
    mounts = [{"name": "settings", "mountPath": "/settings", "readOnly": False}]
    script = (
        "ln -s /tmp /settings/..evil && echo MADE; echo x > /settings/colour && echo WRITTEN; "
        f"echo tried; {SLEEP}"
    )
    cluster.apply(
        make_pod("writer", container("main", script, volumeMounts=mounts), volumes=volumes)
    )
    wait_running(cluster, "writer")
    until(lambda: "tried" in cluster.kubectl("logs", "writer"), 5, "it has not tried")
    assert "MADE" not in cluster.kubectl("logs", "writer") and "WRITTEN" not in cluster.kubectl(
        "logs", "writer"
    )
    place = cluster.data / "pods" / cluster.pod("writer")["metadata"]["uid"] / "volumes/settings"
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / "..data").unlink()
    (place / "..data").symlink_to(outside)  # As a container could while the mount was writable.
    cluster.kubectl(
        "patch", "configmap", "settings", "-p", '{"data": {"colour": "red", "new": "file"}}'
    )
    cluster.kubectl("annotate", "pod", "writer", "look=again")
    until(
        lambda: (place / "new").exists() and (place / "new").read_text() == "file",
        90,
        "the volume does not follow",
        every=0.5,
    )
    assert os.listdir(outside) == []
    cluster.kubectl("delete", "pod", "writer", "--now")
    assert os.listdir(outside) == [] and not place.exists()


@pytest.mark.parametrize("target", ["/", "../v-2", "/etc"])
def test_a_link_that_leads_out_of_its_volume_is_not_mounted(cluster: Cluster, target: str) -> None:
    """RT-7: `v-2` lies beside `v`, and its path begins with the same letters."""
    name = f"out-{len(target)}"
    first = container(
        "first", f"ln -s {target} /v/out", volumeMounts=[{"name": "v", "mountPath": "/v"}]
    )
    second = container(
        "main",
        volumeMounts=[
            {"name": "v", "mountPath": "/data", "subPath": "out"},
            {"name": "v-2", "mountPath": "/v-2"},
        ],
    )
    cluster.apply(
        make_pod(
            name,
            second,
            initContainers=[first],
            volumes=[{"name": "v", "emptyDir": {}}, {"name": "v-2", "emptyDir": {}}],
        )
    )
    assert "leads out" in refused(cluster, name)
    assert cluster.ids(name, "main") == []
    cluster.kubectl("delete", "pod", name, "--now")


def test_a_path_that_is_exchanged_all_the_time_never_shows_the_host(cluster: Cluster) -> None:
    """RT-34: the attacker exchanges a directory for a link to the root of the host as fast as it
    can, while others mount it."""
    mark = Path("/") / MARK
    mark.touch()
    try:
        exchange = (
            "mkdir -p /v/a/sub; cd /v; while true; do ln -s / b; mv -T a c; mv -T b a; rm a; "
            "mv -T c a; done"
        )
        attacker = container("attacker", exchange, volumeMounts=[{"name": "v", "mountPath": "/v"}])
        look = f"test -e /sub/{MARK} && echo ESCAPED; echo looked; exit 1"
        victims = [
            container(
                f"victim-{i}",
                look,
                volumeMounts=[{"name": "v", "mountPath": "/sub", "subPath": "a"}],
            )
            for i in range(3)
        ]
        cluster.apply(make_pod("race", attacker, *victims, volumes=[{"name": "v", "emptyDir": {}}]))

        place = cluster.data / "pods" / cluster.pod("race")["metadata"]["uid"] / "volumes/v/a"
        until(place.is_symlink, 20, "the attacker exchanges nothing", every=0.001)

        def tries() -> int:
            found = cluster.pod("race")["status"].get("containerStatuses") or []
            return sum(
                status["restartCount"] + ("waiting" in status["state"])
                for status in found
                if status["name"] != "attacker"
            )

        until(lambda: tries() >= 4, 60, "the victims were not restarted")
        for victim in victims:
            for id in cluster.ids("race", victim["name"]):
                assert "ESCAPED" not in cluster.host.docker("logs", id)
        cluster.kubectl("delete", "pod", "race", "--now", "--wait=true")
        assert mark.exists()
    finally:
        mark.unlink(missing_ok=True)


def test_the_message_of_an_end_is_read_from_a_file_and_no_more_than_that(cluster: Cluster) -> None:
    """RT-16, RT-30."""
    script = "i=0; while [ $i -lt 2000 ]; do echo 12345; i=$((i+1)); done > /dev/termination-log"
    cluster.apply(make_pod("long", container("main", script), restartPolicy="Never"))
    until(lambda: cluster.pod("long")["status"].get("phase") == "Succeeded", 20, "it has not ended")
    message = cluster.pod("long")["status"]["containerStatuses"][0]["state"]["terminated"][
        "message"
    ]
    assert len(message) == 4096
    cluster.kubectl("delete", "pod", "long", "--now")


def test_secrets_are_in_memory_and_files_have_their_modes(cluster: Cluster) -> None:
    """RT-31, RT-32, KUBELET-90."""
    # Shows RT-32.a.
    volumes = [
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400}},
        {
            "name": "map",
            "configMap": {
                "name": "settings",
                "items": [{"key": "size", "path": "deep/size", "mode": 0o600}],
            },
        },
        {"name": "quick", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "disk", "emptyDir": {}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    context = {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000]}
    main = container(
        "main", f"touch /disk/mine; id -G; cat /keys/password; echo; {SLEEP}", volumeMounts=mounts
    )
    cluster.apply(make_pod("files", main, volumes=volumes, securityContext=context))
    wait_running(cluster, "files")
    until(
        lambda: len(cluster.kubectl("logs", "files").split()) == 4, 5, "it has not read the secret"
    )
    assert sorted(cluster.kubectl("logs", "files").split()) == ["2000", "3000", "4000", "s3cret"]
    mounted = {
        line.split()[1]: line
        for line in cluster.inside("files", "main", "cat", "/proc/mounts").splitlines()
    }
    assert (
        mounted["/keys"].startswith("tmpfs")
        and " ro," in mounted["/keys"]
        and " ro," in mounted["/map"]
    )
    assert mounted["/quick"].startswith("tmpfs") and "size=1024k" in mounted["/quick"]

    def stat(path: str) -> str:
        return cluster.inside("files", "main", "stat", "-L", "-c", "%a %g", path)

    assert stat("/keys/password") == "440 2000" and stat("/map/deep/size") == "640 2000"
    assert (
        stat("/disk") == "2777 2000"
        and stat("/disk/mine") == "644 2000"
        and stat("/quick") == "2777 2000"
    )
    cluster.kubectl("delete", "pod", "files", "--now")


# --- security contexts ----------------------------------------------------------------------------


def test_an_image_that_runs_as_root_is_not_run_where_root_is_forbidden(cluster: Cluster) -> None:
    """KUBELET-91."""
    cluster.apply(make_pod("root", container("main"), securityContext={"runAsNonRoot": True}))
    assert "container has runAsNonRoot and image will run as root" in refused(cluster, "root")
    assert cluster.ids("root", "main") == []
    cluster.kubectl("delete", "pod", "root", "--now")


def test_what_a_security_context_says_holds_inside(cluster: Cluster) -> None:
    """RT-35, KUBELET-91, KUBELET-93."""
    context: dict[str, Any] = {
        "allowPrivilegeEscalation": False, "runAsGroup": 7, "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "Localhost", "localhostProfile": "no-chmod.json"},
    }  # fmt: skip
    script = f"echo runs as $(id -u):$(id -g); touch /tmp/x || echo read-only; {SLEEP}"
    main = container("main", script, securityContext=context)
    cluster.apply(
        make_pod(
            "confined",
            main,
            securityContext={
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "79"}]
            },
        )
    )
    wait_running(cluster, "confined")
    until(lambda: "read-only" in cluster.kubectl("logs", "confined"), 5, "the root can be written")
    assert "runs as 0:7" in cluster.kubectl("logs", "confined")
    status = cluster.inside("confined", "main", "cat", "/proc/1/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert (
        cluster.inside("confined", "main", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
        == "79"
    )
    cluster.kubectl("delete", "pod", "confined", "--now")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
        ),
        (
            {"securityContext": {"supplementalGroupsPolicy": "Strict"}},
            "SupplementalGroupsPolicyNotSupported",
        ),
        (
            {
                "securityContext": {
                    "seccompProfile": {"type": "Localhost", "localhostProfile": "none.json"}
                }
            },
            "CreateContainerConfigError",
        ),
        ({"hostUsers": False}, "CreateContainerConfigError"),
    ],
)
def test_what_this_node_cannot_enforce_does_not_run(
    cluster: Cluster, spec: dict[str, Any], reason: str
) -> None:
    """KUBELET-92, KUBELET-93."""
    cluster.apply(make_pod("refused", container("main"), **spec))
    until(
        lambda: (
            reason
            in (
                cluster.pod("refused")["status"].get("reason"),
                waiting(cluster, "refused").get("reason"),
            )
        ),
        20,
        "not refused",
    )
    assert cluster.ids("refused", "main") == []
    cluster.kubectl("delete", "pod", "refused", "--now")


@pytest.mark.parametrize("propagation", ["HostToContainer", "Bidirectional"])
def test_mounts_go_where_a_container_asks_for_it_or_it_does_not_run(
    cluster: Cluster, tmp_path: Path, propagation: str
) -> None:
    """RT-35: rslave and rshared need a mount that the node shares; where it does not, the engine
    says so."""
    mounted = {"name": "v", "mountPath": "/v", "mountPropagation": propagation}
    main = container("main", SLEEP, volumeMounts=[mounted], securityContext={"privileged": True})

    def shown() -> bool:
        """The container's own view: a slave has a master, a shared mount is shared."""
        if not cluster.pod("propagates")["status"]["containerStatuses"][0]["ready"]:
            return False
        [line] = [
            line
            for line in cluster.inside(
                "propagates", "main", "cat", "/proc/self/mountinfo"
            ).splitlines()
            if " /v " in line
        ]
        return ("master:" if propagation == "HostToContainer" else "shared:") in line

    cluster.apply(
        make_pod("propagates", main, volumes=[{"name": "v", "hostPath": {"path": str(tmp_path)}}])
    )
    until(lambda: cluster.pod("propagates")["status"].get("containerStatuses"), 20, "no status")
    until(
        lambda: shown() or "not a shared" in str(cluster.pod("propagates")["status"]),
        20,
        "it neither runs nor says why",
    )
    cluster.kubectl("delete", "pod", "propagates", "--now")


def test_what_is_mounted_below_is_read_only_too(cluster: Cluster, tmp_path: Path) -> None:
    """RT-35."""
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(below)], check=True)
    try:
        mounted = {"name": "v", "mountPath": "/v", "readOnly": True, "recursiveReadOnly": "Enabled"}
        main = container(
            "main", f"touch /v/below/x || echo read-only; {SLEEP}", volumeMounts=[mounted]
        )
        cluster.apply(
            make_pod(
                "recursive", main, volumes=[{"name": "v", "hostPath": {"path": str(tmp_path)}}]
            )
        )

        def held() -> bool:
            if "newer container engine" in waiting(cluster, "recursive").get("message", ""):
                return True  # an engine before Docker 25
            return bool(cluster.ids("recursive", "main")) and "read-only" in cluster.kubectl(
                "logs", "recursive"
            )

        until(held, 20, "a mount below can be written, or nothing is said")
        cluster.kubectl("delete", "pod", "recursive", "--now")
    finally:
        subprocess.run(["umount", "-l", str(below)], check=True)


# --- /etc/hosts -----------------------------------------------------------------------------------


def test_the_kubelet_writes_the_hosts_file(cluster: Cluster) -> None:
    """KUBELET-94."""
    aliases = [{"ip": "192.0.2.7", "hostnames": ["first", "second"]}]
    own = container(
        "own", volumeMounts=[{"name": "v", "mountPath": "/etc/hosts", "subPath": "hosts"}]
    )
    write = container(
        "write", "echo mine > /v/hosts", volumeMounts=[{"name": "v", "mountPath": "/v"}]
    )
    cluster.apply(
        make_pod("hosts", container("main"), own, initContainers=[write], hostAliases=aliases, hostname="web", subdomain="sub",
                 volumes=[{"name": "v", "emptyDir": {}}]),
        make_pod("hosts-of-node", container("main"), hostAliases=aliases, hostNetwork=True),
    )  # fmt: skip
    for name in ("hosts", "hosts-of-node"):
        wait_running(cluster, name)
    lines = cluster.inside("hosts", "main", "cat", "/etc/hosts").splitlines()
    address = cluster.pod("hosts")["status"]["podIP"]
    assert lines[0] == "# Kubernetes-managed hosts file."
    assert (
        f"{address}\tweb.sub.default.svc.cluster.local\tweb" in lines
        and "192.0.2.7\tfirst\tsecond" in lines
    )
    assert cluster.inside("hosts", "own", "cat", "/etc/hosts") == "mine"
    lines = cluster.inside("hosts-of-node", "main", "cat", "/etc/hosts").splitlines()
    assert (
        lines[0] == "# Kubernetes-managed hosts file (host network)."
        and lines[-1] == "192.0.2.7\tfirst\tsecond"
    )
    assert set(Path("/etc/hosts").read_text().splitlines()) <= set(lines)
    cluster.kubectl("delete", "pod", "hosts", "hosts-of-node", "--now")


def test_containers_that_wait_for_init_containers_say_so(cluster: Cluster) -> None:
    """POD-13."""
    cluster.apply(make_pod("slow", container("main"), initContainers=[container("first", SLEEP)]))
    until(
        lambda: (
            "running"
            in (cluster.pod("slow")["status"].get("initContainerStatuses") or [{"state": {}}])[0][
                "state"
            ]
        ),
        20,
        "no init",
    )
    assert waiting(cluster, "slow") == {"reason": "PodInitializing"}
    cluster.kubectl("delete", "pod", "slow", "--now")


def test_a_label_of_selinux_has_no_effect_on_a_node_without_selinux(cluster: Cluster) -> None:
    """KUBELET-92."""
    assert "selinux" not in cluster.host.docker("info", "-f", "{{.SecurityOptions}}")
    labelled = {"seLinuxOptions": {"level": "s0:c0,c1"}}
    cluster.apply(make_pod("labelled", container("main"), securityContext=labelled))
    until(lambda: cluster.pod("labelled")["status"]["phase"] == "Running", 20, "it does not run")
    cluster.kubectl("delete", "pod", "labelled", "--now")
