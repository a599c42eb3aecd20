"""Requests for certificates: what is signed and approved. Rules TRUST-6 to TRUST-10
(spec/trust.md)."""

import ssl
from base64 import b64decode
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from certificate_world import (
    CLIENT_USAGES,
    SERVER_USAGES,
    a_key,
    alternative,
    csr,
    file_authority,
    pem_request,
    signer_of,
)
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import NO_MEMORY, NOW, view_of

from refk8s.components.certificate_authority import FileAuthority, signing_authorities
from refk8s.components.certificates import Pair
from refk8s.components.credentials import load_credentials, load_kubelet_authority
from refk8s.components.files import CannotRun
from refk8s.components.kubelet.clients import KubeletClients
from refk8s.core.api.authorization_v1 import SubjectAccessReviewStatus
from refk8s.core.api.certificates_v1 import PodCertificateRequest, PodCertificateRequestStatus
from refk8s.core.api.core_v1 import Node, NodeAddress, NodeStatus
from refk8s.core.api.meta_v1 import ObjectMeta, Preconditions
from refk8s.core.api.pkcs10 import read_request
from refk8s.core.api.request import Response
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.controllers.certificate_approval import CertificateApprover
from refk8s.core.controllers.certificate_cleaner import (
    CertificateCleaner,
    PodCertificateRequestCleaner,
)
from refk8s.core.controllers.certificate_signing import CertificateSigner
from refk8s.core.loop.plan import NOTHING, Local

NODE, OTHER = "system:node:a", "system:node:b"
NODES = ("system:nodes", "system:authenticated")
BOOTSTRAPPERS = ("system:bootstrappers", "system:authenticated")
KUBELET, SERVING, CLIENT = (
    "kube-apiserver-client-kubelet",
    "kubelet-serving",
    "kube-apiserver-client",
)
OWN_NAMES = alternative(("a",), ("192.0.2.1",))
DAY = 24 * 60 * MINUTE


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> FileAuthority:
    begin = datetime.fromtimestamp(NOW // SECOND, UTC)
    return file_authority(tmp_path_factory.mktemp("ca"), begin)


def signed(authority: FileAuthority, request: Any, now: int = NOW) -> Any:
    """The status that the signing controller writes; None if it writes nothing."""
    controller = signer_of(authority)
    plan = controller.reconcile(view_of(controller, request), "c", now, NO_MEMORY)
    if not plan.requests:
        return None
    [write] = plan.requests
    assert (write.verb, write.subresource, write.name) == ("update", "status", "c")
    return write.body.status


def approved(pem: bytes, signer: str, usages: tuple[str, ...], **more: Any) -> Any:
    return csr(pem, signer, usages, conditions=("Approved",), now=NOW, **more)


# --- TRUST-6

email = x509.RFC822Name("a@example.com")
uri = x509.UniformResourceIdentifier("spiffe://x")
directory = x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]))

EXCLUDED: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "masters": (CLIENT, CLIENT_USAGES, {"organizations": ("dev", "system:masters")}),
    "no name": (CLIENT, CLIENT_USAGES, {"common_names": ()}),
    "two names": (CLIENT, CLIENT_USAGES, {"common_names": ("alice", "kubernetes-admin")}),
    "server usage for a client": (CLIENT, SERVER_USAGES, {}),
    "both usages": (CLIENT, (*CLIENT_USAGES, "server auth"), {}),
    "a usage more": (CLIENT, (*CLIENT_USAGES, "cert sign"), {}),
    "a name with a line": (CLIENT, CLIENT_USAGES, {"common_names": ("alice\nO=x",)}),
    "a directory name": (CLIENT, CLIENT_USAGES, {"names": (directory,)}),
    "a node of administrators": (KUBELET, CLIENT_USAGES, {"organizations": ("system:nodes", "system:masters")}),
    "a node without its group": (KUBELET, CLIENT_USAGES, {"organizations": ()}),
    "nodes twice": (KUBELET, CLIENT_USAGES, {"organizations": ("system:nodes", "system:nodes")}),
    "no node": (KUBELET, CLIENT_USAGES, {"common_names": ("alice",)}),
    "a node without name": (KUBELET, CLIENT_USAGES, {"common_names": ("system:node:",)}),
    "a node and alice": (KUBELET, CLIENT_USAGES, {"common_names": (NODE, "alice")}),
    "a client with names": (KUBELET, CLIENT_USAGES, {"names": OWN_NAMES}),
    "a node for serving as client": (KUBELET, SERVER_USAGES, {}),
    "no signature usage": (KUBELET, ("client auth",), {}),
    "serving without names": (SERVING, SERVER_USAGES, {}),
    "serving with an email": (SERVING, SERVER_USAGES, {"names": (*OWN_NAMES, email)}),
    "serving with a URI": (SERVING, SERVER_USAGES, {"names": (*OWN_NAMES, uri)}),
    "serving as a client": (SERVING, CLIENT_USAGES, {"names": OWN_NAMES}),
    "serving for masters": (SERVING, SERVER_USAGES, {"names": OWN_NAMES, "organizations": ("system:masters",)}),
}  # fmt: skip


