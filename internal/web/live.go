package web

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

const (
	// liveTime is how long a page is told of changes on one connection; the browser then asks again, with whatever rights its reader has then.
	liveTime = 5 * time.Minute
	// livePulse is how often a quiet connection is written to, so that one that is gone is noticed.
	livePulse = 25 * time.Second
	// livePause is the least time between two words on the same topic: what changes all the time is read again now and then.
	livePause = time.Second
	// liveTaken is how long a browser may take to receive a word, and liveLongest how long the list of topics may be.
	liveTaken, liveLongest = 10 * time.Second, 200
	// liveMost is how many pages are told at once, and liveEach how many of one person's.
	liveMost, liveEach = 1000, 20
)

// hub tells open pages what kinds of things changed. It never says which thing, or what it is now: the page asks the rooms for that.
type hub struct {
	mu    sync.Mutex
	pages map[chan struct{}]*listener
}

// listener is one page that is told.
type listener struct {
	person string
	topics []string
	stale  map[string]bool
}

// heard is a subscriber of the change feed. It never waits for a page. What may end a session wakes all: each looks whether its own still lives.
func (h *hub) heard(_ context.Context, changes []store.Change) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for word, page := range h.pages {
		wake := false
		for _, c := range changes {
			wake = wake || c.Topic == store.TopicReset || c.Topic == store.TopicSession || c.Topic == store.TopicUser
			for _, topic := range page.topics {
				if c.Topic == store.TopicReset || string(c.Topic) == topic {
					page.stale[topic] = true
				}
			}
		}
		if wake || len(page.stale) > 0 {
			select {
			case word <- struct{}{}:
			default: // it has been told already and has not looked yet
			}
		}
	}
	return nil
}

// join adds a page of a person; false when there are too many.
func (h *hub) join(person string, topics []string) (chan struct{}, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	own := 0
	for _, page := range h.pages {
		if page.person == person {
			own++
		}
	}
	if own >= liveEach || len(h.pages) >= liveMost {
		return nil, false
	}
	word := make(chan struct{}, 1)
	h.pages[word] = &listener{person: person, topics: topics, stale: map[string]bool{}}
	return word, true
}

func (h *hub) leave(word chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.pages, word)
}

// take returns what became stale since the last time.
func (h *hub) take(word chan struct{}) (topics []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	page := h.pages[word]
	for topic := range page.stale {
		topics = append(topics, topic)
	}
	clear(page.stale)
	slices.Sort(topics)
	return topics
}

// liveTopics are the kinds of things that a page may ask about, and what one must be allowed to read for that: when something changed tells of it.
func liveTopics() map[string]identity.Permission {
	return map[string]identity.Permission{
		string(store.TopicTrain): identity.TrainRead, string(store.TopicKey): identity.KeyRead, string(store.TopicCredential): identity.CredentialRead, string(store.TopicHome): identity.CredentialRead, string(store.TopicIncident): identity.IncidentRead,
		string(store.TopicWindows): identity.TrainRead,
		string(store.TopicUser):    identity.UserRead, string(store.TopicToken): identity.UserRead, string(store.TopicSession): identity.UserRead,
		string(store.TopicNotify): identity.NotifyRead, string(store.TopicKeyring): identity.KeyringRead, string(store.TopicService): identity.ServiceRead, topicAudit: identity.MetricsRead, topicBackup: identity.MetricsRead,
	}
}

// hears reports whether a visitor may be told that something changed which takes a permission to read; "" is nothing that one is told of.
func (v visitor) hears(p identity.Permission) bool {
	if p == identity.TrainRead || p == identity.KeyRead {
		return v.mayAll(p)
	}
	return p != "" && v.may(p)
}

// heard returns those of the topics of which a visitor may be told. That something changed of some train or key is told to those who may read all trains: to others it would tell of trains that
// are none to them.
func (v visitor) heard(topics []string) []string {
	known := liveTopics()
	return slices.DeleteFunc(slices.Clone(topics), func(topic string) bool { return !v.hears(known[topic]) })
}

