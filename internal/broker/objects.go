package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/train"
)

const (
	// objectMost bounds what is read of an answer that describes one batch or file.
	objectMost = 1 << 20
	// uploadMost is the largest file, as docs.anthropic.com/en/docs/build-with-claude/files tells it.
	uploadMost = 500 << 20
	// idsMost bounds the different files that one request may name.
	idsMost = 100
)

// objects serves a path of batches and files. What is made there belongs to the train that made it and lies on one account.
func (b *Broker) objects(w http.ResponseWriter, r *http.Request, rid string, caller identity.Caller, on route) error {
	want := train.Want{Train: trainHeader(r.Header), Account: r.Header.Get("MSL-Account"), Method: r.Method, Path: r.URL.Path}
	if on.id != "" {
		owner, err := b.trains.Owner(r.Context(), caller, on.kind, on.id)
		if err != nil {
			return err
		}
		want.Pinned = owner
	}
	switch {
	case on.id == "" && r.Method == http.MethodGet:
		return b.list(w, r, rid, caller, want, on)
	case on.kind == train.File && r.Method == http.MethodPost:
		return b.upload(w, r, caller, want, on)
	}
	sent, err := b.bodies.read(w, r, b.bodyLimit)
	if err != nil {
		return err
	}
	defer sent.release()
	want.BodyBytes = int64(sent.len())
	if on.id == "" {
		if err := b.pin(r.Context(), caller, &want, sent.bytes()); err != nil {
			return err
		}
	}
	return b.forwardTo(w, r, caller, want, sent, func(w http.ResponseWriter, r *http.Request, lease *train.Lease, resp *http.Response, body *body, started time.Time) error {
		return b.replyObject(w, r, lease, resp, body, started, on)
	})
}

// pin binds a request to the account on which the files lie that it names. A file of another train is as one that does not exist.
func (b *Broker) pin(ctx context.Context, caller identity.Caller, want *train.Want, body []byte) error {
	if bytes.IndexByte(body, 0) >= 0 { // no JSON in UTF-8 has one, and in another encoding it would go unread
		return fault.New(fault.Invalid, "malformed_request", "The request body holds NUL bytes, so it is no JSON in UTF-8. Send it in UTF-8.")
	}
	ids := fileIDs(body)
	if len(ids) > idsMost {
		return fault.New(fault.Invalid, "malformed_request", "The request names over "+strconv.Itoa(idsMost)+" files. Name fewer.")
	}
	for _, id := range ids {
		if !isObjectID(id) {
			return fault.New(fault.NotFound, "not_found", "The request names a file by what is no file's id. Name files that this train has uploaded.")
		}
		owner, err := b.trains.Owner(ctx, caller, train.File, id)
		if err != nil {
			return err
		}
		if want.Pinned != "" && want.Pinned != owner {
			return fault.New(fault.Invalid, "malformed_request", "The request names files that lie on different accounts, and only one account can answer it. Upload them again with the same account (MSL-Account).")
		}
		want.Pinned = owner
	}
	return nil
}

// replyObject passes on what an upstream says of one object. Of a success, what is new is recorded before anybody hears of it, and the address of a
// batch's results is made ours.
func (b *Broker) replyObject(w http.ResponseWriter, r *http.Request, lease *train.Lease, resp *http.Response, body *body, started time.Time, on route) error {
	if r.Method == http.MethodDelete && (resp.StatusCode <= 299 || resp.StatusCode == http.StatusNotFound) {
		if err := lease.Disown(r.Context(), on.kind, on.id); err != nil {
			b.log.Error("what an upstream deleted is still listed", "request_id", w.Header().Get("X-Request-Id"), "kind", string(on.kind), "cause", err)
		}
		return b.reply(w, r, lease, resp, body, started)
	}
	if resp.StatusCode > 299 || on.tail == "content" || on.tail == "results" {
		return b.reply(w, r, lease, resp, body, started)
	}
	outcome := train.Outcome{Result: train.UpstreamBroke, Status: resp.StatusCode, FirstByte: time.Since(started)}
	defer func() {
		_ = resp.Body.Close()
		outcome.Duration = time.Since(started)
		lease.Done(outcome)
	}()
	answer, err := readObject(resp)
	if err != nil {
		return errObject(err)
	}
	if on.id == "" {
		var made struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(answer, &made); err != nil || !isObjectID(made.ID) {
			return errObject(errors.New("it has no id that can be kept"))
		}
		if lease.Lent(made.ID) { // it would stand in the record
			return errObject(errors.New("it gives the credential for an id"))
		}
		if err := lease.Own(r.Context(), on.kind, made.ID); err != nil {
			b.log.Error("what was made at an upstream could not be recorded, so that nobody can use it", "request_id", w.Header().Get("X-Request-Id"), "kind", string(on.kind), "id", made.ID, "credential", lease.CredentialID(), "cause", err)
			return err
		}
	}
	if on.kind == train.Batch {
		if answer, err = withResultsAt(answer, b.base(r)); err != nil {
			return errObject(err)
		}
	}
	outcome.Result, outcome.Bytes = train.OK, int64(len(answer))
	copyHeader(w.Header(), resp.Header)
	quotaHeaders(w.Header(), resp.StatusCode, lease.Quota())
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(answer))}
	body.release()
	w.WriteHeader(resp.StatusCode)
	if _, err := w.Write(answer); err != nil {
		outcome.Result = train.ClientCancelled
	}
	return nil
}