@pytest.mark.parametrize("why", EXCLUDED)
def test_trust_6_a_signer_does_not_sign_what_it_is_not_for(why, authority):
    # Shows TRUST-6.b, TRUST-6.c, TRUST-6.d, TRUST-6.g, TRUST-7.f.
    signer, usages, subject = EXCLUDED[why]
    status = signed(authority, approved(pem_request(**subject), signer, usages))
    assert status.certificate is None
    assert [each.type for each in status.conditions] == ["Approved", "Failed"]
    assert status.conditions[1].reason == "SignerValidationFailure"


@pytest.mark.parametrize(
    ("key", "is_good"),
    [
        (rsa.generate_private_key(65537, 1024), False),
        (rsa.generate_private_key(65537, 2048), True),
        (ec.generate_private_key(ec.SECP384R1()), True),
        (ec.generate_private_key(ec.SECP224R1()), False),
    ],
)
def test_trust_6_keys_of_other_kinds_and_sizes_are_not_signed(key, is_good, authority):
    # Shows TRUST-6.f.
    status = signed(authority, approved(pem_request(key=key), KUBELET, CLIENT_USAGES))
    assert bool(status.certificate) is is_good
    assert len(status.conditions) == (1 if is_good else 2)


@given(st.integers(0, 400), st.integers(1, 255))
def test_trust_6_an_altered_request_is_not_signed_for_a_key_of_others(authority, place, change):
    # Shows TRUST-6.f.
    parsed = x509.load_pem_x509_csr(pem_request())
    der = bytearray(parsed.public_bytes(Encoding.DER))
    der[place % len(der)] ^= change
    body = "\n".join(("-----BEGIN CERTIFICATE REQUEST-----", *_lines(bytes(der)), "-----END CERTIFICATE REQUEST-----", ""))  # fmt: skip
    status = signed(authority, approved(body.encode(), KUBELET, CLIENT_USAGES))
    if status.certificate is None:
        assert status.conditions[-1].type == "Failed"
        return
    # this byte is the number of unused bits of the signature, which is the same nevertheless
    assert place % len(der) == len(der) - len(parsed.signature) - 1


def test_trust_6_a_request_for_the_key_of_another_is_not_signed(authority):
    """Somebody asks for a certificate of a key that he has only seen."""
    # Shows TRUST-6.f.
    theirs = x509.load_pem_x509_csr(pem_request())
    own = x509.load_pem_x509_csr(pem_request(key=ec.generate_private_key(ec.SECP256R1())))
    whole = theirs.public_bytes(Encoding.DER)
    forged = whole[: len(whole) - len(theirs.signature)] + own.signature
    if len(own.signature) != len(theirs.signature):
        forged = whole[: len(whole) - 1] + bytes([whole[-1] ^ 1])
    pem = "\n".join(("-----BEGIN CERTIFICATE REQUEST-----", *_lines(forged), "-----END CERTIFICATE REQUEST-----", ""))  # fmt: skip
    status = signed(authority, approved(pem.encode(), KUBELET, CLIENT_USAGES))
    assert status.certificate is None
    assert status.conditions[-1].message == "it is not signed with its own key"


