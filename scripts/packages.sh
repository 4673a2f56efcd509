# Sourced by the other scripts: installs what they lack, by package. Knows apt-get, dnf and apk.

# packages_need COMMAND...: returns when each is there; installs what is missing without prompt. A
# header of C stands for its library: by its whole path.
# Not root: prints the command that installs them, and ends the script.
packages_need() {
  local missing=() packages=() manager='' name refresh install
  for name in "$@"; do
    is_there "$name" || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  for name in apt-get dnf apk; do
    if command -v "$name" >/dev/null; then
      manager=$name
      break
    fi
  done
  case $manager in
    apt-get)
      refresh=(apt-get update)
      install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends)
      ;;
    dnf) refresh=(true) install=(dnf install -y) ;;
    apk) refresh=(apk update) install=(apk add) ;;
    *)
      echo "missing: ${missing[*]}; install them with this system's package manager" >&2
      exit 1
      ;;
  esac
  for name in "${missing[@]}"; do
    packages+=($(package_of "$manager" "$name")) # unquoted: one command may need two packages
  done
  if [ "$(id -u)" != 0 ]; then
    echo "missing: ${missing[*]}; as root, run" >&2
    echo "  ${refresh[*]} && ${install[*]} ${packages[*]}" >&2
    exit 1
  fi
  echo "installing ${packages[*]}" >&2
  "${refresh[@]}" >&2
  "${install[@]}" "${packages[@]}" >&2
  for name in "${missing[@]}"; do
    if ! is_there "$name"; then
      echo "$name is still missing after installing ${packages[*]}" >&2
      exit 1
    fi
  done
}

is_there() { command -v "$1" >/dev/null || [ -f "$1" ]; }

package_of() { # package_of MANAGER COMMAND: what brings it, and what it is of no use without
  case $1:$2 in
    apt-get:cc) echo gcc libc6-dev ;;
    dnf:cc) echo gcc glibc-devel ;;
    apk:cc) echo gcc musl-dev linux-headers ;;
    dnf:c++) echo gcc-c++ ;;
    *:c++) echo g++ ;;
    apt-get:java | apt-get:javac) echo default-jdk-headless ;;
    dnf:java | dnf:javac) echo java-latest-openjdk-devel ;;
    apk:java | apk:javac) echo openjdk17-jdk ;;
    *:mvn) echo maven ;;
    apt-get:pip3 | dnf:pip3) echo python3-pip ;;
    apk:pip3) echo py3-pip ;;
    apt-get:*/zlib.h) echo zlib1g-dev ;;
    dnf:*/zlib.h) echo zlib-devel ;;
    apk:*/zlib.h) echo zlib-dev ;;
    apt-get:*/zstd.h) echo libzstd-dev ;;
    dnf:*/zstd.h) echo libzstd-devel ;;
    apk:*/zstd.h) echo zstd-dev ;;
    apt-get:*/rapidjson/schema.h | apk:*/rapidjson/schema.h) echo rapidjson-dev ;;
    dnf:*/rapidjson/schema.h) echo rapidjson-devel ;;
    apt-get:perf) echo linux-perf ;;
    apt-get:go) echo golang-go ;;
    dnf:go) echo golang ;;
    *:chromium-browser) echo chromium ;;
    apt-get:node | dnf:node | apk:node) echo nodejs ;;
    *) echo "$2" ;;
  esac
}

# cargo_need: cargo on the path, also where rustup put it for shells that read a profile.
cargo_need() {
  local bin=${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null && return 0
  if [ -x "$bin/cargo" ]; then
    export PATH="$bin:$PATH"
    return 0
  fi
  echo "cargo is missing: install a Rust toolchain (1.89 or newer), see https://rustup.rs" >&2
  exit 1
}

# cargo_parts_need PART...: cargo's own subcommands that a minimal toolchain comes without.
cargo_parts_need() {
  local part component
  for part in "$@"; do
    cargo "$part" --version >/dev/null 2>&1 && continue
    component=${part/#fmt/rustfmt}
    if ! command -v rustup >/dev/null || ! rustup component add "$component"; then
      echo "cargo $part is missing: add the toolchain's component $component" >&2
      exit 1
    fi
  done
}
