"""Plugin of pytest: kafka-python's integration tests on a broker that runs already.

Its source package has them, but not all that they import: `test` is not marked as a package, so
that Python's own one of this name would be found, and the module is missing that starts brokers.
"""

import sys
import types
from pathlib import Path


class ExternalService:
    """Stands for the process of a broker that somebody else starts and ends."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def start(self):
        pass

    def stop(self):
        pass


class SpawnedService:
    def __init__(self, *_):
        raise NotImplementedError("needs Kafka's scripts")


def pytest_load_initial_conftests():
    package = types.ModuleType("test")
    package.__path__ = [str(Path.cwd() / "test")]
    service = types.ModuleType("test.service")
    service.ExternalService, service.SpawnedService = ExternalService, SpawnedService
    sys.modules.update({"test": package, "test.service": service})
