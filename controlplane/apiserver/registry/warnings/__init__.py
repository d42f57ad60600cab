"""What is accepted and unwise: texts for Warning headers.

Source: pkg/api/*/warnings.go, pkg/registry/*/strategy.go (WarningsOnCreate, WarningsOnUpdate).
"""
