"""Client libraries and an operator on a simulated cluster: the official Python client, kr8s,
lightkube, kopf, and the official client for Node.js."""

import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import kubernetes
import pytest
from fake_cluster import FakeCluster, running_cluster, until

HERE = Path(__file__).parent
NODE_CLIENT = HERE.parent / "clients/node_modules/@kubernetes/client-node"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("libraries"), nodes=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def api(cluster: FakeCluster) -> kubernetes.client.ApiClient:
    return kubernetes.config.new_client_from_config(str(cluster.kubeconfig))


def deployment(name: str, replicas: int = 2) -> dict[str, Any]:
    container = {"name": "main", "image": "nginx", "ports": [{"containerPort": 80}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }


def definition(plural: str, kind: str, **spec: Any) -> dict[str, Any]:
    """A definition with a status subresource, whose status may be anything."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    properties = {"spec": {"type": "object", "properties": spec}, "status": anything}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


# --- the official client


def test_create_from_yaml_creates_what_the_file_has(
    api: kubernetes.client.ApiClient, tmp_path: Path
) -> None:
    documents = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "from-yaml"}},
        deployment("web"),
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}},
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}},
            ],
        },
    ]
    del documents[1]["metadata"]["namespace"]
    path = tmp_path / "all.yaml"
    path.write_text("\n---\n".join(json.dumps(one) for one in documents))
    made = kubernetes.utils.create_from_yaml(api, str(path), namespace="from-yaml")
    assert [one.kind for group in made for one in group] == [
        "Namespace",
        "Deployment",
        "ConfigMap",
        "Secret",
    ]
    with pytest.raises(kubernetes.utils.FailToCreateError) as failed:
        kubernetes.utils.create_from_yaml(api, str(path), namespace="from-yaml")
    assert [error.status for error in failed.value.api_exceptions] == [409] * 4
    apps = kubernetes.client.AppsV1Api(api)
    until(
        lambda: (
            apps.read_namespaced_deployment_status("web", "from-yaml").status.ready_replicas == 2
        ),
        "the Deployment is ready",
    )
    kubernetes.client.CoreV1Api(api).delete_namespace("from-yaml")


def test_the_dynamic_client_finds_and_applies_custom_resources(
    api: kubernetes.client.ApiClient,
) -> None:
    from kubernetes.dynamic import DynamicClient
    from kubernetes.dynamic.exceptions import ConflictError, UnprocessibleEntityError

    client = DynamicClient(api)
    definitions = client.resources.get(
        api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition"
    )
    watts = {"type": "integer", "minimum": 1}
    definitions.create(body=definition("lamps", "Lamp", watts=watts))

    def established() -> bool:
        found = definitions.get(name="lamps.example.com").status
        return any(c.type == "Established" and c.status == "True" for c in found.conditions or ())

    until(established, "the definition is established")
    client.resources.invalidate_cache()
    lamps = client.resources.get(api_version="example.com/v1", kind="Lamp")
    body = {"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "desk"}}
    where: dict[str, Any] = {"namespace": "default", "name": "desk"}

    def apply(watts: Any, manager: str, **more: Any) -> Any:
        given = {**body, "spec": {"watts": watts}}
        return lamps.server_side_apply(body=given, **where, field_manager=manager, **more)

    assert apply(3, "a").spec.watts == 3
    with pytest.raises(ConflictError, match="conflict with"):
        apply(4, "b")
    assert apply(4, "b", force_conflicts=True).spec.watts == 4
    with pytest.raises(UnprocessibleEntityError, match="greater than or equal to 1"):
        apply(0, "b")
    patched = lamps.status.patch(
        body={"status": {"lit": True}}, **where, content_type="application/merge-patch+json"
    )
    assert patched.status.lit and patched.spec.watts == 4
    assert [one.metadata.name for one in lamps.get(namespace="default").items] == ["desk"]
    lamps.delete(**where)
    definitions.delete(name="lamps.example.com")


def test_a_watch_goes_on_where_it_stopped_and_begins_anew_when_that_is_too_old(
    api: kubernetes.client.ApiClient,
) -> None:
    from kubernetes import watch

    core = kubernetes.client.CoreV1Api(api)
    labels = {"watched": "yes"}

    def make(name: str) -> None:
        core.create_namespaced_config_map("default", {"metadata": {"name": name, "labels": labels}})

    make("before")
    listed = core.list_namespaced_config_map("default", label_selector="watched")
    version = listed.metadata.resource_version
    given = {"label_selector": "watched", "timeout_seconds": 1}
    for name in ("one", "two"):
        make(name)
    seen = []
    for _ in range(2):  # the second watch begins where the first one ended
        watcher = watch.Watch()
        events = watcher.stream(
            core.list_namespaced_config_map, "default", resource_version=version, **given
        )
        for event in events:
            seen.append((event["type"], event["object"].metadata.name))
            if event["object"].metadata.name == "one":
                watcher.stop()
        version = watcher.resource_version
    assert seen == [("ADDED", "one"), ("ADDED", "two")]
    old = watch.Watch()
    events = old.stream(core.list_namespaced_config_map, "default", **given)
    assert sorted(event["object"].metadata.name for event in events) == ["before", "one", "two"]
    core.delete_collection_namespaced_config_map("default", label_selector="watched")


def test_of_two_candidates_one_leads_and_the_other_follows_it(cluster: FakeCluster) -> None:
    from kubernetes.leaderelection import electionconfig, leaderelection
    from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

    kubernetes.config.load_kube_config(str(cluster.kubeconfig))
    led: list[str] = []
    second = threading.Event()

    def candidate(name: str, lead: Any) -> threading.Thread:
        """It leads until what it does as a leader ends with an error."""
        config = electionconfig.Config(
            LeaseLock("leader", "default", name),
            lease_duration=3,
            renew_deadline=2,
            retry_period=1,
            onstarted_leading=lead,
            onstopped_leading=lambda: None,
        )
        run = leaderelection.LeaderElection(config).run
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def first_leads() -> None:
        led.append("first")
        raise RuntimeError

    def second_leads() -> None:
        led.append("second")
        second.wait(30)
        raise RuntimeError

    thread = candidate("first", first_leads)
    until(lambda: led == ["first"], "the first one leads")
    leases = kubernetes.client.CoordinationV1Api()
    assert leases.read_namespaced_lease("leader", "default").spec.holder_identity == "first"
    other = candidate("second", second_leads)
    until(lambda: led == ["first", "second"], "then the second one does")
    assert leases.read_namespaced_lease("leader", "default").spec.holder_identity == "second"
    second.set()
    for one in (thread, other):
        one.join(10)
        assert not one.is_alive()


def test_a_token_is_its_accounts_as_long_as_the_account_exists(
    cluster: FakeCluster, api: kubernetes.client.ApiClient
) -> None:
    core = kubernetes.client.CoreV1Api(api)
    core.create_namespaced_service_account("default", {"metadata": {"name": "robot"}})
    made = core.create_namespaced_service_account_token(
        "robot", "default", {"spec": {"expirationSeconds": 600}}
    )
    configuration = kubernetes.client.Configuration()
    configuration.host = api.configuration.host
    configuration.ssl_ca_cert = api.configuration.ssl_ca_cert
    configuration.api_key = {"authorization": f"Bearer {made.status.token}"}
    robot = kubernetes.client.ApiClient(configuration)
    reviews = kubernetes.client.AuthenticationV1Api(robot)
    said = reviews.create_self_subject_review({}).status.user_info
    assert said.username == "system:serviceaccount:default:robot"
    assert "system:serviceaccounts:default" in said.groups
    with pytest.raises(kubernetes.client.ApiException) as refused:
        kubernetes.client.CoreV1Api(robot).list_namespaced_secret("default")
    assert refused.value.status == 403
    core.delete_namespaced_service_account("robot", "default")
    with pytest.raises(kubernetes.client.ApiException) as refused:
        reviews.create_self_subject_review({})
    assert refused.value.status == 401


# --- others


def test_kr8s_works_with_pods_and_a_deployment(cluster: FakeCluster) -> None:
    import kr8s
    from kr8s.objects import ConfigMap, Deployment, Node

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it knows older versions only
        client = kr8s.api(kubeconfig=str(cluster.kubeconfig))
        assert client.whoami() == "kubernetes-admin"
    config_map = ConfigMap({"metadata": {"name": "by-kr8s"}, "data": {"a": "1"}}, api=client)
    config_map.create()
    config_map.patch({"data": {"b": "2"}})
    config_map.label({"x": "y"})
    config_map.refresh()
    assert config_map.data == {"a": "1", "b": "2"} and config_map.labels["x"] == "y"
    config_map.delete()
    assert not config_map.exists()
    made = Deployment(deployment("kr8s"), api=client)
    made.create()
    made.wait("condition=Available", timeout=30)
    made.scale(3)
    until(lambda: len(made.pods()) == 3, "it is scaled")
    pod = made.pods()[0]
    pod.wait("condition=Ready", timeout=30)
    assert pod.exec(["echo", "hi"]).stdout == b"hi\n"
    with (
        pod.portforward(remote_port=80) as port,
        urlopen(f"http://127.0.0.1:{port}/x", timeout=20) as answer,
    ):
        assert b"request: GET /x" in answer.read()
    kind, first = next(iter(client.watch("pods", label_selector={"app": "kr8s"})))
    assert kind == "ADDED" and first.labels["app"] == "kr8s"
    node = Node.get("node-1", api=client)
    node.cordon()
    node.refresh()
    assert node.unschedulable
    node.uncordon()
    made.delete(propagation_policy="Foreground")
    made.wait("delete", timeout=30)


def test_lightkube_works_with_objects_of_many_kinds(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightkube import Client, codecs
    from lightkube.core.exceptions import ApiError
    from lightkube.generic_resource import load_in_cluster_generic_resources
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.apps_v1 import Deployment
    from lightkube.resources.core_v1 import ConfigMap, Pod
    from lightkube.types import CascadeType, PatchType

    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    client = Client(field_manager="by-lightkube")
    meta = ObjectMeta(name="by-lightkube", namespace="default")
    made = client.apply(ConfigMap(metadata=meta, data={"a": "1"}))
    [entry] = made.metadata.managedFields
    assert (entry.manager, entry.operation) == ("by-lightkube", "Apply")
    assert client.patch(ConfigMap, "by-lightkube", {"data": {"b": "2"}}).data["b"] == "2"
    change = [{"op": "remove", "path": "/data/a"}]
    last = client.patch(ConfigMap, "by-lightkube", change, patch_type=PatchType.JSON)
    assert last.data == {"b": "2"}
    with pytest.raises(ApiError, match="the object has been modified"):
        client.replace(made)
    assert len(list(client.list(ConfigMap, namespace="*", chunk_size=1))) > 3
    [body] = codecs.load_all_yaml(json.dumps(deployment("lightkube")))
    client.create(body)
    waited = client.wait(Deployment, "lightkube", for_conditions=["Available"])
    assert waited.status.availableReplicas
    scale = client.get(Deployment.Scale, "lightkube")
    scale.spec.replicas = 1
    client.replace(scale, "lightkube")
    assert client.get(Deployment, "lightkube").spec.replicas == 1
    kind, _ = next(iter(client.watch(Pod, labels={"app": "lightkube"})))
    assert kind == "ADDED"
    assert not load_in_cluster_generic_resources(client)
    client.delete(Deployment, "lightkube", cascade=CascadeType.FOREGROUND)
    until(
        lambda: not list(client.list(Pod, labels={"app": "lightkube"})),
        "the pods are gone with their Deployment",
    )
    client.delete(ConfigMap, "by-lightkube")


OPERATOR_ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: greeter}
rules:
- {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: [list, watch]}
- {apiGroups: [""], resources: [namespaces], verbs: [list, watch]}
- {apiGroups: [""], resources: [events], verbs: [create]}
- {apiGroups: [example.com], resources: [greetings, greetings/status], verbs: [list, watch, patch]}
- {apiGroups: [""], resources: [configmaps], verbs: [create, patch]}
"""


@pytest.fixture
def operator_config(cluster: FakeCluster, tmp_path: Path) -> Path:
    """The kubeconfig of a service account that has the rights which the operator needs."""
    k = cluster.kubectl
    k("apply", "-f", "-", stdin=OPERATOR_ROLE)
    k("create", "serviceaccount", "greeter")
    binding = ("create", "clusterrolebinding", "greeter", "--clusterrole=greeter")
    k(*binding, "--serviceaccount=default:greeter")
    token = k("create", "token", "greeter")
    path = tmp_path / "kubeconfig"
    path.write_bytes(cluster.kubeconfig.read_bytes())
    config = f"--kubeconfig={path}"
    k("config", "set-credentials", "greeter", f"--token={token}", config)
    k("config", "set-context", "--current", "--user=greeter", config)
    return path


def test_a_kopf_operator_follows_its_custom_resources(
    cluster: FakeCluster, api: kubernetes.client.ApiClient, operator_config: Path, tmp_path: Path
) -> None:
    k = cluster.kubectl
    who = {"type": "string"}
    k("apply", "-f", "-", stdin=json.dumps(definition("greetings", "Greeting", who=who)))
    k("wait", "--for=condition=Established", "crd/greetings.example.com", "--timeout=30s")
    log = tmp_path / "operator.log"
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace=default"]

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "KUBECONFIG": str(operator_config)}
        with log.open("ab") as out:
            return subprocess.Popen(
                [*command, str(HERE / "kopf_operator.py")],
                env=environment, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    custom = kubernetes.client.CustomObjectsApi(api)
    core = kubernetes.client.CoreV1Api(api)
    where = ("example.com", "v1", "default", "greetings")

    def status(key: str) -> Any:
        found = custom.get_namespaced_custom_object(*where, "a")
        return found.get("status", {}).get(key)

    def names() -> list[str]:
        return [one.metadata.name for one in core.list_namespaced_config_map("default").items]

    operator = start()
    try:
        body = {"apiVersion": "example.com/v1", "kind": "Greeting", "metadata": {"name": "a"}}
        custom.create_namespaced_custom_object(*where, {**body, "spec": {"who": "jane"}})
        until(lambda: status("create") == {"made": "a"}, "the handler of creation has returned")
        made = core.read_namespaced_config_map("a", "default")
        assert made.data == {"text": "hello jane"}
        assert made.metadata.owner_references[0].kind == "Greeting"
        until(lambda: (status("ticks") or 0) > 2, "the timer writes the status")
        found = custom.get_namespaced_custom_object(*where, "a")
        assert found["metadata"]["finalizers"] == ["kopf.zalando.org/KopfFinalizerMarker"]
        custom.patch_namespaced_custom_object(*where, "a", {"spec": {"who": "joe"}})
        until(lambda: status("change") == "jane to joe", "the handler of the update has run")
        assert core.read_namespaced_config_map("a", "default").data == {"text": "hello joe"}

        def messages() -> set[str]:
            told = core.list_namespaced_event("default", field_selector="involvedObject.name=a")
            return {event.message for event in told.items}

        until(lambda: "made it" in messages(), "messages of handlers are Events")

        # the finalizer holds the object until the operator is back
        operator.terminate()
        assert operator.wait(30) == 0
        custom.delete_namespaced_custom_object(*where, "a")
        found = custom.get_namespaced_custom_object(*where, "a")
        assert found["metadata"]["deletionTimestamp"]
        operator = start()
        until(lambda: "a-is-gone" in names(), "the handler of the deletion has run")
        until(lambda: "a" not in names(), "what it owned is gone")
        assert not custom.list_namespaced_custom_object(*where)["items"]
    finally:
        operator.terminate()
        operator.wait(30)
    assert "Traceback" not in log.read_text(), log.read_text()


NODE_PROGRAM = """
const k8s = await import(process.argv[1]);
const config = new k8s.KubeConfig();
config.loadFromFile(process.argv[2]);
const core = config.makeApiClient(k8s.CoreV1Api);
const said = {};
const body = {metadata: {name: 'by-node'}, data: {a: '1'}};
await core.createNamespacedConfigMap({namespace: 'default', body});
const change = [{op: 'add', path: '/data/b', value: '2'}];
const patched = await core.patchNamespacedConfigMap(
    {name: 'by-node', namespace: 'default', body: change});
said.data = patched.data;
said.watched = await new Promise(async (resolve) => {
    const watch = new k8s.Watch(config);
    const path = '/api/v1/namespaces/default/configmaps';
    const request = await watch.watch(path, {fieldSelector: 'metadata.name=by-node'},
        (type, object) => { resolve([type, object.metadata.name]); request.abort(); }, () => {});
});
await core.deleteNamespacedConfigMap({name: 'by-node', namespace: 'default'});
try {
    await core.readNamespacedConfigMap({name: 'by-node', namespace: 'default'});
} catch (error) { said.code = error.code; }
const chunks = [];
const {Writable} = await import('node:stream');
const out = new Writable({write(chunk, _, done) { chunks.push(chunk.toString()); done(); }});
said.status = await new Promise((resolve) => new k8s.Exec(config).exec(
    'default', 'box', 'box', ['echo', 'hi'], out, null, null, false,
    (status) => resolve(status.status)));
said.out = chunks.join('');
console.log(JSON.stringify(said));
"""


def test_the_client_for_node_reads_writes_watches_and_executes(cluster: FakeCluster) -> None:
    node = shutil.which("node")
    if node is None or not NODE_CLIENT.exists():
        words = "the client for Node.js is not installed: npm ci in tests/clients"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    cluster.kubectl("run", "box", "--image=busybox", "--command", "--", "sleep", "1000")
    cluster.kubectl("wait", "pod/box", "--for=condition=Ready", "--timeout=30s")
    entry = NODE_CLIENT / "dist/index.js"
    command = [node, "--input-type=module", "-e", NODE_PROGRAM, str(entry), str(cluster.kubeconfig)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "data": {"a": "1", "b": "2"},
        "watched": ["ADDED", "by-node"],
        "code": 404,
        "status": "Success",
        "out": "hi\n",
    }
