"""What a container may do, and what of it a node enforces or refuses: KUBELET-90 ... KUBELET-94
(spec/kubelet.md), RT-35."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kubelet_bench import Bench, make_pod
from kubelet_chaos import container
from msgspec.structs import replace
from test_kubelet_making import config_map, made, mounted, ready, sandbox, secret
from test_rt import CLUSTER, IMAGE, UID, make_engine, operations

from refk8s.adapters.docker.machine import security_modules
from refk8s.adapters.fake.world import make_world
from refk8s.core.api.core_v1 import (
    AppArmorProfile,
    ConfigMapVolumeSource,
    Container,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    EmptyDirVolumeSource,
    EnvVar,
    HostAlias,
    HostPathVolumeSource,
    KeyToPath,
    ObjectFieldSelector,
    PodOS,
    PodSecurityContext,
    ProjectedVolumeSource,
    SeccompProfile,
    SecretVolumeSource,
    SecurityContext,
    SELinuxOptions,
    ServiceAccountTokenProjection,
    Sysctl,
    Volume,
    VolumeMount,
    VolumeProjection,
    WindowsSecurityContextOptions,
)
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.kubelet.security import SAFE_SYSCTLS, compute_user, sysctl_name
from refk8s.core.ports import (
    ContainerConfig,
    ContainerCreated,
    CreateContainer,
    Failed,
    ImagePulled,
    Mount,
    PullImage,
    RunPodSandbox,
    SandboxConfig,
    WriteVolume,
)

TOKEN = VolumeProjection(service_account_token=ServiceAccountTokenProjection(path="token"))
KINDS = {
    "map": Volume(name="map", config_map=ConfigMapVolumeSource(name="settings")),
    "keys": Volume(name="keys", secret=SecretVolumeSource(secret_name="keys")),
    "about": Volume(
        name="about",
        downward_api=DownwardAPIVolumeSource(
            items=(
                DownwardAPIVolumeFile(
                    path="name",
                    field_ref=ObjectFieldSelector(field_path="metadata.name"),
                    mode=0o440,
                ),
            )
        ),
    ),
    "token": Volume(name="token", projected=ProjectedVolumeSource(sources=(TOKEN,))),
    "quick": Volume(
        name="quick", empty_dir=EmptyDirVolumeSource(medium="Memory", size_limit="1Mi")
    ),
    "empty": Volume(name="empty", empty_dir=EmptyDirVolumeSource()),
    "host": Volume(name="host", host_path=HostPathVolumeSource(path="/srv")),
}


def waiting(bench: Bench) -> tuple[str, str]:
    """(reason, message) of the pod's first container."""
    found = bench.pod().status.container_statuses[0].state.waiting
    return (found.reason or "", found.message or "") if found is not None else ("", "")


# --- volumes --------------------------------------------------------------------------------------


@given(
    st.sets(st.sampled_from(sorted(KINDS)), min_size=1),
    st.booleans(),
    st.sampled_from([None, "name"]),
)
def test_kubelet_90_what_the_kubelet_writes_is_read_only_and_secrets_are_in_memory(
    kinds: set[str], read_only: bool, inner: str | None
):
    mounts = tuple(
        VolumeMount(name=kind, mount_path=f"/{kind}", read_only=read_only, sub_path=inner)
        for kind in sorted(kinds)
    )
    bench = ready(
        mounted(
            *[KINDS[kind] for kind in sorted(kinds)], mounts=mounts, service_account_name="robot"
        ),
        config_map(a="1"),
        secret(k="1"),
    )
    bench.run_for(1)
    written = {mount.source.partition("/")[0]: mount.read_only for mount in made(bench).mounts}
    assert written == {kind: read_only or kind not in ("quick", "empty", "host") for kind in kinds}
    volumes = {op.volume: op for _, op in bench.did(WriteVolume)}
    assert {name for name, op in volumes.items() if op.medium == "Memory"} == kinds & {
        "keys",
        "token",
        "quick",
    }
    assert all(
        op.size_limit_bytes == (1 << 20 if name == "quick" else 0) for name, op in volumes.items()
    )


