package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

const (
	hourLong = time.Hour
	// feedRows is how many events the overview shows, and feedReads how many are read for them: outcomes of leases and reads of the log are left out.
	feedRows, feedReads = 15, 100
	// feedRecord is how often it is recorded that somebody follows the feed.
	feedRecord = time.Minute
	// feedMost bounds how many readers are kept in mind.
	feedMost = 1000
	// topicAudit is the topic of the log in /live; it is none of the change feed's, since what is lent changes nothing.
	topicAudit = "audit"
	// feedPulse is how often it is looked whether the log has grown.
	feedPulse = 2 * time.Second
)

// feedPart is what happened last.
type feedPart struct {
	Reader ui.Reader
	Events []eventLine
	// Newest says when the last of them was, by the minute: it is what is read out, at most once a minute.
	Newest string
}

// eventLine is one event in a list.
type eventLine struct {
	ID, What, Who, Href string
	To                  string
	At                  time.Time
	Outcome             string
}

func lineOf(e store.Event) eventLine {
	l := eventLine{ID: e.ID, What: string(e.Action), Who: e.Actor.Name, Href: eventPath(e.ID), To: e.Target.Name, At: e.At, Outcome: e.Outcome}
	if l.Who == "" {
		l.Who = e.Actor.Kind
	}
	if l.To == "" {
		l.To = e.Target.ID
	}
	l.Who, l.To = short(l.Who), short(l.To)
	return l
}

// short is a name as it fits into a row; the record's own page has all of it.
func short(name string) string {
	const most = 48
	if r := []rune(name); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return name
}

// eventPath is the address of an event's page.
func eventPath(id string) string { return "/audit/" + id }

// follow keeps in mind who follows the feed and how far the log was, for all pages together.
type follow struct {
	mu       sync.Mutex
	recorded map[string]time.Time
	seen     int64 // leaves that were looked at
	news     int64 // grows when there was something to show among them
}

// due reports whether it is to be recorded that a session follows the feed.
func (f *follow) due(session string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.recorded[session]; ok && now.Sub(at) < feedRecord {
		return false
	}
	if len(f.recorded) >= feedMost || f.recorded == nil {
		f.recorded = map[string]time.Time{}
	}
	f.recorded[session] = now
	return true
}

// grown returns a number that grows when the log got something that the feed shows. What reads of the log leave in it is none of that: pages that
// follow the log would otherwise tell each other of themselves without end.
func (f *follow) grown(ctx context.Context, log *audit.Log) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := log.Health().Size
	if size <= f.seen {
		f.seen = size
		return f.news
	}
	entries, err := log.Tail(ctx, max(f.seen-1, size-feedReads-1), feedReads)
	if err != nil {
		return f.news // it is looked again
	}
	f.seen = size
	for _, e := range entries {
		if e.Event.Action != store.AuditRead {
			f.news++
			break
		}
	}
	return f.news
}

// feedPart reads what happened last. That somebody follows is recorded once a minute, not at each of the many times that a page that stands open asks.
func (s *site) feedPart(r *http.Request, v visitor) (*feedPart, error) {
	page, err := s.Audit.Search(r.Context(), audit.Query{Limit: feedReads})
	if err != nil {
		return nil, err
	}
	p := &feedPart{Reader: s.reader(r)}
	for _, e := range page.Events {
		if e.Action == store.AuditRead || e.Action == store.LeaseOutcome || len(p.Events) == feedRows {
			continue
		}
		p.Events = append(p.Events, lineOf(e))
	}
	if len(p.Events) > 0 {
		p.Newest = "The newest event is of " + p.Events[0].At.UTC().Format("15:04") + " UTC."
	}
	if s.follow.due(v.SessionID, time.Now()) {
		ev := v.Event(store.AuditRead, store.Target{Kind: "audit"})
		if err := s.Audit.RecordRead(r.Context(), ev, "feed", len(p.Events)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// feedNow is the part alone, for a page that reads it again.
func (s *site) feedNow(w http.ResponseWriter, r *http.Request, v visitor) {
	if !s.mayAudit(w, r, v) {
		return
	}
	p, err := s.feedPart(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, feedView(p))
}
