"""Which credentials a pull gets: the entries of Secrets that match an image, and their files, as plain
functions. Rule KUBELET-130; the kubelet and the adapter are in test_kubelet_pull_secrets.py."""

import json
import re
from base64 import b64encode
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kubelet_bench import make_pod
from msgspec.structs import replace
from random_cases import cases, some
from test_kubelet_pull_secrets import IMAGE, a_secret, login

from refk8s.core.api.core_v1 import LocalObjectReference, Secret
from refk8s.core.kubelet.objects import NotYet
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
    pull_credentials,
    read_entries,
)
from refk8s.core.ports import RegistryCredential


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


# --- the limits and forms, each at its boundary -----------------------------------------------------


def test_kubelet_130_the_largest_file_is_read():
    most, long = "h" * REGISTRY_LENGTH_MAX, "p" * CREDENTIAL_LENGTH_MAX
    full = {f"h{i}": {} for i in range(REGISTRIES_MAX)}
    assert len(read_entries(a_secret({"auths": full}))) == REGISTRIES_MAX
    entries = read_entries(a_secret({"auths": {most: login(long, long)}}))
    assert entries == [(most, RegistryCredential(long, long))]
    limits = (SECRETS_MAX, REGISTRIES_MAX, REGISTRY_LENGTH_MAX, CREDENTIAL_LENGTH_MAX, TRIES_MAX)
    assert limits == (100, 1000, 512, 16 * 1024, 16)


@pytest.mark.parametrize(
    ("entry", "credential"),
    [
        (None, ("", "")),
        ({}, ("", "")),
        ({"username": "u"}, ("u", "")),
        ({"password": "p"}, ("", "p")),
        ({"auth": ""}, ("", "")),
        ({"auth": "", "username": "u", "password": "p"}, ("u", "p")),
        ({"auth": b64encode(b"a:b:c").decode()}, ("a", "b:c")),
        ({"auth": b64encode(b":").decode()}, ("", "")),
        ({"auth": b64encode(b"a:bb").decode()}, ("a", "bb")),
        ({"auth": b64encode(b"a:bb").decode().rstrip("=")}, ("a", "bb")),
        ({"auth": b64encode(b"a:b").decode()}, ("a", "b")),
        ({"auth": "YTpX"}, ("a", "W")),
        ({"auth": b64encode(b"a:bbb").decode().rstrip("=")}, ("a", "bbb")),
    ],
)
def test_kubelet_130_the_forms_of_a_credential(entry, credential):
    for kind, file in ((DOCKERCONFIGJSON, {"auths": {"h": entry}}), (DOCKERCFG, {"h": entry})):
        found = read_entries(a_secret(file, kind=kind))
        assert found == [("h", RegistryCredential(*credential))]


def test_kubelet_130_a_secret_without_its_key_or_with_no_base64_is_not_used():
    for kind, key in ((DOCKERCONFIGJSON, ".dockerconfigjson"), (DOCKERCFG, ".dockercfg")):
        for data in (None, {}, {"x": b64encode(b"{}").decode()}, {key: "e30=?"}, {key: " e30="}):
            with pytest.raises(NotUsable):
                read_entries(Secret(type=kind, data=data))
    with pytest.raises(NotUsable):
        read_entries(None)
    with pytest.raises(NotUsable):
        read_entries(a_secret({"auths": {"h": {"auth": "dTpw?"}}}))
    for nothing in ({}, {"auths": None}, {"auths": {}}):
        assert read_entries(a_secret(nothing)) == []
    assert read_entries(Secret(type="Opaque")) == []


@pytest.mark.parametrize(
    ("name", "registry"),
    [
        ("h", "h"), ("h/", "h"), ("h//", "h//"), ("h/a", "h/a"), ("h/a/", "h/a/"), ("h:5/a/b", "h:5/a/b"),
        ("http://h", "h"), ("https://h/", "h"), ("ftp://h/a", "ftp://h/a"), ("xhttp://h", "xhttp://h"),
        ("https://https://h", "https://h"), ("h/v1/", "h"), ("h/v2/", "h"), ("h/v2/a", "h/a"), ("h/v3/a", "h/v3/a"),
        ("h/v1", "h/v1"), ("h/a/v1/b", "h/a/v1/b"), ("h?x=/a", "h"), ("h/a?x", "h/a"), ("h/a#x?y", "h/a"),
        ("h#a", "h"), ("", ""), ("/", ""), ("/v1/", ""),
    ],
)  # fmt: skip
def test_kubelet_130_the_registry_of_a_file(name, registry):
    ((found, _),) = read_entries(a_secret({"auths": {name: login()}}))
    assert found == registry


def test_kubelet_130_credentials_in_order_without_repetition():
    entries = [(where, RegistryCredential(user, "")) for where, user in (
        ("r.io", "a"), ("r.io/t", "b"), ("r.io", "c"), ("r.io/t", "a"), ("*.io", "d"), ("r.io/t/x", "e"), ("r.io", "b"),
    )]  # fmt: skip
    assert [one.username for one in find_credentials(entries, "r.io/t/app")] == ["b", "a", "c", "d"]
    assert find_credentials(entries, "::") == ()
    hub = [(where, RegistryCredential(user, "")) for where, user in (("index.docker.io", "i"), ("docker.io/team", "t"))]  # fmt: skip
    for image, found in (
        ("docker.io/team/app", ["t"]), ("index.docker.io/team/app", ["t"]), ("busybox", ["i"]),
        ("index.docker.io/busybox", ["i"]), ("x.io/app", []), ("docker.io.x/team/app", []),
    ):  # fmt: skip
        assert [one.username for one in find_credentials(hub, image)] == found
    library = [("docker.io/library", RegistryCredential("l", ""))]
    for image in ("busybox", "index.docker.io/busybox", "docker.io/library/busybox"):
        assert [one.username for one in find_credentials(library, image)] == ["l"]


