"""What a container is made from, from its spec and the objects that it names, beside a plain
reading of KUBELET-50, 52 to 55, 94, 101 and 106 (spec/kubelet.md).

`test_kubelet_making.py` shows the same rules in a running kubelet."""

import re
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import ConfigMap, Container, Pod, Secret, Service
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.context import SECOND
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.container import (
    compute_container_config,
    compute_hostname,
    compute_hosts,
    compute_mounts,
    compute_names,
    compute_port_mappings,
    compute_sandbox_config,
    compute_target,
    is_expected_to_end,
    runtime_resources,
    spec_hash,
)
from refk8s.core.kubelet.draft import Draft, Facts
from refk8s.core.kubelet.environment import (
    compute_environment,
    expand,
    field_value,
    resource_value,
    service_variables,
)
from refk8s.core.kubelet.memory import ContainerMemory, PodMemory
from refk8s.core.kubelet.objects import Held, Library, config_map_key, secret_key
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.ports import (
    ContainerConfig,
    ContainerStatus,
    Mount,
    NodeDescribed,
    PortMapping,
    Resources,
    SandboxConfig,
    SandboxStatus,
)

NODE = NodeDescribed(
    "node.example", "10.0.0.1", 4000, 8 << 30, 5 << 20, 110, "amd64", "linux", "", "", ""
)
FACTS = Facts(KubeletConfig(cluster_domain="c.local"), NODE)


def of(kind, tree):
    return codec.decode_tolerant(kind, tree)[0]


def a_container(**tree):
    return of(Container, {"name": "c", "image": "i", **tree})


def a_pod(*containers, metadata=None, **spec):
    """A pod of these containers; `spec` as in YAML."""
    names = {"name": "p", "namespace": "ns", "uid": "u", **(metadata or {})}
    found = [codec.to_tree(one) for one in containers or (a_container(),)]
    return of(Pod, {"metadata": names, "spec": {"containers": found, **spec}})


def library(*objects, missing=()):
    """A library of these objects, and of names that the API server does not have."""
    held = {}
    for one in objects:
        metadata = one.metadata
        key = config_map_key if isinstance(one, ConfigMap) else secret_key
        held[key(metadata.namespace, metadata.name)] = Held(one, read=True, good_until=9 * SECOND)
    for key in missing:
        held[key] = Held(None, read=True, good_until=9 * SECOND)
    return Library(Map(held), SECOND)


def config_map(name="cm", namespace="ns", **data):
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data or None)


def secret(name="s", namespace="ns", **data):
    encoded = {key: b64encode(value.encode()).decode() for key, value in data.items()}
    return Secret(metadata=ObjectMeta(name=name, namespace=namespace), data=encoded or None)


def environment(tree, books=None, services=(), pod=None, ips=("10.1.0.9", "fd00::9")):
    one = a_container(**tree)
    pod = pod or a_pod(one)
    hosts = ("10.0.0.1", "fd00::1")
    return list(compute_environment(pod, one, books or library(), services, NODE, hosts, ips))


def refused(call, *args, **kwargs):
    with pytest.raises(BadConfig) as error:
        call(*args, **kwargs)
    return str(error.value)


# --- variables ------------------------------------------------------------------------------------


def test_kubelet_54_sources_in_order_and_the_last_wins():
    books = library(config_map(b="1", a="2"), secret(b="3", c="4", **{"x=y": "5"}))
    sources = [
        {"configMapRef": {"name": "cm"}},
        {"prefix": "P_", "secretRef": {"name": "s"}},
        {},
        {"secretRef": {"name": "s"}},
    ]
    env = [{"name": "a", "value": "$(c)!"}, {"name": "d"}, {"name": "e", "value": "$(a)$(d)"}]
    assert environment({"envFrom": sources, "env": env}, books) == [
        ("b", "3"), ("P_b", "3"), ("P_c", "4"), ("c", "4"), ("a", "4!"), ("d", ""), ("e", "4!"),
    ]  # fmt: skip
    assert environment({}) == []
    empty = library(config_map(), secret())
    assert environment({"envFrom": sources[:2]}, empty) == []


