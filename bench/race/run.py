#!/usr/bin/env python3
"""The race of Apache Kafka and ringmain; scripts/compare.sh installs what it needs and calls it."""

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

RACE = Path(__file__).resolve().parent
REPOSITORY = RACE.parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "clients"))  # brokers are started there

import brokers  # noqa: E402
import clients  # noqa: E402
import machine  # noqa: E402
import table  # noqa: E402
from harness import TARGET, Failed, describe  # noqa: E402
from measurements import MEASUREMENTS  # noqa: E402
from session import Session, Tools  # noqa: E402

RUNS = 5
QUICK_RUNS = 1
CORES_COUNT_MAX = 2
DISK_BYTES_NEEDED = 45 * machine.GIB
STOLEN_SHARE_MAX = 0.05  # of a core, by other guests of the host
PAGE = "race.html"


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/compare.sh", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures Apache Kafka (K0 as it comes, K1 flushing each message) and\n"
                    "ringmain in turn on this machine, and prints one table with the goals.",
        epilog="rows:\n  " + "\n  ".join(MEASUREMENTS))
    parser.add_argument("--only", metavar="ROW", action="append", default=[],
                        help="one row, may be repeated; see below")
    parser.add_argument("--runs", metavar="N", type=int, help=f"runs of each row [{RUNS}]")
    parser.add_argument("--quick", action="store_true",
                        help=f"the most telling rows, half the time each, {QUICK_RUNS} run")
    parser.add_argument("--brokers", metavar="A,B", default=",".join(brokers.ALL),
                        help="some of k0,k1,ringmain")
    parser.add_argument("--data-dir", metavar="DIR", type=Path, default=TARGET / "race",
                        help="where the brokers keep their data: on the disk to be measured")
    parser.add_argument("--binaries", metavar="DIR", type=Path, default=TARGET / "release",
                        help="where ringmain and ringmain-bench are")
    parser.add_argument("--out", metavar="DIR", type=Path, default=TARGET / "race-results",
                        help="where table, page and results go")
    parser.add_argument("--table-from", metavar="DIR", type=Path,
                        help="measures nothing: prints the table of an --out directory as Markdown")
    options = parser.parse_args()
    if unknown := set(options.only) - set(MEASUREMENTS):
        parser.error(f"no row {', '.join(sorted(unknown))}; there are {' '.join(MEASUREMENTS)}")
    options.brokers = options.brokers.split(",")
    if unknown := set(options.brokers) - set(brokers.ALL):
        parser.error(f"no broker {', '.join(sorted(unknown))}; there are {' '.join(brokers.ALL)}")
    options.runs = options.runs or (QUICK_RUNS if options.quick else RUNS)
    for name in ("data_dir", "binaries", "out"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def main():
    options = arguments()
    if options.table_from:
        print(table.markdown_table(table.Results.read(options.table_from)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that brokers are ended
    for program in ("ringmain", "ringmain-bench"):
        if not (options.binaries / program).exists():
            sys.exit(f"build first: there is no {options.binaries / program}")
    options.data_dir.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(options.out / "runs", ignore_errors=True)  # of an earlier race
    (options.out / "runs").mkdir(parents=True)
    cores = sorted(os.sched_getaffinity(0))[:CORES_COUNT_MAX]
    os.sched_setaffinity(0, cores)  # of everything that is started from here
    files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # 10,000 connections
    free_bytes = os.statvfs(options.data_dir).f_bavail * os.statvfs(options.data_dir).f_frsize
    if free_bytes < DISK_BYTES_NEEDED:
        sys.exit(f"{options.data_dir}: {free_bytes // machine.GIB} GiB are free, "
                 f"{DISK_BYTES_NEEDED // machine.GIB} GiB needed; choose another --data-dir")
    return race(options)


def race(options):
    began = time.monotonic()
    memory, disk = machine.Memory(options.data_dir), machine.Disk(options.data_dir)
    try:
        tools = Tools(options, memory, disk)
        memory.fill()
        found = table.Results(options.out, {
            "machine": machine.describe(), "brokers": tools.labels, "quick": options.quick,
            "started_at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        })
        for run_number in range(1, options.runs + 1):
            for name in turn(options.brokers, run_number):
                run_broker(tools, name, run_number, selected(options), found)
                print(f"{time.monotonic() - began:.0f} s since the start", flush=True)
    finally:
        memory.close()
        disk.close()
    found.about["seconds"] = round(time.monotonic() - began)
    found.write()
    return tell(options, found)


def turn(names, run_number):
    """Another order each run: no broker always has the disk that the same one left behind."""
    first = (run_number - 1) % len(names)
    return names[first:] + names[:first]


def selected(options):
    if options.only:
        return [MEASUREMENTS[name] for name in MEASUREMENTS if name in options.only]
    return [one for one in MEASUREMENTS.values() if one.is_quick or not options.quick]


def run_broker(tools, name, run_number, measurements, found):
    """Every selected measurement on one fresh broker."""
    wanted = [one for one in measurements
              if name in one.brokers and run_number <= one.runs_max]
    if not wanted:
        return
    try:
        with Session(tools, name, run_number) as session:
            for one in wanted:
                if one.is_warm:
                    session.warm_up()
                measure(session, one, run_number, found)
    except Exception as error:  # noqa: BLE001: the others are measured all the same
        fail(found, wanted[0].name, name, run_number, error)


def measure(session, one, run_number, found):
    os.sync()  # Kafka's pages of the last measurement are not written back during this one
    began, stolen_before_s = time.monotonic(), machine.stolen_seconds()
    try:
        figures = one.measure(session)
        session.broker.check_alive()
    except Exception as error:  # noqa: BLE001
        fail(found, one.name, session.name, run_number, error)
        if not session.broker.is_running():
            raise Failed(f"the broker is gone after {one.name}") from error
        return
    seconds = time.monotonic() - began
    stolen_share = (machine.stolen_seconds() - stolen_before_s) / seconds
    found.add(one.name, session.name, run_number, figures, stolen_share)
    shown = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
    print(f"run {run_number} {session.name} {one.name}: {shown} "
          f"({seconds:.1f} s, {stolen_share:.1%} of a core stolen)", flush=True)


def fail(found, measurement, broker, run_number, error):
    reason = describe(error)
    found.add_failure(measurement, broker, run_number, reason)
    print(f"run {run_number} {broker} {measurement}: FAILED\n{reason}", flush=True)


def tell(options, found):
    """Prints and writes the table; 1 where something could not be measured."""
    text = table.text_table(found)
    about = found.about
    head = (f"{about['machine']['cpu']}, {about['machine']['cores_count']} cores, Linux "
            f"{about['machine']['kernel']}; {', '.join(about['brokers'].values())}; "
            f"{options.runs} runs in {about['seconds']} s")
    (options.out / "table.txt").write_text(f"{head}\n\n{text}\n")
    clients.write_json(options.out / "table.json", table.json_table(found))
    print(f"\n{head}\n\n{text}\n")
    if (stolen := found.most_stolen_share()) > STOLEN_SHARE_MAX:
        print(f"the host took up to {stolen:.0%} of a core away during a measurement: "
              "the figures are less sure than their spread")
    failures = found.failures()
    if not write_page(options, found):
        return 1
    for record in failures:
        print(f"NOT MEASURED: {record['measurement']} of {record['broker']}, run {record['run']}: "
              f"{record['failure'].splitlines()[0]}")
    return 1 if failures else 0


def write_page(options, found):
    documents = sorted((options.out / "runs").glob("*.json"))
    if not documents:
        return True
    page = options.out / PAGE
    table_file = options.out / "page-table.json"
    clients.write_json(table_file, table.page_table(found))
    done = subprocess.run(
        [options.binaries / "ringmain-bench", "report", *documents, "--table", table_file,
         "--title", "Apache Kafka and ringmain", "--html", page], capture_output=True, check=False)
    if done.returncode != 0:
        print(f"NO PAGE: {done.stderr.decode(errors='replace').strip()}")
        return False
    print(f"the page is {page}")
    return True


if __name__ == "__main__":
    sys.exit(main())