@given(
    st.sampled_from([None, 0o400]),
    st.sampled_from([None, 1000]),
    st.sampled_from([None, 1000, 2000]),
    st.sampled_from([None, 3000]),
)
def test_kubelet_90_files_have_their_own_modes_and_tokens_their_reader(
    mode: int | None, user: int | None, other: int | None, group: int | None
):
    items = (KeyToPath(key="a", path="sub/a", mode=mode), KeyToPath(key="b", path="b"))
    volumes = (
        Volume(
            name="map",
            config_map=ConfigMapVolumeSource(name="settings", items=items, default_mode=0o640),
        ),
        KINDS["token"],
    )
    pod = mounted(
        *volumes,
        service_account_name="robot",
        security_context=PodSecurityContext(run_as_user=user, fs_group=group),
    )
    second = Container(name="d", image="i:1", security_context=SecurityContext(run_as_user=other))
    pod = replace(pod, spec=replace(pod.spec, containers=(*pod.spec.containers, second)))
    by_name = {
        op.volume: op for _, op in ready(pod, config_map(a="1", b="2"), seconds=1).did(WriteVolume)
    }
    assert (by_name["map"].mode, dict(by_name["map"].modes)) == (
        0o640,
        {} if mode is None else {"sub/a": mode},
    )
    one = user if other in (None, user) else None
    assert dict(by_name["token"].users) == ({} if one is None else {"token": one})
    assert dict(by_name["token"].modes) == (
        {} if one is None and group is None else {"token": 0o600}
    )
    assert {op.fs_group for op in by_name.values()} == {-1 if group is None else group}


WORDS = st.sampled_from(["a", "..", "/", "b", "../x", "$(DIR)", "$(NONE)", "$$(DIR)", "\0"])


@given(
    st.lists(WORDS, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["in", "..", "/etc", "in/../..", "", "a\0b"]),
)
def test_kubelet_55_no_expanded_sub_path_leads_out(expression: str, value: str):
    """Whatever an expression becomes: it is mounted from within the volume, or the container is not
    made and says why."""
    mount = VolumeMount(name="empty", mount_path="/data", sub_path_expr=expression)
    pod = make_pod(
        containers=(
            container("c", volume_mounts=(mount,), env=(EnvVar(name="DIR", value=value),)),
        ),
        volumes=(KINDS["empty"],),
    )
    bench = ready(pod, seconds=1)
    if "$(NONE)" in expression:
        assert waiting(bench) == ("CreateContainerConfigError", 'missing value for "NONE"')
        return
    inner = expression.replace("$$(DIR)", "\1").replace("$(DIR)", value).replace("\1", "$(DIR)")
    if inner.startswith("/") or ".." in inner.split("/") or "\0" in inner:
        assert (
            waiting(bench)[0] == "CreateContainerConfigError" and "leads out" in waiting(bench)[1]
        )
        assert not bench.did(CreateContainer)
    else:
        assert made(bench).mounts[0].source == (f"empty/{inner}" if inner else "empty")


# --- users and groups -----------------------------------------------------------------------------

NUMBERS = st.sampled_from([None, 0, 1000])
IMAGE_USERS = st.sampled_from(["", "0", "0:0", "1000", "1000:5", "app", "app:app", "root"])


@given(
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from([None, False, True]),
    st.sampled_from([None, False, True]),
    IMAGE_USERS,
)
def test_kubelet_91_nothing_that_must_not_run_as_root_does(
    own: int | None,
    general: int | None,
    group: int | None,
    strict: bool | None,
    generally: bool | None,
    image: str,
):
    """Against the rule in words: the user is the container's, the pod's, the image's, or root."""
    pod = make_pod(
        containers=(
            container(
                "c",
                security_context=SecurityContext(
                    run_as_user=own, run_as_group=group, run_as_non_root=strict
                ),
            ),
        ),
        security_context=PodSecurityContext(run_as_user=general, run_as_non_root=generally),
    )
    asked = own if own is not None else general
    user = str(asked) if asked is not None else image.partition(":")[0] or "0"
    must_not = strict if strict is not None else bool(generally)
    try:
        told = compute_user(pod, pod.spec.containers[0], image)
    except BadConfig:
        assert must_not and not (user.isdigit() and int(user))
        return
    assert not must_not or int(user) > 0
    assert told == (f"{user}:{group}" if group is not None else user if asked is not None else "")


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("", "container has runAsNonRoot and image will run as root"),
        ("app", "image has non-numeric user (app), cannot verify user is non-root"),
    ],
)
def test_kubelet_91_an_image_that_runs_as_root_is_found_out(user: str, words: str):
    bench = Bench().start().settle()
    bench.script = lambda op: (
        ImagePulled("sha256:7", False, 1, user) if isinstance(op, PullImage) else None
    )
    bench.add(make_pod(security_context=PodSecurityContext(run_as_non_root=True)))
    bench.run_for(1)
    assert waiting(bench)[0] == "CreateContainerConfigError" and words in waiting(bench)[1]
    assert not bench.did(CreateContainer)
    assert f'(pod: "p_default({bench.pod().metadata.uid})", container: c)' in waiting(bench)[1]


