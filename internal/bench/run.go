package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	openRate    = 500
	slowStreams = 1000
)

func orchestrate(o options) error {
	conns, err := numbers(o.conns)
	if err != nil {
		return err
	}
	var sizes []int
	if o.grow != "" {
		if sizes, err = numbers(o.grow); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "signalbox-bench-")
	if err != nil {
		return err
	}
	if !o.keep {
		defer os.RemoveAll(dir)
	}
	bin := o.binary
	if bin == "" {
		bin = filepath.Join(dir, "signalbox")
		build := exec.Command("go", "build", "-o", bin, "./cmd/signalbox")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build signalbox: %w", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	upAddr, err := upstreamAddr(o)
	if err != nil {
		return err
	}
	upstream, err := start("upstream", dir, upAddr, nil, self, "-role", "upstream", "-addr", upAddr)
	if err != nil {
		return err
	}
	defer upstream.stop()
	var floor [2]*proxy // bare, and durable
	for i, args := range [][]string{nil, {"-journal", filepath.Join(dir, "journal")}} {
		addr, err := freeAddr()
		if err != nil {
			return err
		}
		floor[i], err = start(fmt.Sprintf("floor %d", i), dir, addr, nil, self, append([]string{"-role", "floor", "-addr", addr, "-target", "http://" + upAddr}, args...)...)
		if err != nil {
			return err
		}
		defer floor[i].stop()
		floor[i].mayBreak = true
	}

	rep := &report{}
	fsync, err := fsyncMedian(dir)
	if err != nil {
		return err
	}
	rep.line("Command: `make bench%s`. %s, %d cores, %s; fsync p50 %v; %d rounds of %v, floor and Signalbox alternating.",
		argsText(o), runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format("2006-01-02"), fsync.Round(time.Microsecond), o.rounds, o.duration)
	for engine := range strings.SplitSeq(o.engines, ",") {
		if err := measure(o, rep, floor, engine, dir, bin, "http://"+upAddr, conns); err != nil {
			return fmt.Errorf("%s: %w", engine, err)
		}
		if len(sizes) > 0 {
			if err := growth(o, rep, engine, dir, bin, "http://"+upAddr, sizes); err != nil {
				return fmt.Errorf("%s: growth: %w", engine, err)
			}
		}
		if o.scale && engine == "postgres" {
			if err := scale(o, rep, dir, bin, "http://"+upAddr); err != nil {
				return fmt.Errorf("%s: scale: %w", engine, err)
			}
		}
		if o.events > 0 {
			if err := dashboard(o, rep, floor[0], engine, dir, bin, "http://"+upAddr); err != nil {
				return fmt.Errorf("%s: pages: %w", engine, err)
			}
		}
		if o.log {
			if err := measureLog(o, rep, engine, dir); err != nil {
				return fmt.Errorf("%s: audit log: %w", engine, err)
			}
		}
	}
	if o.output != "" {
		return os.WriteFile(o.output, []byte(rep.String()), 0o644)
	}
	return nil
}

// upstreamAddr is the same in all runs that share grown instances, whose accounts name it.
func upstreamAddr(o options) (string, error) {
	if o.grown == "" {
		return freeAddr()
	}
	if err := os.MkdirAll(o.grown, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(o.grown, "upstream")
	if addr, err := os.ReadFile(path); err == nil {
		return string(addr), nil
	}
	addr, err := freeAddr()
	if err != nil {
		return "", err
	}
	return addr, os.WriteFile(path, []byte(addr), 0o600)
}

func argsText(o options) string {
	if o.rounds == 5 && o.duration == 2*time.Second && o.only == "" && o.conns == "1,32,256" && o.grow == defaultGrow && o.log && o.events == 1_000_000 {
		return ""
	}
	return fmt.Sprintf(" BENCH_ARGS=\"-rounds %d -duration %v -conns %s -only '%s' -grow '%s' -events %d -log=%v\"", o.rounds, o.duration, o.conns, o.only, o.grow, o.events, o.log)
}

func measure(o options, rep *report, floor [2]*proxy, engine, dir, bin, upstream string, conns []int) error {
	url, stop, err := database(o, engine, dir)
	if err != nil {
		return err
	}
	defer stop()
	box, err := startSignalbox("signalbox "+engine, dir, bin, upstream, url)
	if err != nil {
		return err
	}
	defer box.stop()
	time.Sleep(2 * time.Second)
	rep.line("")
	rep.line("### %s", engine)
	rep.line("")
	rep.line("Resident memory when idle: %.1f MB.", float64(box.rss())/1e6)
	rep.line("")
	rep.line("| load | CPU a request ÷ floor | ÷ durable floor | floor µs | durable floor µs | Signalbox µs | p50 added | p99 added | requests/s ÷ floor | cut by the floor |")
	rep.line("|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range shapes() {
		for _, n := range conns {
			name := fmt.Sprintf("%s, %d connections", s.name, n)
			if !strings.Contains(name, o.only) {
				continue
			}
			if err := pairs(o, rep, name, floor, box, n == 1, func(p *proxy) (result, error) { return closed(p, s, n, o.duration) }); err != nil {
				return err
			}
		}
	}
	for _, s := range shapes() {
		name := fmt.Sprintf("%s, %d requests/s open loop", s.name, openRate)
		if !strings.Contains(name, o.only) {
			continue
		}
		if err := pairs(o, rep, name, floor, box, true, func(p *proxy) (result, error) { return open(p, s, openRate, o.duration) }); err != nil {
			return err
		}
	}
	if name := fmt.Sprintf("%d slow streams", slowStreams); strings.Contains(name, o.only) {
		floorBytes, _, err := slow(floor[0], slowStreams)
		if err != nil {
			return err
		}
		bytes, _, err := slow(box, slowStreams)
		if err != nil {
			return err
		}
		rep.line("")
		rep.line("%d slow streams, open for 20 s: %.1f KB a stream (floor %.1f KB).", slowStreams, float64(bytes)/1e3, float64(floorBytes)/1e3)
	}
	return nil
}

func measureLog(o options, rep *report, engine, dir string) error {
	dir = filepath.Join(dir, "log-"+engine)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	url, stop, err := database(o, engine, dir)
	if err != nil {
		return err
	}
	defer stop()
	return auditLog(rep, dir, url)
}

// pairs measures the floors and Signalbox alternately and reports the medians of the rounds' ratios and differences. The durable floor is
// measured where requests come one by one: it shares no commits, so with many at once it would say nothing.
func pairs(o options, rep *report, name string, floor [2]*proxy, box *proxy, alone bool, run func(*proxy) (result, error)) error {
	broken := 0
	var ratio, durable, floorCPU, durableCPU, boxCPU, p50, p99, speed []float64
	for round := range o.rounds {
		turn := []*proxy{floor[0], box}
		if alone {
			turn = []*proxy{floor[0], floor[1], box}
		}
		if round%2 == 1 {
			slices.Reverse(turn)
		}
		got := map[*proxy]result{}
		for _, p := range turn {
			r, err := run(p)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, p.name, err)
			}
			got[p] = r
		}
		f, s := got[floor[0]], got[box]
		broken += f.broken
		ratio = append(ratio, s.cpuPerRequest()/f.cpuPerRequest())
		floorCPU = append(floorCPU, f.cpuPerRequest())
		boxCPU = append(boxCPU, s.cpuPerRequest())
		if d, ok := got[floor[1]]; ok {
			durable = append(durable, s.cpuPerRequest()/d.cpuPerRequest())
			durableCPU = append(durableCPU, d.cpuPerRequest())
		}
		p50 = append(p50, float64((s.percentile(.5)-f.percentile(.5)).Microseconds())/1000)
		p99 = append(p99, float64((s.percentile(.99)-f.percentile(.99)).Microseconds())/1000)
		speed = append(speed, float64(s.requests)/s.wall.Seconds()/(float64(f.requests)/f.wall.Seconds()))
	}
	beside, besideCPU := "–", "–"
	if alone {
		beside, besideCPU = fmt.Sprintf("%.2f", median(durable)), fmt.Sprintf("%.0f", median(durableCPU))
	}
	rep.line("| %s | **%.2f** (%.2f–%.2f) | %s | %.0f | %s | %.0f | %.2f ms | %.2f ms | %.2f | %d |", name, median(ratio), slices.Min(ratio), slices.Max(ratio),
		beside, median(floorCPU), besideCPU, median(boxCPU), median(p50), median(p99), median(speed), broken)
	return nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// fsyncMedian measures the disk: append 4 KiB and fdatasync, as a commit does.
func fsyncMedian(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := make([]byte, 4096)
	var took []float64
	for range 300 {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		t := time.Now()
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(t)))
	}
	return time.Duration(median(took)), nil
}

type report struct{ strings.Builder }

func (r *report) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Println(text)
	r.WriteString(text + "\n")
}
