"""One cluster with hollow nodes for all client tests, by the fixtures that Navarch gives to everybody."""

from machinery.testing.pytest_plugin import navarch_cluster, navarch_namespace, pytest_addoption

__all__ = ["navarch_cluster", "navarch_namespace", "pytest_addoption"]