def test_kubelet_91_the_image_that_was_looked_at_is_the_one_that_is_used():
    bench = Bench().start().settle()
    bench.script = lambda op: (
        ImagePulled("sha256:7", False, 1, "5") if isinstance(op, PullImage) else None
    )
    groups = PodSecurityContext(run_as_group=7, supplemental_groups=(3, 4), fs_group=4)
    bench.add(make_pod(security_context=groups))
    bench.run_for(1)
    assert (made(bench).image_id, made(bench).user, made(bench).groups) == (
        "sha256:7",
        "5:7",
        (3, 4),
    )


# --- what a node cannot do ------------------------------------------------------------------------

MODULES = st.sets(st.sampled_from(["apparmor", "seccomp", "selinux"]))
PROFILES = st.sampled_from([None, "Unconfined", "RuntimeDefault", "Localhost"])


@given(MODULES, PROFILES, PROFILES, st.booleans(), st.booleans(), st.booleans())
def test_kubelet_92_no_container_is_made_with_less_than_it_asks_for(
    modules: set[str],
    app_armor: str | None,
    seccomp: str | None,
    label: bool,
    in_pod: bool,
    escalation: bool,
):
    world = make_world("node")
    world = replace(world, node=replace(world.node, security_modules=tuple(sorted(modules))))
    name = "own.json" if "Localhost" in (app_armor, seccomp) else None
    asked: dict[str, Any] = {
        "app_armor_profile": AppArmorProfile(type=app_armor, localhost_profile=name)
        if app_armor
        else None,
        "seccomp_profile": SeccompProfile(type=seccomp, localhost_profile=name)
        if seccomp
        else None,
        "se_linux_options": SELinuxOptions(level="s0:c1") if label else None,
    }
    own = SecurityContext(
        allow_privilege_escalation=escalation, proc_mount="Unmasked", **({} if in_pod else asked)
    )
    pod = make_pod(
        containers=(container("c", security_context=own),),
        security_context=PodSecurityContext(**asked) if in_pod else None,
    )
    bench = Bench(world=world).start().settle()
    bench.add(pod)
    bench.run_for(1)
    needed = {
        module
        for module, queries in (("apparmor", app_armor), ("seccomp", seccomp))
        if queries not in (None, "Unconfined")
    }
    if "apparmor" in needed - modules:
        assert (bench.pod().status.phase, bench.pod().status.reason) == ("Failed", "AppArmor")
        assert (
            bench.pod().status.message
            == "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host"
        )
    elif needed - modules:
        assert waiting(bench)[0] == "CreateContainerConfigError"
    if needed - modules:
        assert not bench.did(CreateContainer)
        return
    config = made(bench)

    def profile(kind: str | None) -> str:
        return "" if kind is None else "Localhost/own.json" if kind == "Localhost" else kind

    assert (config.app_armor, config.seccomp) == (profile(app_armor), profile(seccomp))
    assert config.se_linux == ((("level", "s0:c1"),) if label and "selinux" in modules else ())
    assert config.no_new_privileges is not escalation and config.unmasked_proc


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"security_context": PodSecurityContext(supplemental_groups_policy="Strict")},
            "SupplementalGroupsPolicyNotSupported",
        ),
        ({"os": PodOS(name="windows")}, "PodOSNotSupported"),
        ({"host_users": False}, "CreateContainerConfigError"),
        (
            {
                "security_context": PodSecurityContext(
                    windows_options=WindowsSecurityContextOptions(run_as_user_name="Someone")
                )
            },
            "CreateContainerConfigError",
        ),
    ],
)
def test_kubelet_92_what_no_runtime_here_has_is_refused(spec: dict[str, Any], reason: str):
    bench = ready(make_pod(**spec), seconds=1)
    assert not bench.did(CreateContainer)
    assert reason in (
        bench.pod().status.reason,
        waiting(bench)[0] if bench.pod().status.container_statuses else "",
    )


SYSCTLS = st.sampled_from(
    [
        *sorted(SAFE_SYSCTLS),
        "kernel.msgmax",
        "net.core.somaxconn",
        "net/ipv4/tcp_syncookies",
        "kernel/shm_rmid_forced",
        "net.ipv4.conf.eth0/1.x",
    ]
)


