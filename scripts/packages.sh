# Sourced by the other scripts: installs what a command needs, by package. Knows apt-get, dnf, apk.

# The package that brings a command, or a header named by its path, in each of the three.
package_of() { # package_of MANAGER COMMAND
  case "$1:$2" in
    apt-get:cc) echo gcc libc6-dev ;;
    dnf:cc) echo gcc glibc-devel ;;
    apk:cc) echo gcc musl-dev linux-headers ;;
    apt-get:java) echo default-jdk-headless ;;
    dnf:java) echo java-17-openjdk-devel ;;
    apk:java) echo openjdk17-jdk ;;
    *:javac) package_of "$1" java ;;
    *:mvn) echo maven ;;
    apt-get:c++ | dnf:c++ | apk:c++) [ "$1" = dnf ] && echo gcc-c++ || echo g++ ;;
    apt-get:zlib.h) echo zlib1g-dev ;;
    *:zlib.h) echo zlib-devel ;;
    apk:python3 | apt-get:python3 | dnf:python3) echo python3 ;;
    *) echo "$2" ;;
  esac
}

is_present() { # a command, or a C header
  case "$1" in
    *.h) [ -e "/usr/include/$1" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# packages_need COMMAND...: returns when each is there, installing what is missing without prompt.
packages_need() {
  local missing=() manager='' packages=() need
  for need in "$@"; do is_present "$need" || missing+=("$need"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  for need in apt-get dnf apk; do
    if command -v "$need" >/dev/null; then manager=$need; break; fi
  done
  if [ -z "$manager" ]; then
    echo "missing: ${missing[*]}. Install them with this system's package manager." >&2
    exit 1
  fi
  for need in "${missing[@]}"; do read -ra more <<<"$(package_of "$manager" "$need")"; packages+=("${more[@]}"); done
  local install=(apt-get install -y --no-install-recommends) refresh=(apt-get update)
  case "$manager" in
    dnf) install=(dnf install -y) refresh=(true) ;;
    apk) install=(apk add) refresh=(apk update) ;;
  esac
  if [ "$(id -u)" != 0 ]; then
    echo "missing: ${missing[*]}. As root:" >&2
    echo "  ${refresh[*]} && ${install[*]} ${packages[*]}" >&2
    exit 1
  fi
  echo "installing ${packages[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  "${refresh[@]}" >&2 && "${install[@]}" "${packages[@]}" >&2
  for need in "${missing[@]}"; do
    is_present "$need" || { echo "$need is still missing after installing ${packages[*]}" >&2; exit 1; }
  done
}

# cargo_need: cargo on the path, also where rustup put it for a shell that has not read its profile.
cargo_need() {
  command -v cargo >/dev/null && return 0
  local home=${CARGO_HOME:-$HOME/.cargo}
  if [ -x "$home/bin/cargo" ]; then export PATH="$home/bin:$PATH"; return 0; fi
  echo "cargo is missing: install a Rust toolchain (1.88 or newer), see https://rustup.rs" >&2
  exit 1
}
