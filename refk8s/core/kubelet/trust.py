"""The certificates of ClusterTrustBundles as a file of a pod. Rule KUBELET-132 (spec/kubelet.md).

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests" (cluster trust
bundles), "Projected Volumes" (clusterTrustBundle projected volumes).
"""

from base64 import b64encode
from collections.abc import Iterable

from refk8s.core.api import selector
from refk8s.core.api.certificates_v1 import ClusterTrustBundle
from refk8s.core.api.core_v1 import ClusterTrustBundleProjection
from refk8s.core.api.pem import CERTIFICATE, decode_block, read_blocks
from refk8s.core.kubelet.objects import Library, signer_key, trust_bundle_key
from refk8s.core.kubelet.problems import BadConfig

LINE = 64
BYTES_MAX = 16 << 20


def trust_anchors(library: Library, source: ClusterTrustBundleProjection) -> bytes:
    """The certificates that the source selects, in PEM.

    Raises NotYet while they are read, and BadConfig if there is none and one is required.
    """
    if source.name is not None:
        one: ClusterTrustBundle | None = library.show(trust_bundle_key(source.name))
        words = f'clustertrustbundles.certificates.k8s.io "{source.name}" not found'
        bundles = () if one is None else (one,)
    else:
        listed = library.show(signer_key(source.signer_name or ""))
        chosen = selector.from_label_selector(source.label_selector)
        words = "combination of signerName and labelSelector matched zero ClusterTrustBundles"
        every = listed.items if listed is not None else ()
        bundles = tuple([one for one in every if chosen.matches(one.metadata.labels)])
    if not bundles and not source.optional:
        raise BadConfig(words)
    if sum(len(bundle.spec.trust_bundle) for bundle in bundles) > BYTES_MAX:
        raise BadConfig(f"the trust bundles have more than {BYTES_MAX} bytes")
    return _merged(bundle.spec.trust_bundle for bundle in bundles)


def _merged(texts: Iterable[str]) -> bytes:
    """Each certificate once, in the order of their bytes."""
    found = {
        decode_block(content)
        for text in texts
        for label, content in read_blocks(text)
        if label == CERTIFICATE
    }
    return "".join([_pem(one) for one in sorted(filter(None, found))]).encode()


def _pem(certificate: bytes) -> str:
    body = b64encode(certificate).decode()
    lines = [body[at : at + LINE] for at in range(0, len(body), LINE)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])
