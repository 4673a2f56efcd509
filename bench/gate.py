#!/usr/bin/env python3
"""Fails where a request costs more instructions or system calls than bench/gate.json says;
scripts/bench-gate.sh builds what it needs and calls it.

Instructions: tests/hot_path.rs answers requests with one whole shard in a simulated machine. They
are run by valgrind's processor, once with more requests than the other time; the difference is what
the requests cost, and the same to five digits in every run, on any machine of the kind.

System calls: a node on a file system in memory, so that no disk decides how many requests one
flush covers, is loaded by ringmain-bench, and the kernel's tracepoint counts the node's calls. How
many requests one call serves depends on who runs when: so both have one core together, at a fixed
priority above all other programs, and the median of several runs is compared.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "clients"))  # brokers are started there

from broker import Ringmain  # noqa: E402
from harness import TARGET, Failed, run  # noqa: E402

RECORDED = REPOSITORY / "bench" / "gate.json"
GROWTH_MAX = 0.05
MEMORY_FOLDER = Path("/dev/shm")

INSTRUCTION_TESTS = (
    "one_record_a_request_is_acknowledged",
    "one_record_a_request_is_acknowledged_with_several_in_flight",
    "batches_are_acknowledged_with_several_in_flight",
    "the_newest_batch_is_fetched_again_and_again",
)
REQUESTS_FEW = 100
REQUESTS_MANY = 600

# name: flags of `ringmain-bench produce`
LOADS = {
    "one record, 8 connections x 4": ("--record-bytes", "100", "--batch-bytes", "1",
                                      "--request-bytes", "1", "--connections", "8",
                                      "--in-flight", "4"),
    "16 KB batches, 8 connections x 4": ("--batch-bytes", "16K", "--request-bytes", "16K",
                                         "--connections", "8", "--in-flight", "4"),
}
LOAD_RUNS = 11
LOAD_SECONDS = 1


def instructions(program):
    """{test: instructions a request}"""
    return {
        f"instructions: {test.replace('_', ' ')}":
            (executed(program, test, REQUESTS_MANY) - executed(program, test, REQUESTS_FEW))
            / (REQUESTS_MANY - REQUESTS_FEW)
        for test in INSTRUCTION_TESTS
    }


def executed(program, test, requests_count):
    said = run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program,
                "--exact", test, "--test-threads=1"], may_fail=True,
               env={"RINGMAIN_HOT_PATH_REQUESTS": str(requests_count)}).decode(errors="replace")
    counted = re.search(r"Collected : (\d+)", said)
    if not counted or "1 passed" not in said:
        raise Failed(f"the test {test} did not pass under valgrind:\n{said[-1000:]}")
    return int(counted.group(1))


def system_calls(binaries):
    """{load: system calls of the node a request}, the median of its runs."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # of everything that is started here
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError as error:
        raise Failed("system calls are counted at a fixed priority: run this as root") from error
    with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER, prefix="ringmain-gate-") as name:
        folder = Path(name)
        node = Ringmain(folder, [binaries / "ringmain", "serve"])
        node.start()
        try:
            return {f"system calls: {load}": calls_of_load(binaries, node, folder, load, flags)
                    for load, flags in LOADS.items()}
        finally:
            node.end()


def calls_of_load(binaries, node, folder, load, flags):
    counts = [calls_a_request(binaries, node, folder, flags) for _ in range(LOAD_RUNS)]
    print(f"  {load}: {' '.join(f'{count:.3f}' for count in sorted(counts))}", flush=True)
    return statistics.median(counts)


def calls_a_request(binaries, node, folder, flags):
    counted = folder / "perf.txt"
    said = run(["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", node.process.pid,
                "-o", counted, "--", binaries / "ringmain-bench", "produce", "--brokers",
                node.address, "--topic", "gate", "--recreate", "--warmup", "0s", "--duration",
                f"{LOAD_SECONDS}s", *flags, "--output", "json"])
    result = json.loads(said)
    if result["errors"] or not result["requests"]:
        raise Failed(f"the load failed: {result['errors_by_name']}")
    found = re.search(r"^(\d+),.*raw_syscalls", counted.read_text(), re.MULTILINE)
    if not found:
        raise Failed("perf cannot count system calls here: it must be run as root on a kernel "
                     f"with tracepoints\n{counted.read_text()}")
    return int(found.group(1)) / result["requests"]


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench-gate.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true",
                        help="writes down what a request costs now, instead of comparing")
    parser.add_argument("--program", metavar="FILE", type=Path, required=True,
                        help="the built tests/hot_path.rs")
    parser.add_argument("--binaries", metavar="DIR", type=Path, default=TARGET / "release",
                        help="where ringmain and ringmain-bench are")
    return parser.parse_args()


def main():
    options = arguments()
    try:
        costs = {**instructions(options.program), **system_calls(options.binaries)}
    except Failed as error:
        sys.exit(f"bench-gate: {error}")
    if options.record:
        RECORDED.write_text(json.dumps({name: round(cost, 4) for name, cost in costs.items()},
                                       indent=2) + "\n")
        print(f"recorded in {RECORDED.relative_to(REPOSITORY)}")
        return 0
    return compare(costs, json.loads(RECORDED.read_text()))


def compare(costs, recorded):
    grown = []
    for name, cost in costs.items():
        before = recorded.get(name)
        if before is None:
            sys.exit(f"bench-gate: '{name}' is not recorded; run scripts/bench-gate.sh --record")
        growth = cost / before - 1
        print(f"{growth:+7.1%}  {cost:12,.3f} a request, {before:12,.3f} recorded  {name}")
        if growth > GROWTH_MAX:
            grown.append(name)
    for name in grown:
        print(f"bench-gate: '{name}' grew by more than {GROWTH_MAX:.0%} over what is recorded. "
              "Make it cheaper, or say why in a commit that records the new value (--record).")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
