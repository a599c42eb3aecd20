"""The VolumeAttributesClasses that claims and volumes use. Rules PROT-6
(spec/workloads/protection.md), QUOTA-3 (spec/quota.md).

Source: Kubernetes documentation, "Volume Attributes Classes".
"""

from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim


def classes_of_claim(claim: PersistentVolumeClaim) -> tuple[str, ...]:
    """The classes that the claim has, and the one that it is to get, each once."""
    status = claim.status
    modification = status.modify_volume_status
    names = (
        claim.spec.volume_attributes_class_name,
        status.current_volume_attributes_class_name,
        modification.target_volume_attributes_class_name if modification is not None else None,
    )
    return tuple(dict.fromkeys(name for name in names if name))


def classes_of_volume(volume: PersistentVolume) -> tuple[str, ...]:
    """The class of the volume, if it has one."""
    name = volume.spec.volume_attributes_class_name
    return (name,) if name else ()
