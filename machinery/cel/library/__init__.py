"""The functions of CEL and of Kubernetes: one table of overloads a library, each with what it does.

`FUNCTIONS` is what every expression of Kubernetes 1.36 may call.

Source: cel-spec; cel-go ext/; k8s.io/apiserver/pkg/cel/environment/base.go, pkg/cel/library.
"""
