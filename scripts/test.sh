#!/usr/bin/env bash
# Every test of the repository, as CI runs them: format, lints, unit and integration tests, then
# real clients against the release build. Installs what it needs (as root, by package). Needs a
# Rust toolchain. Ends at the first step that fails; the last line counts the clients' checks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/packages.sh

current='the start'
began=$SECONDS
summary=()
trap 'code=$?; [ $code = 0 ] || echo "scripts/test.sh: FAILED in: $current" >&2' EXIT

step() { # step NAME COMMAND...
  current=$1
  shift
  local from=$SECONDS
  printf '\n==== %s: %s\n' "$current" "$*"
  "$@"
  summary+=("$(printf '%5d s  %s' $((SECONDS - from)) "$current")")
}

step 'packages' packages_need git cc c++ make python3
cargo_need
step 'cargo parts' cargo_parts_need fmt clippy

clients_said=$(mktemp)
trap 'code=$?; rm -f "$clients_said"
  [ $code = 0 ] || echo "scripts/test.sh: FAILED in: $current" >&2' EXIT

step 'format' cargo fmt --check
step 'lints' cargo clippy --locked --all-targets -- -D warnings
step 'tidy' cargo test --locked --test tidy
step 'tests' cargo test --locked
step 'release build' cargo build --locked --release
clients() { scripts/clients.sh --quick | tee "$clients_said"; }
step 'real clients' clients

printf '\n==== all passed in %d s\n' $((SECONDS - began))
printf '%s\n' "${summary[@]}"
tail -n 1 "$clients_said"
