"""Kafka's own command-line tools, unchanged, from Maven: what the suites that run them share.

They run as `java -cp`, one process each, as their shell scripts would start them.
"""

import maven
from harness import Suite, expect, run

TOOLS = "org.apache.kafka.tools"
# One garbage collector thread and quick compilation: the broker has the same two cores.
JVM = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class ToolSuite(Suite):
    """A suite that runs the tools; names of theirs are relative to their package."""

    needs = ("java", "javac", "mvn")

    @classmethod
    def prepare(cls):
        cls.class_path = maven.jars("tools")

    def command(self, name, *arguments, bootstrap=True):
        server = ["--bootstrap-server", self.broker.address] if bootstrap else []
        command = [*JVM, "-cp", self.class_path, f"{TOOLS}.{name}", *server, *arguments]
        return [str(part) for part in command]

    def tool(self, name, *arguments, bootstrap=True, may_fail=False):
        """What it says; where it `may_fail`, its complaints too."""
        command = self.command(name, *arguments, bootstrap=bootstrap)
        return run(command, may_fail=may_fail).decode()

    def produce_numbers(self, topic, count):
        """0, 1, 2, ... as the tool's own payloads, so that what was sent is known."""
        said = self.tool(
            "ProducerPerformance", "--topic", topic, "--num-records", count, "--throughput", "-1",
            "--payload-monotonic", "--command-property", "acks=all",
        )
        expect(f"{count} records sent" in said.splitlines()[-1], f"the tool says {said!r}")
