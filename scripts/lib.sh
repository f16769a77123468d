# shellcheck shell=bash
# Sourced by the other scripts: messages, missing tools, timed stages. A script that uses stages sets STAGE_LOGS to a directory, and keeps
# that when STAGE_FAILED is set at its end.

# say prints a line that belongs to the script, not to a tool that it runs.
say() { printf '%s\n' "$*"; }

# die says what is wrong and ends the script.
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# install_packages PACKAGE… installs system packages where that is possible without asking anybody, and fails with advice elsewhere.
install_packages() {
  local as_root=()
  command -v apt-get >/dev/null || die "please install $* with your system's package manager, then start again"
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null || die "please run: sudo apt-get install $*"
    as_root=(sudo -n)
  fi
  say "   installing $* with apt-get"
  local log
  log=$(mktemp)
  if ! {
    "${as_root[@]}" apt-get update -q &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
  } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "apt-get could not install $*"
  fi
  rm -f "$log"
}

# need COMMAND PACKAGE… makes sure that COMMAND is there, from the system's packages when it is missing. A missing tool never skips a
# stage.
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null && return
  say "   $command is missing"
  install_packages "$@"
  hash -r
  command -v "$command" >/dev/null || die "$command is still missing after installing $*"
}

need_go() {
  command -v go >/dev/null || die "Go is missing: install Go 1.26 or newer from https://go.dev/dl and put it on the PATH"
}

# node_present says whether there is a Node.js of at least version 18 and npm.
node_present() {
  command -v npm >/dev/null && command -v node >/dev/null && (($(node -p 'process.versions.node.split(".")[0]') >= 18))
}

# need_node makes sure of Node.js and npm. What a distribution ships beside each other fits together; half of it may come from elsewhere.
need_node() {
  node_present && return
  say "   Node.js 18 or newer, or npm, is missing"
  install_packages nodejs npm
  hash -r
  node_present || die "Node.js is older than 18 after installing nodejs and npm; install a newer one from https://nodejs.org"
}

# memory_home prints the path of a new directory in memory where there is much of that, or nothing; whoever calls it removes the directory. Tests write
# thousands of small databases, each commit to the disk. They kill Signalbox, not the machine, and what a process has written survives its end there as
# on a disk; nothing measured or promised about power loss may be tested there.
memory_home() {
  local free
  free=$(df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 && $1 == "tmpfs" { print $4 }')
  ((${free:-0} >= 8192)) || return 0
  free=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
  ((${free:-0} >= 10240)) || return 0
  local home
  home=$(mktemp -d /dev/shm/sbx.XXXXXX) || return 0 # short: the paths of unix sockets end after some hundred characters
  # The users of the databases must reach it, and programs that tests build run from it.
  if chmod 755 "$home" && printf '#!/bin/sh\n' >"$home/runs" && chmod 755 "$home/runs" && "$home/runs" 2>/dev/null; then
    rm "$home/runs"
    echo "$home"
  else
    rm -rf "$home"
  fi
}

# sha256 prints the hash of standard input.
sha256() {
  if command -v sha256sum >/dev/null; then
    sha256sum | cut -d ' ' -f 1
  else
    shasum -a 256 | cut -d ' ' -f 1
  fi
}

# elapsed SECONDS prints a duration for people.
elapsed() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }

# excerpt FILE prints what a reader needs of a failed stage's output, at most about 20,000 characters: what failed, the start, the end.
excerpt() {
  local text size
  text=$(mktemp)
  grep -vE '^(ok  |\?   |go: downloading )' "$1" | cut -c -2000 >"$text" || true
  size=$(wc -c <"$text")
  if ((size <= 14000)); then
    cat "$text"
  else
    grep -E '^ *--- FAIL|^panic: |^WARNING: DATA RACE|^FAIL	' "$1" | sort -u | cut -c -200 | head -n 40 || true
    head -c 5000 "$text"
    printf '\n… %d characters left out; the whole output is in %s\n' $((size - 14000)) "$1"
    tail -c 9000 "$text"
  fi
  rm -f "$text"
}

# stage NAME COMMAND… runs COMMAND under a timed heading and ends the script, naming the stage, when it fails. While it runs, only the
# lines that `go test` prints for each package are shown; all of its output goes to $STAGE_LOGS/NAME.log.
stage() {
  local name=$1 log start=$SECONDS status
  shift
  log=$STAGE_LOGS/${name// /-}.log
  say "== $name"
  set +e
  (
    set -e
    "$@"
  ) </dev/null 2>&1 | tee "$log" | sed -u -n -E '/^(ok  |FAIL\t|   [^ ])/ { s/^(.{200}).*/\1/; p }'
  status=${PIPESTATUS[0]}
  set -e
  if ((status != 0)); then
    say "-- output of $name"
    excerpt "$log"
    say "FAILED: stage \"$name\" (exit status $status) after $(elapsed $((SECONDS - start)))"
    # shellcheck disable=SC2034 # read by the sourcing script
    STAGE_FAILED=1
    exit 1
  fi
  say "   $name passed in $(elapsed $((SECONDS - start)))"
}

# Packages besides the store whose code is used by many goroutines at once; the race detector costs too much to run it on everything.
# shellcheck disable=SC2034 # read by the sourcing scripts
CONCURRENT_ROOMS=(audit identity train broker outbound vault oauth keyring incident sink contents)

# raced PACKAGE… runs the short tests of packages under the race detector.
raced() { CGO_ENABLED=1 go test -race -short -count=1 -timeout 20m "$@"; }

# unformatted prints the Go files that gofmt would change; generated ones are their generator's affair.
unformatted() {
  local files file
  files=$(find . \( -name .git -o -name node_modules -o -name testdata \) -prune -o -name '*.go' -print0 | xargs -0 gofmt -l) || return
  while read -r file; do
    [[ -z $file ]] || grep -qE '^// Code generated .* DO NOT EDIT\.$' "$file" || say "$file"
  done <<<"$files"
}

check_format() {
  local files
  files=$(unformatted) || return
  if [[ -n $files ]]; then
    say "gofmt would change these files; mend them with: gofmt -w <file>"
    say "$files"
    return 1
  fi
}
