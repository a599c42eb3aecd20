"""The configuration file of the scheduler: a KubeSchedulerConfiguration as profiles. Rules
SCHED-50, SCHED-54 (spec/scheduler_profiles.md).

Source: Kubernetes documentation, "Scheduler Configuration"; kube-scheduler configuration (v1).
"""
