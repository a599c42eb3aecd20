"""The content of the volume that admission adds to a pod: the token of its service account, the
cluster's CA certificate, the namespace. Rule ADM-4 (spec/admission.md).

It is the same object for every pod, so validation recognises it by identity and skips it; a test
shows that it is valid. Source: Kubernetes documentation, "Managing Service Accounts" (bound service
account token volume).
"""

from refk8s.core.api.core_v1 import (
    ConfigMapProjection,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    KeyToPath,
    ObjectFieldSelector,
    ProjectedVolumeSource,
    ServiceAccountTokenProjection,
    VolumeProjection,
)

# an hour and seven seconds, to distinguish it from a token requested for an hour
TOKEN_SECONDS = 3607
ROOT_CA = "kube-root-ca.crt"
TOKEN_SOURCE = ProjectedVolumeSource(
    default_mode=0o644,
    sources=(
        VolumeProjection(service_account_token=ServiceAccountTokenProjection(expiration_seconds=TOKEN_SECONDS, path="token")),
        VolumeProjection(config_map=ConfigMapProjection(name=ROOT_CA, items=(KeyToPath(key="ca.crt", path="ca.crt"),))),
        VolumeProjection(downward_api=DownwardAPIProjection(items=(
            DownwardAPIVolumeFile(path="namespace", field_ref=ObjectFieldSelector(api_version="v1", field_path="metadata.namespace")),
        ))),
    ),
)  # fmt: skip
