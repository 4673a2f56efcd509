"""Plugin of pytest: kafka-python's integration tests on a broker that runs already.

Its source package has them, but not all that they import: `test` is not marked as a package, so
that Python's own one of this name would be found, and the module is missing that starts brokers.

One fault of the client is mended here, since it fails any test of a consumer now and then. A
consumer's I/O thread asks for the metadata of no topic, to get to know the brokers; if the main
thread subscribes before the answer, that answer counts as the one for the subscription:

    .392  I/O thread   sends Metadata with topics=[]
    .392  main thread  subscribes to the topic, which asks for an update
    .393  I/O thread   has the answer with topics=[]: update done, "Updated partition assignment: []"
    .393  I/O thread   sleeps 300 s until the next update; the test polls for 9 s and sees nothing

(kafka-python 3.0.12, its log of a run on ringmain; about one run in seven on two cores.)
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


def pytest_configure():
    from kafka.cluster import ClusterMetadata
    take = ClusterMetadata.update_metadata

    def take_and_ask_again(self, metadata):
        take(self, metadata)
        if self._topics.difference(topic.name for topic in metadata.topics):
            self.request_update()

    ClusterMetadata.update_metadata = take_and_ask_again


def pytest_load_initial_conftests():
    package = types.ModuleType("test")
    package.__path__ = [str(Path.cwd() / "test")]
    service = types.ModuleType("test.service")
    service.ExternalService, service.SpawnedService = ExternalService, SpawnedService
    sys.modules.update({"test": package, "test.service": service})
