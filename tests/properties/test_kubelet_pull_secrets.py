"""Credentials for pulls, from the Secrets that a pod names. Rules KUBELET-130, RT-41."""

import json
import threading
from base64 import b64encode, urlsafe_b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from kubelet_bench import Bench, make_pod

from refk8s.adapters.docker.engine.client import Engine
from refk8s.adapters.docker.engine.images import Images
from refk8s.adapters.linux.pulls import Pulls
from refk8s.components.story import Names, operation_sentence
from refk8s.core.api.core_v1 import (
    Container,
    ImageVolumeSource,
    LocalObjectReference,
    ObjectMeta,
    Secret,
    Volume,
)
from refk8s.core.api.resources import SECRETS
from refk8s.core.kubelet.pull_secrets import DOCKERCFG, DOCKERCONFIGJSON, SECRETS_MAX
from refk8s.core.ports import Failed, ImagePulled, PullImage, RegistryCredential

WORD = "hunter2-secret"
IMAGE = "registry.example.com/team/app:1"


def a_secret(content, name="s", kind=DOCKERCONFIGJSON):
    """A Secret with this text, or with this value as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    key = {DOCKERCONFIGJSON: ".dockerconfigjson", DOCKERCFG: ".dockercfg"}.get(kind, "x")
    data = {key: b64encode(text.encode()).decode()}
    return Secret(metadata=ObjectMeta(name=name, namespace="default"), type=kind, data=data)


def login(user="u", password=WORD):
    return {"username": user, "password": password}


# --- the kubelet ----------------------------------------------------------------------------------


def a_pod(*names, **spec):
    secrets = tuple(LocalObjectReference(name=name) for name in names)
    return make_pod(
        containers=(Container(name="c", image=IMAGE, image_pull_policy="Always"),),
        image_pull_secrets=secrets,
        **spec,
    )


def pulls(bench):
    return [(at, op) for at, op in bench.did(PullImage) if op.image == IMAGE]


def complaints(bench):
    return [
        request.body.message
        for request in bench.requests
        if request.verb == "create" and getattr(request.body, "reason", "") == REASON
    ]


REASON = "FailedToRetrieveImagePullSecret"


def test_kubelet_130_a_pull_has_the_credentials_of_the_pods_secrets():
    # Shows KUBELET-130.a.
    bench = Bench().start().settle()
    bench.put(SECRETS, a_secret({"auths": {"*.example.com": login("two")}}, "two"))
    bench.put(SECRETS, a_secret({"auths": {"*.example.com": login("one")}}, "one"))
    bench.put(SECRETS, a_secret({"auths": {"other.example": login("no")}}, "other"))
    volume = Volume(name="v", image=ImageVolumeSource(reference="a.example.com/data:1"))
    bench.add(a_pod("one", "other", "two", "one", "", volumes=(volume,)))
    bench.run_for(5)
    found = {op.image: [c.username for c in op.credentials] for _, op in bench.did(PullImage)}
    assert found == {IMAGE: ["one", "two"], "a.example.com/data:1": ["one", "two"]}
    assert bench.pod().status.phase == "Running" and REASON not in bench.reasons()
    for request in bench.requests:
        if request.verb != "get":
            assert WORD not in repr(request)
    for _, operation in bench.did(PullImage):
        assert WORD not in repr(operation)
        assert WORD not in operation_sentence("n", operation, Names())


def test_kubelet_130_the_pull_waits_for_a_secret_that_is_as_new_as_the_pod():
    bench = Bench().start().settle()
    bench.put(SECRETS, a_secret({"auths": {"*.example.com": login("old")}}))
    first = bench.add(a_pod("s"))
    bench.run_for(5)
    assert [c.username for c in pulls(bench)[-1][1].credentials] == ["old"]
    bench.delete()
    bench.run_for(40)
    bench.put(SECRETS, a_secret({"auths": {"*.example.com": login("new")}}))
    bench.api_away = True
    assert first.metadata.uid != bench.add(a_pod("s")).metadata.uid
    bench.run_for(60)
    assert len(pulls(bench)) == 1
    bench.api_away = False
    bench.run_for(20)
    assert [c.username for c in pulls(bench)[-1][1].credentials] == ["new"]


@pytest.mark.parametrize("there", ["missing", "malformed", "too many", "of another type"])
def test_kubelet_130_a_missing_or_malformed_secret_does_not_stop_the_pull(there):
    # Shows KUBELET-130.i KUBELET-130.j.
    bench = Bench().start().settle()
    if there == "malformed":
        text = json.dumps({"auths": {"*.example.com": {"auth": WORD}}})
        bench.put(SECRETS, a_secret(text, "bad"))
    if there == "of another type":
        bench.put(SECRETS, a_secret({"auths": {"*.example.com": login()}}, "bad", "Opaque"))
    names = ["good", "bad"]
    if there == "too many":
        names = ["good", *[f"s{i}" for i in range(SECRETS_MAX - 1)], "bad"]
        for name in names[1:-1]:
            bench.put(SECRETS, a_secret({"auths": {}}, name))
    bench.put(SECRETS, a_secret({"auths": {"*.example.com": login("good")}}, "good"))
    bench.add(a_pod(*names))
    bench.run_for(5)
    assert bench.pod().status.phase == "Running"
    assert [[c.username for c in op.credentials] for _, op in pulls(bench)] == [["good"]]
    words = (
        "Unable to retrieve some image pull secrets (bad); "
        "attempting to pull the image may not succeed."
    )
    assert complaints(bench) == ([] if there == "of another type" else [words])
    assert WORD not in repr([r for r in bench.requests if r.verb != "get"])


def test_kubelet_130_a_secret_that_is_created_later_is_used_for_the_next_pull():
    bench = Bench().start().settle()
    bench.script = lambda op: (
        Failed("ErrImagePull", "unauthorized")
        if isinstance(op, PullImage) and not op.credentials
        else None
    )
    bench.add(a_pod("s"))
    bench.run_for(15)
    bench.put(SECRETS, a_secret({"auths": {"*.example.com": login()}}))
    bench.run_for(60)
    assert [len(op.credentials) for _, op in pulls(bench)] == [0, 0, 1]
    assert bench.pod().status.phase == "Running"


# --- the adapter ----------------------------------------------------------------------------------


class ARegistry(BaseHTTPRequestHandler):
    """A Docker engine's API in front of a registry that accepts one password. `seen` has the users
    of the pulls; None is a pull without a credential."""

    def do_GET(self):
        if self.path.endswith("/version"):
            self.answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        elif self.server.pulled:
            self.answer(200, {"Id": "sha256:9", "Size": 3, "Config": {"User": "7"}})
        else:
            self.answer(404, {"message": "no such image"})

    def do_POST(self):
        header = self.headers.get("X-Registry-Auth")
        sent = json.loads(urlsafe_b64decode(header)) if header else {}
        self.server.seen.append((sent.get("username"), sent.get("password")))
        if sent.get("password") == self.server.password:
            self.server.pulled = True
            self.answer(200, {"status": "Pulling"})
        elif len(self.server.seen) % 2:
            self.answer(500, {"message": "unauthorized"})
        else:
            self.answer(200, {"error": "denied"})

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def a_registry(monkeypatch, tmp_path, password):
    server = ThreadingHTTPServer(("127.0.0.1", 0), ARegistry)
    server.seen, server.pulled, server.password = [], False, password
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    try:
        yield server, Images(Engine(), "amd64")
    finally:
        server.shutdown()
        server.server_close()


def test_rt_41_credentials_are_tried_in_order_and_appear_nowhere(monkeypatch, tmp_path, caplog):
    # Shows RT-41.a RT-41.b RT-41.c.
    caplog.set_level(0)
    credentials = [RegistryCredential(f"u{i}", f"{WORD}-ü{i}") for i in range(4)]
    with a_registry(monkeypatch, tmp_path, credentials[2].password) as (server, images):
        operation = PullImage("uid", IMAGE, "Always", tuple(credentials))
        assert images.pull(operation) == ImagePulled("sha256:9", True, 3, "7")
        assert server.seen == [(c.username, c.password) for c in credentials[:3]]
        server.seen.clear()
        failed = images.pull(PullImage("uid", IMAGE, "Always", tuple(credentials[:2])))
        assert failed == Failed(
            "ErrImagePull", f'failed to pull image "{IMAGE}": unauthorized; denied'
        )
        server.seen.clear()
        images.pull(PullImage("uid", IMAGE, "Always"))
        # D-75: the engine's own log-ins, after which nothing is tried.
        own = {"auths": {"registry.example.com": {"auth": b64encode(b"own:p").decode()}}}
        (tmp_path / "config.json").write_text(json.dumps(own))
        images = Images(Engine(), "amd64")
        images.pull(PullImage("uid", IMAGE, "Always"))
        images.pull(PullImage("uid", IMAGE, "Always", (credentials[0],)))
        assert [user for user, _ in server.seen] == [None, "own", "u0"]
    assert WORD not in caplog.text


def test_d_470_what_is_on_the_node_is_used_without_credentials(monkeypatch, tmp_path):
    with a_registry(monkeypatch, tmp_path, WORD) as (server, images):
        images.pull(PullImage("a", IMAGE, "IfNotPresent", (RegistryCredential("u", WORD),)))
        found = images.pull(PullImage("b", IMAGE, "IfNotPresent"))
        assert found == ImagePulled("sha256:9", False, 3, "7") and len(server.seen) == 1
        assert isinstance(images.pull(PullImage("b", IMAGE, "Always")), Failed)


class Later:
    def __init__(self):
        self.waiting = []

    def put_aside(self, work, then):
        self.waiting.append((work, then))

    def run(self):
        waiting, self.waiting = self.waiting, []
        for work, then in waiting:
            then(work())


def test_rt_33_pods_with_other_credentials_wait_for_a_pull_of_their_own():
    # Shows RT-33.b.
    aside, fetched, answers = Later(), [], {}

    def fetch(operation):
        fetched.append(operation.credentials)
        return ImagePulled("sha256:1", True) if operation.credentials else Failed("", "no")

    node = Pulls(aside, aside, lambda operation: None, fetch)
    mine = (RegistryCredential("u", WORD),)
    for pod, credentials in {"a": mine, "b": (), "c": mine}.items():
        operation = PullImage(pod, IMAGE, "IfNotPresent", credentials)
        node.pull(operation, lambda result, pod=pod: answers.setdefault(pod, result))
    aside.run()
    aside.run()
    assert sorted(fetched) == sorted([mine, ()])
    assert [isinstance(answers[pod], ImagePulled) for pod in "abc"] == [True, False, True]
