"""What every client suite shares: its base class, checks, commands with a time limit, its run.

A suite is a class in a module of `suites/`, listed in that module's `SUITES`; the module's name
stands in `suites/__init__.py`. To add one: derive from `Suite`, give it `name`, `needs` (commands
on the path) and `check_*` methods, which run in the order they are written, each against the one
fresh broker of the suite. A check passes when it returns and fails when it raises. A check that
runs a program or foreign tests reports each of their results by itself: `self.results.passes`,
`.fails` and `.leaves_out`, or `self.run_program` for a program that prints `ok NAME` and
`FAILED NAME: reason`. Names of results are unique in a suite and the same in every run.

What does not pass on ringmain stands in `expected/SUITE.txt` (what does not pass on Apache Kafka in
`expected/kafka/SUITE.txt`), a line a result: see expected.py.
"""

import os
import shutil
import subprocess
import time
import traceback
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve()
RELEASE = TARGET / "release" / "ringmain"
WORK = TARGET / "clients"  # on the disk of the clone: direct I/O does not work everywhere
BUILD = TARGET / "clients-build"  # what registries brought and what was built: kept between runs

COMMAND_SECONDS_MAX = 120
PROGRAM_SECONDS_MAX = 300
BUILD_SECONDS_MAX = 900
SAID_CHARACTERS_MAX = 2_000  # of a command that failed, from its end


class LeftOut(Exception):
    """This check cannot be made here; the message says why."""


class Failed(Exception):
    """The check was made and what came back is wrong."""


def expect(condition, message):
    if not condition:
        raise Failed(message)


def expect_equal(actual, expected, what):
    """Compares, and shows only the first difference: both sides may be megabytes."""
    if actual == expected:
        return
    if isinstance(actual, (bytes, str, list)) and isinstance(expected, type(actual)):
        pairs = zip(actual, expected)
        shorter = min(len(actual), len(expected))
        at = next((index for index, (a, b) in enumerate(pairs) if a != b), shorter)
        raise Failed(
            f"{what}: {len(actual)} instead of {len(expected)} long, first difference at {at}: "
            f"{actual[at:at + 3]!r:.300} instead of {expected[at:at + 3]!r:.300}"
        )
    raise Failed(f"{what}: {actual!r:.500} instead of {expected!r:.500}")


def run(arguments, stdin=b"", seconds_max=COMMAND_SECONDS_MAX, env=None, cwd=None, may_fail=False):
    """Runs a command to its end and returns its stdout. An exit code other than 0 fails the check,
    unless it `may_fail`: then stdout and stderr come back whatever the code."""
    arguments = [str(argument) for argument in arguments]
    environment = {**os.environ, **env} if env else None
    try:
        done = subprocess.run(
            arguments, input=stdin, capture_output=True, timeout=seconds_max, env=environment,
            cwd=cwd, check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = text((late.stdout or b"") + (late.stderr or b""))[-SAID_CHARACTERS_MAX:]
        raise Failed(f"not done after {seconds_max} s: {' '.join(arguments)}\n{said}") from late
    if may_fail:
        return done.stdout + done.stderr
    if done.returncode != 0:
        said = text(done.stdout[-SAID_CHARACTERS_MAX:] + done.stderr[-SAID_CHARACTERS_MAX:])
        raise Failed(f"exit code {done.returncode}: {' '.join(arguments)}\n{said}")
    return done.stdout


def text(said):
    return said.decode(errors="replace")


class Suite:
    """Base of the suites: holds the broker, a folder for files, and where results go."""

    name = ""
    needs = ()  # commands and headers of C; scripts/clients.sh installs what is missing by package
    settings = {}  # of the broker, by Kafka's names; {address} in a value stands for its own
    quick = True  # whether scripts/test.sh runs it; a suite may run less where `self.is_quick`

    def __init__(self, broker, folder, results, is_quick):
        self.broker, self.folder, self.results = broker, folder, results
        self.is_quick = is_quick
        # Names differ from run to run: a broker elsewhere keeps what earlier runs left.
        self.mark = f"{self.name}-{os.getpid()}-{int(time.time()) % 100000}"

    @classmethod
    def prepare(cls):
        """Brings and builds what the suite needs, before a broker is started."""

    def topic(self, name):
        return f"{self.mark}-{name}"

    def run_program(self, arguments, seconds_max=PROGRAM_SECONDS_MAX, env=None, cwd=None):
        """Runs a program that prints a line a check, and takes these lines for its results.

        Fails when it ends otherwise than with exit code 0 or says nothing; its lines count
        all the same. `seconds_max` bounds all its checks together.
        """
        arguments = [str(argument) for argument in arguments]
        said_file = self.folder / "program.out"
        with open(said_file, "wb") as said, open(self.folder / "program.err", "w+b") as errors:
            process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=errors, cwd=cwd,
                env={**os.environ, **(env or {})},
            )
            try:
                ending = f"exit code {process.wait(timeout=seconds_max)}"
            except subprocess.TimeoutExpired:
                ending = f"not done after {seconds_max} s"
            finally:
                process.kill()
                process.wait()
            errors.seek(0)
            complaint = text(errors.read())[-SAID_CHARACTERS_MAX:]
        lines_count = 0
        for line in text(said_file.read_bytes()).splitlines():
            verdict, _, rest = line.partition(" ")
            name, _, reason = rest.partition(": ")
            if verdict == "ok":
                self.results.passes(rest)
            elif verdict == "FAILED":
                self.results.fails(name, reason)
            else:
                continue
            lines_count += 1
        expect(ending == "exit code 0" and lines_count > 0,
               f"{ending} after {lines_count} checks: {' '.join(arguments)}\n{complaint}")


def run_suite(suite_class, broker, results, is_quick):
    """Runs one suite on the broker, which is started and ended here; what comes is in `results`."""
    folder = WORK / suite_class.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    try:
        suite = suite_class(broker, folder, results, is_quick)
        broker.start()
        results.passes("start", time.monotonic() - began)
    except Exception as error:  # noqa: BLE001: any end of a check is a result of it
        broker.end()
        results.fails("start", describe(error))
        return
    try:
        for method in checks_of(suite_class):
            name = method.removeprefix("check_").replace("_", " ")
            run_check(broker, name, getattr(suite, method), results)
    finally:
        broker.end()
    if not results.unexpected:
        shutil.rmtree(folder)  # after a failure data and logs stay for a look


def checks_of(suite_class):
    """Names of the checks as they are written; those that are inherited come first."""
    found = {name: None for kind in reversed(suite_class.__mro__) for name in vars(kind)}
    return [name for name in found if name.startswith("check_")]


def run_check(broker, name, check, results):
    if reason := results.not_run.get(name):
        results.leaves_out(name, reason)
        return
    began = time.monotonic()
    try:
        check()
        broker.check_alive()
        results.passes(name, time.monotonic() - began)
    except LeftOut as reason:
        results.leaves_out(name, str(reason))
    except Exception as error:  # noqa: BLE001
        results.fails(name, describe(error))
        revive(broker)


def revive(broker):
    """After a failure: the next check finds a running broker, so that one fault is one failure."""
    if broker.is_running():
        return
    print(f"          the broker's log ends with\n{broker.log_tail()}", flush=True)
    broker.end()
    try:
        broker.start()
    except Failed as error:
        print(f"          {error}", flush=True)


def describe(error):
    if isinstance(error, (Failed, LeftOut)):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()
