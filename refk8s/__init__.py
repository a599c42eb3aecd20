"""refk8s: Kubernetes as one formally specified transition system in readable Python."""

__version__ = "0.1.0"
