"""The integration tests that ship in the `rskafka` crate, as published."""

import crates
import maven
from socks5 import Socks5Proxy


class Rskafka(crates.CrateTests):
    name = crate = "rskafka"
    version = "0.6.0"
    # The crate ships a lock file; in it, this one no longer compiles with current Rust.
    updates = [("rsasl", "2.3.1")]
    features = ["transport-socks5"]
    tests = ["client", "consumer", "producer", "produce_consume"]
    tests_count_min = 55
    needs = (*crates.CrateTests.needs, "java", "mvn")
    settings = {"auto.create.topics.enable": "false"}  # as in the crate's own compose file

    @classmethod
    def prepare(cls):
        maven.jars("rskafka")  # its bridge to Java loads them from Maven's local repository
        super().prepare()

    def environment(self):
        return {
            "TEST_INTEGRATION": "1", "TEST_BROKER_IMPL": "kafka", "TEST_JAVA_INTEROPT": "1",
            "KAFKA_CONNECT": self.broker.address, "SOCKS5_PROXY": self.proxy.address,
        }

    def check_its_integration_tests(self):
        with Socks5Proxy() as self.proxy:
            super().check_its_integration_tests()
            names = [name for name in self.results.passed if name.endswith("test_socks5")]
            if names and self.proxy.served_count == 0:
                self.results.fails("proxy", f"{names} passed, and nobody asked the proxy")


SUITES = [Rskafka]
