"""Kafka's own admin client and admin tools, unchanged: settings, topics, the cluster.

What the client library is asked stands in java/AdminCheck.java; a tool is a process each.
"""

import json

import maven
from harness import CLIENTS, Suite, expect, run

TOOLS = "org.apache.kafka.tools"


class KafkaAdmin(Suite):
    name = "kafka-admin"
    needs = ("java", "javac", "mvn")

    @classmethod
    def prepare(cls):
        cls.class_path = maven.classes("tools", [CLIENTS / "java" / "AdminCheck.java"])

    def java(self, class_path):
        # One garbage collector thread and quick compilation: the broker has the same two cores.
        return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp",
                class_path]

    def tool(self, name, *arguments):
        command = [*self.java(self.class_path), name]
        return run([*command, "--bootstrap-server", self.broker.address, *arguments]).decode()

    def check_the_program(self):
        self.run_program([*self.java(self.class_path), "AdminCheck", self.broker.address,
                          f"{self.mark}-"])

    def check_kafka_log_dirs_and_delete_records(self):
        topic = self.topic("dirs")
        self.tool(f"{TOOLS}.TopicCommand", "--create", "--topic", topic, "--partitions", "2")
        said = self.tool(f"{TOOLS}.LogDirsCommand", "--describe", "--topic-list", topic)
        described = json.loads(said[said.index("{"):])
        found = [partition for broker in described["brokers"] for folder in broker["logDirs"]
                 for partition in folder["partitions"]]
        names = sorted(partition["partition"] for partition in found)
        expect(names == [f"{topic}-0", f"{topic}-1"], f"kafka-log-dirs says {said!r}")
        offsets = self.folder / "offsets.json"
        offsets.write_text(json.dumps({"version": 1, "partitions": [
            {"topic": topic, "partition": 0, "offset": 0}]}))
        said = self.tool(f"{TOOLS}.DeleteRecordsCommand", "--offset-json-file", offsets)
        expect(f"partition: {topic}-0\tlow_watermark: 0" in said, f"the tool says {said!r}")

    def check_kafka_leader_election_features_and_metadata_quorum(self):
        topic = self.topic("election")
        self.tool(f"{TOOLS}.TopicCommand", "--create", "--topic", topic)
        said = self.tool(f"{TOOLS}.LeaderElectionCommand", "--election-type", "preferred",
                         "--topic", topic, "--partition", "0")
        expect(f"Valid replica already elected for partitions {topic}-0" in said,
               f"kafka-leader-election says {said!r}")
        said = self.tool(f"{TOOLS}.FeatureCommand", "describe")
        line = next((line for line in said.splitlines() if "group.version" in line), "")
        expect("SupportedMaxVersion: 1" in line and "FinalizedVersionLevel: 1" in line,
               f"kafka-features says {said!r}")
        said = self.tool(f"{TOOLS}.MetadataQuorumCommand", "describe", "--status")
        for part in ["LeaderId:", "MaxFollowerLag:         0", "CurrentObservers:       []"]:
            expect(part in said, f"kafka-metadata-quorum does not say {part!r}: {said!r}")

    def check_kafka_client_metrics(self):
        name = f"{self.mark}-metrics"
        tool = f"{TOOLS}.ClientMetricsCommand"
        self.tool(tool, "--alter", "--name", name, "--metrics", "a.,b.", "--interval", "5000")
        expect(name in self.tool(tool, "--list").splitlines(), "it is not listed")
        said = self.tool(tool, "--describe", "--name", name)
        for part in ["interval.ms=5000", "metrics=a.,b."]:
            expect(part in said, f"kafka-client-metrics does not say {part!r}: {said!r}")
        self.tool(tool, "--delete", "--name", name)
        expect(name not in self.tool(tool, "--list").splitlines(), "it is still listed")

    def check_kafka_configs(self):
        if self.is_quick:
            return  # a dozen processes

        def configs(*arguments):
            return self.tool(f"{TOOLS}.ConfigCommand", *arguments)

        topic = self.topic("configs")
        self.tool(f"{TOOLS}.TopicCommand", "--create", "--topic", topic)
        for entity, value in [(("topics", "--entity-name", topic), "retention.ms=7200000"),
                              (("brokers", "--entity-default"), "log.retention.ms=7100000"),
                              (("groups", "--entity-name", topic),
                               "consumer.session.timeout.ms=50000")]:
            configs("--alter", "--add-config", value, "--entity-type", *entity)
            said = configs("--describe", "--entity-type", *entity)
            expect(value in said, f"kafka-configs does not say {value!r}: {said!r}")
            configs("--alter", "--delete-config", value.split("=")[0], "--entity-type", *entity)
            said = configs("--describe", "--entity-type", *entity)
            expect(value not in said, f"kafka-configs still says {value!r}: {said!r}")


SUITES = [KafkaAdmin]
