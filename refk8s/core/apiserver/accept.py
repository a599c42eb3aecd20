"""Chooses the form of an answer by the Accept header. Rule API-21 (spec/api.md).

It is the first supported alternative in the client's order of preference: JSON or YAML; the object
itself, a Table of it, or only its metadata. Source: Kubernetes documentation, "Kubernetes API
Concepts" (Resource representations, Receiving resources as Tables); RFC 9110. Left out: Protobuf
and CBOR answers; a client that accepts nothing else gets 406.
"""

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.memo import remember
from refk8s.core.value import Value

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
WHOLE, TABLE, PARTIAL, PARTIAL_LIST = (
    "",
    "Table",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
)

VERSIONS = ("v1", "v1beta1")
_MEDIA = {"application/json": JSON, "application/yaml": YAML, "*/*": JSON, "application/*": JSON}
_MESSAGE = f"only the following media types are accepted: {JSON}, {YAML}"


class Form(Value, frozen=True):
    """The form of an answer: the media type, and the part of the object that is shown."""

    media_type: str = JSON
    shown: str = WHOLE
    version: str = "v1"  # of meta.k8s.io, in which Tables and metadata are written


PLAIN_JSON = Form()


@remember(512)
def accept(header: str, tables: bool = True) -> Form:
    """The form that an Accept header requests; without a header, JSON. Raises ApiError 406 if no
    requested form is supported.

    `tables`: whether the resource has Tables. Reviews have none, because they cannot be listed.
    """
    if not header.strip():
        return PLAIN_JSON
    for alternative in _alternatives(header):
        form = _form_of(alternative)
        if form is not None and (tables or form.shown != TABLE):
            return form
    raise ApiError(status.not_acceptable(_MESSAGE))


def _alternatives(header: str) -> list[dict[str, str]]:
    """The alternatives in the order of preference, each as its parameters with the media type under
    "". Alternatives of quality 0 are left out."""
    found: list[tuple[float, dict[str, str]]] = []
    for part in header.split(","):
        media_type, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {"": media_type.lower()}
        for piece in rest:
            key, _, value = piece.partition("=")
            parameters[key.strip().lower()] = value.strip().strip('"')
        quality = _quality(parameters.get("q", "1"))
        if quality > 0:
            found.append((quality, parameters))
    found.sort(key=lambda one: -one[0])
    return [parameters for _, parameters in found]


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 1.0
    return quality if 0 <= quality <= 1 else 1.0


def _form_of(parameters: dict[str, str]) -> Form | None:
    media_type = _MEDIA.get(parameters[""])
    if media_type is None:
        return None
    shown = parameters.get("as", WHOLE)
    if shown == WHOLE:
        return Form(media_type)
    version = parameters.get("v", "")
    if (
        shown not in (TABLE, PARTIAL, PARTIAL_LIST)
        or parameters.get("g") != "meta.k8s.io"
        or version not in VERSIONS
    ):
        return None
    return Form(media_type, shown, version)
