#!/usr/bin/env bash
# Fails when a request costs over 5 % more instructions or system calls than bench/gate.json says.
#
# usage: scripts/bench-gate.sh [--record]
#
# --record writes down what it costs now. Times are not compared: they differ from run to run on a
# machine that others share; these two do not. Needs root (the kernel's tracepoints) and, once
# built, less than 3 minutes. Installs what it lacks, by package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case " $* " in
  *' -h '* | *' --help '*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
source scripts/packages.sh

packages_need python3 valgrind perf git cc
cargo_need
cargo build --release --locked --bins
program=$(cargo test --release --locked --test hot_path --no-run --message-format=json |
  sed -n 's/.*"name":"hot_path".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -x "$program" ] || { echo "bench-gate: tests/hot_path.rs was not built" >&2; exit 1; }
exec python3 -B bench/gate.py --program "$program" "$@"
