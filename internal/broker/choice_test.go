package broker_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/train"
)

// limits is the behaviour of an account that says how far its five hours are used; status 429 says that they are used up, for that long.
func limits(status int, used float64, reset time.Duration) demo.Script {
	b := demo.Behaviour{Status: status, Header: http.Header{}}
	word := "allowed"
	if status == http.StatusTooManyRequests {
		word = "rejected"
	}
	for name, value := range map[string]string{"Status": word, "5h-Status": word, "5h-Utilization": fmt.Sprint(used), "5h-Reset": fmt.Sprint(time.Now().Add(reset).Unix())} {
		b.Header.Set("Anthropic-Ratelimit-Unified-"+name, value)
	}
	for _, of := range []string{"Requests", "Input-Tokens", "Output-Tokens"} {
		for _, what := range []string{"Limit", "Remaining", "Reset"} {
			b.Header["Anthropic-Ratelimit-"+of+"-"+what] = nil
		}
	}
	return demo.Always(b)
}

// servedBy sends a request and returns the name of the account that the upstream saw last.
func (d *door) servedBy(header ...string) (int, string, http.Header) {
	d.t.Helper()
	d.up.Forget()
	r := d.request(hello)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	status, _, answer := d.do(r)
	seen := d.up.Requests()
	if len(seen) == 0 {
		return status, "", answer
	}
	last := seen[len(seen)-1]
	require.NotContains(d.t, last.Header, "Msl-Session")
	for i, s := range d.secrets {
		if last.Credential().Equal(s) {
			return status, d.accounts[i].Name, answer
		}
	}
	return status, "", answer
}

// TestAccountsByUse: answers tell how far the accounts are used, also those of streams and refusals; requests follow that, conversations stay, and what is used
// up rests until it begins anew.
func TestAccountsByUse(t *testing.T) {
	each(t, doorOptions{accounts: 3, strategy: train.LeastLoaded}, func(t *testing.T, d *door) {
		is := func(i int, s demo.Script) { d.up.SetKeyBehaviour(d.secrets[i], s) }
		hear := func(i int) {
			status, name, _ := d.servedBy("MSL-Account", d.accounts[i].Name)
			require.Equal(t, 200, status)
			require.Equal(t, d.accounts[i].Name, name)
		}
		is(0, limits(0, 0.5, time.Hour))
		is(1, limits(0, 0.2, time.Hour))
		is(2, limits(0, 0.65, time.Hour))
		for i := range 3 {
			hear(i)
		}
		_, name, _ := d.servedBy()
		require.Equal(t, "account-2", name)
		for _, header := range []string{"X-Claude-Code-Session-Id", "MSL-Session"} {
			_, name, _ = d.servedBy(header, "talk "+header)
			require.Equal(t, "account-2", name)
		}
		is(1, limits(0, 0.7, time.Hour))
		hear(1)
		_, name, _ = d.servedBy()
		require.Equal(t, "account-1", name)
		for _, header := range []string{"X-Claude-Code-Session-Id", "MSL-Session"} {
			_, name, _ = d.servedBy(header, "talk "+header)
			require.Equal(t, "account-2", name, header)
		}
		_, name, _ = d.servedBy("X-Claude-Code-Session-Id", "talk X-Claude-Code-Session-Id", "MSL-Session", "another")
		require.Equal(t, "account-1", name, "ours goes before")

		// Claude Code's own header goes on to the upstream, as it came.
		d.servedBy("X-Claude-Code-Session-Id", "0a1b")
		require.Equal(t, []string{"0a1b"}, d.up.Requests()[0].Header["X-Claude-Code-Session-Id"])

		// Used up: the request goes through all of them, the last refusal is passed on, and then the client is told when the first is free.
		is(0, limits(429, 1, 3*time.Hour))
		is(1, limits(429, 1, 2*time.Hour))
		is(2, limits(429, 1, 50*time.Minute))
		status, _, answer := d.servedBy()
		require.Equal(t, 429, status)
		require.Equal(t, "rejected", answer.Get("Anthropic-Ratelimit-Unified-Status"))
		require.Len(t, d.up.Requests(), 3)
		status, name, answer = d.servedBy()
		require.Equal(t, 429, status)
		require.Empty(t, name, "nothing is sent")
		require.InDelta(t, 50*60, seconds(t, answer.Get("Retry-After")), 5)
	})
}

func seconds(t *testing.T, text string) (n int) {
	t.Helper()
	_, err := fmt.Sscan(text, &n)
	require.NoError(t, err, text)
	return n
}

// TestHostileLimits: whatever an upstream says of its limits, its answers are passed on and its account is lent.
func TestHostileLimits(t *testing.T) {
	each(t, doorOptions{accounts: 2, strategy: train.LeastLoaded}, func(t *testing.T, d *door) {
		for _, value := range []string{"NaN", "-1", "1e999", "99999999999999999999", "", "0.5\t", "\xff", "rejected", "Inf"} {
			b := demo.Behaviour{Header: http.Header{}}
			for _, name := range []string{"Status", "5h-Status", "5h-Utilization", "5h-Reset", "7d_-Status", "7d_x-Utilization", "Representative-Claim", "Reset"} {
				b.Header.Set("Anthropic-Ratelimit-Unified-"+name, value)
			}
			for _, name := range []string{"Requests-Limit", "Requests-Remaining", "Requests-Reset"} {
				b.Header.Set("Anthropic-Ratelimit-"+name, value)
			}
			for i := range d.secrets {
				d.up.SetKeyBehaviour(d.secrets[i], demo.Always(b))
			}
			for range 3 {
				status, name, _ := d.servedBy()
				require.Equal(t, 200, status, value)
				require.NotEmpty(t, name)
			}
		}
	})
}
