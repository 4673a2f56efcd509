#!/usr/bin/env bash
# Builds ringmain (release) and runs one node; arguments go to `ringmain serve`.
# Installs what the build lacks, as root by package; else prints the command that would.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/packages.sh

# glommio's build script runs git and a configure script with cc; zstd is C.
packages_need git cc sh
cargo_need

target_dir=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --bin ringmain
exec "$target_dir/release/ringmain" serve "$@"
