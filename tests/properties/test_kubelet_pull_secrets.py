"""Credentials for pulls, from the Secrets that a pod names. Rules KUBELET-130, RT-41."""

import json
import re
import threading
from base64 import b64encode, urlsafe_b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
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
from refk8s.core.kubelet.pull_secrets import (
    CREDENTIAL_LENGTH_MAX,
    DOCKERCFG,
    DOCKERCONFIGJSON,
    REGISTRIES_MAX,
    REGISTRY_LENGTH_MAX,
    SECRETS_MAX,
    TRIES_MAX,
    NotUsable,
    find_credentials,
    read_entries,
)
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


def users(auths, image):
    return [c.username for c in find_credentials(read_entries(a_secret({"auths": auths})), image)]


# --- which entry matches --------------------------------------------------------------------------

LABELS = st.sampled_from(["a", "bb", "reg", "a-b", "*", "*b", "a*", "r*g", "b*b", "*a*", "*-*"])
HOSTS = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
PLAIN = st.sampled_from(["a", "b", "bb", "reg", "a-b", "rg", "b-b", "ab"])
PORTS = st.sampled_from(["", ":5000", ":80"])
PATHS = st.sampled_from(["", "/", "/a", "/a/", "/team", "/team/app", "/team/app2", "/v1/", "/v2/a"])
SCHEMES = st.sampled_from(["", "https://", "http://"])
REGISTRIES = st.one_of(
    st.tuples(SCHEMES, HOSTS, PORTS, PATHS).map("".join),
    st.sampled_from(
        ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "*.io", "docker.io/library"]
    ),
)
IMAGES = st.one_of(
    st.tuples(
        st.lists(PLAIN, min_size=2, max_size=3).map(".".join),
        PORTS,
        st.sampled_from(["/a", "/team/app", "/team/app2", "/team/x/y", "/a/b"]),
        st.sampled_from(["", ":1", "@sha256:" + "0" * 64]),
    ).map("".join),
    st.sampled_from(["busybox", "team/app:1", "docker.io/team/app", "index.docker.io/busybox"]),
)


def reference_matcher(names, image):
    """The indices of the registries that match, in the order in which they are tried.

    Written from the documentation, with regular expressions.
    """
    image = re.sub(r"@sha256:.*", "", image)
    if not re.match(r"[^/]*[.:][^/]*/", image):
        image = f"docker.io/{image}"
    image = re.sub(r"^(index\.)?docker\.io/(?=[^/]*$)", "docker.io/library/", image)
    image = re.sub(r"^index\.docker\.io/", "docker.io/", image)
    image = re.sub(r":[^:/]*$", "", image)
    plain = [re.sub(r"^https?://", "", name) for name in names]
    plain = [re.sub(r"^([^/]*)/v[12]/", r"\1/", name) for name in plain]
    plain = [re.sub(r"^([^/]*)/$", r"\1", name) for name in plain]

    def expression(name):
        host, slash, path = name.partition("/")
        pattern = re.escape(host).replace(r"\*", "[^.:/]*")
        return f"{pattern}/{re.escape(path)}" if slash else f"{pattern}/"

    order = sorted(range(len(plain)), key=lambda i: ([-ord(c) for c in plain[i]] + [1], i))
    found = [i for i in order if re.match(expression(plain[i]), image)]
    if not found and image.startswith("docker.io/"):
        found = [i for i in order if plain[i] == "index.docker.io"]
    return found


@settings(max_examples=400)
@given(st.lists(REGISTRIES, max_size=8, unique=True), IMAGES)
@example(["https://index.docker.io/v1/"], "busybox")
@example(["docker.io", "index.docker.io"], "busybox")
@example(["registry.example.com/team", "*.example.com", "example.com"], IMAGE)
def test_kubelet_130_the_entries_that_match_are_those_of_the_documentation(names, image):
    # Shows KUBELET-130.c KUBELET-130.d KUBELET-130.e KUBELET-130.f.
    auths = {name: login(str(i)) for i, name in enumerate(names)}
    assert users(auths, image) == [str(i) for i in reference_matcher(names, image)]


@settings(max_examples=400)
@given(st.text("ab*", min_size=1, max_size=7), st.text("ab", min_size=1, max_size=6))
@example("a*ab", "ab")
@example("*a*a", "ba")
@example("*ab*ab*", "bab")
def test_kubelet_130_an_asterisk_stands_for_any_text_in_a_label(pattern, label):
    fits = re.fullmatch(pattern.replace("*", "[ab]*"), label)
    found = users({f"r.{pattern}.example": login()}, f"r.{label}.example/app")
    assert found == (["u"] if fits else [])


