"""CSI drivers, nodes, capacities, attachments and volume attributes classes. Rule VAL-50
(spec/validation.md).

Source: Kubernetes API reference, "CSIDriver", "CSINode", "CSIStorageCapacity", "VolumeAttachment",
"VolumeAttributesClass".
"""

from refk8s.core.api.storage_v1 import (
    CSIDriver,
    CSINode,
    CSINodeDriver,
    CSIStorageCapacity,
    VolumeAttachment,
    VolumeAttributesClass,
    VolumeError,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.names import dns_subdomain, qualified_name
from refk8s.core.apiserver.validation.resources import validate_quantity
from refk8s.core.apiserver.validation.selectors import validate_selector
from refk8s.core.apiserver.validation.storage import (
    validate_parameters,
    validate_provisioner,
    validate_volume_spec,
)
from refk8s.core.apiserver.validation.volume_sources import validate_driver_name

NODE_ID_BYTES_MAX = 256
TOKEN_SECONDS_MIN, TOKEN_SECONDS_MAX = 600, 2**32
UPDATE_PERIOD_SECONDS_MIN = 10
ATTACHMENT_METADATA_BYTES_MAX = 256 * 1024
ERROR_BYTES_MAX = 1024
FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
LIFECYCLE_MODES = ("Persistent", "Ephemeral")


# --- drivers


def validate_csi_driver(driver: CSIDriver) -> Causes:
    """VAL-50."""
    spec = driver.spec
    causes: Causes = []
    for value, field in (
        (spec.attach_required, "attachRequired"), (spec.pod_info_on_mount, "podInfoOnMount"),
        (spec.storage_capacity, "storageCapacity"),
    ):  # fmt: skip
        if value is None:
            causes.append(required(f"spec.{field}"))
    if spec.fs_group_policy is not None and spec.fs_group_policy not in FS_GROUP_POLICIES:
        causes.append(not_supported("spec.fsGroupPolicy", spec.fs_group_policy, FS_GROUP_POLICIES))
    causes += _validate_token_requests(driver)
    for mode in spec.volume_lifecycle_modes or ():
        if mode not in LIFECYCLE_MODES:
            causes.append(not_supported("spec.volumeLifecycleModes", mode, LIFECYCLE_MODES))
    period = spec.node_allocatable_update_period_seconds
    if period is not None and period < UPDATE_PERIOD_SECONDS_MIN:
        words = f"must be greater than or equal to {UPDATE_PERIOD_SECONDS_MIN} seconds"
        causes.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, words))
    if spec.service_account_token_in_secrets is not None and not spec.token_requests:
        words = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        causes.append(
            invalid(
                "spec.serviceAccountTokenInSecrets", spec.service_account_token_in_secrets, words
            )
        )
    return causes


def _validate_token_requests(driver: CSIDriver) -> Causes:
    """VAL-50: audiences are unique; a token is valid for at least ten minutes."""
    causes: Causes = []
    seen: set[str] = set()
    for position, request in enumerate(driver.spec.token_requests or ()):
        here = f"spec.tokenRequests[{position}]"
        if request.audience in seen:
            causes.append(duplicate(f"{here}.audience", request.audience))
            continue
        seen.add(request.audience)
        seconds = request.expiration_seconds
        if seconds is None:
            continue
        if seconds < TOKEN_SECONDS_MIN:
            words = "may not specify a duration less than 10 minutes"
            causes.append(invalid(f"{here}.expirationSeconds", seconds, words))
        if seconds > TOKEN_SECONDS_MAX:
            words = "may not specify a duration larger than 2^32 seconds"
            causes.append(invalid(f"{here}.expirationSeconds", seconds, words))
    return causes


def validate_csi_driver_update(new: CSIDriver, old: CSIDriver) -> Causes:
    """VAL-50: `attachRequired` and the lifecycle modes are immutable."""
    causes = validate_csi_driver(new)
    causes += unchanged("spec.attachedRequired", new.spec.attach_required, old.spec.attach_required)
    modes = new.spec.volume_lifecycle_modes or ()
    return causes + unchanged(
        "spec.volumeLifecycleModes", modes, old.spec.volume_lifecycle_modes or ()
    )


# --- nodes


def validate_csi_node(node: CSINode) -> Causes:
    """VAL-50: each driver once, with an id on this node."""
    causes: Causes = []
    seen: set[str] = set()
    for position, driver in enumerate(node.spec.drivers):
        here = f"spec.drivers[{position}]"
        causes += _validate_node_driver(driver, here)
        if driver.name in seen:
            causes.append(duplicate(f"{here}.name", driver.name))
        seen.add(driver.name)
        causes += _validate_topology_keys(driver, here)
    return causes


def _validate_node_driver(driver: CSINodeDriver, at: str) -> Causes:
    causes = validate_driver_name(driver.name, f"{at}.name")
    if not driver.node_id:
        causes.append(required(f"{at}.nodeID"))
    elif len(driver.node_id.encode("utf-8", "surrogatepass")) > NODE_ID_BYTES_MAX:
        causes.append(
            invalid(
                f"{at}.nodeID", driver.node_id, f"must be {NODE_ID_BYTES_MAX} characters or less"
            )
        )
    if (
        driver.allocatable is not None
        and driver.allocatable.count is not None
        and driver.allocatable.count < 0
    ):
        words = "must be greater than or equal to 0"
        causes.append(invalid(f"{at}.allocatable.count", driver.allocatable.count, words))
    return causes


