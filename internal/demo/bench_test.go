package demo_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/secret"
)

// The fake shares the machine with what is measured against it, so its own cost is worth knowing.
func BenchmarkUpstream(b *testing.B) {
	u := demo.NewUpstream(demo.Options{Keys: []secret.Value{secret.FromString(testKey)}})
	s := httptest.NewServer(u)
	defer s.Close()
	for name, in := range map[string]string{
		"json":       body("claude-x", false),
		"stream50":   body("fake-stream-50", true),
		"prompt64KB": strings.Replace(body("claude-x", false), `"hi"`, `"`+strings.Repeat("x", 64<<10)+`"`, 1),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := http.NewRequest(http.MethodPost, s.URL+"/v1/messages", strings.NewReader(in))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("X-Api-Key", testKey)
				r.Header.Set("Anthropic-Version", "2023-06-01")
				resp, err := s.Client().Do(r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp.StatusCode, err)
				}
				resp.Body.Close()
			}
		})
	}
}
