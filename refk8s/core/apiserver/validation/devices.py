"""Devices: classes, claims, claim templates and slices of resource.k8s.io. Rule VAL-52
(spec/validation.md).

Source: Kubernetes documentation, "Dynamic Resource Allocation"; API reference, "ResourceClaim",
"ResourceSlice". Left out: the estimated cost of an expression.
"""

from typing import Any

from refk8s.core.api.resource_v1 import (
    Device,
    DeviceAttribute,
    DeviceClaim,
    DeviceClass,
    DeviceConstraint,
    DeviceRequest,
    DeviceSelector,
    DeviceSubRequest,
    DeviceTaint,
    DeviceToleration,
    ExactDeviceRequest,
    OpaqueDeviceConfiguration,
    ResourceClaim,
    ResourceClaimTemplate,
    ResourceSlice,
)
from refk8s.core.apiserver.validation.device_sharing import (
    validate_binding_conditions,
    validate_capacity,
    validate_consumptions,
    validate_counter_sets,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    malformed,
    not_negative,
    not_supported,
    required,
    too_long,
    too_many,
    unchanged,
)
from refk8s.core.apiserver.validation.metadata import validate_annotations, validate_labels
from refk8s.core.apiserver.validation.names import (
    c_identifier,
    dns_label,
    dns_subdomain,
    label_value,
    qualified_name,
)
from refk8s.core.apiserver.validation.selectors import validate_node_selector
from refk8s.core.apiserver.validation.volume_sources import validate_driver_name

LIST_MAX, ALTERNATIVES_MAX, TOLERATIONS_MAX, DEVICES_MAX, ATTRIBUTES_MAX = 32, 8, 16, 128, 32
SPECIAL_DEVICES_MAX = 64  # of a slice with devices that have taints or consume counters
EXPRESSION_BYTES_MAX, POOL_NAME_MAX, ATTRIBUTE_MAX = 10 * 1024, 253, 64
MODES = ("All", "ExactCount")
EFFECTS = ("NoExecute", "NoSchedule", "None")


# --- claims


def validate_resource_claim(claim: ResourceClaim) -> Causes:
    """VAL-52."""
    return _validate_claim(claim.spec.devices, "spec.devices")


def validate_resource_claim_update(new: ResourceClaim, old: ResourceClaim) -> Causes:
    """VAL-52: the spec is immutable."""
    return unchanged("spec", new.spec, old.spec) + (
        validate_resource_claim(new) if new.spec != old.spec else []
    )


def validate_resource_claim_template(template: ResourceClaimTemplate) -> Causes:
    """VAL-52: a claim spec, and labels and annotations of the claim."""
    metadata, spec = template.spec.metadata, template.spec.spec
    causes = validate_labels(metadata.labels or {}, "spec.metadata.labels")
    causes += validate_annotations(metadata.annotations or {}, "spec.metadata.annotations")
    return causes + (_validate_claim(spec.devices, "spec.spec.devices") if spec is not None else [])


def validate_resource_claim_template_update(
    new: ResourceClaimTemplate, old: ResourceClaimTemplate
) -> Causes:
    return unchanged("spec", new.spec, old.spec)


def _validate_claim(claim: DeviceClaim, at: str) -> Causes:
    causes = _bounded(claim.requests, LIST_MAX, f"{at}.requests")
    names: list[str] = []
    for position, request in enumerate(claim.requests or ()):
        causes += _validate_request(request, names, f"{at}.requests[{position}]")
        names += [
            request.name,
            *[f"{request.name}/{sub.name}" for sub in request.first_available or ()],
        ]
    causes += _bounded(claim.constraints, LIST_MAX, f"{at}.constraints")
    for position, constraint in enumerate(claim.constraints or ()):
        causes += _validate_constraint(constraint, names, f"{at}.constraints[{position}]")
    causes += _bounded(claim.config, LIST_MAX, f"{at}.config")
    for position, config in enumerate(claim.config or ()):
        here = f"{at}.config[{position}]"
        causes += _validate_names(config.requests, names, f"{here}.requests") + _validate_opaque(
            config.opaque, f"{here}.opaque"
        )
    return causes


def _bounded(items: tuple[Any, ...] | None, count_max: int, at: str) -> Causes:
    return [too_many(at, len(items), count_max)] if items and len(items) > count_max else []


def _validate_name(name: str, taken: list[str], at: str) -> Causes:
    if not name:
        return [required(at)]
    causes = malformed(at, name, dns_label)
    return [*causes, duplicate(at, name)] if name in taken else causes