@pytest.mark.parametrize(
    ("kind", "key", "words"),
    [
        ("configMap", "configmaps/ns/x", 'configmap "x" not found'),
        ("secret", "secrets/ns/x", 'secret "x" not found'),
    ],
)
def test_kubelet_52_a_missing_source_is_an_error_unless_it_is_optional(kind, key, words):
    for tree in (
        lambda more: {"envFrom": [{f"{kind}Ref": {"name": "x", **more}}]},
        lambda more: {"env": [{"name": "n", "valueFrom": {f"{kind}KeyRef": {"name": "x", "key": "k", **more}}}]},
    ):  # fmt: skip
        books = library(missing=(key,))
        assert refused(environment, tree({}), books) == words
        assert refused(environment, tree({"optional": False}), books) == words
        assert environment(tree({"optional": True}), books) == []
    assert environment({"envFrom": [{f"{kind}Ref": {"name": "cm" if kind == "configMap" else "s"}}]}, library(config_map(k="v"), secret(k="v"))) == [("k", "v")]  # fmt: skip


def test_kubelet_52_a_key_of_an_object():
    books = library(config_map(k="v"), secret(k="w"))
    for kind, name, title, value in (
        ("configMap", "cm", "ConfigMap", "v"),
        ("secret", "s", "Secret", "w"),
    ):

        def tree(key, kind=kind, name=name, **more):
            return {
                "env": [
                    {
                        "name": "n",
                        "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}},
                    }
                ]
            }

        assert environment(tree("k"), books) == [("n", value)]
        assert refused(environment, tree("z"), books) == f"couldn't find key z in {title} ns/{name}"
        assert environment(tree("z", optional=True), books) == []
        assert environment(tree("k", optional=True), books) == [("n", value)]
    broken = {"env": [{"name": "n", "valueFrom": {}}]}
    assert refused(environment, broken) == "the source of environment variable n is not supported"
    raw = replace(secret(), data={"k": b64encode(b"\xff").decode()})
    assert environment({"envFrom": [{"secretRef": {"name": "s"}}]}, library(raw)) == [
        ("k", "\ufffd")
    ]


def service(name="my-web", ip="10.96.0.9", *ports):
    found = [{"port": port, "name": title, "protocol": protocol} for port, title, protocol in ports]
    return of(
        Service,
        {"metadata": {"name": name, "namespace": "ns"}, "spec": {"clusterIP": ip, "ports": found}},
    )


def test_kubelet_54_the_variables_of_a_service_in_full():
    found = service_variables(
        [service("my-web", "10.96.0.9", (80, "a-b", "TCP"), (53, None, "UDP"))]
    )
    assert found == {
        "MY_WEB_SERVICE_HOST": "10.96.0.9",
        "MY_WEB_SERVICE_PORT": "80",
        "MY_WEB_SERVICE_PORT_A_B": "80",
        "MY_WEB_PORT": "tcp://10.96.0.9:80",
        "MY_WEB_PORT_80_TCP": "tcp://10.96.0.9:80",
        "MY_WEB_PORT_80_TCP_PROTO": "tcp",
        "MY_WEB_PORT_80_TCP_PORT": "80",
        "MY_WEB_PORT_80_TCP_ADDR": "10.96.0.9",
        "MY_WEB_PORT_53_UDP": "udp://10.96.0.9:53",
        "MY_WEB_PORT_53_UDP_PROTO": "udp",
        "MY_WEB_PORT_53_UDP_PORT": "53",
        "MY_WEB_PORT_53_UDP_ADDR": "10.96.0.9",
    }
    six = service_variables([service("x", "fd00::2", (80, None, None))])
    assert six["X_PORT"] == six["X_PORT_80_TCP"] == "tcp://[fd00::2]:80"
    assert six["X_SERVICE_HOST"] == six["X_PORT_80_TCP_ADDR"] == "fd00::2"
    for headless in (
        service("x", "None", (80, None, "TCP")),
        service("x", "", (80, None, "TCP")),
        service("x", "1.2.3.4"),
    ):
        assert service_variables([headless]) == {}
    both = service_variables(
        [service("a", "1.1.1.1", (1, None, "TCP")), service("b", "2.2.2.2", (2, None, "TCP"))]
    )
    assert (both["A_SERVICE_PORT"], both["B_SERVICE_PORT"]) == ("1", "2")


