"""The brokers that suites are run on: ringmain, Apache Kafka from Maven, or one that runs already.

The first two are processes of ours on free ports of 127.0.0.1 with fresh data, and may be killed,
stopped and started again by a check.
"""

import base64
import socket
import subprocess
import time
import uuid
from pathlib import Path

import maven
from harness import Failed, LeftOut, expect, run

START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 30
LOG_LINES_SHOWN = 40
KAFKA_HEAP = "-Xmx768m"


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


class Process:
    """A broker process of our own: fresh data below `folder`, a free port of 127.0.0.1."""

    ready = b""  # what it logs once it serves

    def __init__(self, folder, settings=None):
        self.data_dir = folder / "data"
        self.log_file = folder / "broker.log"
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.settings = {name: value.format(address=self.address)
                         for name, value in (settings or {}).items()}
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self, seconds_max=START_SECONDS_MAX):
        """Returns the seconds until it was ready and the port answered."""
        assert self.process is None, "one process at a time"
        arguments = [str(argument) for argument in self.command()]
        began = time.monotonic()
        with open(self.log_file, "ab") as log:
            log_start = log.tell()
            # A session of its own: a Ctrl-C at the terminal is the driver's to handle.
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )
        # The line, too: the port of a killed broker answers a moment longer than it lives.
        while not (self.ready in self.log_file.read_bytes()[log_start:] and answers(self.port)):
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise Failed(f"the broker ended with {code} at start\n{self.log_tail()}")
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
        expect(self.is_clean(code), f"exit code {code} after SIGTERM\n{self.log_tail()}")

    def is_clean(self, code):
        return code == 0

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def check_alive(self):
        code = self.process.poll() if self.process else None
        expect(code is None, f"the broker ended by itself with {code}\n{self.log_tail()}")

    def end(self):
        """Whatever state it is in: gone."""
        if self.process is not None:
            self.kill()

    def log_tail(self):
        if not self.log_file.exists():
            return ""
        lines = self.log_file.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(f"    {line}" for line in lines)


class Ringmain(Process):
    """`program` is what comes before the flags of `ringmain serve`."""

    is_ringmain = True
    ready = b"ringmain ready on "

    def __init__(self, folder, program, settings=None):
        super().__init__(folder, settings)
        self.program = program

    def command(self):
        sets = [part for name, value in self.settings.items()
                for part in ("--set", f"{name}={value}")]
        return [*self.program, "--data-dir", self.data_dir, "--listen", self.address, *sets]


class ApacheKafka(Process):
    """One node that is broker and controller, from Maven, with its internal topics not replicated."""

    is_ringmain = False
    ready = b"Kafka Server started"
    java_options = (KAFKA_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

    def __init__(self, folder, settings=None):
        super().__init__(folder, settings)
        self.properties = folder / "server.properties"
        self.class_path = maven.jars("broker")

    def command(self):
        java = ["java", *self.java_options,
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
                "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.server=info",
                "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
                "-cp", self.class_path]
        if not self.data_dir.exists():
            self.write_properties()
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            run([*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}",
                 "--config", self.properties])
        return [*java, "kafka.Kafka", self.properties]

    def write_properties(self):
        controller = f"127.0.0.1:{free_port()}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"{self.settings.get('node.id', '1')}@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.data_dir,
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            **self.settings,
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        self.properties.write_text("".join(lines))

    def is_clean(self, code):
        return code in (0, 143)  # the JVM ends with the signal's number after a clean stop


class Elsewhere:
    """A broker that somebody else runs: is asked, never stopped. `data_dir` may be None."""

    is_ringmain = False

    def __init__(self, address, data_dir=None):
        self.address = address
        self.data_dir = Path(data_dir) if data_dir else None

    def start(self):
        pass

    def kill(self):
        raise LeftOut("the broker is not ours to kill")

    stop = kill

    def is_running(self):
        return True

    def check_alive(self):
        pass

    def end(self):
        pass

    def log_tail(self):
        return ""
