"""Admission of storage, certificates and networking: ADM-20 to ADM-23 (spec/admission.md), and
certificate requests (VAL-51)."""

from base64 import b64decode, b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st
from test_adm import MERGE, Cluster
from val_examples_cluster import CERTIFICATE, REQUEST, claim, ingress, signing, volume

from refk8s.core.api import codec, resources
from refk8s.core.api.pkcs10 import NotPkcs10, read_request
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.store import commit

KEY = ec.generate_private_key(ec.SECP256R1())
CLIENT = "kubernetes.io/kube-apiserver-client"


def pem(names: list[tuple[x509.ObjectIdentifier, str]]) -> bytes:
    """A request for a subject of these attributes, as another library writes it."""
    subject = x509.Name([x509.NameAttribute(kind, text) for kind, text in names])
    request = (
        x509.CertificateSigningRequestBuilder().subject_name(subject).sign(KEY, hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def b64(data: bytes) -> str:
    return b64encode(data).decode()


def made(resource, **tree):
    return codec.decode_tolerant(resource.type, tree)[0]


class Server(Cluster):
    def put(self, resource, name, fields, namespace="n", subresource="", verb="update", user=None):
        obj = made(resource, **fields)
        namespace = namespace if resource.namespaced else ""
        options = {"user": user} if user is not None else {}
        outcome = handle(
            Exchange(
                Request(
                    verb,
                    resource,
                    namespace,
                    name,
                    subresource,
                    body=obj,
                    **{"user": ADMIN, **options},
                ),
                self.history,
                self.context,
            )
        )
        if isinstance(outcome, Commit):
            self.history, done = commit(self.history, outcome.txn, stamp)
            return outcome.respond(done)
        return outcome

    def post(self, resource, name, fields, user=None):
        tree = {**fields, "metadata": {"name": name, **fields.get("metadata", {})}}
        return self.put(resource, "", tree, verb="create", user=user)


# --- PKCS #10


words = st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=20)
attributes = st.tuples(
    st.sampled_from(
        [
            x509.NameOID.ORGANIZATION_NAME,
            x509.NameOID.COMMON_NAME,
            x509.NameOID.ORGANIZATIONAL_UNIT_NAME,
        ]
    ),
    words,
)


@given(
    st.lists(attributes, max_size=5),
    st.sampled_from([b"", b"text before\n"]),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_val_51_a_request_by_another_library_is_read_with_its_organizations(names, before, newline):
    found = read_request(b64(before + pem(names).replace(b"\n", newline))).organizations
    assert list(found) == [text for kind, text in names if kind == x509.NameOID.ORGANIZATION_NAME]


@given(st.data())
def test_val_51_a_request_that_is_cut_or_has_something_behind_it_is_none(data):
    der = b64decode(b"".join(b64decode(REQUEST).split(b"\n")[1:-2]))
    cut = data.draw(st.integers(0, len(der) - 1))
    for wrong in (der[:cut], der + b"\0"):
        text = (
            b"-----BEGIN CERTIFICATE REQUEST-----\n"
            + b64encode(wrong)
            + b"\n-----END CERTIFICATE REQUEST-----\n"
        )
        with pytest.raises(NotPkcs10):
            read_request(b64(text))


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 2**32))
@example(b"0\x84\xff\xff\xff\xff", True, 0)
def test_val_51_whatever_the_bytes_they_are_read_or_refused(data, as_pem, where):
    """Random bytes, and a right request with random bytes somewhere in it."""
    if as_pem:
        der = bytearray(b64decode(b"".join(b64decode(REQUEST).split(b"\n")[1:-2])))
        at = where % len(der)
        der[at : at + len(data)] = data
        data = (
            b"-----BEGIN CERTIFICATE REQUEST-----\n"
            + b64encode(bytes(der))
            + b"\n-----END CERTIFICATE REQUEST-----\n"
        )
    try:
        assert all(isinstance(text, str) for text in read_request(b64(data)).organizations)
    except NotPkcs10 as error:
        assert str(error)


@given(st.text(max_size=100))
def test_val_51_what_is_no_base64_is_no_request(text):
    with pytest.raises(NotPkcs10):
        read_request(text)


# --- ADM-20


SIGNING = resources.CERTIFICATE_SIGNING_REQUESTS


extras = st.dictionaries(words, st.lists(words, min_size=1, max_size=2).map(tuple), max_size=2)
extras = extras.map(lambda found: tuple(sorted(found.items())))


@given(st.builds(User, words, words, st.lists(words, max_size=3).map(tuple), extras), st.booleans())
def test_adm_20_a_request_is_in_the_name_of_who_is_logged_in(user, lies):
    server = Server()
    more = (
        {"username": "mallory", "groups": ["bosses"], "uid": "0", "extra": {"a": ["b"]}}
        if lies
        else {}
    )
    spec = server.post(SIGNING, "c", signing(**more), user=user).body.spec
    assert (spec.username, spec.uid, spec.groups) == (user.name, user.uid, user.groups or None)
    assert spec.extra == (dict(user.extra) or None)
    again = server.put(
        SIGNING,
        "c",
        {"metadata": {"name": "c"}, **signing(username="eve", usages=["any"], request=CERTIFICATE)},
    )
    assert again.code == 200 and again.body.spec == spec


