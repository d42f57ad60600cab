"""The audit log: who did what when, as far as the policy asks.

    request → policy (level and stages) → event (event) at each stage → log file (log)

Source: k8s.io/apiserver/pkg/audit; audit.k8s.io/v1.
"""
