#!/usr/bin/env bash
# The race: Apache Kafka and ringmain in turn, on the same disk, cores and clients.
#
# usage: scripts/compare.sh [--quick] [--only ROW]... [--runs N] [--brokers k0,k1,ringmain]
#                           [--data-dir DIR] [--binaries DIR] [--out DIR]
#        scripts/compare.sh --table-from DIR     the table of an --out directory, as Markdown
#
# K0 is Kafka as it comes (no flush), K1 flushes each message, ringmain always does. Kafka and its
# tools come from Maven, librdkafka inside a crate. Needs 45 GiB of disk, the machine for itself,
# and less than 40 minutes (--quick: 8). Installs what it lacks (as root, by package). --help names
# the rows; bench/PERFORMANCE.md says how each is measured.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/packages.sh

packages_need python3
case " $* " in
  *' -h '* | *' --help '* | *' --table-from '*) exec python3 -B bench/race/run.py "$@" ;;
esac
packages_need fio java mvn git cc c++ make /usr/include/zlib.h
cargo_need
case " $* " in
  *' --binaries '*) ;;
  *) cargo build --release --locked --bins ;;
esac
exec python3 -B bench/race/run.py "$@"
