"""confluent-kafka from PyPI: python/confluent_check.py has what it is asked."""

import pypi
from harness import Suite

PROGRAM_SECONDS_MAX = 400  # about 90 s on Apache Kafka


class ConfluentKafka(Suite):
    name = "confluent-kafka"
    needs = ("python3", "pip3")
    settings = {"group.initial.rebalance.delay.ms": "0"}

    @classmethod
    def prepare(cls):
        cls.environment = pypi.packages("confluent")

    def check_the_client_library(self):
        self.run_program(
            ["python3", pypi.PYTHON / "confluent_check.py", self.broker.address, f"{self.mark}-"],
            seconds_max=PROGRAM_SECONDS_MAX, env=self.environment)


SUITES = [ConfluentKafka]
