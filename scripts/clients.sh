#!/usr/bin/env bash
# The clients' own suites, each against a fresh release node (or Apache Kafka) on 127.0.0.1.
#
# usage: scripts/clients.sh [--against ringmain|kafka|both|HOST:PORT] [--only SUITE]... [--quick]
#                           [--binary FILE] [--kafka-data DIR]
#
# Each client comes from its registry as a package; nothing of theirs is kept in this repository.
# What does not pass is listed by name, with its reason, in tests/clients/expected: a failure that
# is not listed, or a listed one that passes, fails the run. `--against kafka` runs the same on one
# node of Apache Kafka from Maven, to show what passes there. Installs what it needs (as root, by
# package). The last line counts: `N passed, N failed`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case " $* " in
  *' -h '* | *' --help '*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
source scripts/packages.sh

packages_need python3
needs=$(python3 -B tests/clients/run.py --needs "$@")
packages_need git cc ${needs/cargo/} # unquoted: one word a command
cargo_need
case " $* " in
  *' --binary '* | *' --against kafka '* | *' --against '*:*) ;;
  *) cargo build --release --locked --bin ringmain ;;
esac
exec python3 -B tests/clients/run.py "$@"
