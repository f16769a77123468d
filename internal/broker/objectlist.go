package broker

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/train"
)

const (
	// listDefault and listMost are how many objects a page has. The upstream allows more; each one is a request of its own here.
	listDefault, listMost = 20, 100
	// listAtOnce is how many of them are asked for at one moment.
	listAtOnce = 4
	// listRounds bounds the pages that are gone through when what they name is not there any more.
	listRounds = 5
)

// objectList is a page as the upstream's own API shapes it (docs.anthropic.com/en/api/listing-message-batches).
type objectList struct {
	Data    []json.RawMessage `json:"data"`
	HasMore bool              `json:"has_more"`
	FirstID *string           `json:"first_id"`
	LastID  *string           `json:"last_id"`
	// NextPage is how newer SDKs go on with files.
	NextPage *string `json:"next_page,omitempty"`
}

// pagePrefix begins a NextPage. When the last object of the page was made and its id follow, so that the next page is found also when that was deleted.
const pagePrefix = "page_"

func nextPage(last train.Object) string {
	return pagePrefix + strconv.FormatInt(int64(last.CreatedAt), 36) + "_" + last.ID
}

func fromPage(at string) (train.Object, bool) {
	rest, ok := strings.CutPrefix(at, pagePrefix)
	made, id, cut := strings.Cut(rest, "_")
	n, err := strconv.ParseInt(made, 36, 64)
	return train.Object{ID: id, CreatedAt: store.Time(n)}, ok && cut && err == nil && isObjectID(id)
}

// list answers with what the caller's train has, as its upstreams describe each object now. The upstream's own list is not asked: it would tell of
// other trains that share an account.
func (b *Broker) list(w http.ResponseWriter, r *http.Request, rid string, caller identity.Caller, want train.Want, on route) error {
	page, err := pageOf(r.URL.Query())
	if err != nil {
		return err
	}
	out := objectList{Data: []json.RawMessage{}}
	for range listRounds {
		objects, more, err := b.trains.Objects(r.Context(), caller, on.kind, page)
		if err != nil {
			return err
		}
		found, refused, err := b.describe(r, caller, &want, on, objects)
		if err != nil {
			return err
		}
		if refused != nil {
			refused.send(w, quota.Standing{})
			return nil
		}
		out.HasMore = more
		for i, d := range found {
			if d == nil {
				continue
			}
			if out.FirstID == nil {
				out.FirstID = &objects[i].ID
			}
			out.LastID = &objects[i].ID
			out.Data = append(out.Data, d)
		}
		if more && len(out.Data) > 0 && page.Before == "" && !page.Newer {
			next := nextPage(objects[len(objects)-1])
			out.NextPage = &next
		}
		if len(out.Data) > 0 || !more || len(objects) == 0 {
			break
		}
		if page.Before != "" {
			page.Before, page.From = "", objects[0]
			page.Newer = true
		} else {
			page.After, page.From = "", objects[len(objects)-1]
		}
	}
	answer, err := json.Marshal(out)
	if err != nil {
		return errObject(err)
	}
	if r.ContentLength != 0 { // nobody has read what came with the request, and net/http does before it answers
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leftover))
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Request-Id"] = []string{rid} // it is our own answer
	h["Content-Length"] = []string{strconv.Itoa(len(answer))}
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(answer) // a client that is gone needs no answer
	return nil
}

func pageOf(q url.Values) (train.ObjectPage, error) {
	p := train.ObjectPage{After: q.Get("after_id"), Before: q.Get("before_id"), Limit: listDefault}
	if at := q.Get("page"); at != "" {
		var ok bool
		if p.From, ok = fromPage(at); !ok || p.After != "" || p.Before != "" {
			return p, fault.New(fault.Invalid, "malformed_request", "page is not what the last answer gave as next_page. Begin the list again without it.")
		}
	}
	if q.Has("scope_id") {
		return p, fault.New(fault.Invalid, "malformed_request", "Signalbox cannot tell files apart by scope_id. Leave it out.")
	}
	p.IDs = slices.Concat(q["ids"], q["ids[]"])
	if len(p.IDs) > listMost {
		return p, fault.New(fault.Invalid, "malformed_request", "ids may name 100 files at most.")
	}
	if len(p.IDs) > 0 {
		p.Limit = listMost
		p.IDs = slices.DeleteFunc(p.IDs, func(id string) bool { return !isObjectID(id) })
		if len(p.IDs) == 0 {
			p.IDs = []string{"-"} // nothing has this id
		}
		return p, nil
	}
	for _, id := range []string{p.After, p.Before} {
		if id != "" && !isObjectID(id) {
			return p, fault.New(fault.NotFound, "not_found", "The page begins at what is no id. Begin the list again without before_id and after_id.")
		}
	}
	if p.After != "" && p.Before != "" {
		return p, fault.New(fault.Invalid, "malformed_request", "A page is before or after something, not both. Send before_id or after_id.")
	}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1000 {
			return p, fault.New(fault.Invalid, "malformed_request", "limit must be a number from 1 to 1000.")
		}
		p.Limit = min(n, listMost)
	}
	return p, nil
}