// readObject reads an answer that describes an object, whole.
func readObject(resp *http.Response) ([]byte, error) {
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, errors.New("it is compressed, which was not asked for")
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, objectMost+1))
	if err != nil {
		return nil, outbound.Clean(err)
	}
	if len(answer) > objectMost {
		return nil, errors.New("it is over a mebibyte")
	}
	if !json.Valid(answer) {
		return nil, errors.New("it is no JSON")
	}
	return answer, nil
}

func errObject(cause error) error {
	return fault.New(fault.Unavailable, "upstream_unreachable", "The upstream's answer could not be understood, so it is not passed on. What the request asked for may have been done; look before sending it again. An operator finds the cause in the log under the request id.").Because(cause)
}

// base is where the caller reached us.
func (b *Broker) base(r *http.Request) string {
	if r.Host == "" {
		return ""
	}
	scheme := "http://"
	if b.secure || r.TLS != nil {
		scheme = "https://"
	}
	return scheme + r.Host
}

// withResultsAt returns a batch whose results_url leads to base and not to the upstream: SDKs take the caller's key to wherever it leads. All other
// bytes stay.
func withResultsAt(batch []byte, base string) ([]byte, error) {
	start, end, err := topLevelString(batch, "results_url")
	if err != nil || start < 0 {
		return batch, err
	}
	var at string
	if err := json.Unmarshal(batch[start:end], &at); err != nil {
		return nil, err
	}
	path := ""
	if u, err := url.Parse(at); err == nil {
		path = u.EscapedPath()
		path = path[max(0, strings.LastIndex(path, "/v1/messages/batches/")):] // a base URL may have a path before
	}
	ours := []byte("null") // where it leads to no results of a batch
	if on, ok := routeOf(path); ok && on.kind == train.Batch && on.tail == "results" {
		if ours, err = json.Marshal(base + path); err != nil {
			return nil, err
		}
	}
	return bytes.Join([][]byte{batch[:start], ours, batch[end:]}, nil), nil
}

// upload passes a file on as it comes; there is one attempt.
func (b *Broker) upload(w http.ResponseWriter, r *http.Request, caller identity.Caller, want train.Want, on route) error {
	if r.ContentLength > uploadMost {
		return errUpload()
	}
	want.BodyBytes = max(0, r.ContentLength)
	// The right to lend may end the upload; a client that goes away shows in the body. net/http takes a body that is given up for a client that is gone,
	// and the upstream's answer to a part of it is to be read all the same.
	r = r.WithContext(context.WithoutCancel(r.Context()))
	lease, err := b.trains.Lend(r.Context(), caller, want)
	if err != nil {
		return err
	}
	none := &body{store: &b.bodies}
	none.refs.Store(1)
	defer none.release()
	started := time.Now()
	out, err := outgoing(r, lease, none)
	if err != nil {
		refusal, _ := b.settle(r, lease, unapplied{err}, started)
		return refusal
	}
	in := &upload{src: r.Body, line: http.NewResponseController(w)}
	if r.ContentLength != 0 && r.Body != nil {
		out.Body, out.ContentLength = in, r.ContentLength
	}
	resp, err := b.send(lease, out)
	in.end()
	switch {
	case err != nil && in.failed.Load() != nil:
		lease.Done(train.Outcome{Result: train.ClientCancelled, Duration: time.Since(started)})
		return in.failed.Load()
	case err != nil:
		if refusal, final := b.settle(r, lease, err, started); final {
			return refusal
		}
		lease.Failed(r.Context(), train.Failure{Dial: true, Unsent: unsent(err)})
		return fault.New(fault.Unavailable, "upstream_unreachable", "The upstream of this account could not be reached, and a file is sent once only. Upload it again shortly.").After(5).Because(outbound.Clean(err))
	case resp.StatusCode < http.StatusOK:
		_ = resp.Body.Close()
		lease.Failed(r.Context(), train.Failure{Dial: true})
		return errObject(errNoAnswer)
	case failover(resp.StatusCode):
		kept := keep(resp)
		lease.Failed(r.Context(), train.Failure{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())})
		kept.send(w, lease.Quota())
		return nil
	}
	return b.replyObject(w, r, lease, resp, none, started, on)
}

func errUpload() *fault.Error {
	return fault.New(fault.TooLarge, "body_too_large", "The file is over 500 MiB, the most that is passed on. Upload a smaller one.")
}
