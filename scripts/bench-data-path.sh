#!/usr/bin/env bash
# The speed and memory figures of the data path: fio and ringmain in turn, on the same disk and cores.
#
# usage: scripts/bench-data-path.sh [--runs N] [--only NAME]... [--duration 10s] [--cpus 0,1] [--shards 0,1]
#                                   [--data-dir DIR] [--catch-up-bytes 8G] [--binaries DIR] [--keep]
#
# Names: ingest-1m ingest-16k requests-100b latency-4k new-1m new-16k catch-up newest idle restart
#
# ingest-* and fio overwrite: fio a file that was filled before, ringmain the segments that its
# topic no longer keeps. new-* are the same on a new file and a new topic. For latency-4k the client
# stays awake, as the time to wake a sleeping core is not the broker's; what it is with one that
# sleeps is told, too.
#
# fio, the load generator and the node may run on --cpus only; --shards puts the node's shards on some
# of them, where it would choose by itself.
# Every figure is the median of N runs (5), with a fresh topic each but for ingest-*; a run of ringmain
# follows its base line's directly, since disks of virtual machines change their mind within minutes.
# The broker starts on an empty data directory for each figure and is ended by its own process id.
# Needs about 40 GiB.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=5 duration=10s cpus=0,1 data_dir=./bench-data catch_up_bytes=8G keep=no
only=() shards=() binaries=${CARGO_TARGET_DIR:-target}/release
while [ $# -gt 0 ]; do
  case $1 in
    --runs) runs=$2; shift 2 ;;
    --only) only+=("$2"); shift 2 ;;
    --duration) duration=$2; shift 2 ;;
    --cpus) cpus=$2; shift 2 ;;
    --shards) shards=(--cpus "$2"); shift 2 ;;
    --data-dir) data_dir=$2; shift 2 ;;
    --catch-up-bytes) catch_up_bytes=$2; shift 2 ;;
    --binaries) binaries=$2; shift 2 ;;
    --keep) keep=yes; shift ;;
    -h | --help) sed -n '2,20s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "$0: unknown argument '$1' (see --help)" >&2; exit 2 ;;
  esac
done

node=$binaries/ringmain bench=$binaries/ringmain-bench
names="ingest-1m ingest-16k requests-100b latency-4k new-1m new-16k catch-up newest idle restart"
rows=()        # one line a figure for the table at the end: tab separated
node_pid=      # the broker, while one runs
node_flags=()  # what it is started with, beside where its data is
fio_gib=4      # size of the file that fio overwrites
fio_seconds=5

die() { echo "$0: $*" >&2; exit 1; }
say() { echo "$*" >&2; }

for name in "${only[@]:-}"; do
  [ -z "$name" ] || [[ " $names " == *" $name "* ]] || die "no figure '$name'; there are: $names"