@pytest.mark.parametrize(("organization", "signer", "code"), [
    ("system:masters", CLIENT, 403), ("devs", CLIENT, 201), ("system:masters", "example.com/s", 201),
])  # fmt: skip
def test_adm_20_no_client_certificate_makes_an_administrator(organization, signer, code):
    request = b64(
        pem([(x509.NameOID.COMMON_NAME, "x"), (x509.NameOID.ORGANIZATION_NAME, organization)])
    )
    assert Server().post(SIGNING, "c", signing(request=request, signerName=signer)).code == code


def test_adm_20_conditions_say_when_they_were_written_and_when_they_changed():
    server = Server()
    assert server.post(SIGNING, "c", signing()).code == 201
    approved = {"type": "Approved", "status": "True", "reason": "r"}
    tree = {
        "metadata": {"name": "c"},
        "status": {"conditions": [approved], "certificate": CERTIFICATE},
        **signing(),
    }
    refused = server.put(
        SIGNING,
        "c",
        {**tree, "metadata": {"name": "c", "labels": {"a": "b"}}},
        subresource="status",
    )
    assert refused.code == 422
    (condition,) = server.put(SIGNING, "c", tree, subresource="approval").body.status.conditions
    assert condition.last_update_time and condition.last_transition_time
    signed = server.put(SIGNING, "c", {**tree, "status": {
        "certificate": CERTIFICATE, "conditions": [codec.to_tree(condition)],
    }}, subresource="status")  # fmt: skip
    assert signed.code == 200 and signed.body.status.certificate == CERTIFICATE


# --- ADM-21, ADM-22, ADM-23


CLAIMS, VOLUMES = resources.PERSISTENT_VOLUME_CLAIMS, resources.PERSISTENT_VOLUMES
names = st.lists(
    st.sampled_from(
        ["example.com/x", "kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"]
    ),
    unique=True,
)


HELD = [
    (CLAIMS, claim(), "kubernetes.io/pvc-protection"), (VOLUMES, volume(hostPath={"path": "/x"}), "kubernetes.io/pv-protection"),
]  # fmt: skip


@given(names, st.sampled_from(HELD))
def test_adm_21_a_claim_and_a_volume_begin_with_their_finalizer_once(given_names, what):
    resource, fields, finalizer = what
    server = Server()
    body = server.post(resource, "a", {**fields, "metadata": {"finalizers": given_names}}).body
    assert body.metadata.finalizers == tuple(given_names) + (
        () if finalizer in given_names else (finalizer,)
    )
    assert body.status.phase == "Pending"
    tree = {**codec.to_tree(body), "metadata": {"name": "a"}}
    # not put back by an update: that is a controller's
    assert server.put(resource, "a", tree).body.metadata.finalizers is None


def test_adm_21_a_volume_attributes_class_begins_with_its_finalizer():
    server = Server()
    fields = {"driverName": "d.example.com", "parameters": {"iops": "1"}}
    body = server.post(resources.VOLUME_ATTRIBUTES_CLASSES, "a", fields).body
    assert body.metadata.finalizers == ("kubernetes.io/vac-protection",)


def test_adm_21_a_volume_says_since_when_it_is_in_its_phase():
    server = Server()
    began = server.post(
        VOLUMES, "a", volume(hostPath={"path": "/x"})
    ).body.status.last_phase_transition_time
    assert began
    server.context = type(server.context)(server.context.now + 60_000_000, server.context.chance)
    tree = {"metadata": {"name": "a"}, **volume(hostPath={"path": "/x"})}
    same = server.put(
        VOLUMES, "a", {**tree, "status": {"phase": "Pending"}}, subresource="status"
    ).body.status
    assert same.last_phase_transition_time == began
    other = server.put(
        VOLUMES, "a", {**tree, "status": {"phase": "Bound"}}, subresource="status"
    ).body.status
    assert other.last_phase_transition_time > began
    # Shows ADM-21.c.
    given = {"phase": "Bound", "lastPhaseTransitionTime": "2020-01-01T00:00:00Z"}
    kept = server.put(VOLUMES, "a", {**tree, "status": given}, subresource="status").body.status
    assert kept.last_phase_transition_time == "2020-01-01T00:00:00Z"


classes = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.tuples(st.sampled_from(["true", "false", None]), st.integers(0, 2)),
)


