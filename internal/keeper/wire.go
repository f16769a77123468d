package keeper

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/outbound"
)

// guarded returns a client that reaches public addresses and the named hosts, wherever these are: the operator has named them, or the
// service's own documentation has. Without TLS it reaches this machine alone, and those of metadata, which hand a cloud's machines their
// credentials.
func guarded(hosts, metadata []string, roots *x509.CertPool) (*http.Client, error) {
	policy, err := outbound.ParsePolicy(append(slices.Clone(hosts), metadata...))
	if err != nil {
		return nil, err
	}
	client := outbound.NewClient(policy, outbound.Options{ConnectTimeout: 5 * time.Second, Timeout: oneTry, RootCAs: roots})
	client.Transport = encrypted{client.Transport, metadata}
	return client, nil
}

// encrypted refuses what would leave this machine without TLS, and says of a redirect that it is one: some libraries take it for an answer.
type encrypted struct {
	next  http.RoundTripper
	plain []string
}

// elsewhereError is a redirect.
type elsewhereError struct{}

// Error says so.
func (*elsewhereError) Error() string {
	return "the service points to another address, and none is followed"
}

// RoundTrip makes one exchange.
func (e encrypted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !thisMachine(r.URL.Hostname()) && !slices.ContainsFunc(e.plain, func(h string) bool { return h == r.URL.Host || h == r.URL.Hostname() }) {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, fault.New(fault.Unprocessable, "upstream_refused", "The key management service must be spoken to with TLS.").Because(outbound.ErrRefused)
	}
	resp, err := e.next.RoundTrip(r)
	if err == nil && resp.StatusCode >= 300 && resp.StatusCode < 400 {
		_ = resp.Body.Close()
		return nil, &elsewhereError{}
	}
	return resp, err
}

func thisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// wire speaks JSON with one service.
type wire struct {
	at     Address
	client *http.Client
	quick  bool
	// sign puts the credentials into a request.
	sign func(context.Context, *http.Request) error
	// judge says what an answer other than 200 means; again asks for another try.
	judge func(status int, body []byte) (t trouble, again bool)
}

// maxAnswer bounds an answer; the longest are a few kilobytes.
const maxAnswer = 256 << 10

// call sends in as JSON (nothing when nil) and reads the answer into out. Wrapping and unwrapping change nothing at the service, so that each
// may be sent again.
func (w *wire) call(ctx context.Context, method, address string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, allOfIt)
	defer cancel()
	var err error
	for try := range tries {
		if try > 0 {
			if perr := w.pause(ctx, try); perr != nil {
				return err
			}
		}
		var again bool
		if again, err = w.once(ctx, method, address, in, out); err == nil || !again {
			return err
		}
	}
	return err
}

func (w *wire) pause(ctx context.Context, try int) error {
	d := time.Duration(try) * time.Duration(try) * 500 * time.Millisecond
	if w.quick {
		d = time.Millisecond
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (w *wire) once(ctx context.Context, method, address string, in, out any) (again bool, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return false, fmt.Errorf("keeper: write the request: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return false, w.at.fault(failed, errors.New("the address makes no request"))
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if err := w.sign(ctx, req); err != nil {
		return false, err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
			return false, ctx.Err()
		}
		if refused := (*elsewhereError)(nil); errors.As(err, &refused) {
			return false, w.at.fault(elsewhere, nil)
		}
		return !errors.Is(err, outbound.ErrRefused), w.at.fault(unreachable, outbound.Clean(err))
	}
	answer, err := outbound.ReadCapped(resp, maxAnswer)
	if err != nil {
		return true, w.at.fault(unreachable, outbound.Clean(err))
	}
	if resp.StatusCode != http.StatusOK {
		var t trouble
		switch {
		case resp.StatusCode == http.StatusTooManyRequests:
			t, again = throttled, true
		default:
			t, again = w.judge(resp.StatusCode, answer)
		}
		return again, w.at.fault(t, fmt.Errorf("it answered with status %d", resp.StatusCode))
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return false, w.at.fault(failed, errors.New("its answer is not the JSON that it should be"))
	}
	return false, nil
}

// hostOf returns the host of a URL that a variable holds, for the list of hosts that may be called; "" when there is none.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}
