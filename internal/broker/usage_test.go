package broker_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/store"
)

// costs waits for n outcomes and returns what each says of tokens, in order: usage, input, output; "" where it says nothing.
func (d *door) costs(n int) (out []string) {
	d.t.Helper()
	d.results(n)
	for _, e := range d.events() {
		if e.Action != store.LeaseOutcome {
			continue
		}
		said := ""
		for _, name := range []string{"usage", "model", "input_tokens", "output_tokens", "cache_read_tokens", "cache_creation_5m_tokens", "cache_creation_1h_tokens", "tool_calls"} {
			if v, has := e.Details.Get(name); has {
				said += " " + v.Text()
			}
		}
		out = append(out, said)
	}
	return out
}

// TestOutcomesTellTheCost: what the audit log says is what the upstream said to the client, also where the answer broke off or the client went away; what costs
// nothing says nothing, and what cannot be read is unknown.
func TestOutcomesTellTheCost(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		n := 0
		next := func() string { n++; return d.costs(n)[n-1] }
		_, body, _ := d.do(d.request(hello))
		var plain struct {
			Model string
			Usage struct {
				Input  int64 `json:"input_tokens"`
				Output int64 `json:"output_tokens"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(body), &plain))
		require.NotZero(t, plain.Usage.Input)
		require.NotZero(t, plain.Usage.Output)
		want := " complete " + plain.Model + " " + strconv.FormatInt(plain.Usage.Input, 10) + " " + strconv.FormatInt(plain.Usage.Output, 10)
		require.Equal(t, want, next())

		const ask = `"stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hello"}]}`
		status, _, _ := d.do(d.request(`{"model":"claude-x",` + ask))
		require.Equal(t, 200, status)
		require.Equal(t, want, next(), "a stream costs what the plain answer does")

		d.up.SetKeyBehaviour(d.secrets[0], demo.InTurn(demo.Behaviour{Break: demo.Overloaded, Deltas: 10}, demo.Behaviour{Break: demo.CutBetweenEvents, Deltas: 10}, demo.Behaviour{Deltas: 1000, Every: 20 * time.Millisecond}, demo.Behaviour{Status: 400}))
		for range 2 {
			d.do(d.request(`{"model":"claude-x",` + ask))
			require.Regexp(t, ` partial claude-x [1-9]\d* 1$`, next())
		}
		resp, err := d.client.Do(d.request(`{"model":"claude-x",` + ask))
		require.NoError(t, err)
		_, err = io.ReadFull(resp.Body, make([]byte, 600))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Regexp(t, ` partial claude-x [1-9]\d* 1$`, next(), "a client that goes away has cost what the upstream said until then")

		status, _, _ = d.do(d.request(`{"model":"claude-x",` + ask))
		require.Equal(t, 400, status)
		require.Empty(t, next())
		r := d.request(hello)
		r.URL.Path = "/v1/messages/count_tokens"
		status, _, _ = d.do(r)
		require.Equal(t, 200, status)
		require.Empty(t, next())
	})
	t.Run("an upstream of another kind", func(t *testing.T) {
		each(t, doorOptions{}, func(t *testing.T, d *door) {
			told := `{"model":"m","usage":{"input_tokens":3,"output_tokens":4,"cache_read_input_tokens":5,"cache_creation_input_tokens":13,"cache_creation":{"ephemeral_5m_input_tokens":6,"ephemeral_1h_input_tokens":7}},"content":[{"type":"tool_use"}]}`
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.Header.Get("X-Kind") {
				case "packed":
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set("Content-Encoding", "gzip")
					z := gzip.NewWriter(w)
					_, _ = io.WriteString(z, told)
					_ = z.Close()
				case "html":
					w.Header().Set("Content-Type", "text/html")
					_, _ = io.WriteString(w, told)
				case "echo": // of what was lent
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, `{"model":"m-`+r.Header.Get("X-Api-Key")+`","usage":{"input_tokens":3,"output_tokens":4}}`)
				case "odd":
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, `{"model":"<b>m\n","usage":{"input_tokens":3,"output_tokens":4}}`)
				case "silent":
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, `{"model":"m","content":[]}`)
				default:
					w.Header().Set("Content-Type", "Application/JSON; charset=utf-8")
					_, _ = io.WriteString(w, told)
				}
			}))
			t.Cleanup(up.Close)
			other := d.account("web", "other", up.URL, 9)
			for i, c := range [][2]string{{"", " complete m 3 4 5 6 7 1"}, {"packed", " unknown"}, {"html", " unknown"}, {"silent", " unknown"}, {"echo", " complete 3 4"}, {"odd", " complete 3 4"}} {
				r := d.request(hello)
				r.Header.Set("X-Kind", c[0])
				r.Header.Set("MSL-Account", other.ID)
				status, _, _ := d.do(r)
				require.Equal(t, 200, status)
				require.Equal(t, c[1], d.costs(i + 1)[i], c[0])
			}
		})
	})
}
