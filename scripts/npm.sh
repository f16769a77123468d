#!/usr/bin/env bash
# scripts/npm.sh prints the directory whose node_modules holds what tools/npm/package-lock.json names, and nothing else on standard output.
# The first time it installs them with `npm ci`, which needs the network and checks every package against the lock; later calls only look.
# They are kept in the user's cache directory under the hash of the lock, so nothing is written into the repository. Calls may overlap.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

node_present || die "Node.js 18 or newer with npm is needed for the tests with the TypeScript SDK and for linting the OpenAPI document; install it with: apt-get install nodejs npm (or from https://nodejs.org)"

cache=${XDG_CACHE_HOME:-${HOME:-${TMPDIR:-/tmp}}/.cache}/signalbox
lock=$(cat tools/npm/package.json tools/npm/package-lock.json | sha256)
home=$cache/npm-$lock
if [[ ! -d $home ]]; then
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/npm-installing.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  cp tools/npm/package.json tools/npm/package-lock.json "$work"
  say "   installing the packages of tools/npm in $home" >&2
  # Their install scripts are not run, and an older Node than a package names is our affair.
  (cd "$work" && npm ci --ignore-scripts --engine-strict=false --no-audit --no-fund --no-update-notifier) >"$work/npm.log" 2>&1 ||
    { tail -n 20 "$work/npm.log" >&2 && die "npm ci failed in $work; it needs the network the first time"; }
  # Whole or not at all, and the first of several wins.
  node -e 'try { require("fs").renameSync(process.argv[1], process.argv[2]) } catch (e) { if (!require("fs").existsSync(process.argv[2])) throw e }' "$work" "$home"
fi
printf '%s\n' "$home"