done
wanted() {
  [ ${#only[@]} -eq 0 ] && return 0
  local name
  for name in "${only[@]}"; do [ "$name" = "$1" ] && return 0; done
  return 1
}

# ---- what must be there ----------------------------------------------------------------------

install_fio() {
  command -v fio >/dev/null && return
  local how
  if command -v apt-get >/dev/null; then how="apt-get install -y fio"
  elif command -v dnf >/dev/null; then how="dnf install -y fio"
  elif command -v pacman >/dev/null; then how="pacman -S --noconfirm fio"
  elif command -v apk >/dev/null; then how="apk add fio"
  else die "fio is needed: install it with your package manager"; fi
  [ "$(id -u)" = 0 ] || die "fio is needed: run 'sudo $how'"
  say "installing fio: $how"
  $how >/dev/null 2>&1 || { apt-get update >/dev/null 2>&1 && $how >/dev/null; } ||
    die "'$how' failed"
}

need_space_gib() {
  local free_kib
  free_kib=$(df -Pk "$data_dir" | awk 'NR == 2 { print $4 }')
  [ "$free_kib" -ge $(($1 * 1024 * 1024)) ] ||
    die "$data_dir: $((free_kib / 1024 / 1024)) GiB free, $1 GiB needed; choose another --data-dir"
}

[ -x "$node" ] && [ -x "$bench" ] || {
  [ "$binaries" = "${CARGO_TARGET_DIR:-target}/release" ] || die "no ringmain in $binaries"
  say "building the release"
  cargo build --release --bins
}
install_fio
mkdir -p "$data_dir"
fio_file=$data_dir/fio.data

stop_node() {
  [ -n "$node_pid" ] || return 0
  kill -TERM "$node_pid" 2>/dev/null || true
  local tries=0
  while kill -0 "$node_pid" 2>/dev/null; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { say "the node did not stop in 30 s"; kill -KILL "$node_pid" || true; }
    sleep 0.1
  done
  wait "$node_pid" 2>/dev/null || true
  node_pid=
}
finish() {
  stop_node
  [ "$keep" = yes ] || rm -rf "${data_dir:?}/node" "$fio_file" "$data_dir/node.log"
  rmdir "$data_dir" 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- the broker ------------------------------------------------------------------------------

free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }
  done
}

# Starts the broker on the data that is there; `fresh_node` on none.
start_node() {
  port=$(free_port)
  taskset -c "$cpus" "$node" serve --data-dir "$data_dir/node" --listen "127.0.0.1:$port" \
    "${shards[@]}" "${node_flags[@]}" >>"$data_dir/node.log" 2>&1 &
  node_pid=$!
}
fresh_node() {
  stop_node
  rm -rf "${data_dir:?}/node"
  : >"$data_dir/node.log"
  start_node
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$node_pid" 2>/dev/null || { tail -5 "$data_dir/node.log" >&2; die "the node ended"; }
    sleep 0.05
  done
}

# Runs the load generator with $@ and leaves its report in $report.
load() {
  report=$("$bench" "$@" --brokers "127.0.0.1:$port" --cpus "$cpus" --output json) || {
    tail -5 "$data_dir/node.log" >&2
    die "ringmain-bench $1 failed"
  }
  local errors
  errors=$(value errors)
  [ "$errors" = 0 ] || say "  $errors errors: $report"
}
produce_on() { load produce --partitions 16 --acks all "$@"; }
produce() { produce_on --recreate "$@"; }

# The number behind the name $1 in $report.
value() { sed -E "s/.*\"$1\":([0-9.]+).*/\1/" <<<"$report"; }

# ---- arithmetic ------------------------------------------------------------------------------

calculate() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }
median() { printf '%s\n' "$@" | sort -g | awk '{ a[NR] = $1 }
  END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
bytes_of() {
  case $1 in
    *K) echo $((${1%K} << 10)) ;; *M) echo $((${1%M} << 20)) ;; *G) echo $((${1%G} << 30)) ;;
    *) echo "$1" ;;
  esac
}

# row NAME BASE RINGMAIN RATIO TARGET CONDITION: CONDITION is an awk expression that holds when met.
row() {
  local verdict=short
  awk "BEGIN { exit !($6) }" && verdict=ok
  rows+=("$1"$'\t'"$2"$'\t'"$3"$'\t'"$4"$'\t'"$5"$'\t'"$verdict")
  say "$1: base $2, ringmain $3, ratio $4, target $5: $verdict"
}

# ---- the base lines --------------------------------------------------------------------------

# Fills fio's file once with $1 GiB: a write into space that holds data changes no metadata.
fio_fill() {
  local gib=$1 have=0
  [ ! -f "$fio_file" ] || have=$(stat -c %s "$fio_file")
  [ "$have" -ge $((gib << 30)) ] && return
  say "filling fio's file: $gib GiB"
  fio --name=fill --filename="$fio_file" --size="${gib}g" --rw=write --bs=1m --direct=1 \
    --ioengine=io_uring --iodepth=4 --end_fsync=1 >/dev/null
}
# MB/s of 512 KiB direct overwrites, 4 in flight, no flush: the disk at its best.
fio_overwrite() {
  fio_fill $fio_gib
  taskset -c "$cpus" fio --name=overwrite --filename="$fio_file" --size="${fio_gib}g" --rw=write \
    --bs=512k --direct=1 --ioengine=io_uring --iodepth=4 --overwrite=1 --time_based \
    --runtime=$fio_seconds --minimal | awk -F';' '{ printf "%.0f\n", $48 * 1024 / 1e6 }'
}
# MB/s of the same on a new file.
fio_new() {
  rm -f "$fio_file"
  sync # else freed blocks are given back to the disk meanwhile
  taskset -c "$cpus" fio --name=new --filename="$fio_file" --size="${fio_gib}g" --rw=write \
    --bs=512k --direct=1 --ioengine=io_uring --iodepth=4 --minimal |
    awk -F';' '{ printf "%.0f\n", $48 * 1024 / 1e6 }'
}
# MB/s of direct sequential reads of $1 bytes, 1 MiB each, 4 in flight.
fio_read() {
  local gib=$((($1 + (1 << 30) - 1) >> 30))
  fio_fill $gib
  taskset -c "$cpus" fio --name=read --filename="$fio_file" --size="${gib}g" --rw=read --bs=1m \
    --direct=1 --ioengine=io_uring --iodepth=4 --minimal |
    awk -F';' '{ printf "%.0f\n", $7 * 1024 / 1e6 }'
}
# µs, median, of a 4 KiB direct overwrite and fdatasync by plain system calls.
disk_p50() {
  report=$(taskset -c "$cpus" "$bench" disk --dir "$data_dir" --duration 5s --output json)
  value p50
}