def _lines(der: bytes) -> list[str]:
    from base64 import b64encode

    text = b64encode(der).decode()
    return [text[at : at + 64] for at in range(0, len(text), 64)]


# --- TRUST-7

text = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=80)
dns_names = st.lists(st.from_regex(r"\A[a-z]{1,9}(\.[a-z]{1,9}){0,2}\Z"), max_size=3, unique=True)
addresses = st.lists(st.ip_addresses().map(str), max_size=3, unique=True)


@pytest.mark.parametrize(
    "others",
    [(), ("digital signature",), ("key encipherment",), ("digital signature", "key encipherment")],
)
def test_trust_7_a_client_uses_its_certificate_whatever_usages_it_requested(
    others, authority, tmp_path
):
    """The documentation's example for a user requests `client auth` alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    usages = tuple({*others, "client auth"})
    status = signed(authority, approved(pem_request(key=key), CLIENT, usages))
    crt = b64decode(status.certificate)
    found = {type(each.value) for each in x509.load_pem_x509_certificate(crt).extensions}
    assert (x509.KeyUsage in found) is bool(others)
    (tmp_path / "crt").write_bytes(crt)
    (tmp_path / "key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    # raises ssl.SSLError if the library does not accept the certificate
    ssl.create_default_context().load_cert_chain(tmp_path / "crt", tmp_path / "key")


@given(
    text, st.lists(text, max_size=3), dns_names, addresses, st.none() | st.integers(600, 2**31 - 1)
)
def test_trust_7_a_certificate_says_what_was_examined_and_nothing_else(
    authority, name, organizations, dns, ips, seconds
):
    # Shows TRUST-6.a, TRUST-7.a, TRUST-7.b, TRUST-7.c, TRUST-7.d.
    if "system:masters" in organizations:
        return
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    pem = pem_request(
        (name,), tuple(organizations), alternative(tuple(dns), tuple(ips)), more=(constraints,)
    )
    found = approved(pem, CLIENT, CLIENT_USAGES, expiration_seconds=seconds)
    status = signed(authority, found)
    assert status.certificate, status.conditions
    made = x509.load_pem_x509_certificate(b64decode(status.certificate))
    subject = [(each.oid, each.value) for each in made.subject]
    oids = x509.NameOID
    assert subject == [
        *[(oids.ORGANIZATION_NAME, each) for each in organizations],
        (oids.COMMON_NAME, name),
    ]
    assert made.public_key() == a_key().public_key()
    extensions = {each.oid: each.value for each in made.extensions}
    assert not extensions[x509.BasicConstraints.oid].ca
    assert [each.dotted_string for each in extensions[x509.ExtendedKeyUsage.oid]] == [
        "1.3.6.1.5.5.7.3.2"
    ]
    usage = extensions[x509.KeyUsage.oid]
    assert usage.digital_signature and not usage.key_cert_sign and not usage.key_encipherment
    if dns or ips:
        names = extensions[x509.SubjectAlternativeName.oid]
        assert names.get_values_for_type(x509.DNSName) == dns
        assert names.get_values_for_type(x509.IPAddress) == [ip_address(each) for each in ips]
    else:
        assert x509.SubjectAlternativeName.oid not in extensions
    begin = int(made.not_valid_before_utc.timestamp()) * SECOND
    end = int(made.not_valid_after_utc.timestamp()) * SECOND
    assert begin == NOW - 5 * MINUTE
    wanted = min(365 * DAY, 365 * DAY if seconds is None else seconds * SECOND)
    if wanted >= 8 * 60 * MINUTE:
        wanted -= 5 * MINUTE
    assert end == NOW + wanted <= authority.not_after


def test_trust_7_no_certificate_outlives_the_authority(authority):
    # Shows TRUST-7.c.
    late = authority.not_after - 30 * DAY
    status = signed(authority, approved(pem_request(), KUBELET, CLIENT_USAGES), late)
    made = x509.load_pem_x509_certificate(b64decode(status.certificate))
    assert int(made.not_valid_after_utc.timestamp()) * SECOND == authority.not_after


@pytest.mark.parametrize("conditions", [(), ("Denied",), ("Approved", "Failed")])
def test_trust_7_only_what_is_approved_and_neither_denied_nor_failed_is_signed(
    conditions, authority
):
    # Shows TRUST-7.a.
    request = csr(pem_request(), KUBELET, CLIENT_USAGES, conditions=conditions)
    assert signed(authority, request) is None
    done = csr(pem_request(), KUBELET, CLIENT_USAGES, conditions=("Approved",), certificate="eA==")
    assert signed(authority, done) is None
    own = approved(pem_request(), KUBELET, CLIENT_USAGES)
    foreign = replace(own, spec=replace(own.spec, signer_name="example.com/own"))
    assert signed(authority, foreign) is None


@pytest.mark.parametrize("name", ["a", "n" * 253])
def test_trust_7_the_server_accepts_the_certificate_as_its_user(name, authority, tmp_path):
    """The certificate in a handshake, also of a node with the longest name."""
    pem = pem_request((f"system:node:{name}",), names=alternative((name[:60],)))
    found = approved(pem, SERVING, SERVER_USAGES)
    status = signed(authority, found)
    (tmp_path / "node.crt").write_bytes(b64decode(status.certificate))
    key = a_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "node.key").write_bytes(key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "node.crt", tmp_path / "node.key")
    client = ssl.create_default_context(cafile=str(authority.pair.certificate))
    # the tests' clock is not the machine's
    client.verify_flags |= ssl.VerifyFlags(0x200000)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name[:60])
    for _ in range(20):
        for side in (theirs, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    peer = theirs.getpeercert()
    assert peer is not None and (("commonName", f"system:node:{name}"),) in peer["subject"]


# --- TRUST-8


def ask(request: Any, *objects: Any, allowed: tuple[str, ...] = ()) -> tuple[list[str], Any]:
    """(the permissions that are asked for, the approval)."""
    controller = CertificateApprover()
    view = view_of(controller, request, *objects)
    memory = controller.start_memory(NOW)
    plan = controller.reconcile(view, "c", NOW, Local(memory=memory))
    assert not plan.requests  # nothing is approved unasked
    asked = []
    if plan.queries:
        assert plan.wake_at is not None and plan.wake_at > NOW
        memory = plan.memory
    for query in plan.queries:
        spec = query.body.spec
        where = spec.resource_attributes
        assert (spec.user, spec.groups) == (request.spec.username, request.spec.groups)
        assert (where.verb, where.group, where.resource) == (
            "create",
            "certificates.k8s.io",
            "certificatesigningrequests",
        )
        asked.append(where.subresource)
        status = SubjectAccessReviewStatus(allowed=where.subresource in allowed)
        answer = Response(201, replace(query.body, status=status))
        memory, _ = controller.answered(memory, "c", query, answer, NOW)
    again = controller.reconcile(view, "c", NOW, Local(memory=memory))
    return asked, next(iter(again.requests), None)


@given(
    st.sampled_from([NODE, OTHER, "alice"]),
    st.sampled_from([NODE, "alice", "system:bootstrap:abcdef"]),
    st.sampled_from([NODES, BOOTSTRAPPERS]),
    st.sets(st.sampled_from(["selfnodeclient", "nodeclient", "selfnodeserver"])),
)
def test_trust_8_a_client_certificate_is_approved_for_who_may_have_it(name, user, groups, allowed):
    # Shows TRUST-8.a, TRUST-8.b, TRUST-8.c.
    request = csr(pem_request((name,)), KUBELET, CLIENT_USAGES, user, groups)
    asked, approval = ask(request, allowed=tuple(allowed))
    wanted = []
    if name in (NODE, OTHER):
        wanted += ["selfnodeclient"] if name == user else []
        wanted += ["nodeclient"] if groups == BOOTSTRAPPERS else []
    assert asked == wanted
    assert (approval is not None) == bool(set(wanted) & allowed)
    if approval is not None:
        assert approval.subresource == "approval"
        [condition] = approval.body.status.conditions
        assert (condition.type, condition.status, condition.reason) == (
            "Approved",
            "True",
            "AutoApproved",
        )


EVERYTHING = ("selfnodeclient", "nodeclient", "selfnodeserver")


def test_trust_8_a_node_that_may_do_everything_gets_no_certificate_of_another_node():
    # Shows TRUST-8.c.
    request = csr(pem_request((OTHER,)), KUBELET, CLIENT_USAGES, NODE, NODES)
    assert ask(request, allowed=EVERYTHING) == ([], None)


@pytest.mark.parametrize("why", [why for why in EXCLUDED if EXCLUDED[why][0] != SERVING])
def test_trust_8_what_would_not_be_signed_is_not_approved(why):
    # Shows TRUST-8.f.
    _, usages, subject = EXCLUDED[why]
    request = csr(pem_request(**subject), KUBELET, usages, "admin", ("system:masters",))
    wrong = why in ("no name", "two names", "masters") or EXCLUDED[why][0] == KUBELET
    if wrong:
        assert ask(request, allowed=EVERYTHING) == ([], None)
    for condition in ("Approved", "Denied", "Failed"):
        done = csr(pem_request(), KUBELET, CLIENT_USAGES, NODE, NODES, (condition,))
        assert ask(done, allowed=EVERYTHING) == ([], None)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("replace"), st.sampled_from(["good", "bad"])),
            st.tuples(st.just("reconcile"), st.just("")),
            st.tuples(st.just("answer"), st.integers(0, 3)),
        ),
        max_size=12,
    )
)
@example(
    [("reconcile", ""), ("replace", "bad"), ("reconcile", ""), ("answer", 0), ("reconcile", "")]
)
def test_trust_8_an_answer_about_a_request_that_was_replaced_approves_no_other(steps):
    """A request of the same name is made anew by another user while the first one is examined."""
    # Shows TRUST-8.d.
    controller = CertificateApprover()
    memory, generation = controller.start_memory(NOW), 1
    waiting: list[Any] = []

    def request_of(user: str) -> Any:
        found = csr(pem_request(), KUBELET, CLIENT_USAGES, user, BOOTSTRAPPERS)
        return replace(found, metadata=replace(found.metadata, uid=f"u{generation}"))

    request = request_of("good")
    for what, which in steps:
        if what == "replace":
            generation += 1
            request = request_of(str(which))
        elif what == "reconcile":
            view = view_of(controller, request)
            plan = controller.reconcile(view, "c", NOW, Local(memory=memory))
            for write in plan.requests:
                assert write.body.spec.username == "good"
            memory = plan.memory if plan.queries else memory
            waiting += plan.queries
        elif waiting:
            query = waiting.pop(int(which) % len(waiting))
            status = SubjectAccessReviewStatus(allowed=query.body.spec.user == "good")
            answer = Response(201, replace(query.body, status=status))
            memory, _ = controller.answered(memory, "c", query, answer, NOW)


def test_trust_8_a_permission_that_is_refused_is_asked_for_again_ever_later():
    # Shows TRUST-8.e.
    controller = CertificateApprover()
    request = csr(pem_request(), KUBELET, CLIENT_USAGES, "u", BOOTSTRAPPERS)
    view = view_of(controller, request)
    memory, now, waits = controller.start_memory(NOW), NOW, []
    for _ in range(8):
        plan = controller.reconcile(view, "c", now, Local(memory=memory))
        assert plan.queries
        memory = plan.memory
        waits.append((plan.wake_at - now) // SECOND)
        now = plan.wake_at
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]


# --- TRUST-9


def node(name: str, *ips: str) -> Node:
    found = [NodeAddress(type="InternalIP", address=each) for each in ips]
    found.append(NodeAddress(type="Hostname", address=f"{name}.host"))
    return Node(metadata=ObjectMeta(name=name), status=NodeStatus(addresses=tuple(found)))


HOSTILE_ADDRESSES = ("127.0.0.1", "0.0.0.0", "224.0.0.1", "192.0.2.2")


@given(
    st.sampled_from([NODE, OTHER, "admin"]),
    st.sampled_from([NODES, BOOTSTRAPPERS]),
    st.sets(st.sampled_from(["a", "b", "a.host", "kubernetes", "*.x"]), max_size=2),
    st.sets(st.sampled_from(["192.0.2.1", *HOSTILE_ADDRESSES, "198.51.100.7"]), max_size=2),
    st.sets(st.sampled_from(HOSTILE_ADDRESSES), max_size=2),
)
@example(NODE, NODES, {"a"}, {"192.0.2.1"}, set())
@example(NODE, NODES, set(), {"192.0.2.2"}, set())
@example(NODE, NODES, set(), {"192.0.2.2"}, {"192.0.2.2"})
@example(NODE, NODES, set(), {"127.0.0.1"}, {"127.0.0.1"})
def test_trust_9_a_serving_certificate_is_approved_for_the_nodes_own_names(
    user, groups, dns, ips, claimed
):
    # Shows TRUST-9.a, TRUST-9.b, TRUST-9.c.
    if not dns and not ips:
        return
    names = alternative(tuple(sorted(dns)), tuple(sorted(ips)))
    request = csr(pem_request(names=names), SERVING, SERVER_USAGES, user, groups)
    world = (node("a", "192.0.2.1", *sorted(claimed)), node("b", "192.0.2.2"))
    asked, approval = ask(request, *world, allowed=EVERYTHING)
    wanted = user == NODE and groups == NODES and dns <= {"a"} and ips <= {"192.0.2.1"}
    assert asked == (["selfnodeserver"] if wanted else [])
    assert (approval is not None) == wanted
    if wanted:
        assert ask(request, *world)[1] is None  # the permission is needed


def test_trust_9_a_request_is_examined_again_when_the_addresses_change():
    # Shows TRUST-9.d.
    controller = CertificateApprover()
    request = csr(pem_request(names=OWN_NAMES), SERVING, SERVER_USAGES, NODE, NODES)
    view = view_of(controller, request, node("a"))
    [interest] = [each for each in controller.interests if each.resource.plural == "nodes"]
    assert interest.keys(view, node("a"), node("a", "192.0.2.1")) == ("c",)
    assert interest.keys(view, node("a"), node("a")) == ()
    assert ask(request, node("a"), allowed=EVERYTHING) == ([], None)
    assert ask(request, allowed=EVERYTHING) == ([], None)  # there is no such Node


# --- TRUST-10


@given(
    st.sampled_from([(), ("Approved",), ("Denied",), ("Approved", "Failed")]),
    st.booleans(),
    st.sampled_from([0, 59, 60, 61, 1439, 1440, 1441]),
)
def test_trust_10_a_request_is_deleted_when_nobody_needs_it(conditions, is_issued, minutes):
    # Shows TRUST-10.a.
    certificate = "eA==" if is_issued else None
    request = csr(pem_request(), KUBELET, CLIENT_USAGES, conditions=conditions, now=NOW, certificate=certificate)  # fmt: skip
    controller = CertificateCleaner()
    now = NOW + minutes * MINUTE
    plan = controller.reconcile(view_of(controller, request), "c", now, NO_MEMORY)
    kept: int | None = 1440
    if set(conditions) & {"Denied", "Failed"} or (conditions and is_issued):
        kept = 60
    elif conditions:
        kept = None
    if kept is None:
        assert not plan.requests and plan.wake_at is None
    elif minutes < kept:
        assert not plan.requests and plan.wake_at == NOW + kept * MINUTE
    else:
        [deletion] = plan.requests
        assert deletion.verb == "delete" and deletion.body.preconditions.uid == "u1"


# --- TRUST-17


@given(st.integers(0, 40), st.booleans(), st.booleans())
@example(15, False, False)
def test_trust_17_a_request_of_a_pod_is_deleted_after_a_quarter_of_an_hour(
    minutes, is_issued, is_deleted
):
    metadata = ObjectMeta(
        name="r",
        namespace="n",
        uid="u",
        creation_timestamp=timestamp(NOW),
        deletion_timestamp=timestamp(NOW) if is_deleted else None,
    )
    status = PodCertificateRequestStatus(certificate_chain="x" if is_issued else None)
    request = PodCertificateRequest(metadata=metadata, status=status)
    controller = PodCertificateRequestCleaner()
    view = view_of(controller, request)
    plan = controller.reconcile(view, "n/r", NOW + minutes * MINUTE, NO_MEMORY)
    if is_deleted:
        assert plan == NOTHING
    elif minutes < 15:
        assert not plan.requests and plan.wake_at == NOW + 15 * MINUTE
    else:
        [deletion] = plan.requests
        assert (deletion.verb, deletion.key) == ("delete", "n/r")
        assert deletion.body.preconditions == Preconditions(uid="u")
        assert controller.reconcile(view_of(controller), "n/r", NOW, NO_MEMORY) == NOTHING


# --- TRUST-16


def test_trust_16_serving_certificates_have_an_authority_of_their_own(tmp_path):
    # Shows TRUST-16.a, TRUST-16.b.
    credentials = load_credentials(tmp_path / "pki", ("127.0.0.1",))
    signer = CertificateSigner(
        signing_authorities(Pair(credentials.authority, credentials.authority_key))
    )
    now = int(datetime.now(UTC).timestamp()) * SECOND
    found = {}
    for kind, usages, names in ((KUBELET, CLIENT_USAGES, ()), (SERVING, SERVER_USAGES, OWN_NAMES)):
        request = approved(pem_request(names=names), kind, usages)
        plan = signer.reconcile(view_of(signer, request), "c", now, NO_MEMORY)
        pem = b64decode(plan.requests[0].body.status.certificate)
        found[kind] = x509.load_pem_x509_certificate(pem)
    cluster = x509.load_pem_x509_certificate(credentials.authority.read_bytes())
    own = x509.load_pem_x509_certificate((tmp_path / "pki/kubelet-ca.crt").read_bytes())
    found[KUBELET].verify_directly_issued_by(cluster)
    found[SERVING].verify_directly_issued_by(own)
    with pytest.raises(ValueError, match="does not match"):
        found[SERVING].verify_directly_issued_by(cluster)
    clients = KubeletClients(credentials)
    trusted = clients._make().get_ca_certs()
    assert len(trusted) == 2  # of the cluster, and of kubelets
    assert (tmp_path / "pki/kubelet-ca.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["kubelet-ca.crt", "kubelet-ca.key"])
@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_trust_16_a_damaged_authority_is_refused(name, content, tmp_path):
    load_credentials(tmp_path, ("127.0.0.1",))
    before = load_kubelet_authority(tmp_path)
    assert load_kubelet_authority(tmp_path) == before
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    if (name, content) == ("kubelet-ca.crt", None):  # the key is the authority
        load_kubelet_authority(tmp_path)
        return
    with pytest.raises(CannotRun, match="not a certificate authority"):
        load_kubelet_authority(tmp_path)


# --- the reader of requests


@given(st.lists(text, max_size=2), st.lists(text, max_size=2), dns_names, addresses)
def test_trust_6_the_names_of_a_request_are_read_as_they_were_written(names, orgs, dns, ips):
    # Shows TRUST-6.g.
    pem = pem_request(tuple(names), tuple(orgs), alternative(tuple(dns), tuple(ips)))
    from base64 import b64encode

    found = read_request(b64encode(pem).decode())
    assert found.common_names == tuple(names) and found.organizations == tuple(orgs)
    assert found.dns_names == tuple(dns)
    assert [ip_address(each) for each in found.ip_addresses] == [ip_address(each) for each in ips]
    assert not found.problem