def _validate_request(request: DeviceRequest, taken: list[str], at: str) -> Causes:
    """VAL-52: either `exactly`, or several alternatives."""
    causes = _validate_name(request.name, taken, f"{at}.name")
    if request.exactly is not None and request.first_available:
        causes.append(
            invalid(at, "", "exactly one of `exactly` or `firstAvailable` must be specified")
        )
    elif request.exactly is not None:
        causes += _validate_subrequest(request.exactly, f"{at}.exactly")
    elif request.first_available:
        causes += _bounded(request.first_available, ALTERNATIVES_MAX, f"{at}.firstAvailable")
        seen: list[str] = []
        for position, sub in enumerate(request.first_available):
            here = f"{at}.firstAvailable[{position}]"
            causes += _validate_name(sub.name, seen, f"{here}.name") + _validate_subrequest(
                sub, here
            )
            seen.append(sub.name)
    else:
        causes.append(required(at, "exactly one of `exactly` or `firstAvailable` is required"))
    return causes


def _validate_subrequest(subrequest: ExactDeviceRequest | DeviceSubRequest, at: str) -> Causes:
    """VAL-52: a class, and a number of devices or all."""
    name = subrequest.device_class_name
    causes = (
        malformed(f"{at}.deviceClassName", name, dns_subdomain)
        if name
        else [required(f"{at}.deviceClassName")]
    )
    causes += _validate_selectors(subrequest.selectors, f"{at}.selectors")
    count = subrequest.count or 0
    if subrequest.allocation_mode == "All":
        if count:
            causes.append(
                invalid(f"{at}.count", count, "must not be specified when allocationMode is 'All'")
            )
    elif subrequest.allocation_mode == "ExactCount":
        if count <= 0:
            causes.append(invalid(f"{at}.count", count, "must be greater than zero"))
    else:
        causes.append(not_supported(f"{at}.allocationMode", subrequest.allocation_mode, MODES))
    causes += _bounded(subrequest.tolerations, TOLERATIONS_MAX, f"{at}.tolerations")
    capacity = subrequest.capacity.requests if subrequest.capacity is not None else None
    for name in capacity or ():
        causes += _validate_attribute_name(name, f"{at}.capacity.requests[{name}]")
    for position, toleration in enumerate(subrequest.tolerations or ()):
        causes += _validate_toleration(toleration, f"{at}.tolerations[{position}]")
    return causes


def _validate_selectors(selectors: tuple[DeviceSelector, ...] | None, at: str) -> Causes:
    causes = _bounded(selectors, LIST_MAX, at)
    for position, selector in enumerate(selectors or ()):
        here = f"{at}[{position}].cel"
        if selector.cel is None:
            causes.append(required(here))
        elif not selector.cel.expression:
            causes.append(required(f"{here}.expression"))
        elif len(selector.cel.expression.encode("utf-8", "surrogatepass")) > EXPRESSION_BYTES_MAX:
            causes.append(too_long(f"{here}.expression", EXPRESSION_BYTES_MAX))
        else:
            causes += _validate_expression(selector.cel.expression, f"{here}.expression")
    return causes


def _validate_expression(text: str, at: str) -> Causes:
    """DRA-15: an expression of CEL over a device, that is true or false."""
    # imported here: a start without devices loads no expressions
    from refk8s.core.pods.device_selectors import SelectorProblem, compile_selector

    try:
        compile_selector(text)
    except SelectorProblem as problem:
        return [invalid(at, text, str(problem))]
    return []


def _validate_toleration(toleration: DeviceToleration, at: str) -> Causes:
    causes: Causes = []
    if toleration.key:
        causes += malformed(f"{at}.key", toleration.key, qualified_name)
    if toleration.operator == "Exists":
        if toleration.value:
            causes.append(
                invalid(f"{at}.value", toleration.value, "must be empty for operator `Exists`")
            )
    elif toleration.operator == "Equal":
        causes += [
            invalid(f"{at}.value", toleration.value, word)
            for word in label_value(toleration.value or "")
        ]
        if not toleration.key:
            causes.append(required(f"{at}.key", "must not be empty for operator `Equal`"))
    elif not toleration.operator:
        causes.append(required(f"{at}.operator"))
    else:
        causes.append(not_supported(f"{at}.operator", toleration.operator, ("Equal", "Exists")))
    if toleration.effect and toleration.effect not in EFFECTS:
        causes.append(not_supported(f"{at}.effect", toleration.effect, EFFECTS))
    return causes


