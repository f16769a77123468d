#!/usr/bin/env bash
# scripts/fuzz.sh runs every fuzz target of the module for FUZZTIME (30s), one after the other, and fails at the first finding.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
need_go

count=0
for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
  listed=$(go test -list '^Fuzz' "$package") || die "go test -list failed in $package: $listed"
  for target in $(grep -E '^Fuzz' <<<"$listed" || true); do
    say "== $package $target for ${FUZZTIME:=30s}"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package"
    count=$((count + 1))
  done
done
((count > 0)) || die "no fuzz target found"
say "$count fuzz targets ran in $(elapsed "$SECONDS") and found nothing."