def _validate_topology_keys(driver: CSINodeDriver, at: str) -> Causes:
    """VAL-50: each key is a qualified name, and comes once; upstream's causes name the driver."""
    causes: Causes = []
    keys = driver.topology_keys or ()
    for place, key in enumerate(keys):
        if not key:
            causes.append(required(at))
        if key in keys[:place]:
            causes.append(duplicate(at, key))
        causes += malformed(at, key, qualified_name)
    return causes


def validate_csi_node_update(new: CSINode, old: CSINode) -> Causes:
    """VAL-50: node id and topology of an existing driver are immutable."""
    causes = validate_csi_node(new)
    before = {driver.name: driver for driver in old.spec.drivers}
    for driver in new.spec.drivers:
        known = before.get(driver.name)
        if known is not None and (driver.node_id, driver.topology_keys) != (
            known.node_id,
            known.topology_keys,
        ):
            causes.append(invalid("spec.drivers", driver.name, "field is immutable"))
    return causes


# --- capacities


def validate_csi_storage_capacity(capacity: CSIStorageCapacity) -> Causes:
    """VAL-50."""
    causes = validate_selector(capacity.node_topology, "nodeTopology")
    name = capacity.storage_class_name
    causes += malformed("storageClassName", name, dns_subdomain)
    if capacity.capacity is not None:
        causes += validate_quantity(capacity.capacity, "capacity")
    return causes


def validate_csi_storage_capacity_update(
    new: CSIStorageCapacity, old: CSIStorageCapacity
) -> Causes:
    """VAL-50: the topology and the class are immutable."""
    causes = validate_csi_storage_capacity(new)
    causes += unchanged("nodeTopology", new.node_topology, old.node_topology)
    return causes + unchanged("storageClassName", new.storage_class_name, old.storage_class_name)


# --- attachments


def validate_volume_attachment(attachment: VolumeAttachment) -> Causes:
    """VAL-50: a new attachment also needs a well-formed attacher and volume."""
    spec = attachment.spec
    causes = _validate_attachment(attachment) + validate_driver_name(spec.attacher, "spec.attacher")
    name = spec.source.persistent_volume_name
    if name is not None:
        causes += malformed("spec.source.persistentVolumeName", name, dns_subdomain)
    return causes


def _validate_attachment(attachment: VolumeAttachment) -> Causes:
    """VAL-50: an attacher, a node and one volume; the sizes of metadata and errors are bounded."""
    spec = attachment.spec
    causes = [] if spec.attacher else [required("spec.attacher")]
    name, inline = spec.source.persistent_volume_name, spec.source.inline_volume_spec
    one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if name is None and inline is None:
        causes.append(required("spec.source", one))
    elif name is not None and inline is not None:
        causes.append(forbidden("spec.source", one))
    elif inline is not None:
        causes += validate_volume_spec(inline, "spec.source.inlineVolumeSpec", inline=True)
    elif not name:
        causes.append(
            required(
                "spec.source.persistentVolumeName", "must specify non empty persistentVolumeName"
            )
        )
    causes += malformed("spec.nodeName", spec.node_name, dns_subdomain)
    status = attachment.status
    metadata = status.attachment_metadata or {}
    if _size(*metadata, *metadata.values()) > ATTACHMENT_METADATA_BYTES_MAX:
        causes.append(too_long("status.attachmentMetadata", ATTACHMENT_METADATA_BYTES_MAX))
    causes += _validate_error(status.attach_error, "status.attachError")
    return causes + _validate_error(status.detach_error, "status.detachError")


def validate_volume_attachment_update(new: VolumeAttachment, old: VolumeAttachment) -> Causes:
    """VAL-50: the spec is immutable. Upstream checks the new object twice."""
    return _validate_attachment(new) * 2 + unchanged("spec", new.spec, old.spec)


def _validate_error(error: VolumeError | None, at: str) -> Causes:
    """VAL-50. The bound that upstream names for the message is that of the metadata."""
    if error is None:
        return []
    causes: Causes = []
    if _size(error.message or "") > ERROR_BYTES_MAX:
        causes.append(too_long(f"{at}.message", ATTACHMENT_METADATA_BYTES_MAX))
    if error.error_code is not None and error.error_code < 0:
        words = f"must be between 0 and {2**31 - 1}, inclusive"
        causes.append(invalid(f"{at}.errorCode", error.error_code, words))
    return causes


def _size(*texts: str) -> int:
    return sum([len(text.encode("utf-8", "surrogatepass")) for text in texts])


# --- classes


def validate_volume_attributes_class(attributes_class: VolumeAttributesClass) -> Causes:
    """VAL-50: a driver, and at least one parameter."""
    causes = validate_provisioner(attributes_class.driver_name, "driverName")
    parameters = attributes_class.parameters or {}
    if not parameters:
        causes.append(required("parameters", "must contain at least one key/value pair"))
    return causes + validate_parameters(parameters, "parameters")


def validate_volume_attributes_class_update(
    new: VolumeAttributesClass, old: VolumeAttributesClass
) -> Causes:
    """VAL-50: driver and parameters are immutable."""
    causes: Causes = []
    if new.driver_name != old.driver_name:
        causes.append(forbidden("driverName", "updates to driverName are forbidden."))
    if (new.parameters or {}) != (old.parameters or {}):
        causes.append(forbidden("parameters", "updates to parameters are forbidden."))
    return causes + validate_volume_attributes_class(new)