def test_kubelet_130_examples_of_the_documentation():
    for name, image in {
        "registry.example.com": IMAGE,
        "*.example.com": IMAGE,
        "registry.*.com": IMAGE,
        "registry.example.com/team": IMAGE,
        "registry.example.com/te": IMAGE,
        "localhost:5000": "localhost:5000/app",
        "[::1]:5000": "[::1]:5000/app",
        "https://index.docker.io/v1/": "busybox",
    }.items():
        assert users({name: login()}, image) == ["u"], name
    for name in ("example.com", "*.com", "*", "registry.example.com:443", "", "x@registry.example.com", "ftp://registry.example.com", "registry.example.com/app"):  # fmt: skip
        assert not users({name: login()}, IMAGE), name
    assert not users({"registry.example.com": login()}, "Not An Image")
    # Shows KUBELET-130.f KUBELET-130.g KUBELET-130.h.
    entries = [
        entry
        for number in "12"
        for entry in read_entries(
            a_secret({"auths": {"registry.example.com": login(number), "registry.example.com/team": login("t" + number)}})
        )
    ]  # fmt: skip
    assert [c.username for c in find_credentials(entries, IMAGE)] == ["t1", "t2", "1", "2"]
    many = [("registry.example.com", RegistryCredential(str(i), "")) for i in range(40)]
    assert [c.username for c in find_credentials(many, IMAGE)] == [str(i) for i in range(TRIES_MAX)]


# --- what a Secret has ----------------------------------------------------------------------------

PARTS = st.text(max_size=12)


@given(PARTS.filter(lambda text: ":" not in text), PARTS, st.booleans(), st.booleans())
def test_kubelet_130_both_forms_of_a_secret_and_of_a_credential_are_read(user, password, old, auth):
    # Shows KUBELET-130.b.
    packed = b64encode(f"{user}:{password}".encode()).decode()
    entry = {"auth": packed.rstrip("="), "username": "no"} if auth else login(user, password)
    file = {"h.example": {**entry, "email": "e"}}
    kind = DOCKERCFG if old else DOCKERCONFIGJSON
    found = read_entries(a_secret(file if old else {"auths": file, "credsStore": "x"}, kind=kind))
    assert found == [("h.example", RegistryCredential(user, password))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["auths", "auth", "username", "h"]), inner, max_size=3)
    ),
)
MALFORMED = [
    "", "{", "[]", "[" * 100_000, '{"auths":' * 50_000, '{"auths": []}', '{"auths": {"h": 1}}',
    '{"auths": {"h": {"auth": "x!"}}}', '{"auths": {"h": {"auth": "dQ=="}}}',
    '{"auths": {"h": {"auth": "/w=="}}}', '{"auths": {"h": {"password": 1}}}',
    json.dumps({"auths": {"h" * (REGISTRY_LENGTH_MAX + 1): {}}}),
    json.dumps({"auths": {f"h{i}": {} for i in range(REGISTRIES_MAX + 1)}}),
    json.dumps({"auths": {"h": login("u" * (CREDENTIAL_LENGTH_MAX + 1))}}),
    json.dumps({"auths": {"h": login("u", "p" * (CREDENTIAL_LENGTH_MAX + 1))}}),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(MALFORMED)))
def test_kubelet_130_a_malformed_file_is_not_used(number):
    with pytest.raises(NotUsable) as raised:
        read_entries(a_secret(MALFORMED[number]))
    assert not str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


@given(JSON, st.sampled_from([DOCKERCONFIGJSON, DOCKERCFG, "Opaque", None]))
def test_kubelet_130_any_content_is_read_or_refused(content, kind):
    try:
        found = read_entries(a_secret(content, kind=kind))
    except NotUsable:
        return
    assert all(isinstance(c, RegistryCredential) for _, c in found)
    if kind in ("Opaque", None):
        assert not found
    with pytest.raises(NotUsable):
        read_entries(Secret(type=DOCKERCFG, data={".dockercfg": "no base64!"}))


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
        request.body.note
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
    assert complaints(bench) == [] if there == "of another type" else [
        "Unable to retrieve some image pull secrets (bad); "
        "attempting to pull the image may not succeed."
    ]  # fmt: skip
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
