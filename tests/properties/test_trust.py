"""Bootstrap tokens and cluster-info: rules TRUST-1 to TRUST-5 (spec/trust.md)."""

import base64
import hashlib
import hmac
import json
from base64 import b64encode

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NO_MEMORY, NOW, view_of

from refk8s.components.certificates import make_key, make_self_signed
from refk8s.components.cluster_info import (
    ClusterInfo,
    certificates_of,
    key_hash,
    read_info,
    write_info,
)
from refk8s.components.listening import advertised_url
from refk8s.components.tokens import is_loopback, join_line
from refk8s.core.api.bootstrap_token import INFO_KEY, is_signed, read_token, sign_detached
from refk8s.core.api.core_v1 import ConfigMap, Secret
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONFIG_MAPS, SECRETS
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.authenticate import check_token
from refk8s.core.apiserver.config import DEFAULT_CONFIG
from refk8s.core.apiserver.http import WireRequest, receive, user_of
from refk8s.core.apiserver.respond import Reply
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.controllers.bootstrap_tokens import INFO, BootstrapSigner, TokenCleaner
from refk8s.core.loop.plan import NOTHING

ID, WORD = "abcdef", "0123456789abcdef"
TOKEN = f"{ID}.{WORD}"
GOOD = {
    "token-id": ID,
    "token-secret": WORD,
    "usage-bootstrap-authentication": "true",
    "usage-bootstrap-signing": "true",
    "auth-extra-groups": "system:bootstrappers:workers",
}
KEY = f"kube-system/bootstrap-token-{ID}"
PATH = "/api/v1/namespaces/kube-public/configmaps/cluster-info"


def secret(name: str = f"bootstrap-token-{ID}", kind: str = "", **data: str | None) -> Secret:
    values = {key.replace("_", "-"): text for key, text in data.items()}
    merged = {key: text for key, text in {**GOOD, **values}.items() if text is not None}
    return Secret(
        metadata=ObjectMeta(name=name, namespace="kube-system", uid="u", resource_version="4"),
        type=kind or "bootstrap.kubernetes.io/token",
        data={key: b64encode(text.encode()).decode() for key, text in merged.items()},
    )


def world_with(*secrets: Secret) -> World:
    world = World(("default", "kube-system", "kube-public"))
    for each in secrets:
        # made before it could have expired
        metadata = replace(each.metadata, uid=None, resource_version=None)
        body = replace(each, metadata=metadata)
        name = each.metadata.name or ""
        request = Request("create", SECRETS, "kube-system", name, body=body, user=ADMIN)
        assert world.do(request).response.code == 201
    return world


def user_with(token: str, found: Secret, now: int = NOW):
    return check_token(token, DEFAULT_CONFIG, now, world_with(found).history).user


# --- TRUST-1


def test_trust_1_a_token_is_its_user_and_its_groups():
    # Shows TRUST-1.a, TRUST-1.b, TRUST-1.c, TRUST-1.f.
    found = user_with(TOKEN, secret(expiration=timestamp(NOW + SECOND)))
    assert found is not None and found.name == "system:bootstrap:abcdef"
    assert sorted(found.groups) == [
        "system:authenticated",
        "system:bootstrappers",
        "system:bootstrappers:workers",
    ]


BAD = {
    "expired": {"expiration": timestamp(NOW)},
    "expired with an offset": {"expiration": "2020-01-01T00:00:00+02:00"},
    "no time": {"expiration": "tomorrow"},
    "no zone": {"expiration": "2099-01-01T00:00:00"},
    "not for authentication": {"usage_bootstrap_authentication": None},
    "usage not true": {"usage_bootstrap_authentication": "True"},
    "another id": {"token_id": "abcdeg"},
    "no id": {"token_id": None},
    "no secret": {"token_secret": None},
    "a short secret": {"token_secret": "0123456789abcde"},
    "administrators": {"auth_extra_groups": "system:masters"},
    "administrators too": {"auth_extra_groups": "system:bootstrappers:a,system:masters"},
    "a group and a line": {"auth_extra_groups": "system:bootstrappers:a\nsystem:masters"},
    "an empty group": {"auth_extra_groups": "system:bootstrappers:"},
}


@pytest.mark.parametrize("why", BAD)
def test_trust_1_a_token_that_its_secret_does_not_allow_is_refused(why):
    # Shows TRUST-1.c, TRUST-1.d, TRUST-1.e.
    assert user_with(TOKEN, secret(**BAD[why])) is None