@given(st.lists(SYSCTLS, max_size=3), st.booleans(), st.booleans())
def test_kubelet_93_only_safe_sysctls_of_the_pods_own_namespaces_are_set(
    names: list[str], host_network: bool, host_ipc: bool
):
    context = PodSecurityContext(sysctls=tuple(Sysctl(name=name, value="1") for name in names))
    bench = ready(
        make_pod(security_context=context, host_network=host_network, host_ipc=host_ipc), seconds=1
    )
    dotted = [
        name.replace("/", ".") if name.count("/") and "eth0" not in name else name for name in names
    ]
    shared = {"net"} if host_network else set()
    shared |= {"ipc"} if host_ipc else set()
    if all(name in SAFE_SYSCTLS and SAFE_SYSCTLS[name] not in shared for name in dotted):
        assert [name for name, _ in sandbox(bench).sysctls] == dotted
        return
    assert (bench.pod().status.phase, bench.pod().status.reason) == ("Failed", "SysctlForbidden")
    assert bench.pod().status.message.startswith("Pod was rejected: forbidden sysctl: ")
    assert not bench.did(RunPodSandbox)


def test_kubelet_93_slashes_and_dots_change_places():
    assert sysctl_name("net/ipv4/conf/eth0.1/x") == "net.ipv4.conf.eth0/1.x"
    assert sysctl_name("net.ipv4.conf.eth0/1.x") == "net.ipv4.conf.eth0/1.x"


# --- /etc/hosts -----------------------------------------------------------------------------------


@given(
    st.booleans(), st.sampled_from([None, "sub"]), st.booleans(), st.booleans(),
    st.lists(st.tuples(st.sampled_from(["192.0.2.7", "192.0.2.8"]), st.lists(st.sampled_from(["a", "b", "c.d"]), min_size=1)), max_size=3),
)  # fmt: skip
def test_kubelet_94_the_hosts_file_names_the_pod_and_its_aliases(
    host: bool,
    subdomain: str | None,
    fqdn: bool,
    mounts: bool,
    aliases: list[tuple[str, list[str]]],
):
    own = VolumeMount(name="empty", mount_path="/etc/hosts", sub_path="hosts")
    pod = make_pod(
        containers=(container("c", volume_mounts=(own,) if mounts else None), container("d")),
        volumes=(KINDS["empty"],),
        host_network=host,
        subdomain=subdomain,
        set_hostname_as_fqdn=fqdn or None,
        host_aliases=tuple(HostAlias(ip=ip, hostnames=tuple(names)) for ip, names in aliases)
        or None,
    )
    bench = ready(pod, seconds=1)
    assert bool(made(bench).hosts) is not mounts, "a container's own file is kept"
    told = made(bench, "d").hosts.splitlines()
    assert told[0] == (
        "# Kubernetes-managed hosts file (host network)."
        if host
        else "# Kubernetes-managed hosts file."
    )
    assert made(bench, "d").host_network is host
    names = "p.sub.default.svc.cluster.local\tp" if subdomain else "p"
    expected = [] if host else [f"{bench.pod().status.pod_ip}\t{names}"]
    if aliases:
        expected += [
            "",
            "# Entries added by HostAliases.",
            *["\t".join([ip, *hostnames]) for ip, hostnames in aliases],
        ]
    assert told[1 if host else 7 :] == expected
    assert host or told[1] == "127.0.0.1\tlocalhost"


# --- what the engine is asked for -----------------------------------------------------------------

CONFIGS = st.builds(
    ContainerConfig,
    pod_uid=st.just(UID), namespace=st.just("default"), pod_name=st.just("pod"), name=st.just("main"), image=st.just(IMAGE),
    image_id=st.sampled_from(["", "sha256:1"]), user=st.sampled_from(["", "5:7"]), groups=st.sampled_from([(), (3, 4)]),
    read_only_root=st.booleans(), no_new_privileges=st.booleans(), unmasked_proc=st.booleans(),
    seccomp=st.sampled_from(["", "RuntimeDefault", "Unconfined", "Localhost/own.json", "Localhost/../secret", "Localhost/none"]),
    app_armor=st.sampled_from(["", "RuntimeDefault", "Unconfined", "Localhost/own"]),
    se_linux=st.sampled_from([(), (("level", "s0"),)]), privileged=st.booleans(),
)  # fmt: skip