// describe asks the upstream of each object what it is now. One that the upstream does not have any more is nil. The first answer that is neither is
// returned to be passed on, since a list with holes would be taken for a whole one. A list is one request: the first lend is held against limits, and the others go
// once that was let through.
func (b *Broker) describe(r *http.Request, caller identity.Caller, want *train.Want, on route, objects []train.Object) ([]json.RawMessage, *keptAnswer, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	found := make([]json.RawMessage, len(objects))
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		refused *keptAnswer
		failed  error
	)
	slots := make(chan struct{}, listAtOnce)
	for i := range objects {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		of := *want
		of.Pinned, of.Path = objects[i].CredentialID, on.root()+"/"+objects[i].ID
		lend := func() (*train.Lease, error) { return b.trains.Lend(ctx, caller, of) }
		if !want.Counted {
			lease, err := lend()
			want.Counted = err == nil
			lend = func() (*train.Lease, error) { return lease, err }
		}
		wg.Go(func() {
			defer func() { <-slots }()
			one, no, err := b.one(ctx, r, on, objects[i].ID, lend)
			if no == nil && err == nil {
				found[i] = one
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if refused == nil {
				refused = no
			}
			if failed == nil {
				failed = err
			}
			cancel()
		})
		if !want.Counted {
			break // it was refused
		}
	}
	wg.Wait()
	switch {
	case refused != nil: // an account that rests because of it is told to whoever asked beside, and says less
		return found, refused, nil
	case failed == nil:
		failed = r.Context().Err()
	}
	return found, nil, failed
}

// one asks an upstream for one object, on the account on which it lies.
func (b *Broker) one(ctx context.Context, r *http.Request, on route, id string, lend func() (*train.Lease, error)) (json.RawMessage, *keptAnswer, error) {
	ask := r.Clone(ctx)
	ask.URL.Path, ask.URL.RawPath, ask.URL.RawQuery = on.root()+"/"+id, "", ""
	if r.URL.Query().Get("beta") == "true" {
		ask.URL.RawQuery = "beta=true"
	}
	lease, err := lend()
	if err != nil {
		return nil, nil, err
	}
	none := &body{store: &b.bodies}
	none.refs.Store(1)
	defer none.release()
	started := time.Now()
	resp, err := b.attempt(ask, lease, none)
	if err != nil {
		if refusal, final := b.settle(ask, lease, err, started); final {
			return nil, nil, refusal
		}
		lease.Failed(ctx, train.Failure{Dial: true, Unsent: unsent(err)})
		return nil, nil, fault.New(fault.Unavailable, "upstream_unreachable", "The upstream of an account on which a part of this list lies could not be reached. Ask again shortly.").After(5)
	}
	if failover(resp.StatusCode) || resp.StatusCode < http.StatusOK {
		kept := keep(resp)
		lease.Failed(ctx, train.Failure{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())})
		if kept.status < http.StatusOK {
			return nil, nil, errObject(errNoAnswer)
		}
		return nil, kept, nil
	}
	outcome := train.Outcome{Result: train.OK, Status: resp.StatusCode, FirstByte: time.Since(started)}
	if resp.StatusCode > 299 {
		outcome.Result = train.UpstreamError
	}
	defer func() {
		_ = resp.Body.Close()
		outcome.Duration = time.Since(started)
		lease.Done(outcome)
	}()
	switch {
	case resp.StatusCode == http.StatusNotFound: // it ended there, or was deleted with the account's own key
		if err := lease.Disown(ctx, on.kind, id); err != nil {
			b.log.Error("what is gone at an upstream is still listed", "kind", string(on.kind), "cause", err)
		}
		return nil, nil, nil
	case resp.StatusCode > 299:
		return nil, keep(resp), nil
	}
	answer, err := readObject(resp)
	if err == nil && on.kind == train.Batch {
		answer, err = withResultsAt(answer, b.base(r))
	}
	if err != nil {
		outcome.Result = train.UpstreamBroke
		return nil, nil, errObject(err)
	}
	outcome.Bytes = int64(len(answer))
	return answer, nil, nil
}
