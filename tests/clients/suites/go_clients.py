"""Clients in Go: a program of ours on franz-go and one on sarama, both in go/."""

from harness import BUILD, BUILD_SECONDS_MAX, CLIENTS, Suite, run
from suites.kafka_clients import KafkaClients

SECONDS_MAX = 300


class GoClient(Suite):
    needs = ("go",)
    settings = KafkaClients.settings

    @classmethod
    def prepare(cls):
        cls.program = BUILD / "go" / cls.name
        run(["go", "build", "-o", cls.program, f"./{cls.folder}"], cwd=CLIENTS / "go",
            seconds_max=BUILD_SECONDS_MAX)

    def check_the_program(self):
        self.run_program([self.program, self.broker.address, f"{self.mark}-"], SECONDS_MAX)


class FranzGo(GoClient):
    name = "franz-go"
    folder = "franz"


class Sarama(GoClient):
    name = "sarama"
    folder = "sarama"


SUITES = [FranzGo, Sarama]
