"""The broker tests that come with librdkafka, built from its source inside the crate `rdkafka-sys`.

Each runs in a process of its own, in the tests' quick mode and with a time limit; the tests that
ask no broker are left to librdkafka. Once more with the consumer group protocol set to `consumer`,
and those of the scenario `noautocreate` on a broker that creates no topic by itself. Where a test
calls Kafka's scripts, it finds the one for topics, made of Kafka's own tool from Maven.
"""

import os
import re
import shutil
import subprocess
import time

import crates
import maven
from harness import BUILD, BUILD_SECONDS_MAX, Suite, expect, run, text

VERSION = "4.10.0+2.12.1"  # the part after the plus is librdkafka's
AS_BROKER_VERSION = "4.3.1"  # newer than any that the tests know: they leave nothing out
# What the sources may find on one machine and not on the other, and no test here needs.
CONFIGURE = ["--disable-ssl", "--disable-gssapi", "--disable-curl", "--disable-lz4-ext",
             "--disable-optimization", "--disable-debug-symbols"]
TEST_SECONDS_MAX = 200
TESTS_COUNT_MIN = 70  # of those that ask a broker: less means that the list was read wrongly
SPLIT = "0081_admin"  # ends at its first failure, which is ACLs: its parts are run one by one
QUICK = {"0011_produce_batch", "0012_produce_consume", "0017_compression", "0018_cgrp_term",
         "0026_consume_pause", "0030_offset_commit", "0031_get_offsets", "0042_many_topics",
         "0054_offset_time", "0056_balanced_group_mt", "0090_idempotence",
         "0102_static_group_rebalance", "0113_cooperative_rebalance", "0130_store_offsets"}

ENTRY = re.compile(r"_TEST\((\d\w+),(.*?)\),?\s*(?=#|/\*|_TEST\(|\{NULL\})", re.DOTALL)
SCENARIO = re.compile(r'\.scenario = "([\w,]+)"')
LEFT_TO_LIBRDKAFKA = re.compile(r"\bTEST_F_(LOCAL|KNOWN_ISSUE|MANUAL)\b")
PART = re.compile(r"^static void\s+(do_test_\w+)\(", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[\d*m|\x1b\(B")
FAULT = re.compile(r"### Test \".*\" failed at .*\n?.*|not done after .*")


class Librdkafka(Suite):
    name = "librdkafka"
    needs = ("cargo", "cc", "c++", "make", "java", "mvn", "/usr/include/zlib.h",
             "/usr/include/zstd.h", "/usr/include/rapidjson/schema.h")
    settings = {"num.partitions": "4"}  # as of the cluster that the tests are written for
    protocol = "classic"
    scenario = "default"

    @classmethod
    def prepare(cls):
        packed = crates.packed("rdkafka-sys", VERSION) / "librdkafka"
        cls.tests = build(packed) / "tests"
        cls.kafka_path = scripts()
        listed = (cls.tests / "test.c").read_text()
        listed = listed[listed.index("struct test tests[] = {"):listed.index("{NULL}};") + 6]
        cls.listed = [name for name, rest in ENTRY.findall(listed)
                      if not LEFT_TO_LIBRDKAFKA.search(rest) and cls.scenario in scenarios(rest)]

    def check_its_broker_tests(self):
        ran_count = 0
        for test in self.listed:
            if self.is_quick and test not in QUICK:
                continue
            for part in self.parts(test):
                ran_count += 1
                self.run_test(test, part)
        if self.scenario == "default" and not self.is_quick:
            expect(ran_count >= TESTS_COUNT_MIN, f"only {ran_count} tests")

    def parts(self, test):
        if test != SPLIT:
            return [None]
        [source] = self.tests.glob("0081-*.c")
        parts = [part for part in PART.findall(source.read_text()) if part != "do_test_apis"]
        expect(len(parts) > 15, f"only {len(parts)} parts")
        return parts

    def run_test(self, test, part):
        name = f"{test} {part}" if part else test
        if reason := self.results.not_run.get(name):
            self.results.leaves_out(name, reason)
            return
        log = self.folder / f"{name.replace(' ', '.')}.log"
        began = time.monotonic()
        code = self.run_process(test, part, log)
        said = COLOUR.sub("", text(log.read_bytes()))
        row = re.search(rf"^\| {test} +\| +(\w+) \|", said, re.MULTILINE)
        verdict = row.group(1) if row else f"no verdict, {code}"
        if verdict == "PASSED" and code == 0 and part and ": PASS (" not in said:
            verdict = "SKIPPED"
        if verdict == "PASSED" and code == 0:
            self.results.passes(name, time.monotonic() - began)
        elif verdict == "SKIPPED":
            why = re.search(rf"\[{test} +/.*SKIPPING TEST: (.*)", said)
            self.results.leaves_out(name, why.group(1) if why else "it leaves itself out")
        else:
            faults = " ".join(FAULT.findall(said)) or f"{verdict}: {said[-500:]}"
            self.results.fails(name, f"{faults}\n          all of it: {log}")
        self.broker.check_alive()

    def run_process(self, test, part, log):
        """Runs one test, all it says into `log`; its exit code, or that its time was over."""
        settings = self.folder / "test.conf"
        settings.write_text(f"bootstrap.servers={self.broker.address}\n")
        environment = {
            **os.environ, "RDKAFKA_TEST_CONF": str(settings), "TESTS": test,
            "TEST_KAFKA_VERSION": AS_BROKER_VERSION, "TEST_SCENARIO": self.scenario,
            "LD_LIBRARY_PATH": f"{self.tests.parent}/src:{self.tests.parent}/src-cpp",
            "KAFKA_PATH": str(self.kafka_path), "BROKERS": self.broker.address,
        }
        if self.protocol != "classic":
            environment["TEST_CONSUMER_GROUP_PROTOCOL"] = self.protocol
        # One at a time, without the local ones and those of known issues. A part is asked for
        # whether it is of the quick mode or not.
        flags = ["-p1", "-L", "-K"] + ([] if part else ["-Q"])
        if part:
            environment["SUBTESTS"] = f"{part}:"
        with open(log, "wb") as said:
            process = subprocess.Popen(
                ["./test-runner", *flags], cwd=self.tests, env=environment, stdout=said,
                stderr=said, stdin=subprocess.DEVNULL,
            )
            try:
                return process.wait(timeout=TEST_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                said.write(f"not done after {TEST_SECONDS_MAX} s\n".encode())
                return "its time over"
            finally:
                process.kill()
                process.wait()


class LibrdkafkaConsumer(Librdkafka):
    name = "librdkafka-consumer"
    quick = False
    protocol = "consumer"


class LibrdkafkaNoAutoCreate(Librdkafka):
    name = "librdkafka-noautocreate"
    quick = False
    settings = {**Librdkafka.settings, "auto.create.topics.enable": "false"}
    scenario = "noautocreate"


class LibrdkafkaConsumerNoAutoCreate(LibrdkafkaNoAutoCreate):
    name = "librdkafka-consumer-noautocreate"
    protocol = "consumer"


def scenarios(entry):
    named = SCENARIO.search(entry)
    return named.group(1).split(",") if named else ["default"]


def build(packed):
    """Builds librdkafka and its tests from a copy of `packed`; returns where."""
    folder = BUILD / "librdkafka" / VERSION
    if (folder / "tests" / "test-runner").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    work = folder.with_suffix(".building")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(packed, work)
    run(["./configure", *CONFIGURE], cwd=work, seconds_max=BUILD_SECONDS_MAX)
    jobs = f"-j{os.cpu_count()}"
    run(["make", jobs, "libs"], cwd=work, seconds_max=BUILD_SECONDS_MAX)
    run(["make", jobs, "-C", "tests", "build"], cwd=work, seconds_max=BUILD_SECONDS_MAX)
    work.rename(folder)
    return folder


def scripts():
    """A folder as of Kafka's distribution, with the one script that tests call."""
    folder = BUILD / "librdkafka" / "kafka"
    script = folder / "bin" / "kafka-topics.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(
        "#!/bin/sh\nexec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "
        f"-cp '{maven.jars('tools')}' org.apache.kafka.tools.TopicCommand \"$@\"\n")
    script.chmod(0o755)
    return folder


SUITES = [Librdkafka, LibrdkafkaConsumer, LibrdkafkaNoAutoCreate, LibrdkafkaConsumerNoAutoCreate]