// byItself is the header of what a page asks without its reader: what it shows became stale.
const byItself = "X-Signalbox-Unattended"

// unattended reports whether a page asks by itself. Whoever claims that wrongly lets their own session lie idle.
func unattended(r *http.Request) bool { return r.URL.Path == "/live" || r.Header.Get(byItself) != "" }

// stillHears reports whether the session lives and its person, with the role that they have now, may still be told of all these.
func (s *site) stillHears(r *http.Request, v visitor, topics []string) bool {
	caller, err := s.Identity.Unattended(r.Context(), v.cookie)
	return err == nil && len(visitor{Caller: caller}.heard(topics)) == len(topics)
}

// live tells a page, as server-sent events, when a kind of thing that it shows has changed. It ends with the session.
func (s *site) live(w http.ResponseWriter, r *http.Request, v visitor) {
	asked := r.URL.Query().Get("topics")
	topics := strings.Split(asked[:min(len(asked), liveLongest)], ",")
	slices.Sort(topics)
	if topics = v.heard(slices.Compact(topics)); len(topics) == 0 {
		s.fail(w, r, fault.New(fault.Invalid, "malformed_request", "There is nothing of this kind to be told of."))
		return
	}
	word, ok := s.hub.join(v.UserID, topics)
	if !ok {
		s.fail(w, r, fault.New(fault.TooMany, "rate_limited", "Too many pages are open. This one works, and is read again when you reload it.").After(60))
		return
	}
	defer s.hub.leave(word)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // that of a short request would cancel this one
	say := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(liveTaken)) // best effort: not every connection has one
		_, err := io.WriteString(w, text)
		return err == nil && out.Flush() == nil
	}
	if !say(": listening\n\n") {
		return
	}
	end, pulse := time.NewTimer(liveTime), time.NewTicker(livePulse)
	defer end.Stop()
	defer pulse.Stop()
	// What the change feed tells nothing of is looked at again and again.
	looked := s.looked(topics)
	var looks <-chan time.Time
	if len(looked) > 0 {
		ticks := time.NewTicker(feedPulse)
		defer ticks.Stop()
		looks = ticks.C
	}
	for i := range looked {
		looked[i].seen = looked[i].news(r.Context())
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.Draining:
			return
		case <-end.C:
			return
		case <-pulse.C:
			if !say(": still here\n\n") {
				return
			}
		case <-looks:
			if !s.stillHears(r, v, topics) {
				return
			}
			for i := range looked {
				now := looked[i].news(r.Context())
				if now == looked[i].seen {
					continue
				}
				if looked[i].seen = now; !say("event: stale\ndata: " + looked[i].topic + "\n\n") {
					return
				}
			}
		case <-word:
			if !s.stillHears(r, v, topics) {
				return
			}
			for _, topic := range s.hub.take(word) {
				if !say("event: stale\ndata: " + topic + "\n\n") {
					return
				}
			}
			rest := time.NewTimer(livePause)
			select {
			case <-rest.C:
			case <-r.Context().Done():
				rest.Stop()
				return
			case <-s.Draining:
				rest.Stop()
				return
			}
		}
	}
}

// look is a topic of which a page is told by looking: news returns a number that grows.
type look struct {
	topic string
	news  func(context.Context) int64
	seen  int64
}

// looked returns those of the topics of which the change feed tells nothing.
func (s *site) looked(topics []string) (out []look) {
	if slices.Contains(topics, topicAudit) {
		out = append(out, look{topic: topicAudit, news: func(ctx context.Context) int64 { return s.follow.grown(ctx, s.Audit) }})
	}
	if slices.Contains(topics, string(store.TopicKeyring)) && s.Keys.Rekeyer != nil {
		out = append(out, look{topic: string(store.TopicKeyring), news: func(ctx context.Context) int64 { return s.strides.taken(ctx, s.Keys.Rekeyer.Status) }})
	}
	if slices.Contains(topics, topicBackup) && s.Operations.Backups != nil {
		out = append(out, look{topic: topicBackup, news: func(ctx context.Context) int64 { return s.backing.taken(ctx, s.backupNews) }})
	}
	return out
}