def test_trust_1_only_a_secret_of_the_type_and_name_counts():
    # Shows TRUST-1.a.
    assert user_with(TOKEN, secret(kind="Opaque")) is None
    assert user_with(TOKEN, secret(name="bootstrap-token-other1")) is None
    assert check_token(TOKEN, DEFAULT_CONFIG, NOW, World().history).user is None
    assert check_token(TOKEN, DEFAULT_CONFIG, NOW, None).user is None
    moved = secret()
    moved = replace(moved, metadata=replace(moved.metadata, namespace="default"))
    assert read_token(moved) is None


@given(st.text("abcdef0123456789.", min_size=23, max_size=23) | st.text(max_size=40))
def test_trust_1_no_other_text_is_the_token(text):
    # Shows TRUST-1.b, TRUST-1.d.
    assert (user_with(text, secret()) is not None) == (text == TOKEN)


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("abz09."))
def test_trust_1_a_token_with_one_other_letter_is_refused(place, letter):
    forged = TOKEN[:place] + letter + TOKEN[place + 1 :]
    assert (user_with(forged, secret()) is not None) == (forged == TOKEN)


def test_trust_1_a_deleted_secret_ends_the_token():
    # Shows TRUST-1.c.
    world = world_with(secret())
    wire = WireRequest("GET", "/api/v1/pods", "", {"authorization": f"Bearer {TOKEN}"}, b"")
    assert user_of(wire, DEFAULT_CONFIG, NOW, world.history) is not None
    request = Request("delete", SECRETS, "kube-system", f"bootstrap-token-{ID}", user=ADMIN)
    world.do(request)
    assert check_token(TOKEN, DEFAULT_CONFIG, NOW, world.history).user is None


# --- TRUST-2


@given(st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["", "soon", "2099-01-01"])))
def test_trust_2_a_token_is_deleted_when_it_has_expired_and_not_before(ends):
    # Shows TRUST-2.a, TRUST-2.b, TRUST-2.c.
    text = timestamp(NOW + ends * SECOND) if isinstance(ends, int) else ends
    found = secret(expiration=text)
    controller = TokenCleaner()
    plan = controller.reconcile(view_of(controller, found), KEY, NOW, NO_MEMORY)
    if not text:
        assert plan == NOTHING
    elif isinstance(ends, int) and ends > 0:
        assert not plan.requests and plan.wake_at == NOW + ends * SECOND
    else:
        [request] = plan.requests
        assert (request.verb, request.namespace, request.name) == (
            "delete",
            "kube-system",
            f"bootstrap-token-{ID}",
        )
        assert request.body.preconditions.uid == "u"
        assert request.body.preconditions.resource_version == "4"


def test_trust_2_other_secrets_are_not_looked_at():
    controller = TokenCleaner()
    old = secret(kind="Opaque", expiration=timestamp(0))
    [interest] = controller.interests
    assert interest.keys(view_of(controller), None, old) == ()


# --- TRUST-3


