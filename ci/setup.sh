# What the scripts beside this file share; sourced, never run. Sets the working directory to the checkout.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }

# need_rust: a toolchain at least as new as Cargo.toml's rust-version.
need_rust() {
  local want have
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  command -v cargo >/dev/null || die "cargo is not installed; install Rust $want or newer with rustup, then run this again"
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -1)" = "$want" ] ||
    die "rustc is $have, vtmem needs $want or newer; run 'rustup update stable', then this again"
}

# need_packages NAME...: installs the Debian packages that are missing when root, or prints the command that does.
need_packages() {
  local missing=() p
  for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" = 0 ]; then
    say "installing Debian packages: ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    die "Debian packages are missing; run: sudo apt-get install --no-install-recommends ${missing[*]}"
  fi
}

# build_release: the binaries that the demo and the end-to-end tests use; prints the directory that holds them.
build_release() {
  say "building vtmem and vtmem-work"
  cargo build --release --locked --workspace --bins >&2
  printf '%s\n' "${CARGO_TARGET_DIR:-$PWD/target}/x86_64-unknown-linux-gnu/release"
}
