#!/usr/bin/env bash
# scripts/screenshots.sh makes the pictures of the guide anew, in docs/images/dashboard, from a Signalbox of a small firm. With a directory as argument it writes every state of every page there instead, as the browser tests visit
# them, in both themes, wide and narrow: for looking at, not to be kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh
need_go

command -v chromium >/dev/null || die "Chromium is needed; install it with: apt-get install chromium"
export SIGNALBOX_TEST_ENGINES=sqlite
if [ $# -eq 0 ]; then
	SIGNALBOX_TEST_GUIDE=1 go test -count=1 -timeout 20m ./internal/web -run TestPicturesOfTheGuide
	say "   wrote $(find docs/images/dashboard -name '*.webp' | wc -l) pictures to docs/images/dashboard"
	exit
fi
mkdir -p "$1"
SIGNALBOX_TEST_SCREENSHOTS=$(cd "$1" && pwd) go test -count=1 -timeout 20m ./internal/web
say "   wrote $(find "$1" -name '*.webp' | wc -l) pictures to $1"