def _validate_constraint(constraint: DeviceConstraint, names: list[str], at: str) -> Causes:
    """VAL-52: one attribute, which the devices of these requests have with equal or with distinct
    values."""
    causes = _validate_names(constraint.requests, names, f"{at}.requests")
    match, distinct = constraint.match_attribute, constraint.distinct_attribute
    if match is not None:
        causes += _validate_attribute_name(match, f"{at}.matchAttribute", needs_domain=True)
        if distinct is not None:
            causes.append(
                invalid(
                    f"{at}.distinctAttribute", distinct, "may not be specified with matchAttribute"
                )
            )
    elif distinct is not None:
        causes += _validate_attribute_name(distinct, f"{at}.distinctAttribute", needs_domain=True)
    else:
        causes.append(
            required(at, "exactly one of `matchAttribute` or `distinctAttribute` is required")
        )
    return causes


def _validate_names(requests: tuple[str, ...] | None, names: list[str], at: str) -> Causes:
    causes = _bounded(requests, LIST_MAX, at)
    for position, name in enumerate(requests or ()):
        if name not in names:
            causes.append(
                invalid(f"{at}[{position}]", name, "must be the name of a request in the claim")
            )
        if name in (requests or ())[:position]:
            causes.append(duplicate(f"{at}[{position}]", name))
    return causes


def _validate_opaque(opaque: OpaqueDeviceConfiguration | None, at: str) -> Causes:
    """VAL-52: parameters for one driver."""
    if opaque is None:
        return [required(at)]
    causes = validate_driver_name(opaque.driver, f"{at}.driver")
    if opaque.parameters is None:
        causes.append(required(f"{at}.parameters"))
    elif not isinstance(opaque.parameters, dict):
        causes.append(invalid(f"{at}.parameters", "<value omitted>", "must be a valid JSON object"))
    return causes


# --- classes


def validate_device_class(device_class: DeviceClass) -> Causes:
    """VAL-52: the selectors and configuration of the class."""
    causes = _validate_selectors(device_class.spec.selectors, "spec.selectors")
    causes += _bounded(device_class.spec.config, LIST_MAX, "spec.config")
    for position, config in enumerate(device_class.spec.config or ()):
        causes += _validate_opaque(config.opaque, f"spec.config[{position}].opaque")
    return causes


def validate_device_class_update(new: DeviceClass, old: DeviceClass) -> Causes:
    return validate_device_class(new)


# --- slices


def validate_resource_slice(resource_slice: ResourceSlice) -> Causes:
    """VAL-52: the driver, the pool, the nodes and the devices."""
    spec, at = resource_slice.spec, "spec"
    causes = validate_driver_name(spec.driver, f"{at}.driver")
    causes += validate_pool_name(spec.pool.name, f"{at}.pool.name") + not_negative(
        f"{at}.pool.generation", spec.pool.generation
    )
    if spec.pool.resource_slice_count <= 0:
        causes.append(
            invalid(
                f"{at}.pool.resourceSliceCount",
                spec.pool.resource_slice_count,
                "must be greater than zero",
            )
        )
    if spec.node_name is not None:
        causes += malformed(f"{at}.nodeName", spec.node_name, dns_subdomain)
    if spec.node_selector is not None:
        causes += validate_node_selector(spec.node_selector, f"{at}.nodeSelector")
        if len(spec.node_selector.node_selector_terms) != 1:
            causes.append(
                invalid(
                    f"{at}.nodeSelector.nodeSelectorTerms",
                    "",
                    "must have exactly one node selector term",
                )
            )
    words = (
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
        "`perDeviceNodeSelection` is required"
    )
    choices = [
        spec.node_name is not None,
        spec.node_selector is not None,
        bool(spec.all_nodes),
        bool(spec.per_device_node_selection),
    ]
    if not any(choices):
        causes.append(required(at, words))
    elif sum(choices) > 1:
        causes.append(invalid(at, "", words))
    if spec.devices and spec.shared_counters:
        causes.append(invalid(at, "", "only one of `sharedCounters` or `devices` is allowed"))
    causes += validate_counter_sets(spec.shared_counters or (), f"{at}.sharedCounters")
    is_special = any(each.taints or each.consumes_counters for each in spec.devices or ())
    most = SPECIAL_DEVICES_MAX if is_special else DEVICES_MAX
    causes += _bounded(spec.devices, most, f"{at}.devices")
    seen: list[str] = []
    for position, device in enumerate(spec.devices or ()):
        here = f"{at}.devices[{position}]"
        causes += _validate_name(device.name, seen, f"{here}.name") + _validate_device(device, here)
        causes += _validate_nodes(device, bool(spec.per_device_node_selection), here)
        seen.append(device.name)
    return causes


