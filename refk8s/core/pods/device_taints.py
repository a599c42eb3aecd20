"""Taints of devices: from ResourceSlices, and from DeviceTaintRules. Rules DRA-5, DRA-20, DRA-21
(spec/devices.md).

Source: KEP-5055 "DRA: device taints and tolerations"; API reference, "DeviceTaintRule".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.pods.tolerations import tolerates

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import DeviceTaint, DeviceTaintRule, DeviceToleration


def selects_device(rule: DeviceTaintRule, driver: str, pool: str, device: str) -> bool:
    """DRA-20: whether the rule is about this device. An absent field matches every device, an
    absent selector none."""
    selector = rule.spec.device_selector
    return selector is not None and (
        selector.driver in (None, driver)
        and selector.pool in (None, pool)
        and selector.device in (None, device)
    )


def end_of_use(
    taint: DeviceTaint, tolerations: Iterable[DeviceToleration], since: Instant
) -> Instant | None:
    """DRA-21: when a pod with these tolerations may no longer use a device with this taint; None if
    it always may. `since`: counts for a taint without `timeAdded`."""
    matching = [one.toleration_seconds for one in tolerations if tolerates(one, taint)]
    seconds = [one for one in matching if one is not None]
    if len(seconds) < len(matching):
        return None
    start = parse_timestamp(taint.time_added) if taint.time_added else since
    return start + max(0, min(seconds, default=0)) * SECOND
