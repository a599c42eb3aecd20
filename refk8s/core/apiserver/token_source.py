"""What the volume holds that admission adds to a pod: the token of its service account, the
authority of the cluster, the namespace. Rule ADM-4 (spec/admission.md).

It is the same for every pod, so validation knows it by identity and does not look at it again; a
test shows that it would find nothing. Source: Kubernetes documentation, "Managing
Service Accounts" (bound service account token volume).
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

# an hour and seven seconds: so that a token can be told from one that asked for an hour
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
