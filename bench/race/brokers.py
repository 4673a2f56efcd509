"""The brokers of the race, each on an empty data directory and a free port of 127.0.0.1.

`k0` is Apache Kafka as it comes: an acknowledged record is in the page cache. `k1` is the same
with `log.flush.interval.messages=1`: it is on the disk, which `ringmain` always means.
"""

import maven
from broker import ApacheKafka, Ringmain
from harness import run

ALL = ("k0", "k1", "ringmain")
KAFKAS = ("k0", "k1")

# As bin/kafka-server-start.sh and bin/kafka-run-class.sh start it.
KAFKA_JAVA_OPTIONS = (
    "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true", "-Dcom.sun.management.jmxremote",
    "-Dcom.sun.management.jmxremote.authenticate=false",
    "-Dcom.sun.management.jmxremote.ssl=false",
)


class Kafka(ApacheKafka):
    java_options = KAFKA_JAVA_OPTIONS


def broker_of(name, folder, binaries):
    folder.mkdir(parents=True, exist_ok=True)
    if name == "ringmain":
        return Ringmain(folder, [binaries / "ringmain", "serve"])
    return Kafka(folder, {"log.flush.interval.messages": "1"} if name == "k1" else {})


def label_of(name, binaries):
    """What people call it, with its version."""
    if name == "ringmain":
        return run([binaries / "ringmain", "--version"]).decode().strip()
    [jar] = maven.files("broker", "kafka_2.13-*.jar")
    version = jar.stem.rpartition("-")[2]
    return f"Apache Kafka {version}" + (", flush a message" if name == "k1" else "")
