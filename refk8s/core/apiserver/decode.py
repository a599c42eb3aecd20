"""Decodes the body of a request. Rules API-3, API-22, API-23 (spec/api.md).

Source: Kubernetes documentation, "Kubernetes API Concepts" (Resource representations, Field
validation); API conventions. Left out: CBOR. The caller passes a function that reads YAML, since
the core has no parser.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.codec import (
    Decoded,
    DecodeError,
    MalformedJson,
    decode_request,
    decode_tree,
    encode,
    parse,
)
from refk8s.core.api.custom import CustomObject
from refk8s.core.api.json_text import holds_repeated
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Patch
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver.accept import JSON, PROTOBUF, YAML
from refk8s.core.apiserver.custom.objects import decoded
from refk8s.core.apiserver.custom.schema import schema_tree
from refk8s.core.apiserver.patch import APPLY_PATCH, accepted_media_types
from refk8s.core.apiserver.read import invalid_options
from refk8s.core.apiserver.route import Target, delete_options

if TYPE_CHECKING:
    from refk8s.core.api.yaml_text import YamlDocument

BODY_BYTES_MAX = 3 * 1024 * 1024
SHOWN_BYTES_MAX = 30

ReadYaml = Callable[[bytes], "YamlDocument"]
"""Returns the first YAML document; raises ValueError for invalid YAML."""


def decode_body(
    target: Target, content_type: str, body: bytes, read_yaml: ReadYaml | None = None
) -> tuple[Any, tuple[str, ...]]:
    """The object of a body, and warnings about its fields. Raises ApiError: 413; 415 for an
    unsupported media type; 400 for any other problem."""
    if len(body) > BODY_BYTES_MAX:
        raise ApiError(status.too_large(f"limit is {BODY_BYTES_MAX}"))
    media_type = content_type.partition(";")[0].strip().lower() or ("?" if content_type else "")
    match target.verb:
        case "create" | "update":
            return _object(target, media_type, body, read_yaml)
        case "patch":
            return _patch(target, media_type, body, read_yaml)
        case "delete" | "deletecollection":
            return (
                _delete_options(media_type, body, read_yaml)
                if body
                else delete_options(target.verb, target.parameters)
            ), ()
    return None, ()


def _patch(
    target: Target, media_type: str, body: bytes, read_yaml: ReadYaml | None
) -> tuple[Patch, tuple[str, ...]]:
    accepted = accepted_media_types(
        None
        if target.resource.is_custom and target.subresource != "scale"
        else target.resource.type
    )
    if media_type not in accepted:
        listed = ", ".join(accepted)
        words = (
            "the body of the request was in an unknown format - accepted media types "
            f"include: {listed}"
        )
        raise ApiError(status.unsupported_media_type(words))
    options = target.options
    causes = []
    if media_type == APPLY_PATCH and not options.field_manager:
        causes.append(Cause(status.REQUIRED, "fieldManager", "is required for apply patch"))
    if media_type != APPLY_PATCH and options.force:
        words = "may not be specified for non-apply patch"
        causes.append(Cause(status.FORBIDDEN, "force", words))
    if causes:
        raise ApiError(invalid_options("PatchOptions", causes))
    if media_type != APPLY_PATCH:
        return Patch(media_type, body), ()
    document, warnings = _configuration(body, options.field_validation or "Warn", read_yaml)
    return Patch(media_type, document), warnings


def _configuration(
    body: bytes, validation: str, read_yaml: ReadYaml | None
) -> tuple[Any, tuple[str, ...]]:
    """The tree of an applied configuration, which is YAML or JSON, and warnings of repeated keys
    (APPLY-10)."""
    try:
        tree = parse(body)
        repeated = holds_repeated(tree)
        if not repeated or read_yaml is None:
            return tree, ()
    except MalformedJson as error:
        if read_yaml is None:
            raise ApiError(status.bad_request(f"error decoding YAML: {error}")) from None
    try:
        document = read_yaml(body)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        words = f"error decoding YAML: error converting YAML to JSON: {error}"
        raise ApiError(status.bad_request(words)) from None
    if not document.duplicates or validation == "Ignore":
        return document.tree, ()
    lines = "\n  ".join(document.duplicates)
    words = f"error converting YAML to JSON: yaml: unmarshal errors:\n  {lines}"
    if validation == "Strict":
        raise ApiError(status.bad_request(f"error strict decoding YAML: {words}"))
    return document.tree, document.duplicates


def _read(
    media_type: str, body: bytes, kind: str, read_yaml: ReadYaml | None
) -> "bytes | YamlDocument":
    """The body as JSON text, or as the tree of a YAML document (API-22, HTTP-20)."""
    if media_type in ("", JSON):
        return body
    if media_type == YAML and read_yaml is not None:
        try:
            return read_yaml(body)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            words = (
                f"the object provided is unrecognized (must be of type {kind}): "
                "error converting YAML to JSON"
            )
            raise ApiError(status.bad_request(f"{words}: {error} ({_summary(body)})")) from None
    if media_type == PROTOBUF:
        from refk8s.core.apiserver import protobuf  # imported here, because few clusters need it

        return encode(protobuf.decode(body))
    listed = f"{JSON}, {YAML}, {PROTOBUF}"
    words = (
        f"the body of the request was in an unknown format - accepted media types include: {listed}"
    )
    raise ApiError(status.unsupported_media_type(words))


def _summary(body: bytes) -> str:
    """The beginning of a body for a message: JSON as it is, anything else in hexadecimal digits."""
    shown = body[:SHOWN_BYTES_MAX]
    text = shown.decode("utf-8", "replace") if body[:1] == b"{" else shown.hex()
    return (text + (" ..." if len(body) > SHOWN_BYTES_MAX else "")) or "<empty>"


def body_type(target: Target) -> tuple[type, str, str]:
    """(record class, apiVersion, kind) of the body of a create or update of this target."""
    resource = target.resource
    part = resource.subresource(target.subresource) if target.subresource else None
    if part is None or part.kind == resource.kind:
        return resource.type, resource.api_version, resource.kind
    version = f"{part.group}/{part.version}" if part.group else part.version or resource.api_version
    record = resources.type_of_kind(version, part.kind)
    assert record is not None, f"no record for {version} {part.kind}"
    return record, version, part.kind


def _object(
    target: Target, media_type: str, body: bytes, read_yaml: ReadYaml | None
) -> tuple[Any, tuple[str, ...]]:
    record, version, kind = body_type(target)
    given = _read(media_type, body, kind, read_yaml)
    if record is CustomObject:
        return _custom_object(target, given, body)
    if isinstance(given, bytes) and given[:1] != b"{" and given.strip() == b"null":
        given = b"{}"  # as in upstream's decoder
    duplicates = () if isinstance(given, bytes) else given.duplicates
    validation = target.options.field_validation or "Warn"
    try:
        decoded = _decode(record, given, field_validation=validation != "Ignore")
    except DecodeError as error:
        _refuse_other_kind(given, version, kind)
        raise ApiError(status.bad_request(_undecodable(error, body, version, kind))) from None
    obj = decoded.object
    if target.resource == resources.CUSTOM_RESOURCE_DEFINITIONS:
        _check_schemas(obj, version, kind)
    if obj.kind != kind or obj.api_version != version:
        # API-18: the old version is accepted too
        if (kind, obj.api_version) != ("Eviction", "policy/v1beta1") or obj.kind != kind:
            _refuse_other_kind(given, version, kind)
        obj = replace(obj, kind=kind, api_version=version)  # empty in the body: taken from the path
    if validation == "Strict" and (duplicates or decoded.warnings):
        repeated = (
            (
                "error converting YAML to JSON: yaml: unmarshal errors:\n  "
                + "\n  ".join(duplicates),
            )
            if duplicates
            else ()
        )
        words = "strict decoding error: " + ", ".join((*repeated, *decoded.warnings))
        raise ApiError(
            status.bad_request(
                f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a '
                f"{kind}: {words}"
            )
        )
    return obj, (*duplicates, *decoded.warnings) if validation == "Warn" else ()


def _check_schemas(obj: Any, api_version: str, kind: str) -> None:
    """Raise ApiError 400 if something in a definition that must be a schema is none."""
    for version in obj.spec.versions:
        if version.schema is not None and version.schema.open_api_v3_schema is not None:
            try:
                schema_tree(version.schema.open_api_v3_schema)
            except DecodeError as error:
                words = error.full(kind, api_version.rpartition("/")[2])
                raise ApiError(status.bad_request(words)) from None


def _custom_object(
    target: Target, given: "bytes | YamlDocument", body: bytes
) -> tuple[CustomObject, tuple[str, ...]]:
    """The custom object of a body (CRD-10)."""
    resource, validation = target.resource, target.options.field_validation or "Warn"
    kind, api_version = resource.kind, resource.api_version
    try:
        tree = parse(given) if isinstance(given, bytes) else given.tree
    except MalformedJson as error:
        wrapped = DecodeError(str(error), malformed=True)
        raise ApiError(status.bad_request(_undecodable(wrapped, body, api_version, kind))) from None
    if not isinstance(tree, dict):
        words = (
            f"the object provided is unrecognized (must be of type {kind}): "
            "couldn't get version/kind"
        )
        raise ApiError(status.bad_request(f"{words}; it is not an object ({_summary(body)})"))
    said, version = tree.get("kind") or kind, tree.get("apiVersion") or api_version
    if version != api_version:
        words = (
            f"the API version in the data ({version}) does not match the expected API version "
            f"({api_version})"
        )
        raise ApiError(status.bad_request(words))
    if said != kind:
        metadata = tree.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        cause = status.Cause(status.INVALID, "kind", f"must be {kind}", said)
        named = Resource(resource.group, resource.version, "", "", str(said), False)
        raise ApiError(status.invalid(named, str(name or target.name), [cause]))
    try:
        obj, problems = decoded(resource, tree)
    except DecodeError as error:
        raise ApiError(status.bad_request(_undecodable(error, body, api_version, kind))) from None
    if not isinstance(given, bytes):
        problems = (*given.duplicates, *problems)
    if validation == "Strict" and problems:
        short = resource.version
        words = "strict decoding error: " + ", ".join(problems)
        raise ApiError(
            status.bad_request(
                f'{kind} in version "{short}" cannot be handled as a {kind}: {words}'
            )
        )
    return obj, problems if validation == "Warn" else ()


def _decode(record: type, given: "bytes | YamlDocument", *, field_validation: bool) -> Decoded:
    if isinstance(given, bytes):
        return decode_request(record, given, field_validation=field_validation)
    return decode_tree(record, given.tree)


def _undecodable(error: DecodeError, text: bytes, version: str, kind: str) -> str:
    if not error.malformed:
        return error.full(kind, version.rpartition("/")[2])
    unrecognized = f"the object provided is unrecognized (must be of type {kind})"
    return (
        f"{unrecognized}: couldn't get version/kind; json parse error: {error} ({_summary(text)})"
    )


def _refuse_other_kind(given: "bytes | YamlDocument", version: str, kind: str) -> None:
    """Raise ApiError 400 if the body has another kind or version than the path (API-3)."""
    try:
        tree = parse(given) if isinstance(given, bytes) else given.tree
    except MalformedJson:
        return
    if not isinstance(tree, dict):
        return
    said_kind, said_version = tree.get("kind") or kind, tree.get("apiVersion") or version
    if (
        not isinstance(said_kind, str)
        or not isinstance(said_version, str)
        or (said_kind, said_version) == (kind, version)
    ):
        return
    short = said_version.rpartition("/")[2]
    if resources.type_of_kind(said_version, said_kind) is None:
        why = f'no kind "{said_kind}" is registered for version "{said_version}" in scheme'
    elif said_kind == kind:
        words = (
            f"the API version in the data ({said_version}) does not match the expected API "
            f"version ({version})"
        )
        raise ApiError(status.bad_request(words))
    else:
        why = (
            f"converting ({short}.{said_kind}) to ({version.rpartition('/')[2]}.{kind}): "
            "unknown conversion"
        )
    raise ApiError(
        status.bad_request(f'{said_kind} in version "{short}" cannot be handled as a {kind}: {why}')
    )


def _delete_options(media_type: str, body: bytes, read_yaml: ReadYaml | None) -> DeleteOptions:
    given = _read(media_type, body, "DeleteOptions", read_yaml)
    try:
        decoded = _decode(DeleteOptions, given, field_validation=False)
    except DecodeError as error:
        raise ApiError(
            status.bad_request(_undecodable(error, body, "v1", "DeleteOptions"))
        ) from None
    options: DeleteOptions = decoded.object
    if (options.kind or "DeleteOptions") != "DeleteOptions":
        raise ApiError(
            status.bad_request(
                "decoded object cannot be converted to DeleteOptions: "
                f"it is a {status.show(options.kind)}"
            )
        )
    return options
