// Command bench measures what Signalbox costs a request, as a ratio to a bare reverse proxy in the same run on the same machine.
//
// Promise: floor and Signalbox are measured alternately, in several rounds, against the same upstream and with the same load; a figure is
// the median of the rounds' ratios. CPU is user and system time of the proxy's process alone, as the kernel accounts it.
//
// Limits: load, upstream and proxy share one machine, so absolute times say little; the upstream is a fixed answer without any work.
//
// Invariants: Signalbox runs as users run it (the built binary, durable audit, fsync on); no answer is counted that was not whole.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// defaultGrow ends at 10,000: each train takes four transactions over REST, one after the other, so that making 100,000 takes longer than all
// that is measured. -grow 10,1000,100000 does it.
const defaultGrow = "10,1000,100000"

type options struct {
	role        string
	addr        string
	target      string
	engines     string
	rounds      int
	duration    time.Duration
	conns       string
	only        string
	grow        string
	credentials int
	log         bool
	scale       bool
	events      int
	journal     string
	postgres    string
	output      string
	keep        bool
	binary      string
	grown       string
}

func main() {
	var o options
	flag.StringVar(&o.role, "role", "", "internal: upstream or floor")
	flag.StringVar(&o.addr, "addr", "", "internal: address to listen on")
	flag.StringVar(&o.target, "target", "", "internal: upstream of the floor")
	flag.StringVar(&o.journal, "journal", "", "internal: file of a floor that is durable")
	flag.StringVar(&o.engines, "engines", "sqlite,postgres", "databases to measure")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the figure is the median")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "of one measurement")
	flag.StringVar(&o.conns, "conns", "1,32,256", "connections of the closed loop")
	flag.StringVar(&o.grow, "grow", defaultGrow, "trains, client keys and accounts of the instances that are compared; empty leaves it out")
	flag.IntVar(&o.credentials, "credentials", 100_000, "credentials of the largest of them; 0 leaves out how long lists of them take")
	flag.BoolVar(&o.log, "log", true, "measure the audit log by itself")
	flag.BoolVar(&o.scale, "scale", true, "measure three instances on one PostgreSQL against one")
	flag.IntVar(&o.events, "events", 1_000_000, "audit events of the instance whose pages and searches are measured; 0 leaves them out")
	flag.StringVar(&o.only, "only", "", "part of a measurement's name; others are left out")
	flag.StringVar(&o.postgres, "postgres", "", "URL of a PostgreSQL database to use; without it one is started")
	flag.StringVar(&o.output, "output", "", "also write the table to this file, as Markdown")
	flag.StringVar(&o.binary, "binary", "", "a built signalbox to measure instead of this tree's")
	flag.BoolVar(&o.keep, "keep", false, "keep the data of the run")
	flag.StringVar(&o.grown, "grown", "", "SQLite only: directory in which the compared instances are kept, and from which a later run takes them instead of making them")
	flag.Parse()
	var err error
	switch o.role {
	case "":
		err = orchestrate(o)
	case "upstream":
		err = serveUpstream(o.addr)
	case "floor":
		err = serveFloor(o.addr, o.target, o.journal)
	default:
		err = fmt.Errorf("no role %q", o.role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func numbers(list string) ([]int, error) {
	var out []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no list of positive numbers", list)
		}
		out = append(out, n)
	}
	return out, nil
}
