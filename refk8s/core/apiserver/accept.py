"""Chooses the form of an answer by the Accept header. Rule API-21 (spec/api.md).

It is the first supported alternative in the client's order of preference: JSON, YAML or protobuf;
the object itself, a Table of it, or only its metadata. Source: Kubernetes documentation,
"Kubernetes API Concepts" (Resource representations, Receiving resources as Tables); RFC 9110. Left
out: CBOR, which upstream serves only behind a feature gate.
"""

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.memo import remember
from refk8s.core.value import Value, evolve

JSON, YAML, PROTOBUF = "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"
WHOLE, TABLE, PARTIAL, PARTIAL_LIST = (
    "",
    "Table",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
)

VERSIONS = ("v1", "v1beta1")
_MEDIA = {
    JSON: JSON, YAML: YAML, PROTOBUF: PROTOBUF, "*/*": JSON, "application/*": JSON,
}  # fmt: skip
_WILDCARDS = {"application/*": 1, "*/*": 2}
_MESSAGE = f"only the following media types are accepted: {JSON}, {YAML}, {PROTOBUF}"
WATCH = ";stream=watch"
"""The parameter of the media type of a watch, except in JSON."""


class Form(Value, frozen=True):
    """The form of an answer: the media type, and the part of the object that is shown.

    `of_errors`: the media type of an answer that is an error. It may be another one, because an
    error has neither a Table nor metadata.
    """

    media_type: str = JSON
    shown: str = WHOLE
    version: str = "v1"  # of meta.k8s.io, in which Tables and metadata are written
    of_errors: str = JSON


PLAIN_JSON = Form()


@remember(512)
def accept(header: str, tables: bool = True, protobuf: bool = True) -> Form:
    """The form that an Accept header requests; without a header, JSON. Raises ApiError 406 if no
    requested form is supported.

    `tables`: whether the resource has Tables. Reviews have none, because they cannot be listed.
    `protobuf`: whether its objects have a message. Objects of definitions have none, but their
    metadata has.
    """
    if not header.strip():
        return PLAIN_JSON
    alternatives = _alternatives(header)
    for alternative in alternatives:
        form = _form_of(alternative)
        if form is None or (form.shown == TABLE and not tables):
            continue
        if form.media_type == PROTOBUF and form.shown == WHOLE and not protobuf:
            continue
        return evolve(form, of_errors=_error_type(alternatives))
    raise ApiError(status.not_acceptable(_MESSAGE))


@remember(512)
def error_type(header: str) -> str:
    """The media type of an error for a client with this Accept header: JSON if it accepts none."""
    return _error_type(_alternatives(header))


def _error_type(alternatives: list[dict[str, str]]) -> str:
    forms = [_form_of(one) for one in alternatives]
    return next((form.media_type for form in forms if form and form.shown == WHOLE), JSON)


def _alternatives(header: str) -> list[dict[str, str]]:
    """The alternatives in the order of preference, each as its parameters with the media type under
    "". Of equal ones, media types come before wildcards. Those of quality 0 are left out."""
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
    found.sort(key=lambda one: (-one[0], _WILDCARDS.get(one[1][""], 0)))
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
    if (stream := parameters.get("stream", "")) and (stream != "watch" or media_type == YAML):
        return None
    shown = parameters.get("as", WHOLE)
    if shown == WHOLE:
        return Form(media_type)
    version = parameters.get("v", "")
    if (
        shown not in (TABLE, PARTIAL, PARTIAL_LIST)
        or parameters.get("g") != "meta.k8s.io"
        or version not in VERSIONS
        or (shown == TABLE and media_type == PROTOBUF)
    ):
        return None
    return Form(media_type, shown, version)
