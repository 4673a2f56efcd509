#!/usr/bin/env bash
# Builds ringmain (release) and runs one node; arguments go to `ringmain serve`. Installs what the
# build lacks, as root by package; otherwise prints the command that does. Needs a Rust toolchain.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/packages.sh"

packages_need git cc # zstd is C
cargo_need

# Built in the clone, run where it was called from: a relative --data-dir means what it says.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target_dir=$(cd "$root" && realpath -m "${CARGO_TARGET_DIR:-target}")
(cd "$root" && CARGO_TARGET_DIR=$target_dir cargo build --release --locked --bin ringmain)
exec "$target_dir/release/ringmain" serve "$@"