@given(CONFIGS)
def test_rt_35_the_engine_is_asked_for_all_of_it_or_no_container_is_made(config: ContainerConfig):
    # Shows RT-35.a RT-35.b.
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "seccomp").mkdir()
        (Path(folder) / "seccomp/own.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
        (Path(folder) / "secret").write_text("hidden")
        engine = make_engine()
        engine.images["sha256:1"] = engine.images[IMAGE]
        agent = operations(engine, data=Path(folder))
        agent.carry_out(RunPodSandbox(SandboxConfig(UID, "default", "pod")))
        [box] = engine.containers
        result = agent.carry_out(CreateContainer(box, config))
        if config.seccomp in ("Localhost/../secret", "Localhost/none"):
            assert (
                isinstance(result, Failed)
                and result.reason == "CreateContainerConfigError"
                and "hidden" not in str(engine.containers)
            )
            assert len(engine.containers) == 1
            return
        assert isinstance(result, ContainerCreated)
        host = engine.one(result.status.id)["HostConfig"]
        options = host.get("SecurityOpt", [])
        assert engine.one(result.status.id)["Config"]["Image"] == (config.image_id or IMAGE), (
            "the name may mean another image by now"
        )
        assert ("no-new-privileges" in options) is config.no_new_privileges
        assume(not config.privileged)
        assert ("seccomp=unconfined" in options) is (config.seccomp == "Unconfined")
        assert ('seccomp={"defaultAction": "SCMP_ACT_ALLOW"}' in options) is (
            config.seccomp == "Localhost/own.json"
        )
        assert [option for option in options if option.startswith("apparmor")] == {
            "Unconfined": ["apparmor=unconfined"], "Localhost/own": ["apparmor=own"],
        }.get(config.app_armor, [])  # fmt: skip
        assert ("label=level:s0" in options) is bool(config.se_linux)
        assert (
            host["GroupAdd"] == [str(group) for group in config.groups]
            and host["ReadonlyRootfs"] is config.read_only_root
        )
        assert (host.get("MaskedPaths"), host.get("ReadonlyPaths")) == (
            ([], []) if config.unmasked_proc else (None, None)
        )


@given(
    st.sampled_from([None, "None", "HostToContainer", "Bidirectional"]),
    st.sampled_from([None, "Disabled", "IfPossible", "Enabled"]),
)
def test_rt_35_the_runtime_is_asked_for_the_propagation_of_mounts(
    propagation: str | None, recursive: str | None
):
    mount = VolumeMount(
        name="host",
        mount_path="/data",
        read_only=True,
        mount_propagation=propagation,
        recursive_read_only=recursive,
    )
    [asked] = made(ready(mounted(KINDS["host"], mounts=(mount,)), seconds=1)).mounts
    assert asked.propagation == ("" if propagation in (None, "None") else propagation)
    assert asked.recursive_read_only is (recursive == "Enabled")


@given(
    st.sampled_from(["", "HostToContainer", "Bidirectional", "Sideways"]),
    st.booleans(),
    st.booleans(),
)
def test_rt_35_the_engine_propagates_mounts_as_asked_or_no_container_is_made(
    propagation: str, recursive: bool, old: bool
):
    with tempfile.TemporaryDirectory() as folder:
        engine = make_engine()
        engine.version = (1, 43) if old else (1, 44)
        agent = operations(engine, data=Path(folder))
        agent.carry_out(RunPodSandbox(SandboxConfig(UID, "default", "pod")))
        agent.carry_out(WriteVolume(UID, "v"))
        [box] = engine.containers
        mount = Mount(
            "v", "/v", read_only=True, propagation=propagation, recursive_read_only=recursive
        )
        result = agent.carry_out(
            CreateContainer(
                box, ContainerConfig(UID, "default", "pod", "main", IMAGE, mounts=(mount,))
            )
        )
        if propagation == "Sideways" or (recursive and (old or propagation)):
            assert (
                isinstance(result, Failed)
                and result.reason == "CreateContainerConfigError"
                and "/v" in result.message
            )
            assert len(engine.containers) == 1
            return
        assert isinstance(result, ContainerCreated)
        [shown] = [
            found
            for found in engine.one(result.status.id)["HostConfig"]["Mounts"]
            if found["Target"] == "/v"
        ]
        options = shown.get("BindOptions", {})
        private = "rprivate" if recursive else None
        assert (
            options.get("Propagation")
            == {"": private, "HostToContainer": "rslave", "Bidirectional": "rshared"}[propagation]
        )
        assert options.get("ReadOnlyForceRecursive", False) is recursive


def test_rt_35_the_engines_words_tell_which_modules_it_has():
    assert CLUSTER and security_modules(
        ["name=seccomp,profile=builtin", "name=cgroupns", "name=apparmor"]
    ) == ("apparmor", "seccomp")
