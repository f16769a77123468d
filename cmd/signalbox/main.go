// Command signalbox is the one program of Signalbox: the server, and the command line that works with it.
//
// Promise: each command is a thin call into package app (what opens the data directory) or package client (what speaks to a running
// server). Secrets come from standard input, a prompt without echo or a file, never from the command line; every command has --json; the
// exit code is 0 for done, 1 for failed, 2 for a wrong command line or input, 3 for not found, 4 for refused and 5 for unavailable.
//
// Limits: prompts need a terminal on standard input.
//
// Invariants: what a command is asked for goes to standard output, everything else to standard error; text from a server is never printed
// with its control characters.
package main

import (
	"context"
	"io"
	"log"
	"os"
)

func main() {
	// net/http tells the standard logger what an upstream sent unasked, word for word. Signalbox writes its own log, without it.
	log.SetOutput(io.Discard)
	os.Exit(run(context.Background(), os.Args[1:], system()))
}
