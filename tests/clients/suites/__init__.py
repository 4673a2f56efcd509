"""The suites: a module a client, in the order in which they run. Each has a list `SUITES`."""

import importlib

MODULES = [
    "start",
    "bench_reports",
    "kcat",
    "kafka_tools",
    "kafka_groups",
    "kafka_clients",
    "kafka_admin",
    "go_clients",
    "node_clients",
    "rskafka",
    "confluent_kafka",
    "aiokafka",
    "kafka_python",
    "librdkafka",
    "rdkafka",
]


def load():
    """All suites by name, in order."""
    classes = [suite for module in MODULES
               for suite in importlib.import_module(f"suites.{module}").SUITES]
    return {suite.name: suite for suite in classes}
