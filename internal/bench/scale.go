package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// scaleInstances share one PostgreSQL; scaleConns are spread over them, or all at the one that they are compared with.
	scaleInstances = 3
	scaleConns     = 96
)

// scale measures what several instances on one PostgreSQL do against one of them, with the same load in turn. On a machine whose cores they share with each other, the database and
// the load, more requests a second are not to be had; what a request costs then says what it costs to be several.
func scale(o options, rep *report, dir, bin, upstream string) error {
	url, stop, err := database(o, "postgres", filepath.Join(dir, "scale"))
	if err != nil {
		return err
	}
	defer stop()
	first, err := startSignalbox("scale 1", dir, bin, upstream, url)
	if err != nil {
		return err
	}
	defer first.stop()
	fleet := []*proxy{first}
	for i := 2; i <= scaleInstances; i++ {
		peer, err := startPeer("scale "+strconv.Itoa(i), dir, bin, url)
		if err != nil {
			return err
		}
		defer peer.stop()
		peer.key = first.key
		fleet = append(fleet, peer)
	}
	time.Sleep(2 * time.Second) // the peers have heard of the key
	small := shapes()[0]
	var speed, cost, one, many []float64
	for round := range o.rounds {
		turns := [][]*proxy{fleet[:1], fleet}
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		got := map[int]result{}
		for _, on := range turns {
			r, err := together(on, small, scaleConns/len(on), o.duration)
			if err != nil {
				return err
			}
			got[len(on)] = r
		}
		a, b := got[1], got[scaleInstances]
		speed = append(speed, float64(b.requests)/b.wall.Seconds()/(float64(a.requests)/a.wall.Seconds()))
		cost = append(cost, b.cpuPerRequest()/a.cpuPerRequest())
		one, many = append(one, a.cpuPerRequest()), append(many, b.cpuPerRequest())
	}
	rep.line("")
	rep.line("| %d instances ÷ one, JSON, %d connections | requests/s | CPU a request | one µs | %d instances µs |", scaleInstances, scaleConns, scaleInstances)
	rep.line("|---|---|---|---|---|")
	rep.line("| on the same cores as database and load | **%.2f** (%.2f–%.2f) | **%.2f** (%.2f–%.2f) | %.0f | %.0f |", median(speed), slices.Min(speed), slices.Max(speed), median(cost), slices.Min(cost),
		slices.Max(cost), median(one), median(many))
	return nil
}

// together runs the closed loop at several proxies at once and adds up what came of it.
func together(on []*proxy, s shape, conns int, d time.Duration) (all result, err error) {
	var mu sync.Mutex
	crowd(len(on), func(i int) {
		r, failed := closed(on[i], s, conns, d)
		mu.Lock()
		defer mu.Unlock()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", on[i].name, failed))
		}
		all.requests, all.cpu, all.wall = all.requests+r.requests, all.cpu+r.cpu, max(all.wall, r.wall)
		all.lat = append(all.lat, r.lat...)
	})
	return all, err
}