def by_hand(content: str, id: str, word: str) -> str:
    """RFC 7515 once more: the signature without the payload."""

    def text(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    head = text(json.dumps({"alg": "HS256", "kid": id}, separators=(",", ":")).encode())
    signed = f"{head}.{text(content.encode())}".encode()
    return f"{head}..{text(hmac.new(word.encode(), signed, hashlib.sha256).digest())}"


def info(content: str | None, **data: str) -> ConfigMap:
    metadata = ObjectMeta(name="cluster-info", namespace="kube-public", resource_version="9")
    kubeconfig = {} if content is None else {INFO_KEY: content}
    named = {key.replace("_", "-"): text for key, text in data.items()}
    return ConfigMap(metadata=metadata, data={**kubeconfig, **named})


tokens = st.lists(
    st.tuples(
        st.text("abcdefghij0189", min_size=6, max_size=6),
        st.text("abcxyz0189", min_size=16, max_size=16),
        st.sampled_from(["good", "expired", "later", "not for signing"]),
    ),
    max_size=4,
    unique_by=lambda each: each[0],
)


@given(st.none() | st.text(max_size=30), tokens, st.booleans())
def test_trust_3_cluster_info_has_a_signature_with_each_token_for_signing_and_no_other(
    content, drawn, is_old
):
    # Shows TRUST-3.a, TRUST-3.b, TRUST-3.c.
    secrets, wanted = [], {}
    for id, word, state in drawn:
        more = {
            "expired": {"expiration": timestamp(NOW)},
            "later": {"expiration": timestamp(NOW + MINUTE)},
            "not for signing": {"usage_bootstrap_signing": None},
        }.get(state, {})
        name = f"bootstrap-token-{id}"
        secrets.append(secret(name, token_id=id, token_secret=word, **more))
        if state in ("good", "later") and content is not None:
            wanted[f"jws-kubeconfig-{id}"] = by_hand(content, id, word)
    before = info(content, own="kept", **({"jws_kubeconfig_gone99": "x"} if is_old else {}))
    controller = BootstrapSigner()
    plan = controller.reconcile(view_of(controller, before, *secrets), INFO, NOW, NO_MEMORY)
    after = plan.requests[0].body.data if plan.requests else before.data
    kubeconfig = {} if content is None else {INFO_KEY: content}
    assert after == {**kubeconfig, "own": "kept", **wanted}
    assert bool(plan.requests) == (after != before.data)
    if any(state == "later" for *_, state in drawn):
        assert plan.wake_at == NOW + MINUTE  # when a signature has to go


@given(st.text(min_size=1, max_size=40), st.data())
def test_trust_3_altered_content_or_another_token_does_not_fit_the_signature(content, data):
    signature = sign_detached(content, ID, WORD)
    assert signature == by_hand(content, ID, WORD) and is_signed(content, signature, ID, WORD)
    other = data.draw(st.text(max_size=40).filter(lambda text: text != content))
    assert not is_signed(other, signature, ID, WORD)
    assert not is_signed(content, signature, ID, "1123456789abcdef")
    assert not is_signed(content, signature, "bbcdef", WORD)
    place = data.draw(st.integers(0, len(signature) - 1))
    forged = signature[:place] + "~" + signature[place + 1 :]
    assert not is_signed(content, forged, ID, WORD)
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
    assert not is_signed(content, f"{none}..", ID, WORD)


# --- TRUST-4


@given(
    st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]),
    st.sampled_from(
        [
            PATH,
            PATH + "/",
            PATH + "x",
            PATH.rpartition("/")[0],
            PATH.replace("kube-public", "default"),
            PATH.replace("configmaps", "secrets"),
            "/api/v1/namespaces/kube-public",
            "/api/v1/watch/namespaces/kube-public/configmaps/cluster-info",
            "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef",
        ]
    ),
    st.sampled_from(["", "watch=true", "watch=1", "fieldSelector=metadata.name%3Dcluster-info"]),
)
def test_trust_4_without_credentials_only_a_get_of_cluster_info_passes(method, path, query):
    # Shows TRUST-4.b, TRUST-4.c.
    wire = WireRequest(method, path, query, {}, b"{}")
    found = receive(wire, None, store=World().history)
    passes = not isinstance(found, Reply)
    assert passes == (method == "GET" and path == PATH)
    if passes:
        assert (found.request.verb, found.request.resource) == ("get", CONFIG_MAPS)
        assert (found.request.namespace, found.request.name) == ("kube-public", "cluster-info")


@pytest.fixture(scope="module")
def authority() -> bytes:
    from datetime import UTC, datetime

    return make_self_signed(make_key(), "ca", datetime.now(UTC))


def test_trust_4_cluster_info_names_the_server_and_its_authority(authority):
    # Shows TRUST-4.a.
    written = ClusterInfo("https://192.0.2.1:6443", authority)
    assert read_info(write_info(written)) == written
    for text in ("", "[]", "{}", "clusters: []", "clusters: [{cluster: {server: 1}}]", "a: [b"):
        with pytest.raises(ValueError, match="kubeconfig"):
            read_info(text)
    with pytest.raises(ValueError, match="https"):
        read_info(write_info(ClusterInfo("http://192.0.2.1", authority)))


@pytest.mark.parametrize(
    ("bind", "url", "is_far"),
    [
        ("127.0.0.1", "https://127.0.0.1:6443", False),
        ("0.0.0.0", "https://192.0.2.7:6443", True),
        ("192.0.2.9", "https://192.0.2.9:6443", True),
        ("::1", "https://[::1]:6443", False),
        ("2001:db8::1", "https://[2001:db8::1]:6443", True),
    ],
)
def test_trust_4_the_url_is_one_that_other_machines_reach_if_there_is_one(bind, url, is_far):
    # Shows TRUST-4.d.
    from urllib.parse import urlsplit

    assert advertised_url(bind, 6443, "192.0.2.7") == url
    assert is_loopback(urlsplit(url).hostname or "") is not is_far


# --- TRUST-5


def test_trust_5_the_join_command_has_the_hash_of_the_public_key(authority):
    # Shows TRUST-5.c.
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    key = x509.load_pem_x509_certificate(authority).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    spki = key.public_bytes(serialization.Encoding.DER, form)
    [der] = certificates_of(authority)
    assert key_hash(der) == f"sha256:{hashlib.sha256(spki).hexdigest()}"
    line = join_line(ClusterInfo("https://192.0.2.1:6443", authority), TOKEN)
    assert line == (
        f"refk8s node join https://192.0.2.1:6443 --token {TOKEN} --ca-hash {key_hash(der)}"
    )
