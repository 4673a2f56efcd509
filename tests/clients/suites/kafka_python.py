"""The integration tests of kafka-python, from its source package."""

import xml.etree.ElementTree as ElementTree

import pypi
from harness import Suite, expect, run

VERSION = "3.0.12"
AS_BROKER_VERSION = "4.3.1"
TESTS = "test/integration"
TESTS_COUNT_MIN = 50
TEST_SECONDS_MAX = 60
ALL_SECONDS_MAX = 600


class KafkaPython(Suite):
    name = "kafka-python"
    needs = ("python3", "pip3")
    settings = {  # as of the broker that these tests start by themselves elsewhere
        "node.id": "0", "num.partitions": "4", "group.min.session.timeout.ms": "1000",
        "group.initial.rebalance.delay.ms": "0", "advertised.listeners": "PLAINTEXT://{address}",
    }

    @classmethod
    def prepare(cls):
        cls.environment = pypi.packages("kafka_python")
        cls.source = pypi.source("kafka-python", VERSION)

    def check_its_integration_tests(self):
        report = self.folder / "report.xml"
        root = self.folder / "no-kafka-here"
        root.mkdir()
        environment = {
            **self.environment, "KAFKA_VERSION": AS_BROKER_VERSION, "KAFKA_ROOT": str(root),
            "KAFKA_URI": f"kafka://{self.broker.address}",
        }
        leave_out = [flag for name in self.results.not_run
                     for flag in ("--deselect", f"{TESTS}/{name.replace(' ', '.py::', 1)}")]
        said = run(
            ["python3", "-m", "pytest", "-p", "given_broker", TESTS, "-q", "--tb=short",
             "-o", "addopts=", "-o", "junit_family=xunit1", "-p", "no:cacheprovider",
             "--show-capture=no", "--log-level=ERROR", f"--timeout={TEST_SECONDS_MAX}",
             "--timeout-method=signal", f"--junitxml={report}", *leave_out],
            env=environment, cwd=self.source, seconds_max=ALL_SECONDS_MAX, may_fail=True)
        expect(report.exists(), f"no report\n{said[-2000:].decode(errors='replace')}")
        for name, reason in self.results.not_run.items():
            self.results.leaves_out(name, reason)
        cases = list(ElementTree.parse(report).iter("testcase"))
        for case in cases:
            self.tell(case)
        count = len(cases) + len(self.results.not_run)
        expect(count >= TESTS_COUNT_MIN, f"only {count} tests")

    def tell(self, case):
        module, _, within = case.get("classname").removeprefix("test.integration.").partition(".")
        name = f"{module} {within + '::' if within else ''}{case.get('name')}"
        outcome = {child.tag: child for child in case}
        if (bad := outcome.get("failure", outcome.get("error"))) is not None:
            self.results.fails(name, f"{bad.get('message')}\n{(bad.text or '')[-1500:]}")
        elif (skipped := outcome.get("skipped")) is not None:
            self.results.leaves_out(name, skipped.get("message"))
        else:
            self.results.passes(name, float(case.get("time")))


SUITES = [KafkaPython]
