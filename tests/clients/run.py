#!/usr/bin/env python3
"""Runs the clients' suites, each against a fresh broker; scripts/clients.sh builds and calls it.

Last line: `N passed, N failed`, where a test that fails as its list says counts as passed.
"""

import argparse
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import expected
import suites
from broker import ApacheKafka, Elsewhere, Ringmain
from harness import RELEASE, WORK, describe, run_suite
from results import Results, print_table


def arguments(known):
    parser = argparse.ArgumentParser(
        prog="scripts/clients.sh", description="Runs the clients' own suites against a broker.")
    parser.add_argument("--against", metavar="WHAT", default="ringmain",
                        help="ringmain, kafka (Apache Kafka from Maven), both, or HOST:PORT")
    parser.add_argument("--kafka-data", metavar="DIR", help="data directory of HOST:PORT")
    parser.add_argument("--binary", metavar="FILE", type=Path, default=RELEASE,
                        help="another build of ringmain than the release")
    parser.add_argument("--only", metavar="SUITE", action="append", default=[],
                        help=f"one suite, may be repeated: {' '.join(known)}")
    parser.add_argument("--quick", action="store_true",
                        help="the selection that scripts/test.sh runs")
    parser.add_argument("--needs", action="store_true",
                        help="prints the commands that the selected suites need")
    options = parser.parse_args()
    if unknown := set(options.only) - set(known):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {' '.join(known)}")
    return options


def brokers_of(options):
    """Names of the brokers to run on."""
    return ["ringmain", "kafka"] if options.against == "both" else [options.against]


def start_broker_for(name, suite, options):
    folder = WORK / suite.name
    if name == "ringmain":
        # A shard on each cpu, so that requests cross shards.
        cpus = str(len(os.sched_getaffinity(0)))
        program = [options.binary.resolve(), "serve", "--cpus", cpus]
        return Ringmain(folder, program, suite.settings)
    if name == "kafka":
        return ApacheKafka(folder, suite.settings)
    return Elsewhere(name, options.kafka_data)


def results_for(name, suite):
    if name == "ringmain":
        return Results(suite.name, expected.read(suite.name, ""), must_list=True)
    return Results(suite.name, expected.read(suite.name, "kafka") if name == "kafka" else None)


def run_on(name, suite, options):
    began = time.monotonic()
    results = results_for(name, suite)
    missing = [need for need in suite.needs if not (shutil.which(need) or Path(need).is_file())]
    try:
        if missing:
            raise SystemError(f"not installed: {', '.join(missing)}")
        suite.prepare()
        broker = start_broker_for(name, suite, options)
    except Exception as error:  # noqa: BLE001: whatever it is, the other suites run
        results.fails("prepare", describe(error))
    else:
        run_suite(suite, broker, results, options.quick)
        results.finish(not options.quick, time.monotonic() - began)
    return results


def main():
    known = suites.load()
    options = arguments(known)
    selected = [suite for name, suite in known.items()
                if (name in options.only if options.only else suite.quick or not options.quick)]
    if options.needs:
        brokers_need = {"java", "mvn"} if "kafka" in brokers_of(options) else set()
        print(*sorted(brokers_need.union(*(suite.needs for suite in selected))))
        return 0
    if "ringmain" in brokers_of(options) and not options.binary.exists():
        sys.exit(f"build first: there is no {options.binary}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that brokers are ended
    WORK.mkdir(parents=True, exist_ok=True)
    columns = {}
    for name in brokers_of(options):
        columns[name] = [run_on(name, suite, options) for suite in selected]
    return 1 if print_table(columns) else 0


if __name__ == "__main__":
    sys.exit(main())
