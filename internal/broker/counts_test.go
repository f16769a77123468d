package broker_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRefusalsAreCounted: by code, each once; what an upstream answers is no refusal of ours.
func TestRefusalsAreCounted(t *testing.T) {
	each(t, doorOptions{}, func(t *testing.T, d *door) {
		status, _, _ := d.do(d.request(hello))
		require.Equal(t, 200, status)
		require.Zero(t, d.broker.BodyBytes())
		for code, n := range d.broker.Refusals() {
			require.Zero(t, n, code)
		}
		d.do(d.request(`{"model":"fake-no-such-thing-status-400"}`))
		require.Zero(t, d.broker.Refusals()["malformed_request"])
		for range 2 {
			r := d.request(hello)
			r.Header.Set("X-Api-Key", "sbx_live_wrong")
			status, _, _ = d.do(r)
			require.Equal(t, http.StatusUnauthorized, status)
		}
		r := d.request(hello)
		r.URL.Path = "/v1/nothing"
		status, _, _ = d.do(r)
		require.Equal(t, http.StatusNotFound, status)
		got := map[string]int64{}
		for code, n := range d.broker.Refusals() {
			if n > 0 {
				got[code] = n
			}
		}
		require.Equal(t, map[string]int64{"unauthenticated": 2, "not_found": 1}, got)
	})
}