@pytest.mark.parametrize(
    ("place", "image", "matches"),
    [
        ("h:5", "h:5/a", True), ("h", "h:5/a", False), ("h:5", "h.x/a", False), ("h.x:5", "h.x:6/a", False),
        ("*.x:5", "h.x:5/a", True), ("*.x", "h.x:5/a", False), ("h.*", "h.x/a", True), ("*", "h:5/a", False),
        ("*:5", "h:5/a", True), ("*.*", "h.x.y/a", False), ("[::1]", "[::1]/a", True), ("[::1]:5", "[::1]/a", False),
        ("[::1]", "[::1]:5/a", False), ("[*]", "[::1]/a", True), ("[*]:5", "[::1]:5/a", True), ("[*]:5", "[::1]/a", False), ("[::2]", "[::1]/a", False), ("h.x:", "h.x/a", True),
    ],
)  # fmt: skip
def test_kubelet_130_hosts_match_label_by_label_and_ports_exactly(place, image, matches):
    found = find_credentials([(place, RegistryCredential("u", ""))], image)
    assert bool(found) is matches


def test_kubelet_130_every_pattern_of_a_label_beside_a_regular_expression():
    for rng in cases(1500):
        pattern = "".join(some(rng, "ab*", 6, 1))
        label = "".join(some(rng, "ab", 6, 1))
        fits = re.fullmatch(pattern.replace("*", "[ab]*"), label) is not None
        found = find_credentials(
            [(f"r.{pattern}.x", RegistryCredential("u", ""))], f"r.{label}.x/a"
        )
        assert bool(found) is fits, (pattern, label)


# --- the Secrets of a pod ---------------------------------------------------------------------------


class Library:
    """Secrets by key; those of `later` have not been read yet."""

    def __init__(self, secrets, later=()):
        self.secrets, self.later, self.asked = secrets, later, []

    def get(self, key):
        self.asked.append(key)
        if key in self.later:
            raise NotYet(key)
        return self.secrets.get(key)


def asked_by(names, secrets, later=(), namespace="ns"):
    """What a pod in a namespace gets for IMAGE, with what it asked for and its notes."""
    listed = tuple([LocalObjectReference(name=name) for name in names])
    pod = make_pod(image_pull_secrets=listed or None)
    pod = replace(pod, metadata=replace(pod.metadata, namespace=namespace))
    library = Library({f"secrets/{namespace}/{name}": one for name, one in secrets.items()}, later)
    notes = []
    draft = SimpleNamespace(pod=pod, library=library, note=lambda *words: notes.append(words))
    found = pull_credentials(draft, IMAGE)
    return [one.username for one in found], library.asked, notes


def test_kubelet_130_the_secrets_of_a_pod_are_read_once_each_in_its_namespace():
    def here(user):
        return a_secret({"auths": {"*.example.com": login(user)}})

    secrets = {"a": here("1"), "b": here("2"), "odd": a_secret({}, kind="Opaque")}
    for names, users_, asked in (
        (["a", "b"], ["1", "2"], "ab"),
        (["b", "", "a", "b"], ["2", "1"], "ba"),
        (["odd", "b"], ["2"], ["odd", "b"]),
        ([], [], ""),
        ([""], [], ""),
    ):
        told = asked_by(names, secrets)
        assert told == (users_, [f"secrets/ns/{name}" for name in asked], [])
    nothing = SimpleNamespace(pod=None)
    assert pull_credentials(nothing, IMAGE) == ()


def test_kubelet_130_a_secret_that_cannot_be_used_is_noted_and_one_not_read_is_waited_for():
    good, bad = a_secret({"auths": {"*.example.com": login("g")}}), a_secret("{")

    def note(names):
        words = f"Unable to retrieve some image pull secrets ({names}); attempting to pull the image may not succeed."  # fmt: skip
        return [("FailedToRetrieveImagePullSecret", words, "Warning")]

    found, _, notes = asked_by(["bad", "good", "gone"], {"bad": bad, "good": good})
    assert found == ["g"] and notes == note("bad, gone")
    many = [f"s{i}" for i in range(SECRETS_MAX)]
    secrets = {name: a_secret({"auths": {}}) for name in many} | {"last": good}
    found, asked, notes = asked_by([*many, "last"], secrets)
    assert found == [] and len(asked) == SECRETS_MAX and notes == note("last")
    found, _, notes = asked_by([*many[1:], "last"], secrets)
    assert found == ["g"] and notes == []
    for later in ("secrets/ns/a", "secrets/ns/c"):
        with pytest.raises(NotYet, match=r"^a Secret of the pod's imagePullSecrets$"):
            asked_by(["a", "b", "c"], {"b": bad}, later)