def test_kubelet_54_services_come_last_and_yield_to_the_container():
    web = service("w", "1.2.3.4", (80, None, "TCP"))
    env = [
        {"name": "W_SERVICE_PORT", "value": "mine"},
        {"name": "x", "value": "$(W_SERVICE_HOST) $(W_SERVICE_PORT)"},
    ]
    found = environment({"env": env}, services=[web])
    assert found[:2] == [("W_SERVICE_PORT", "mine"), ("x", "1.2.3.4 mine")]
    names = [name for name, _ in found]
    assert names[2] == "W_SERVICE_HOST" and len(names) == len(set(names)) == 8
    books = library(config_map(W_SERVICE_HOST="other"))
    found = environment(
        {"envFrom": [{"configMapRef": {"name": "cm"}}], "env": env[1:]}, books, [web]
    )
    assert found[:2] == [("W_SERVICE_HOST", "other"), ("x", "other 80")]


@given(
    st.text("$()ab", max_size=12),
    st.dictionaries(st.text("ab", max_size=2), st.text("$(a)", max_size=3), max_size=3),
)
def test_kubelet_53_as_one_expression(text, known):
    def value(found):
        whole = found.group()
        if whole == "$$":
            return "$"
        return known.get(found.group(1), whole)

    assert expand(text, known) == re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def test_kubelet_55_a_strict_expression_names_what_is_not_defined():
    assert expand("a/$(x)/b", {"x": "1"}, strict=True) == "a/1/b"
    assert refused(expand, "a/$(x)", {}, strict=True) == 'missing value for "x"'
    assert expand("$$(x)$(", {}, strict=True) == "$(x)$("
    assert expand("$(x)", {}) == "$(x)"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"), ("metadata.namespace", "ns"), ("metadata.uid", "u"), ("spec.nodeName", "n"),
        ("spec.serviceAccountName", "sa"), ("status.hostIP", "10.0.0.1"), ("status.hostIPs", "10.0.0.1,fd00::1"),
        ("status.podIP", "10.1.0.9"), ("status.podIPs", "10.1.0.9,fd00::9"), ("metadata.labels['a/b']", "1"),
        ("metadata.labels['z']", ""), ("metadata.annotations['k']", 'q"\\\nr'), ("metadata.other['k']", ""),
        ("metadata.labels", 'a/b="1"\nc="2"'), ("metadata.annotations", 'k="q\\"\\\\\\nr"'),
    ],
)  # fmt: skip
def test_kubelet_52_each_field(path, value):
    metadata = {"labels": {"c": "2", "a/b": "1"}, "annotations": {"k": 'q"\\\nr'}}
    pod = a_pod(metadata=metadata, nodeName="n", serviceAccountName="sa")
    entry = {"env": [{"name": "n", "valueFrom": {"fieldRef": {"fieldPath": path}}}]}
    assert environment(entry, pod=pod) == [("n", value)]


def test_kubelet_52_what_a_pod_does_not_have_is_empty():
    bare = Pod(metadata=ObjectMeta(), spec=make_pod(node_name=None).spec)
    for path in (
        "metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations",
        "metadata.labels['x']", "metadata.annotations['x']", "spec.nodeName", "spec.serviceAccountName", "status.podIP", "status.podIPs",
    ):  # fmt: skip
        assert field_value(bare, path, ("h",), ()) == ""
    assert refused(field_value, bare, "spec.x", ("h",), ()) == "unsupported fieldPath: spec.x"


