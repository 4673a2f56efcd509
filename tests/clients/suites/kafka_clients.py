"""Kafka's own Java client library, the newest and two old ones: programs of ours, in java/.

java/common has the checks for all versions, java/since3 those that 2.8 lacks the interface for,
java/before4 those that are gone from 4, and java/v2, v3, v4 a program each.
"""

import maven
from harness import Suite

SECONDS_MAX = 400


class KafkaClients(Suite):
    needs = ("java", "javac", "mvn")
    settings = {  # rebalances as in Kafka, only sooner
        "group.initial.rebalance.delay.ms": "200",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "300",
        "group.consumer.heartbeat.interval.ms": "300",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.session.timeout.ms": "6000",
    }
    jars = ""
    folders = ()  # of java/, the one with the program first

    @classmethod
    def prepare(cls):
        cls.command = maven.program(cls.jars, cls.folders)

    def check_the_program(self):
        env = {"TRANSACTIONS": "refused"} if self.broker.is_ringmain else None
        self.run_program([*self.command, self.broker.address, f"{self.mark}-"], SECONDS_MAX, env)


class Clients4(KafkaClients):
    name = "kafka-clients-4"
    jars = "clients-4"
    folders = ("v4", "since3", "common")


class Clients34(KafkaClients):
    name = "kafka-clients-3.4"
    jars = "clients-3.4"
    folders = ("v3", "since3", "before4", "common")
    quick = False


class Clients28(KafkaClients):
    name = "kafka-clients-2.8"
    jars = "clients-2.8"
    folders = ("v2", "before4", "common")


SUITES = [Clients4, Clients34, Clients28]
