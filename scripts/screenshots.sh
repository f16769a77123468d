#!/usr/bin/env bash
# scripts/screenshots.sh writes how the pages look into docs/screenshots, by the browser tests that visit them: each page in both themes, wide and narrow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
need_go

command -v chromium >/dev/null || die "Chromium is needed; install it with: apt-get install chromium"
export SIGNALBOX_TEST_SCREENSHOTS=$PWD/docs/screenshots SIGNALBOX_TEST_ENGINES=sqlite
mkdir -p "$SIGNALBOX_TEST_SCREENSHOTS"
go test -count=1 -timeout 20m ./internal/web
say "   wrote $(find "$SIGNALBOX_TEST_SCREENSHOTS" -name '*.webp' | wc -l) pictures to docs/screenshots"
