#!/usr/bin/env bash
# Sections of CHANGELOG.md.
#
#   scripts/changelog.sh release 0.2.0 [DATE]   Unreleased becomes 0.2.0, dated today or DATE
#   scripts/changelog.sh section 0.2.0          prints what is under 0.2.0; fails if there is nothing
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

[ $# -ge 2 ] || usage
version=$2
case $1 in
    release)
        if grep -q "^## $version\b" CHANGELOG.md; then
            echo "CHANGELOG.md has a section $version already" >&2
            exit 1
        fi
        stated=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
        if [ "$stated" != "$version" ]; then
            echo "Cargo.toml has version $stated, not $version" >&2
            exit 1
        fi
        date=${3:-$(date -u +%Y-%m-%d)}
        changed=$(mktemp)
        awk -v title="## $version ($date)" '
            /^## Unreleased$/ { print; print ""; print title; next }
            { print }
        ' CHANGELOG.md >"$changed"
        cat "$changed" >CHANGELOG.md
        rm "$changed"
        ;;
    section)
        found=$(awk -v version="$version" '
            /^## / { inside = ($2 == version); next }
            inside { print }
        ' CHANGELOG.md)
        if [ -z "${found//[[:space:]]/}" ]; then
            echo "CHANGELOG.md has nothing under $version" >&2
            exit 1
        fi
        printf '%s\n' "$found"
        ;;
    *) usage ;;
esac
