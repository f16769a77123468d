package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInvariant13UnknownDenies: an unknown route, method or type is refused with a problem document, whoever asks, and changes nothing.
func TestInvariant13UnknownDenies(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		w := h.world()
		before := h.counts()
		for _, token := range []string{"", h.token} {
			for _, target := range []string{
				"/api", "/api/", "/api/nothing", "/api/credentials/", "/api//credentials", "/api/./credentials", "/api/x/../credentials", "/api/credentials/..",
				"/api/Credentials", "/api/credentials%2f" + w.credential, "/api/credentials/" + w.credential + "/", "/api/credentials/" + w.credential + "/planted",
				"/api/trains//accounts", "/api/%ff", "/api/credentials/%00", "/api/credentials/%ff", "/api/docs/", "/api/docs/style.css", "/api/docs.css", "/api/openapi", "/api/openapi.yaml", "/api/openapi-3.0.json",
				"/api/schemas/Problem.json", "/docs", "/openapi.json", "/schemas/Problem.json", "/", "/planted", "/v1/messages", "/api.json", "/apicredentials",
				"/api/credentials;planted", "/api/credentials%00",
			} {
				for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PLANTED"} {
					a := h.do(request{method: method, target: target, token: token, body: bodyFor(method)})
					require.Contains(t, []int{401, 404}, a.status, "%s %s: %s", method, target, a.body)
					if token != "" {
						require.Equal(t, 404, a.status, "%s %s: %s", method, target, a.body)
					}
					require.Empty(t, a.header.Get("Location"), "%s %s", method, target)
					if method == "HEAD" {
						h.headers(a)
						continue
					}
					p := h.problem(a)
					require.Contains(t, []string{"not_found", "unauthenticated"}, p.Code)
					require.NotContains(t, strings.ToLower(string(a.body)), "planted")
				}
			}
		}
		for _, o := range d.operations(t) {
			known := map[string]bool{"HEAD": d.Paths[o.path]["get"] != nil}
			for method := range d.Paths[o.path] {
				known[strings.ToUpper(method)] = true
			}
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PLANTED", "get", "PROPFIND"} {
				if known[method] {
					continue
				}
				a := h.do(request{method: method, target: w.target(o), token: h.token, body: bodyFor(method), header: http.Header{
					"Access-Control-Request-Method": {"POST"}, "Origin": {"https://planted.example"}, "X-Http-Method-Override": {"DELETE"},
				}})
				require.Equal(t, 405, a.status, "%s %s: %s", method, o.path, a.body)
				allow := strings.Split(a.header.Get("Allow"), ", ")
				require.Len(t, allow, len(keys(known)))
				for _, m := range allow {
					require.True(t, known[m], "Allow of %s names %s", o.path, m)
				}
				require.Empty(t, a.header.Get("Access-Control-Allow-Origin"))
				if method == "HEAD" {
					h.headers(a)
					continue
				}
				require.Equal(t, "method_not_allowed", h.problem(a).Code)
				require.NotContains(t, strings.ToLower(string(a.body)), "planted")
			}
		}
		require.Equal(t, before, h.counts(), "a refused request changed something")
		require.NotContains(t, strings.ToLower(h.log.String()), "planted")

		for _, body := range []string{
			`{"type":"planted_type","name":"n","secrets":{"x":"y"}}`, `{"type":"API_KEY","name":"n","secrets":{"api_key":"y"}}`, `{"type":"","name":"n","secrets":{"x":"y"}}`,
		} {
			a := h.do(request{method: "POST", target: "/api/credentials", token: h.token, body: []byte(body)})
			require.Equal(t, 422, a.status)
			p := h.problem(a)
			require.Equal(t, "/type", p.Errors[0].Pointer)
			require.NotContains(t, string(a.body), "planted_type")
		}
		require.Equal(t, before, h.counts())
	})
}

func bodyFor(method string) []byte {
	switch method {
	case "POST", "PUT", "PATCH":
		return []byte(`{}`)
	}
	return nil
}

func keys(known map[string]bool) []string {
	var out []string
	for k, yes := range known {
		if yes {
			out = append(out, k)
		}
	}
	return out
}

// TestHead: HEAD is GET without the body.
func TestHead(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		a := h.do(request{method: "HEAD", target: "/api/whoami", token: h.token})
		require.Equal(t, 200, a.status)
		require.Empty(t, a.body)
		require.Equal(t, 401, h.do(request{method: "HEAD", target: "/api/whoami"}).status)
	})
}

// TestServedTellsThePattern: what is told of an answer holds nothing of the request's path.
func TestServedTellsThePattern(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.served.said = nil
		h.do(request{method: "GET", target: "/api/whoami", token: h.token})
		h.do(request{method: "GET", target: "/api/trains/some-slug", token: h.token})
		h.do(request{method: "GET", target: "/api/trains/some-slug"})
		h.do(request{method: "GET", target: "/api/no/such%0Athing", token: h.token})
		h.do(request{method: "BREW", target: "/api/whoami", token: h.token})
		h.do(request{method: "GET", target: "/api/audit/export", token: h.token})
		require.Equal(t, []string{"200 GET /api/whoami", "404 GET /api/trains/{train_id}", "401 GET /api/trains/{train_id}", "404 ", "405 ", "200 GET /api/audit/export"}, h.served.said)
	})
}

// TestLiteralBeforeParameter: a client whose id is the name of a sub-route is still found by client.
func TestLiteralBeforeParameter(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for _, target := range []string{"/api/credentials/by-client/versions", "/api/credentials/by-client/a%2Fb", "/api/credentials/by-client/%E2%82%AC"} {
			a := h.do(request{method: "GET", target: target, token: h.token})
			require.Equal(t, 200, a.status, "%s", a.body)
			require.JSONEq(t, `{"credentials":[]}`, string(a.body))
		}
	})
}
