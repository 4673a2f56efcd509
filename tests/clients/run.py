#!/usr/bin/env python3
"""Runs the real clients, each against a fresh node of the release build: run.py [SUITE...]

With `--against` the suites ask a broker that already runs there (Apache Kafka, to show that a
suite is right) and leave out what would stop it; `--kafka-data DIR` is where its log files are.
Last line: `N passed, N failed`.
"""

import argparse
import importlib
import shutil
import signal
import sys
from pathlib import Path

from harness import RELEASE, WORK, Elsewhere, Tally, run_suite

SUITES = ["start", "kcat", "java", "rskafka"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="HOST:PORT", help="a running broker to ask instead")
    parser.add_argument("--kafka-data", metavar="DIR", help="data directory of that broker")
    parser.add_argument("--binary", metavar="FILE", type=Path, default=RELEASE,
                        help="another build of ringmain than the release")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {' '.join(SUITES)}")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    if not options.against and not options.binary.exists():
        parser.error(f"build first: there is no {options.binary}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nodes are ended
    elsewhere = Elsewhere(options.against, options.kafka_data) if options.against else None
    WORK.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    for name in options.suites or SUITES:
        suite = importlib.import_module(f"{name}_suite").SUITE
        missing = [command for command in suite.needs if shutil.which(command) is None]
        if missing:
            tally.fails(f"{name}: start", f"not installed: {', '.join(missing)}")
            continue
        run_suite(suite, elsewhere, options.binary.resolve(), tally)
    tally.print_summary()
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
