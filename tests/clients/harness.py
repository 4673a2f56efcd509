"""What every client suite shares: a node to talk to, commands with a time limit, and the tally.

A suite is a class with `name`, `needs` (commands) and `check_*` methods, which run in the order
they are written. A check passes when it returns and fails when it raises; it raises LeftOut with
the reason where the broker under test cannot be asked (a broker of somebody else is not killed).
"""

import os
import shutil
import socket
import subprocess
import time
import traceback
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")).resolve()
RELEASE = TARGET / "release" / "ringmain"
WORK = TARGET / "clients"  # on the disk of the clone: direct I/O does not work everywhere

READY = b"ringmain ready on "
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30
COMMAND_SECONDS_MAX = 120
LOG_LINES_SHOWN = 40


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
        said = (late.stderr or b"").decode(errors="replace")[-2000:]
        raise Failed(f"not done after {seconds_max} s: {' '.join(arguments)}\n{said}") from late
    if may_fail:
        return done.stdout + done.stderr
    if done.returncode != 0:
        said = (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
        raise Failed(f"exit code {done.returncode}: {' '.join(arguments)}\n{said}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Node:
    """A ringmain process of our own: release build, fresh data, a free port of 127.0.0.1."""

    is_ours = True

    def __init__(self, folder, command, settings=None):
        self.data_dir = folder / "data"
        self.log_file = folder / "node.log"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.command = command
        self.settings = settings or {}
        self.process = None

    def start(self, seconds_max=START_SECONDS_MAX):
        """Returns the seconds until the port answered."""
        assert self.process is None, "one process at a time"
        arguments = [*self.command, "--data-dir", self.data_dir, "--listen", self.address]
        for name, value in self.settings.items():
            arguments += ["--set", f"{name}={value}"]
        began = time.monotonic()
        with open(self.log_file, "ab") as log:
            log_start = log.tell()
            # A session of its own: a Ctrl-C at the terminal is the suite's to handle.
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True,
            )
        # The line, too: the port of a killed node answers a moment longer than the node lives.
        while not (READY in self.log_file.read_bytes()[log_start:] and answers(self.port)):
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise Failed(f"the node ended with {code} at start\n{self.log_tail()}")
            if time.monotonic() - began > seconds_max:
                self.kill()
                raise Failed(f"no answer {seconds_max} s after start\n{self.log_tail()}")
            time.sleep(0.02)
        return time.monotonic() - began

    def kill(self):
        """kill -9, of our own child."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        """A clean stop; fails if it is not clean."""
        process, self.process = self.process, None
        process.terminate()
        try:
            code = process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"not stopped {STOP_SECONDS_MAX} s after SIGTERM\n{self.log_tail()}")
        expect(code == 0, f"exit code {code} after SIGTERM\n{self.log_tail()}")

    def check_alive(self):
        code = self.process.poll() if self.process else None
        expect(code is None, f"the node ended by itself with {code}\n{self.log_tail()}")

    def end(self):
        """Whatever state it is in: gone."""
        if self.process is not None:
            self.kill()

    def log_tail(self):
        lines = self.log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(f"    {line}" for line in lines)


class Elsewhere:
    """A broker that somebody else runs, such as Apache Kafka: is asked, never stopped."""

    is_ours = False

    def __init__(self, address, data_dir=None):
        self.address = address
        self.data_dir = Path(data_dir) if data_dir else None

    def start(self):
        pass

    def kill(self):
        raise LeftOut("the broker is not ours to kill")

    stop = kill

    def check_alive(self):
        pass

    def end(self):
        pass

    def log_tail(self):
        return ""


class Tally:
    def __init__(self):
        self.passed, self.failed, self.left_out = [], [], []  # names

    def passes(self, name, seconds=None):
        self.passed.append(name)
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        print(f"ok        {name}{took}", flush=True)

    def fails(self, name, reason):
        self.failed.append(name)
        print(f"FAILED    {name}: {reason}", flush=True)

    def leaves_out(self, name, reason):
        self.left_out.append(name)
        print(f"left out  {name}: {reason}", flush=True)

    def print_summary(self):
        print(f"\n{len(self.left_out)} left out, each with its reason above")
        for name in self.failed:
            print(f"failed: {name}")
        print(f"{len(self.passed)} passed, {len(self.failed)} failed", flush=True)


def run_suite(suite_class, elsewhere, binary, tally):
    """Runs one suite on a fresh node (or on `elsewhere`) and leaves no process behind."""
    failed_before = len(tally.failed)
    folder = WORK / suite_class.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    node = elsewhere or Node(folder, [binary, "serve"], suite_class.settings)
    try:
        began = time.monotonic()
        suite = suite_class(node, folder, tally)
        suite.prepare()
        node.start()
        tally.passes(f"{suite_class.name}: start", time.monotonic() - began)
    except Exception as error:  # noqa: BLE001: any end of a check is a result of it
        node.end()
        tally.fails(f"{suite_class.name}: start", describe(error))
        return
    try:
        for method in [name for name in vars(suite_class) if name.startswith("check_")]:
            name = f"{suite_class.name}: {method.removeprefix('check_').replace('_', ' ')}"
            run_check(node, name, getattr(suite, method), tally)
    finally:
        node.end()
    if len(tally.failed) == failed_before:
        shutil.rmtree(folder)  # after a failure data and logs stay for a look


def run_check(node, name, check, tally):
    began = time.monotonic()
    try:
        check()
        node.check_alive()
        tally.passes(name, time.monotonic() - began)
    except LeftOut as reason:
        tally.leaves_out(name, reason)
    except Exception as error:  # noqa: BLE001
        tally.fails(name, describe(error))
        revive(node)


def revive(node):
    """After a failure: the next check finds a running node, so that one fault is one failure."""
    if not node.is_ours or (node.process is not None and node.process.poll() is None):
        return
    if node.process is not None:  # it ended by itself
        print(f"          the node's log ends with\n{node.log_tail()}", flush=True)
        node.process = None
    try:
        node.start()
    except Failed as error:
        print(f"          {error}", flush=True)


def describe(error):
    if isinstance(error, (Failed, LeftOut)):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()


class Suite:
    """Base of the suites: holds the node, a folder for files, and the tally for finer results."""

    name = ""
    needs = ()
    settings = {}  # of the node, by Kafka's names

    def __init__(self, node, folder, tally):
        self.node, self.folder, self.tally = node, folder, tally
        # Names differ from run to run: a broker elsewhere keeps what earlier runs left.
        self.mark = f"{self.name}-{os.getpid()}-{int(time.time()) % 100000}"

    def prepare(self):
        """Builds what the suite needs before a node is started."""

    def topic(self, name):
        return f"{self.mark}-{name}"