# ---- the figures -----------------------------------------------------------------------------

megabytes() { calculate "$(value bytes_per_second) / 1e6" 0; }

# ingest NAME SHARE MOST BASE PRODUCE [flags]: MB/s against fio's; SHARE of fio's is the target, or
# MOST MB/s where that is less.
ingest() {
  local name=$1 share=$2 most=$3 base_line=$4 produce=$5 run base=() ours=() b o target
  shift 5
  for run in $(seq "$runs"); do
    b=$($base_line)
    "$produce" --topic ingest --duration "$duration" "$@"
    o=$(megabytes)
    say "  $name run $run: fio $b MB/s, ringmain $o MB/s, p99 $(value p99) µs"
    base+=("$b") ours+=("$o")
  done
  b=$(median "${base[@]}") o=$(median "${ours[@]}")
  target="$share of fio"
  if awk "BEGIN { exit !($share * $b > $most) }"; then share="$most / $b" target="$most MB/s"; fi
  row "$name" "$b MB/s" "$o MB/s" "$(calculate "$o / $b")" "$target" "$o >= $share * $b"
}
# A topic that keeps 4 GiB in segments of 128 MiB and has as much.
full_topic() {
  node_flags=(--set log.segment.bytes=134217728 --set log.retention.bytes=268435456
    --set log.retention.check.interval.ms=1000)
  fresh_node
  node_flags=()
  say "filling the topic"
  produce --topic ingest --bytes 10G --connections 4 --in-flight 2
}
large=(--connections 4 --in-flight 2 --batch-bytes 64K --request-bytes 1M)
medium=(--connections 8 --in-flight 4 --batch-bytes 16K --request-bytes 16K)

figure_ingest_1m() {
  full_topic
  ingest ingest-1m 0.60 1e9 fio_overwrite produce_on "${large[@]}"
}
figure_ingest_16k() { # 500 MB/s where fio gives 2 GB/s: then the cores are the limit
  full_topic
  ingest ingest-16k 0.25 500 fio_overwrite produce_on "${medium[@]}"
}
figure_new_1m() {
  fresh_node
  ingest new-1m 0.60 1e9 fio_new produce "${large[@]}"
}
figure_new_16k() {
  fresh_node
  ingest new-16k 0.25 500 fio_new produce "${medium[@]}"
}
figure_requests_100b() {
  local run ours=() o
  fresh_node
  for run in $(seq "$runs"); do
    produce --topic small --duration "$duration" --connections 8 --in-flight 4 \
      --record-bytes 100 --batch-bytes 1 --request-bytes 1
    o=$(value requests_per_second)
    say "  requests-100b run $run: $o requests/s, p50 $(value p50) µs"
    ours+=("$o")
  done
  o=$(median "${ours[@]}")
  row requests-100b "60000/s" "$(calculate "$o" 0)/s" "$(calculate "$o / 60000")" "60000/s" \
    "$o >= 60000"
}
figure_latency_4k() {
  local run base=() ours=() sleeping=() b o
  fresh_node
  for run in $(seq "$runs"); do
    b=$(disk_p50)
    lone --busy-poll
    o=$(value p50)
    say "  latency-4k run $run: write + fdatasync p50 $b µs, ringmain $o µs, p99 $(value p99) µs"
    base+=("$b") ours+=("$o")
    lone
    sleeping+=("$(value p50)")
    say "    with a client that sleeps: p50 $(value p50) µs, p99 $(value p99) µs"
  done
  b=$(median "${base[@]}") o=$(median "${ours[@]}")
  row latency-4k "$b µs" "$o µs" "$(calculate "$o / $b")" "1.5 x write+sync" "$o <= 1.5 * $b"
  say "latency-4k: with a client that sleeps $(median "${sleeping[@]}") µs"
}
lone() {
  produce --topic latency --duration "$duration" --connections 1 --in-flight 1 \
    --batch-bytes 4K --request-bytes 4K "$@"
}
figure_catch_up() {
  local run base=() ours=() b o bytes
  bytes=$(bytes_of "$catch_up_bytes")
  need_space_gib $((2 * (bytes >> 30) + 4))
  fresh_node
  say "loading $catch_up_bytes"
  produce --topic history --bytes "$catch_up_bytes" --connections 4 --in-flight 2
  stop_node # nothing of it may still be in the node's memory
  start_node
  "$bench" ready --brokers "127.0.0.1:$port" --topic history --partitions 16 >&2
  for run in $(seq "$runs"); do
    b=$(fio_read "$bytes")
    load fetch --topic history --from earliest --connections 4 --in-flight 2 \
      --request-bytes 1M --duration 300s --warmup 0s
    o=$(megabytes)
    [ "$(value bytes)" -ge "$bytes" ] || die "only $(value bytes) of $bytes bytes came back"
    say "  catch-up run $run: fio $b MB/s, ringmain $o MB/s"
    base+=("$b") ours+=("$o")
  done
  b=$(median "${base[@]}") o=$(median "${ours[@]}")
  row catch-up "$b MB/s" "$o MB/s" "$(calculate "$o / $b")" "0.85 of fio" "$o >= 0.85 * $b"
}
figure_newest() {
  local run ours=() o
  fresh_node
  for run in $(seq "$runs"); do
    produce --topic newest --bytes 64M --connections 2 --in-flight 2
    load fetch --topic newest --from earliest --repeat --duration "$duration" --connections 2 \
      --in-flight 2 --request-bytes 1M
    o=$(megabytes)
    say "  newest run $run: $o MB/s"
    ours+=("$o")
  done
  o=$(median "${ours[@]}")
  row newest "2000 MB/s" "$o MB/s" "$(calculate "$o / 2000")" "2000 MB/s" "$o >= 2000"
}

cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$node_pid/stat"; }
rss_kib() { awk '/^VmRSS/ { print $2 }' "/proc/$node_pid/status"; }
make_topic() { # NAME PARTITIONS: a topic with a record in every partition
  load produce --topic "$1" --partitions "$2" --bytes $(($2 * 200)) --connections 1 \
    --in-flight 1 --record-bytes 100 --batch-bytes 1 --request-bytes 1
}
# Percent of one core over 20 s, once the node has come to rest.
idle_percent() {
  sleep 5
  local before after
  before=$(cpu_ticks)
  sleep 20
  after=$(cpu_ticks)
  calculate "($after - $before) * 100 / $(getconf CLK_TCK) / 20"
}
figure_idle() {
  local percent kib more_kib
  fresh_node
  make_topic idle-16 16
  percent=$(idle_percent)
  kib=$(rss_kib)
  row "idle, 16 partitions: CPU" "1 %" "$percent %" "$percent" "1 % of a core" "$percent <= 1"
  row "idle, 16 partitions: memory" "128 MiB" "$((kib / 1024)) MiB" \
    "$(calculate "$kib / 1024 / 128")" "128 MiB" "$kib <= 128 * 1024"
  make_topic idle-1000 1000
  sleep 5
  more_kib=$((($(rss_kib) - kib)))
  row "1,000 partitions: memory each" "64 KiB" "$(calculate "$more_kib / 1000" 1) KiB" \
    "$(calculate "$more_kib / 64000")" "64 KiB" "$more_kib <= 64000"
  percent=$(idle_percent)
  say "  idle with 1,016 partitions: $percent % of a core"
}
figure_restart() {
  local run ours=() o before
  fresh_node
  make_topic restart 1000
  for run in $(seq "$runs"); do
    stop_node
    before=$(date +%s%N)
    start_node
    "$bench" ready --brokers "127.0.0.1:$port" --topic restart --partitions 1000 >/dev/null
    o=$((($(date +%s%N) - before) / 1000000))
    say "  restart run $run: $o ms"
    ours+=("$o")
  done
  o=$(median "${ours[@]}")
  row "clean restart, 1,000 partitions" "1000 ms" "$o ms" "$(calculate "$o / 1000")" "1 s" \
    "$o <= 1000"
}

need_space_gib 40
for name in $names; do
  wanted "$name" || continue
  say "== $name"
  "figure_${name//-/_}"
done
stop_node

{
  printf 'figure\tfio/base\tringmain\tratio\ttarget\tok/short\n'
  printf '%s\n' "${rows[@]}"
} | awk -F'\t' '{ printf "%-32s %12s %12s %7s  %-18s %s\n", $1, $2, $3, $4, $5, $6 }'
