package relay

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/notify"
)

// failures are the requests of a train that failed and were not told yet.
type failures struct {
	slug   string
	counts map[string]int64
	told   time.Time
}

// otherFailure is what stands for kinds of failures beyond those that are counted apart.
const otherFailure = "other"

// Failed counts a request of a train that had an error for an answer, or an answer that broke off. what says in a word or two which; it is of a closed list.
func (r *Room) Failed(train, slug, what string) {
	if !r.want(train).Errors {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.failures[train]
	if f == nil {
		f = &failures{slug: slug, counts: map[string]int64{}}
		r.failures[train] = f
	}
	if _, known := f.counts[what]; !known && len(f.counts) >= codesMost {
		what = otherFailure
	}
	f.counts[what]++
}

// tellFailures adds what is to be told of failures by now.
func (r *Room) tellFailures(batch []notify.Telling, now time.Time) []notify.Telling {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, train := range slices.Sorted(maps.Keys(r.failures)) {
		f := r.failures[train]
		if now.Sub(f.told) < failuresWindow {
			continue
		}
		if len(f.counts) == 0 || !r.want(train).Errors {
			delete(r.failures, train)
			continue
		}
		batch = append(batch, f.telling(train))
		f.counts, f.told = map[string]int64{}, now
	}
	return batch
}

func (f *failures) telling(train string) notify.Telling {
	m := notify.Message{Kind: notify.RequestsFailed, TrainID: train, DedupKey: train, Title: "Requests of train " + f.slug + " failed",
		Text: "Agents had an error for an answer, or one that broke off. Which accounts the train would use, and why: signalbox train explain " + f.slug}
	for _, what := range slices.Sorted(maps.Keys(f.counts)) {
		m.Facts = append(m.Facts, notify.Fact{Name: what, Value: strconv.FormatInt(f.counts[what], 10)})
	}
	m.Facts = m.Facts[:min(len(m.Facts), codesMost)]
	return notify.Telling{Message: m}
}
