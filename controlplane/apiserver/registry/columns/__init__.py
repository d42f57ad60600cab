"""Columns of the Table form of each kind: what `kubectl get` shows.

Source: pkg/printers/internalversion/printers.go.
"""
