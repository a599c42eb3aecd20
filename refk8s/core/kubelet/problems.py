"""Errors in the spec of a pod. They are the user's, so the kubelet reports them in the pod's status
(KUBELET-22).
"""


class BadConfig(Exception):
    """The container cannot be created as specified; `reason` is shown in its status."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason
