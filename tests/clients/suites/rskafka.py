"""The integration tests that ship in the `rskafka` crate, as published."""

import re

import crates
from harness import BUILD, BUILD_SECONDS_MAX, COMMAND_SECONDS_MAX, Suite, expect, run

VERSION = "0.6.0"
# The crate ships a lock file; in it, this one no longer compiles with current Rust.
NEWER = [("rsasl", "2.3.1")]
TESTS = ["client", "consumer", "producer", "produce_consume"]
TESTS_COUNT_MIN = 30  # of those that run: less means that the list of the others grew too long

LISTED = re.compile(r"^(\w+): test$", re.MULTILINE)
RESULT = re.compile(r"^test (\w+) \.\.\. (ok|FAILED)$", re.MULTILINE)


class Rskafka(Suite):
    name = "rskafka"
    needs = ("cargo", "cc", "c++", "make")
    settings = {"auto.create.topics.enable": "false"}  # as in the crate's own compose file

    @classmethod
    def prepare(cls):
        cls.source = crates.source("rskafka", VERSION, NEWER)
        cls.cargo("--no-run", *[flag for test in TESTS for flag in ("--test", test)],
                  seconds_max=BUILD_SECONDS_MAX)

    @classmethod
    def cargo(cls, *arguments, env=None, seconds_max=COMMAND_SECONDS_MAX, may_fail=False):
        environment = {
            "CARGO_TARGET_DIR": str(BUILD / "rskafka" / "target"), "CARGO_PROFILE_DEV_DEBUG": "0",
            "CARGO_TERM_COLOR": "never", **(env or {}),
        }
        return run(["cargo", "test", "--locked", *arguments], cwd=cls.source, env=environment,
                   seconds_max=seconds_max, may_fail=may_fail).decode()

    def check_its_integration_tests(self):
        environment = {
            "TEST_INTEGRATION": "1", "TEST_BROKER_IMPL": "kafka", "TEST_JAVA_INTEROPT": "1",
            "KAFKA_CONNECT": self.broker.address,
        }
        ran_count = 0
        for test in TESTS:
            listed = LISTED.findall(self.cargo("--test", test, "--", "--list"))
            expect(listed, f"{test} has no tests")
            names = {name: f"{test} {name}" for name in listed}
            skips = [flag for name in listed if names[name] in self.results.not_run
                     for flag in ("--skip", name)]
            said = self.cargo("--no-fail-fast", "--test", test, "--", "--exact", *skips,
                              env=environment, may_fail=True)
            results = dict(RESULT.findall(said))
            for name in listed:
                ran_count += name in results
                self.tell(name, names[name], results.get(name), said)
        expect(ran_count >= TESTS_COUNT_MIN, f"only {ran_count} tests ran")

    def tell(self, test, name, result, said):
        if reason := self.results.not_run.get(name):
            self.results.leaves_out(name, reason)
        elif result == "ok":
            self.results.passes(name)
        else:
            panic = re.search(rf"thread '{test}'.* panicked at .*(\n.+){{0,4}}", said)
            self.results.fails(name, panic.group() if panic else f"{result}\n{said[-1000:]}")


SUITES = [Rskafka]
