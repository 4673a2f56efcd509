"""aiokafka from PyPI: python/aiokafka_check.py has what it is asked."""

import pypi
from harness import Suite


class Aiokafka(Suite):
    name = "aiokafka"
    needs = ("python3", "pip3")
    settings = {"group.initial.rebalance.delay.ms": "0"}

    @classmethod
    def prepare(cls):
        cls.environment = pypi.packages("aiokafka")

    def check_the_client_library(self):
        self.run_program(
            ["python3", pypi.PYTHON / "aiokafka_check.py", self.broker.address, f"{self.mark}-"],
            env=self.environment)


SUITES = [Aiokafka]