def _validate_nodes(device: Device, has_own: bool, at: str) -> Causes:
    """VAL-52: a device names its nodes if and only if the slice says so."""
    chosen = [device.node_name is not None, device.node_selector is not None, device.all_nodes is not None]  # fmt: skip
    if not has_own:
        words = (
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if "
            "`perDeviceNodeSelection` is set to true in the ResourceSlice spec"
        )
        return [invalid(at, "", words)] if any(chosen) else []
    words = (
        "exactly one of `nodeName`, `nodeSelector`, "
        "or `allNodes` is required when `perDeviceNodeSelection` is set to true in the "
        "ResourceSlice spec"
    )
    if not any(chosen):
        return [required(at, words)]
    causes = [invalid(at, "", words)] if sum(chosen) > 1 else []
    if device.node_name is not None:
        causes += malformed(f"{at}.nodeName", device.node_name, dns_subdomain)
    if device.node_selector is not None:
        causes += validate_node_selector(device.node_selector, f"{at}.nodeSelector")
    if device.all_nodes is False:
        causes.append(invalid(f"{at}.allNodes", False, "must be either unset or set to true"))
    return causes


def validate_resource_slice_update(new: ResourceSlice, old: ResourceSlice) -> Causes:
    """VAL-52: driver, pool and node name are immutable."""
    causes = validate_resource_slice(new)
    for attribute, name in (("driver", "driver"), ("node_name", "nodeName")):
        causes += unchanged(
            f"spec.{name}", getattr(new.spec, attribute), getattr(old.spec, attribute)
        )
    return causes + unchanged("spec.pool.name", new.spec.pool.name, old.spec.pool.name)


def validate_pool_name(name: str, at: str) -> Causes:
    """VAL-52: subdomains separated by slashes."""
    if not name:
        return [required(at)]
    causes = [too_long(at, POOL_NAME_MAX)] if len(name) > POOL_NAME_MAX else []
    return causes + [
        invalid(at, part, word) for part in name.split("/") for word in dns_subdomain(part)
    ]


def _validate_device(device: Device, at: str) -> Causes:
    attributes, capacity = device.attributes or {}, device.capacity or {}
    causes: Causes = []
    if len(attributes) + len(capacity) > ATTRIBUTES_MAX:
        words = f"the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}"
        causes.append(invalid(at, len(attributes) + len(capacity), words))
    for name in attributes:
        causes += _validate_attribute_name(name, f"{at}.attributes[{name}]")
        causes += _validate_attribute(attributes[name], f"{at}.attributes[{name}]")
    for name in capacity:
        here = f"{at}.capacity[{name}]"
        causes += _validate_attribute_name(name, here)
        causes += validate_capacity(capacity[name], bool(device.allow_multiple_allocations), here)
    causes += validate_consumptions(device.consumes_counters or (), f"{at}.consumesCounters")
    causes += validate_binding_conditions(device, at)
    for position, taint in enumerate(device.taints or ()):
        causes += validate_device_taint(taint, f"{at}.taints[{position}]")
    return causes


def validate_device_taint(taint: DeviceTaint, at: str) -> Causes:
    """VAL-52: a key and an effect."""
    causes = malformed(f"{at}.key", taint.key, qualified_name)
    causes += [invalid(f"{at}.value", taint.value, word) for word in label_value(taint.value or "")]
    if not taint.effect:
        causes.append(required(f"{at}.effect"))
    elif taint.effect not in EFFECTS:
        causes.append(not_supported(f"{at}.effect", taint.effect, EFFECTS))
    return causes


def _validate_attribute(attribute: DeviceAttribute, at: str) -> Causes:
    """VAL-52: exactly one value."""
    values = [getattr(attribute, name) for name in DeviceAttribute.__struct_fields__]
    count = sum(value is not None for value in values)
    if not count:
        return [required(at, "exactly one value must be specified")]
    causes = [invalid(at, "", "exactly one value must be specified")] if count > 1 else []
    for text, name in ((attribute.string, "string"), (attribute.version, "version")):
        if text is not None and len(text.encode("utf-8", "surrogatepass")) > ATTRIBUTE_MAX:
            causes.append(too_long(f"{at}.{name}", ATTRIBUTE_MAX))
    return causes


def _validate_attribute_name(name: str, at: str, needs_domain: bool = False) -> Causes:
    """A C identifier, with a domain and a slash before it unless it is an attribute of the driver
    itself."""
    domain, slash, identifier = name.rpartition("/")
    causes: Causes = []
    if not name:
        return [required(at)]
    if slash:
        causes += malformed(at, domain, dns_subdomain)
    elif needs_domain:
        causes.append(invalid(at, name, "must include a domain"))
    if len(identifier) > 32:
        causes.append(too_long(at, 32))
    return causes + malformed(at, identifier, c_identifier)
