"""Kafka's own Java client library: programs of ours, in java/, on the newest and on old versions."""

import maven
from harness import CLIENTS, Suite


class KafkaClients(Suite):
    name = "kafka-clients-4"
    needs = ("java", "javac", "mvn")

    @classmethod
    def prepare(cls):
        cls.class_path = maven.classes("tools", [CLIENTS / "java" / "ClientCheck.java"])

    def check_the_program(self):
        self.run_program(["java", "-Xmx512m", "-XX:+UseSerialGC", "-cp", self.class_path,
                          "ClientCheck", self.broker.address, f"{self.mark}-"])


SUITES = [KafkaClients]
