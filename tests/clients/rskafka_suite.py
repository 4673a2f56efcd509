"""The integration tests that ship in the `rskafka` crate, as published, against our node."""

import json
import os
import re
import shutil

from harness import COMMAND_SECONDS_MAX, TARGET, Suite, expect, run

VERSION = "0.6.0"
# The crate ships a lock file; in it, this one no longer compiles with current Rust.
NEWER = ("rsasl", "2.3.1")
BUILD = TARGET / "clients-build" / "rskafka"  # kept between runs
TESTS = ["client", "consumer", "producer", "produce_consume"]
TESTS_COUNT_MIN = 30  # of those that run: less means that the list below left out too much
BUILD_SECONDS_MAX = 900

LEFT_OUT = {
    "test_sasl": "needs a broker with SASL",
    "test_tls": "needs a broker with TLS; ignored by rskafka itself",
    "test_socks5": "needs a SOCKS5 proxy",
    "consume_rdkafka": "its librdkafka asks the group coordinator where to start",
    "produce_java": "its Java producer is idempotent, which needs InitProducerId",
    "consume_java": "its Java bridge loads jars past Maven; the java suite has that client",
}
LISTED = re.compile(r"^(\w+): test$", re.MULTILINE)
RESULT = re.compile(r"^test (\w+) \.\.\. (ok|FAILED)$", re.MULTILINE)


class Rskafka(Suite):
    name = "rskafka"
    needs = ("cargo", "cc", "c++", "make")
    settings = {"auto.create.topics.enable": "false"}  # as in the crate's own compose file

    def prepare(self):
        self.source = BUILD / f"source-{VERSION}"
        if not (self.source / "Cargo.lock").exists():
            self.copy_source()
        self.cargo("test", "--no-run", "--locked", *self.test_flags(),
                   seconds_max=BUILD_SECONDS_MAX)

    def copy_source(self):
        """Lets cargo bring the crate, as for a package that depends on it, and copies it."""
        fetch = BUILD / "fetch"
        (fetch / "src").mkdir(parents=True, exist_ok=True)
        (fetch / "src" / "lib.rs").touch()
        (fetch / "Cargo.toml").write_text(
            '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n'
            f'[dependencies]\nrskafka = "={VERSION}"\n[workspace]\n'
        )
        told = run(["cargo", "metadata", "--format-version", "1"], cwd=fetch,
                   seconds_max=BUILD_SECONDS_MAX)
        packages = {package["name"]: package for package in json.loads(told)["packages"]}
        packed = os.path.dirname(packages["rskafka"]["manifest_path"])
        shutil.rmtree(self.source, ignore_errors=True)
        work = self.source.with_suffix(".copying")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(packed, work)
        (work / "rust-toolchain.toml").unlink()  # the machine's toolchain, whichever it is
        with open(work / "Cargo.toml", "a", encoding="utf-8") as manifest:
            manifest.write("\n[workspace]\n")  # it lies below a package that it is no part of
        name, version = NEWER
        run(["cargo", "update", name, "--precise", version], cwd=work,
            seconds_max=BUILD_SECONDS_MAX)
        work.rename(self.source)

    def test_flags(self):
        return [flag for test in TESTS for flag in ("--test", test)]

    def cargo(self, *arguments, seconds_max=COMMAND_SECONDS_MAX, may_fail=False):
        environment = {
            "CARGO_TARGET_DIR": str(BUILD / "target"), "CARGO_PROFILE_DEV_DEBUG": "0",
            "CARGO_TERM_COLOR": "never", "TEST_INTEGRATION": "1", "TEST_BROKER_IMPL": "kafka",
            "KAFKA_CONNECT": self.node.address, "TEST_JAVA_INTEROPT": "1",
        }
        return run(["cargo", *arguments], cwd=self.source, env=environment,
                   seconds_max=seconds_max, may_fail=may_fail).decode()

    def check_its_integration_tests(self):
        ran_count = 0
        for test in TESTS:
            listed = LISTED.findall(self.cargo("test", "--locked", "--test", test, "--", "--list"))
            expect(listed, f"{test} has no tests")
            skipped = {name: reason for part, reason in LEFT_OUT.items() for name in listed
                       if part in name}
            skips = [flag for name in skipped for flag in ("--skip", name)]
            said = self.cargo("test", "--locked", "--no-fail-fast", "--test", test, "--",
                              "--exact", *skips, may_fail=True)
            results = dict(RESULT.findall(said))
            for name in listed:
                ran_count += name not in skipped
                self.tell(f"rskafka {test}: {name}", skipped.get(name), results.get(name), said)
        expect(ran_count >= TESTS_COUNT_MIN, f"only {ran_count} tests ran")

    def tell(self, name, left_out, result, said):
        if left_out:
            self.tally.leaves_out(name, left_out)
        elif result == "ok":
            self.tally.passes(name)
        else:
            test = re.escape(name.rsplit(" ", 1)[1])
            panic = re.search(rf"thread '{test}'.* panicked at .*(\n.+){{0,4}}", said)
            self.tally.fails(name, panic.group() if panic else f"{result}\n{said[-1000:]}")


SUITE = Rskafka