def test_kubelet_52_resources_in_units_of_the_divisor():
    one = a_container(
        resources={
            "limits": {"cpu": "1500m", "memory": "1Mi"},
            "requests": {"cpu": "200m", "hugepages-2Mi": "4Mi"},
        }
    )
    other = a_container(name="other", resources={"limits": {"cpu": "3"}})
    pod = a_pod(one, other)
    for resource, divisor, container, value in (
        ("limits.cpu", None, None, "2"), ("limits.cpu", "0", None, "2"), ("limits.cpu", "1m", None, "1500"),
        ("limits.memory", "1Mi", None, "1"), ("limits.memory", "1k", None, "1049"), ("requests.cpu", "1m", None, "200"),
        ("requests.memory", None, None, "0"), ("limits.cpu", None, "other", "3"), ("limits.cpu", None, "c", "2"),
        ("requests.hugepages-2Mi", "1Mi", None, "4"), ("limits.memory", "1Gi", "other", "8"),
        ("limits.ephemeral-storage", "1Mi", None, "5"), ("requests.ephemeral-storage", None, None, "0"),
        ("limits.hugepages-2Mi", None, None, "0"),
    ):  # fmt: skip
        tree = {"resource": resource, "divisor": divisor, "containerName": container}
        reference = {"resourceFieldRef": {k: v for k, v in tree.items() if v is not None}}
        entry = {
            "env": [{"name": "n", "valueFrom": reference}],
            "resources": codec.to_tree(one.resources),
        }
        assert environment(entry, pod=pod) == [("n", value)], (resource, divisor)
    bare = a_container()
    ref = of(Container, {"name": "x", "env": [{"name": "n", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m", "containerName": "zz"}}}]}).env[0].value_from.resource_field_ref  # fmt: skip
    assert refused(resource_value, pod, bare, ref, NODE) == 'container "zz" not found'
    mine = replace(ref, container_name="c")
    assert resource_value(a_pod(bare), bare, mine, NODE) == "4000", "all that the node has"


# --- the sandbox ----------------------------------------------------------------------------------


def test_kubelet_50_names():
    long = "x" * 62 + "-y"
    for spec, hostname, names in (
        ({}, "p", ("p", "")),
        ({"hostname": "h"}, "h", ("h", "")),
        ({"hostname": "h", "subdomain": "d"}, "h", ("h", "d.ns.svc.c.local")),
        ({"hostname": "h", "subdomain": "d", "setHostnameAsFQDN": True}, "h.d.ns.svc.c.local", ("h", "d.ns.svc.c.local")),
        ({"setHostnameAsFQDN": True}, "p", ("p", "")),
        ({"hostname": long}, "x" * 62, ("x" * 62, "")),
        ({"hostnameOverride": "o", "hostname": "h", "subdomain": "d", "setHostnameAsFQDN": True}, "o", ("o", "")),
        ({"hostNetwork": True, "hostname": "h"}, "node.example", ("h", "")),
        ({"hostNetwork": True, "hostnameOverride": "o"}, "o", ("o", "")),
    ):  # fmt: skip
        pod = a_pod(**spec)
        assert (compute_hostname(FACTS, pod), compute_names(FACTS, pod)) == (hostname, names)
    exact = a_pod(hostname="h" * 47, subdomain="d", setHostnameAsFQDN=True)
    assert len(compute_hostname(FACTS, exact)) == 64
    words = refused(
        compute_hostname, FACTS, a_pod(hostname="h" * 48, subdomain="d", setHostnameAsFQDN=True)
    )
    full = "h" * 48 + ".d.ns.svc.c.local"
    assert words == (
        "Failed to construct FQDN from pod hostname and cluster domain, "
        f"FQDN {full} is too long (64 is the max, 65 characters requested)"
    )
    dotted = a_pod(metadata={"name": "x" * 62 + ".y"})
    assert compute_hostname(FACTS, dotted) == "x" * 62


def test_kubelet_50_the_sandbox_in_full():
    ports = [
        {"containerPort": 80, "hostPort": 8080, "protocol": "UDP", "hostIP": "1.2.3.4"},
        {"containerPort": 81, "hostPort": 8081},
        {"containerPort": 82},
    ]
    init = codec.to_tree(a_container(name="i", ports=[{"containerPort": 1, "hostPort": 1}]))
    sidecar = {
        **codec.to_tree(a_container(name="s", ports=[{"containerPort": 2, "hostPort": 2}])),
        "restartPolicy": "Always",
    }
    tree = {
        "initContainers": [init, sidecar], "hostPID": True, "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["s"], "options": [{"name": "o", "value": "1"}]},
        "securityContext": {"sysctls": [{"name": "net/ipv4/x", "value": "1"}, {"name": "kernel.y", "value": "2"}]},
    }  # fmt: skip
    pod = a_pod(a_container(ports=ports), **tree)
    notes = []
    found = compute_sandbox_config(FACTS, pod, 3, lambda *words: notes.append(words))
    mappings = (PortMapping(80, 8080, "UDP", "1.2.3.4"), PortMapping(81, 8081, "TCP", ""))
    assert set(found.port_mappings) == {*mappings, PortMapping(2, 2, "TCP", "")}
    assert replace(found, port_mappings=()) == SandboxConfig(
        "u", "ns", "p", 3, "p", host_pid=True, dns_servers=("9.9.9.9",), dns_searches=("s",), dns_options=("o:1",),
        sysctls=(("net.ipv4.x", "1"), ("kernel.y", "2")),
    )  # fmt: skip
    assert notes == []
    host = a_pod(a_container(ports=ports), hostNetwork=True, hostIPC=True)
    found = compute_sandbox_config(FACTS, host, 0, lambda *words: None)
    assert (found.host_network, found.host_ipc, found.host_pid) == (True, True, False)
    assert found.port_mappings == compute_port_mappings(host) == () and found.sysctls == ()
    many = {"nameservers": [f"1.1.1.{n}" for n in range(9)]}
    compute_sandbox_config(
        FACTS, a_pod(dnsPolicy="None", dnsConfig=many), 0, lambda *words: notes.append(words)
    )
    ((reason, _, kind),) = notes
    assert (reason, kind) == ("DNSConfigForming", "Warning")


LOCAL = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def test_kubelet_94_the_hosts_file_in_full():
    one, ips = a_container(), ("10.1.0.9", "fd00::9")
    assert compute_hosts(FACTS, a_pod(), one, ips) == LOCAL + "10.1.0.9\tp\nfd00::9\tp\n"
    named = a_pod(subdomain="d")
    assert compute_hosts(FACTS, named, one, ips[:1]) == LOCAL + "10.1.0.9\tp.d.ns.svc.c.local\tp\n"
    aliases = [{"ip": "1.1.1.1", "hostnames": ["a", "b"]}, {"ip": "2.2.2.2", "hostnames": ["c"]}]
    tail = "\n# Entries added by HostAliases.\n1.1.1.1\ta\tb\n2.2.2.2\tc\n"
    assert compute_hosts(FACTS, a_pod(hostAliases=aliases), one, ()) == LOCAL + tail
    host = a_pod(hostNetwork=True, hostAliases=aliases)
    head = "# Kubernetes-managed hosts file (host network).\n"
    assert compute_hosts(FACTS, host, one, ips) == head + tail
    own = a_container(
        volumeMounts=[{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/etc/hosts"}]
    )
    assert compute_hosts(FACTS, a_pod(), own, ips) == ""
    other = a_container(volumeMounts=[{"name": "v", "mountPath": "/x"}])
    assert compute_hosts(FACTS, a_pod(), other, ()) == LOCAL


# --- a container ----------------------------------------------------------------------------------


def draft_of(pod, now=SECOND, services=None, **containers):
    memory = PodMemory("u", "ns", "p", pod=pod, containers=containers)
    facts = FACTS if services is None else replace(FACTS, services=services)
    return Draft(facts, pod, memory, library(), now)


SANDBOX = SandboxStatus("sb", "u", "ns", "p", 0, True, ips=("10.1.0.9",))


def test_kubelet_50_a_container_in_full():
    tree = {
        "command": ["run", "$(A)"], "args": ["$(A)", "$(B)"], "workingDir": "/w", "tty": True, "stdin": True, "stdinOnce": True,
        "env": [{"name": "A", "value": "1"}, {"name": "I", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}],
        "resources": {"limits": {"cpu": "500m", "memory": "1Mi"}, "requests": {"cpu": "100m"}},
        "securityContext": {
            "privileged": True, "readOnlyRootFilesystem": True, "capabilities": {"add": ["X"], "drop": ["Y", "Z"]}, "runAsUser": 5,
        },
        "terminationMessagePath": "/m", "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip
    one = a_container(**tree)
    pod = a_pod(
        one, volumes=[{"name": "v", "emptyDir": {}}], terminationGracePeriodSeconds=7,
        securityContext={"fsGroup": 9, "supplementalGroups": [8]},
    )  # fmt: skip
    asked = []
    draft = draft_of(
        pod,
        services=lambda *which: asked.append(which) or (),
        c=ContainerMemory(image_id="sha", image_user="3"),
    )
    found = compute_container_config(draft, pod, one, 2, SANDBOX)
    assert asked == [("ns", True)]
    assert found == ContainerConfig(
        "u", "ns", "p", "c", "i", attempt=2, command=("run", "1"), args=("1", "$(B)"),
        env=(("A", "1"), ("I", "10.1.0.9")), working_dir="/w", mounts=(Mount("v/1", "/v"),), resources=Resources(500, 1 << 20, 100),
        oom_score_adj=999,
        user=found.user, groups=found.groups, privileged=True, read_only_root=True, no_new_privileges=found.no_new_privileges,
        seccomp=found.seccomp, app_armor=found.app_armor, capabilities_add=("X",), capabilities_drop=("Y", "Z"),
        tty=True, stdin=True, stdin_once=True, termination_grace_seconds=7, termination_message_path="/m",
        termination_message_from_log=True, spec_hash=spec_hash(one), image_id="sha", hosts=compute_hosts(FACTS, pod, one, ("10.1.0.9",)),
    )  # fmt: skip
    assert found.user.startswith("5") and set(found.groups) == {8, 9}


def test_kubelet_50_a_bare_container_on_the_hosts_network():
    pod = a_pod(hostNetwork=True, enableServiceLinks=False)
    (one,) = pod.spec.containers
    asked = []
    draft = draft_of(pod, services=lambda *which: asked.append(which) or ())
    found = compute_container_config(draft, pod, one, 0, SANDBOX)
    assert asked == [("ns", False)]
    assert found == ContainerConfig(
        "u", "ns", "p", "c", "i", user=found.user, seccomp=found.seccomp, app_armor=found.app_armor, spec_hash=spec_hash(one),
        hosts=compute_hosts(FACTS, pod, one, ("10.0.0.1",)), host_network=True,
        termination_message_path=one.termination_message_path or "", oom_score_adj=1000,
    )  # fmt: skip
    ip = a_container(env=[{"name": "I", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}])
    pod = a_pod(ip, hostNetwork=True)
    assert compute_container_config(draft_of(pod), pod, ip, 0, SANDBOX).env == (("I", "10.0.0.1"),)
    waits = a_container(stdinOnce=True)
    assert not compute_container_config(
        draft_of(a_pod(waits)), a_pod(waits), waits, 0, SANDBOX
    ).stdin_once


def test_kubelet_50_init_containers_and_sidecars():
    init, sidecar = a_container(name="i"), a_container(name="s", restartPolicy="Always")
    pod = a_pod(initContainers=[codec.to_tree(init), codec.to_tree(sidecar)])
    first, second = pod.spec.init_containers
    for one, is_init in ((first, True), (second, False), (pod.spec.containers[0], False)):
        found = compute_container_config(draft_of(pod), pod, one, 0, SANDBOX)
        assert (found.init, found.runs_to_end) == (is_init, is_init)
        assert is_expected_to_end(pod, one) == is_init


@pytest.mark.parametrize("policy", [None, "Always", "OnFailure", "Never"])
def test_a_container_that_is_meant_to_end(policy):
    job = {
        "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j", "controller": True}
        ]
    }
    other = {"ownerReferences": [{**job["ownerReferences"][0], "kind": "ReplicaSet"}]}
    spec = {"restartPolicy": policy} if policy else {}
    for more, words in (({}, False), ({"command": ["x"]}, True), ({"args": ["x"]}, True)):
        one = a_container(**more)
        stays = policy in (None, "Always")
        for metadata in (None, other):
            assert is_expected_to_end(a_pod(one, metadata=metadata, **spec), one) == (
                words and not stays
            )
        assert is_expected_to_end(a_pod(one, metadata=job, **spec), one)


def test_kubelet_15_the_hash_is_that_of_name_and_image():
    one = a_container()
    assert spec_hash(one) == spec_hash(a_container(command=["x"]))
    assert (
        len(
            {
                spec_hash(each)
                for each in (
                    one,
                    a_container(image="j"),
                    a_container(name="d"),
                    Container(name="c"),
                )
            }
        )
        == 4
    )


def test_kubelet_106_limits_and_requests():
    def of_amounts(limits, requests, **pod):
        one = a_container(resources={"limits": limits, "requests": requests})
        return runtime_resources(a_pod(one, **pod).spec, one.resources)

    assert of_amounts({}, {}) == Resources()
    assert of_amounts({"cpu": "1", "memory": "2"}, {"cpu": "3m", "memory": "4"}) == Resources(
        1000, 2, 3
    )
    whole = {"limits": {"cpu": "5", "memory": "6"}, "requests": {"cpu": "7m"}}
    assert of_amounts({"cpu": "1"}, {}, resources=whole) == Resources(1000, 6, 7)
    assert of_amounts({}, {"cpu": "1m"}, resources={}) == Resources(0, 0, 1)


def test_kubelet_101_the_target_must_run():
    debugger = {"name": "d", "image": "i", "targetContainerName": "c"}
    free = {"name": "e", "image": "i"}
    pod = a_pod(ephemeralContainers=[free, debugger])
    e, d = a_container(name="e"), a_container(name="d")
    runs = ContainerMemory(current=ContainerStatus("id", "sb", "u", "c", 0, "running"))
    over = ContainerMemory(current=ContainerStatus("id", "sb", "u", "c", 0, "exited"))
    assert compute_target(draft_of(pod, c=runs), pod, d) == "id"
    assert compute_target(draft_of(pod, c=runs), pod, e) == ""
    assert compute_target(draft_of(pod, c=runs), pod, pod.spec.containers[0]) == ""
    for memory in ({}, {"c": over}):
        words = refused(compute_target, draft_of(pod, **memory), pod, d)
        assert words == 'the target container "c" does not run'
    assert compute_target(draft_of(a_pod(), c=runs), a_pod(), d) == ""
    on_host = a_pod(hostPID=True, ephemeralContainers=[debugger])
    assert compute_target(draft_of(on_host), on_host, d) == ""


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ({}, Mount("v", "/m")),
        ({"readOnly": True}, Mount("v", "/m", True)),
        ({"subPath": "a/b"}, Mount("v/a/b", "/m")),
        ({"subPath": "a..b"}, Mount("v/a..b", "/m")),
        ({"subPathExpr": "$(X)/y"}, Mount("v/1/y", "/m")),
        ({"mountPropagation": "None"}, Mount("v", "/m")),
        ({"mountPropagation": "HostToContainer"}, Mount("v", "/m", propagation="HostToContainer")),
        (
            {"readOnly": True, "recursiveReadOnly": "Enabled"},
            Mount("v", "/m", True, recursive_read_only=True),
        ),
        ({"readOnly": True, "recursiveReadOnly": "Disabled"}, Mount("v", "/m", True)),
        ({"name": "w"}, Mount("w", "/m", True, True)),
        ({"name": "w", "subPath": "k"}, Mount("w/k", "/m", True, True)),
        ({"name": "r"}, Mount("r", "/m", True)),
    ],
)
def test_kubelet_55_a_mount_in_full(mount, expected):
    one = a_container(volumeMounts=[{"name": "v", "mountPath": "/m", **mount}])
    claim = {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}}
    volumes = [
        {"name": "v", "emptyDir": {}},
        {"name": "w", "configMap": {"name": "c"}},
        {"name": "r", **claim},
    ]
    assert compute_mounts(a_pod(one, volumes=volumes), one, {"X": "1"}) == (expected,)


def test_kubelet_55_a_path_must_stay_inside():
    def mounts(**mount):
        one = a_container(volumeMounts=[{"name": "v", "mountPath": "/m", **mount}])
        return compute_mounts(a_pod(one, volumes=[{"name": "v", "emptyDir": {}}]), one, {"X": ".."})

    for path in ("/a", "..", "a/../b", "a\0b"):
        assert (
            refused(mounts, subPath=path) == f'the subPath "{path}" of volume "v" leads out of it'
        )
    assert (
        refused(mounts, subPathExpr="a/$(X)") == 'the subPath "a/.." of volume "v" leads out of it'
    )
    assert refused(mounts, subPathExpr="$(Y)") == 'missing value for "Y"'
    assert refused(mounts, name="z") == 'volume "z" of container "c" is not there'


# --- what a container is created with, one source at a time ---------------------------------------


def config_of(pod, facts=FACTS, books=None, **containers):
    """The request to create the pod's first container."""
    one = pod.spec.containers[0]
    memory = PodMemory("u", "ns", "p", pod=pod, containers=containers)
    draft = Draft(facts, pod, memory, books or library(), SECOND)
    return compute_container_config(draft, pod, one, 0, SANDBOX)


def test_kubelet_92_a_container_has_every_confinement_that_its_context_requests():
    node = replace(NODE, security_modules=("seccomp", "apparmor", "selinux"))
    context = {
        "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
        "appArmorProfile": {"type": "RuntimeDefault"},
        "seLinuxOptions": {"type": "t", "level": "s0"},
        "allowPrivilegeEscalation": False,
        "procMount": "Unmasked",
    }
    for own, shared in ((context, {}), ({}, dict(list(context.items())[:3]))):
        pod = a_pod(a_container(securityContext=own), securityContext=shared)
        found = config_of(pod, replace(FACTS, node=node))
        assert found.seccomp == "Localhost/p.json"
        assert found.app_armor == "RuntimeDefault"
        assert found.se_linux == (("type", "t"), ("level", "s0"))
        assert found.no_new_privileges == found.unmasked_proc == bool(own)
    bare = config_of(a_pod())
    assert (bare.seccomp, bare.app_armor, bare.se_linux) == ("", "", ())
    assert (bare.no_new_privileges, bare.unmasked_proc) == (False, False)


def test_kubelet_52_a_container_gets_variables_of_objects_its_pod_and_its_node():
    sources = {
        "A": {"configMapKeyRef": {"name": "cm", "key": "k"}},
        "B": {"secretKeyRef": {"name": "s", "key": "k"}},
        "C": {"fieldRef": {"fieldPath": "status.hostIPs"}},
        "D": {"resourceFieldRef": {"resource": "limits.cpu"}},
    }
    env = [{"name": name, "valueFrom": source} for name, source in sources.items()]
    node = replace(NODE, second_ip="fd00::1")
    books = library(config_map(k="v"), secret(k="w"))
    found = config_of(a_pod(a_container(env=env)), replace(FACTS, node=node), books)
    assert found.env == (("A", "v"), ("B", "w"), ("C", "10.0.0.1,fd00::1"), ("D", "4"))


def test_kubelet_94_a_container_has_the_hosts_file_of_its_pods_subdomain():
    found = config_of(a_pod(subdomain="d"))
    assert found.hosts == LOCAL + "10.1.0.9\tp.d.ns.svc.c.local\tp\n"


def test_kubelet_101_an_ephemeral_container_is_created_with_its_target():
    debugger = {"name": "d", "image": "i", "targetContainerName": "c"}
    pod = a_pod(ephemeralContainers=[debugger])
    runs = ContainerMemory(current=ContainerStatus("id", "sb", "u", "c", 0, "running"))
    draft = draft_of(pod, c=runs)
    one = a_container(name="d")
    assert compute_container_config(draft, pod, one, 0, SANDBOX).target_id == "id"
    assert config_of(pod, c=runs).target_id == ""


def test_kubelet_50_a_name_that_is_too_long_starts_no_sandbox_and_says_so():
    pod = a_pod(hostname="h" * 48, subdomain="d", setHostnameAsFQDN=True)
    with pytest.raises(BadConfig) as error:
        compute_hostname(FACTS, pod)
    assert error.value.reason == "FailedCreatePodSandBox"


def test_kubelet_96_the_event_says_what_was_left_out():
    many = {"nameservers": [f"1.1.1.{n}" for n in range(4)]}
    pod, notes = a_pod(dnsPolicy="None", dnsConfig=many), []
    compute_sandbox_config(FACTS, pod, 0, lambda *words: notes.append(words))
    kept = "1.1.1.0 1.1.1.1 1.1.1.2"
    words = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is:"
    assert notes == [("DNSConfigForming", f"{words} {kept}", "Warning")]


def test_kubelet_54_the_variables_of_services_are_those_of_the_services():
    web = service("w", "1.2.3.4", (80, None, "TCP"))
    assert dict(environment({}, services=[web])) == service_variables([web])


def test_kubelet_52_a_resource_name_and_a_key_may_have_separators_of_their_own():
    one = a_container(resources={"requests": {"example.com/gpu": "3"}})
    ref = {"resourceFieldRef": {"resource": "requests.example.com/gpu"}}
    entry = {"name": "n", "valueFrom": ref}
    assert environment(
        {"env": [entry], "resources": codec.to_tree(one.resources)}, pod=a_pod(one)
    ) == [("n", "3")]
    pod = a_pod(metadata={"annotations": {"a['b": "1"}})
    assert field_value(pod, "metadata.annotations['a['b']", ("h",), ()) == "1"
