"""The ConfigMap by which another API server verifies this one and its clients. Rule APISVC-12
(spec/api_services.md).

Source: Kubernetes documentation, "Configure the Aggregation Layer" (Extension Apiserver
Authenticates the Request), "Set up an Extension API Server".
"""

from __future__ import annotations

import json
from typing import Final

from refk8s.core.apiserver.aggregation.identity import EXTRA, GROUP, USER

NAMESPACE: Final = "kube-system"
CONFIG_MAP: Final = "extension-apiserver-authentication"
CLIENT: Final = "front-proxy-client"
"""The common name of the certificate with which this server connects to others."""


def authentication_data(client_authority: str, proxy_authority: str) -> dict[str, str]:
    """The data of the ConfigMap. Both authorities are certificates in PEM: that of the clients of
    the cluster, and that of this server's certificate for other API servers."""
    return {
        "client-ca-file": client_authority,
        "requestheader-allowed-names": _list(CLIENT),
        "requestheader-client-ca-file": proxy_authority,
        "requestheader-extra-headers-prefix": _list(EXTRA.title()),
        "requestheader-group-headers": _list(GROUP.title()),
        "requestheader-username-headers": _list(USER.title()),
    }


def _list(text: str) -> str:
    return json.dumps([text])
