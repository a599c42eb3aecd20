"""What can be wrong with what a pod asks for: theirs, not ours, so it becomes a word in the pod's
status (KUBELET-22)."""


class BadConfig(Exception):
    """The container cannot be made as asked; `reason` is the word that users see."""

    def __init__(self, message: str, reason: str = "CreateContainerConfigError") -> None:
        super().__init__(message)
        self.reason = reason
