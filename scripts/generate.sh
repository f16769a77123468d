#!/usr/bin/env bash
# scripts/generate.sh writes every generated file; with --check it changes nothing and fails when one of them, or go.mod, is not current.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib.sh

check=
case ${1:-} in
--check) check=1 ;;
'') ;;
*) die "usage: scripts/generate.sh [--check]" ;;
esac
need_go

scratch=$(mktemp -d "${TMPDIR:-/tmp}/signalbox-generate.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# Each generated file with the command that prints it. A new one is a line here, in both lists.
files=(
  docs/reference/openapi.json
  docs/reference/api.md
  docs/reference/audit-actions.md
  docs/reference/cli.md
  docs/reference/configuration.md
  docs/reference/credential-types.md
  docs/reference/error-codes.md
  docs/reference/metrics.md
  docs/reference/notifications.md
  docs/reference/oauth-providers.md
  docs/reference/permissions.md
  docs/design/house.svg
)
# Beside each template (x.templ) stands what templ makes of it (x_templ.go).
while IFS= read -r template; do
  files+=("${template%.templ}_templ.go")
done < <(git ls-files --cached --others --exclude-standard '*.templ' | while IFS= read -r file; do [[ ! -e $file ]] || printf '%s\n' "$file"; done)
print() {
  case $1 in
  docs/reference/openapi.json) "$scratch/signalbox" openapi ;;
  docs/reference/*.md) "$scratch/signalbox" reference "$(basename "$1" .md)" ;;
  *_templ.go) "$scratch/templ" generate -f "${1%_templ.go}.templ" -stdout 2>"$scratch/errors" || { cat "$scratch/errors" >&2 && return 1; } ;;
  docs/design/house.svg) go run ./internal/picture ;;
  *) die "scripts/generate.sh does not know how to make $1" ;;
  esac
}

go build -modfile=tools/go.mod -o "$scratch/templ" github.com/a-h/templ/cmd/templ || die "templ does not build"

# The templates first: the program is made of what they become.
if [[ -z $check ]]; then
  for file in "${files[@]}"; do
    [[ $file == *_templ.go ]] || continue
    print "$file" >"$scratch/new" || die "the command that prints $file failed"
    cp "$scratch/new" "$file"
  done
fi
while IFS= read -r file; do
  [[ ! -e $file || -e ${file%_templ.go}.templ ]] || die "$file has no template any more; remove it"
done < <(git ls-files --cached --others --exclude-standard '*_templ.go')

go build -o "$scratch/signalbox" ./cmd/signalbox || die "the program does not build"

stale=0
for file in "${files[@]}"; do
  print "$file" >"$scratch/new" || die "the command that prints $file failed"
  [[ -s $scratch/new ]] || die "the command that prints $file printed nothing"
  if [[ -z $check ]]; then
    mkdir -p "$(dirname "$file")"
    cp "$scratch/new" "$file"
    say "   wrote $file"
    continue
  fi
  if ! git ls-files --error-unmatch "$file" >/dev/null 2>&1; then
    say "$file is not tracked by git; write it with 'make generate' and add it"
    stale=1
  elif ! diff -u "$file" "$scratch/new" >"$scratch/diff"; then
    head -n 40 "$scratch/diff"
    say "$file is not current (what it says: -, what it should say: +); mend it with: make generate"
    stale=1
  fi
done

if [[ -n $check ]]; then
  if ! go mod tidy -diff >"$scratch/diff" 2>"$scratch/errors"; then
    grep -v '^go: downloading' "$scratch/errors" || true
    head -n 40 "$scratch/diff"
    say "go.mod or go.sum is not current; mend them with: go mod tidy"
    stale=1
  fi
fi
exit "$stale"
