#!/usr/bin/env bash
# Builds the binary for a target and packs it: scripts/package.sh [TARGET] [OUT]
#
# TARGET is one of rustc's, by default that of this machine; OUT is `dist`. Writes OUT/couplet-VERSION-TARGET.tar.xz
# and its SHA-256. FEATURES in the environment chooses cargo features next to the default ones (`object-store`).
# With COUPLET_BINARY=PATH nothing is built, and that binary is packed.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
out=${2:-dist}
features=${FEATURES-object-store}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

if [ -n "${COUPLET_BINARY:-}" ]; then
    binary=$COUPLET_BINARY
else
    arguments=(--release --locked --package couplet --features "$features")
    folder=${CARGO_TARGET_DIR:-target}/release
    if [ "$target" != "$host" ]; then
        arguments+=(--target "$target")
        folder=${CARGO_TARGET_DIR:-target}/$target/release
    fi
    cargo build "${arguments[@]}"
    binary=$folder/couplet
fi

name=couplet-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name" "$out"
cp "$binary" "$work/$name/couplet"
chmod 755 "$work/$name/couplet"
# Symbols of another platform's binary need that platform's tool; Apple's linker strips when cargo asks it to.
if [ "$target" = "$host" ] && command -v strip >/dev/null; then
    strip "$work/$name/couplet"
fi
cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$work/$name"

if [ "$target" = "$host" ]; then
    couplet=$work/$name/couplet
    found=$("$couplet" --version | head -n 1)
    case $found in
        "couplet $version"*) ;;
        *) echo "package.sh: the binary says \`$found\`, not version $version" >&2; exit 1 ;;
    esac
    # Files for shells and `man`, where the binary writes them.
    if "$couplet" completions --help >/dev/null 2>&1; then
        mkdir "$work/$name/completions"
        "$couplet" completions bash >"$work/$name/completions/couplet.bash"
        "$couplet" completions zsh >"$work/$name/completions/_couplet"
        "$couplet" completions fish >"$work/$name/completions/couplet.fish"
    fi
    if "$couplet" man --help >/dev/null 2>&1; then
        "$couplet" man --out "$work/$name/man" >/dev/null
    fi
fi

archive=$name.tar.xz
# Owner and order do not depend on the machine where GNU tar packs.
if tar --version 2>/dev/null | grep -q GNU; then
    epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C "$work" -cf - "$name"
else
    tar -C "$work" -cf - "$name"
fi | xz -6 >"$out/$archive"
if command -v sha256sum >/dev/null; then
    (cd "$out" && sha256sum "$archive" >"$archive.sha256")
else
    (cd "$out" && shasum -a 256 "$archive" >"$archive.sha256")
fi
echo "$out/$archive"
