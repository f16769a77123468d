package outbound

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ErrTooLarge is returned by [ReadCapped] when the body is over its limit.
var ErrTooLarge = errors.New("the upstream's answer is over the size limit")

// Over returns a client that sends requests by a round tripper, which sees to the guard and to the end of each. A redirect comes back as the response that it is.
func Over(line http.RoundTripper) *http.Client {
	return &http.Client{Transport: line, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// NewClient returns a client for small calls (token endpoints, webhooks, discovery), guarded by p. A redirect comes back as the 3xx
// response that it is; a whole call, body included, ends within the timeout of o. Its errors quote the URL and sometimes the upstream:
// pass them through [Clean] before they are wrapped or logged.
func NewClient(p Policy, o Options) *http.Client {
	o = o.withDefaults()
	return &http.Client{
		Transport:     noFollow{NewTransport(p, o)},
		Timeout:       o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// noFollow hides a Location that does not parse: [http.Client] would turn such an answer into an error that quotes it, although nobody
// is going to follow it.
type noFollow struct {
	*http.Transport
}

// RoundTrip makes one exchange.
func (n noFollow) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if loc := resp.Header.Get("Location"); loc != "" {
		if _, err := r.URL.Parse(loc); err != nil {
			resp.Header.Del("Location")
		}
	}
	return resp, nil
}

// ReadCapped reads the whole body, closes it, and fails with [ErrTooLarge] when it holds more than limit bytes; never more than
// limit+1 bytes are read. A body cut short is an error ([io.ErrUnexpectedEOF]), not a short result.
func ReadCapped(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	if resp.ContentLength > limit {
		return nil, ErrTooLarge
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read the upstream's answer: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, ErrTooLarge
	}
	return b, nil
}
