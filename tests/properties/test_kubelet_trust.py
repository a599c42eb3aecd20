"""Certificates of ClusterTrustBundles in volumes: KUBELET-132 (spec/kubelet.md), D-510."""

from base64 import b64decode, b64encode

from hypothesis import given, settings
from hypothesis import strategies as st
from kubelet_bench import Bench, make_pod
from kubelet_chaos import container

from refk8s.core.api.certificates_v1 import ClusterTrustBundle, ClusterTrustBundleSpec
from refk8s.core.api.core_v1 import (
    ClusterTrustBundleProjection,
    PodCertificateProjection,
    PodSecurityContext,
    ProjectedVolumeSource,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from refk8s.core.api.resources import CLUSTER_TRUST_BUNDLES
from refk8s.core.kubelet.trust import BYTES_MAX
from refk8s.core.ports import WriteVolume

BEGIN, END = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
CERTIFICATES = [bytes([number]) * (40 + 37 * number) for number in range(1, 5)]
SIGNERS = ["example.com/a", "example.com/b"]
SELECTORS = {
    # text -> (selector, whether it selects labels)
    "none": (None, lambda labels: False),
    "all": (LabelSelector(), lambda labels: True),
    "live": (LabelSelector(match_labels={"live": "1"}), lambda labels: labels.get("live") == "1"),
    "unset": (
        LabelSelector(match_expressions=(LabelSelectorRequirement(key="live", operator="DoesNotExist"),)),
        lambda labels: "live" not in labels,
    ),
}  # fmt: skip


def pem(certificates, width=64):
    """As a signer may write them, with other text between them."""
    found = "# a comment\n"
    for one in certificates:
        body = b64encode(one).decode()
        lines = [body[at : at + width] for at in range(0, len(body), width)]
        found += BEGIN + "".join([line + "\n" for line in lines]) + END
    return found


def read(content):
    """The certificates of a file, in its order; it has nothing else."""
    blocks = content.decode().split(BEGIN)
    assert blocks[0] == ""
    assert all(block.endswith(END) for block in blocks[1:])
    bodies = [block.removesuffix(END) for block in blocks[1:]]
    assert all(len(line) == 64 for body in bodies for line in body.splitlines()[:-1])
    return [b64decode(body) for body in bodies]


def bundle(name, signer, labels, text):
    return ClusterTrustBundle(
        metadata=ObjectMeta(name=name, labels=labels),
        spec=ClusterTrustBundleSpec(signer_name=signer, trust_bundle=text),
    )


BUNDLES = st.lists(
    st.tuples(
        st.sampled_from(SIGNERS),
        st.sampled_from([{}, {"live": "1"}, {"live": "0"}]),
        st.lists(st.sampled_from(CERTIFICATES), min_size=1, max_size=3, unique=True),
        st.sampled_from([64, 20, 76]),
    ),
    max_size=4,
)


def its_pod(source, **spec):
    volume = Volume(
        name="v",
        projected=ProjectedVolumeSource(sources=(VolumeProjection(cluster_trust_bundle=source),)),
    )
    mounts = (VolumeMount(name="v", mount_path="/v"),)
    return make_pod(containers=(container("c", volume_mounts=mounts),), volumes=(volume,), **spec)


def put(bench, drawn):
    for number, (signer, labels, certificates, width) in enumerate(drawn):
        name = f"{signer.replace('/', ':')}:{number}"
        bench.put(CLUSTER_TRUST_BUNDLES, bundle(name, signer, labels, pem(certificates, width)))


def files(bench):
    return [op for _, op in bench.did(WriteVolume) if op.volume == "v"]


def check(bench, expected, optional):
    """The pod runs with exactly these certificates, each once; without a bundle it waits."""
    if expected is None and not optional:
        assert bench.pod().status.phase == "Pending"
        assert "FailedMount" in bench.reasons()
        assert not files(bench)
        return
    assert bench.pod().status.phase == "Running"
    assert read(dict(files(bench)[-1].files)["ca.pem"]) == sorted(expected or set())


@settings(max_examples=60, deadline=None)
@given(BUNDLES, st.sampled_from(SIGNERS), st.sampled_from(sorted(SELECTORS)), st.booleans())
def test_kubelet_132_a_signers_bundles_are_merged_into_one_file(drawn, signer, named, optional):
    selector, selects = SELECTORS[named]
    chosen = [
        certificates for s, labels, certificates, _ in drawn if s == signer and selects(labels)
    ]
    bench = Bench().start().settle()
    put(bench, drawn)
    bench.add(
        its_pod(
            ClusterTrustBundleProjection(
                signer_name=signer, label_selector=selector, path="ca.pem", optional=optional
            )
        )
    )
    bench.run_for(2)
    check(bench, {one for found in chosen for one in found} if chosen else None, optional)


@settings(max_examples=30, deadline=None)
@given(BUNDLES, st.booleans())
def test_kubelet_132_a_bundle_is_mounted_by_its_name(drawn, optional):
    bench = Bench().start().settle()
    put(bench, drawn)
    source = ClusterTrustBundleProjection(
        name="example.com:a:0", path="ca.pem", optional=optional or None
    )
    bench.add(its_pod(source))
    bench.run_for(2)
    is_there = bool(drawn) and drawn[0][0] == SIGNERS[0]
    check(bench, set(drawn[0][2]) if is_there else None, optional)


@settings(max_examples=15, deadline=None)
@given(BUNDLES, BUNDLES, st.booleans())
def test_kubelet_132_the_file_follows_the_bundles(before, after, restart):
    """Also a bundle that a pod waits for; and what has not changed is not written again."""
    bench = Bench().start().settle()
    put(bench, before)
    bench.add(
        its_pod(
            ClusterTrustBundleProjection(
                signer_name=SIGNERS[0], label_selector=LabelSelector(), path="ca.pem"
            )
        )
    )
    bench.run_for(1)
    put(bench, after)
    if restart:
        bench.start()
    bench.run_for(75)
    last = {number: one for number, one in enumerate(before) if one[0] == SIGNERS[0]}
    last |= {number: one for number, one in enumerate(after) if one[0] == SIGNERS[0]}
    check(bench, {one for found in last.values() for one in found[2]} if last else None, False)
    count = len(files(bench))
    bench.run_for(130)
    assert len(files(bench)) == count


def test_kubelet_132_the_file_belongs_to_the_user_of_the_containers():
    bench = Bench().start().settle()
    put(bench, [(SIGNERS[0], {}, CERTIFICATES[:1], 64)])
    context = PodSecurityContext(run_as_user=1000)
    source = ClusterTrustBundleProjection(name="example.com:a:0", path="ca.pem")
    bench.add(its_pod(source, security_context=context))
    bench.run_for(2)
    written = files(bench)[0]
    assert (dict(written.modes), dict(written.users)) == ({"ca.pem": 0o600}, {"ca.pem": 1000})


def test_kubelet_132_bundles_that_are_too_large_keep_the_pod_waiting():
    bench = Bench().start().settle()
    text = pem([b"x" * (BYTES_MAX // 32)])
    for number in range(24):
        bench.put(CLUSTER_TRUST_BUNDLES, bundle(f"example.com:a:{number}", SIGNERS[0], {}, text))
    source = ClusterTrustBundleProjection(
        signer_name=SIGNERS[0], label_selector=LabelSelector(), path="ca.pem"
    )
    bench.add(its_pod(source))
    bench.run_for(2)
    check(bench, None, False)


def test_d_510_a_pod_with_a_certificate_of_its_own_waits():
    source = PodCertificateProjection(
        signer_name=SIGNERS[0], key_type="ED25519", credential_bundle_path="a.pem"
    )
    volume = Volume(
        name="v",
        projected=ProjectedVolumeSource(sources=(VolumeProjection(pod_certificate=source),)),
    )
    bench = Bench().start().settle()
    bench.add(make_pod(volumes=(volume,)))
    bench.run_for(2)
    check(bench, None, False)
