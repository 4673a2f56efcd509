"""The integration tests that ship in the `rdkafka` crate (librdkafka for Rust)."""

import crates

# Three tests have the address of their author's broker written into them.
PATCHES = [
    ("tests/test_high_producers.rs", '"bootstrap.servers", "localhost")',
     '"bootstrap.servers", get_bootstrap_server())'),
    ("tests/test_metadata.rs", "port(), 9092)",
     "port().to_string(), get_bootstrap_server().rsplit(':').next().unwrap())"),
]


class Rdkafka(crates.CrateTests):
    name = crate = "rdkafka"
    version = "0.39.0"
    patches = PATCHES
    tests = ["test_admin", "test_high_consumers", "test_high_producers", "test_low_consumers",
             "test_low_producers", "test_metadata", "test_topic_partition_list",
             "test_transactions"]
    tests_count_min = 40
    # As of the broker in the crate's own compose file.
    settings = {"node.id": "0", "num.partitions": "3"}
    quick = False  # builds for 2 minutes, and librdkafka's own tests ask more

    def environment(self):
        return {"KAFKA_HOST": self.broker.address, "RUST_LOG": "off"}


SUITES = [Rdkafka]