@given(classes, st.sampled_from([None, "", "mine"]))
def test_adm_22_what_names_no_class_gets_the_newest_default(drawn, named):
    server = Server()
    begin = server.context
    for name, (mark, age) in sorted(drawn.items(), key=lambda item: -item[1][1]):
        server.context = type(begin)(begin.now + (2 - age) * 1_000_000, begin.chance)
        for resource, fields, key in (
            (
                resources.STORAGE_CLASSES,
                {"provisioner": "p"},
                "storageclass.kubernetes.io/is-default-class",
            ),
            (
                resources.INGRESS_CLASSES,
                {"spec": {"controller": "a.b/c"}},
                "ingressclass.kubernetes.io/is-default-class",
            ),
        ):
            assert (
                server.post(
                    resource,
                    name,
                    {**fields, "metadata": {"annotations": {key: mark} if mark else {}}},
                ).code
                == 201
            )
    marked = sorted((age, name) for name, (mark, age) in drawn.items() if mark == "true")
    expected = named if named is not None else marked[0][1] if marked else None
    more = {} if named is None else {"storageClassName": named}
    assert server.post(CLAIMS, "a", claim(**more)).body.spec.storage_class_name == expected
    if named != "":
        backend = ingress(service={"name": "s", "port": {"number": 80}})["spec"]
        spec = {**backend, **({} if named is None else {"ingressClassName": named})}
        assert (
            server.post(resources.INGRESSES, "a", {"spec": spec}).body.spec.ingress_class_name
            == expected
        )


@given(st.booleans(), st.sampled_from([None, False, True]), st.integers(1, 3))
def test_adm_22_only_a_bound_claim_of_a_class_that_lets_it_grows(is_bound, allows, gigabytes):
    server = Server()
    more = {} if allows is None else {"allowVolumeExpansion": allows}
    assert server.post(resources.STORAGE_CLASSES, "c", {"provisioner": "p", **more}).code == 201
    fields = claim(storageClassName="c", resources={"requests": {"storage": "2Gi"}})
    assert server.post(CLAIMS, "a", fields).code == 201
    status = (
        {"phase": "Bound", "capacity": {"storage": "2Gi"}} if is_bound else {"phase": "Pending"}
    )
    assert server.ask(
        "patch", CLAIMS, "n", "a", body=Patch(MERGE, {"metadata": {"labels": {"a": "b"}}})
    ).ok
    assert server.put(
        CLAIMS, "a", {"metadata": {"name": "a"}, **fields, "status": status}, subresource="status"
    ).ok
    size = {"spec": {"resources": {"requests": {"storage": f"{gigabytes}Gi"}}}}
    code = server.ask("patch", CLAIMS, "n", "a", body=Patch(MERGE, size)).code
    if gigabytes == 2:
        assert code == 200
    elif not is_bound or gigabytes < 2:
        assert code == 422
    else:
        assert code == (200 if allows else 403)


sources = st.none() | st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["PersistentVolumeClaim", "VolumeSnapshot", "Pod"]),
        "name": st.just("x"),
    },
    optional={"apiGroup": st.sampled_from(["", "snapshot.storage.k8s.io"])},
)


@given(sources, sources, st.booleans())
def test_adm_23_a_source_is_one_of_two_kinds_and_stands_under_both_names(
    source, reference, is_elsewhere
):
    spec = {"dataSource": source} if source else {}
    if reference:
        spec["dataSourceRef"] = reference | ({"namespace": "other"} if is_elsewhere else {})
    answer = Server().post(CLAIMS, "a", claim(**spec))
    if answer.code != 201:
        assert answer.code == 422
        return
    one, other = answer.body.spec.data_source, answer.body.spec.data_source_ref
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert (one.kind, one.name, one.api_group or "") == (
            other.kind,
            other.name,
            other.api_group or "",
        )
        assert other.namespace is None
    if not reference or is_elsewhere:
        known = source and (source.get("apiGroup", ""), source["kind"]) in (
            ("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"),
        )  # fmt: skip
        assert (one is not None) == bool(known)


def test_adm_23_the_topology_of_an_older_version_and_a_kubelets_configuration_are_dropped():
    server = Server()
    endpoint = {"addresses": ["10.0.0.1"], "deprecatedTopology": {"bad key": "x"}}
    made_slice = server.post(
        resources.ENDPOINT_SLICES, "a", {"addressType": "IPv4", "endpoints": [endpoint]}
    )
    assert made_slice.code == 201 and made_slice.body.endpoints[0].deprecated_topology is None
    node = server.post(resources.NODES, "a", {"spec": {
        "configSource": {"configMap": {"name": "x", "namespace": "y", "kubeletConfigKey": "z"}},
        "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.9.0.0/24"],
    }})  # fmt: skip
    assert (
        node.code == 201
        and node.body.spec.config_source is None
        and node.body.spec.pod_cidrs == ("10.0.0.0/24",)
    )


def test_adm_23_a_reference_of_a_service_account_has_only_a_name():
    server = Server()
    secrets = [{"name": "s", "fieldPath": "x", "kind": "Secret"}]
    made_account = server.post(resources.SERVICE_ACCOUNTS, "a", {"secrets": secrets})
    assert made_account.code == 201
    assert [codec.to_tree(one) for one in made_account.body.secrets] == [{"name": "s"}]


def test_adm_23_a_dry_run_says_the_same():
    server = Server()
    obj = made(CLAIMS, metadata={"name": "a"}, **claim(dataSource={"kind": "Pod", "name": "p"}))
    answer = handle(
        Exchange(
            Request("create", CLAIMS, "n", body=obj, options=Options(dry_run=True), user=ADMIN),
            server.history,
            server.context,
        )
    )
    assert answer.code == 201 and answer.body.spec.data_source is None
