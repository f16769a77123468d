package signalboxtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/signalboxtest"
)

// call is one call of the official TypeScript SDK. The exported fields are what testdata/typescript.mjs reads; the rest is what the test does
// meanwhile and expects.
type call struct {
	Name      string            `json:"name"`
	Do        string            `json:"do"`
	Key       string            `json:"key"`
	As        string            `json:"as,omitempty"` // apiKey (default; the SDK sends a bearer token), authToken, x-api-key, none
	Headers   map[string]string `json:"headers,omitempty"`
	Model     string            `json:"model,omitempty"`
	Raw       string            `json:"raw,omitempty"`
	Path      string            `json:"path,omitempty"`
	Megabytes int               `json:"megabytes,omitempty"` // of text, in place of a short prompt
	Retries   *int              `json:"retries,omitempty"`   // the SDK's own default when it is left out
	Cues      []string          `json:"cues,omitempty"`

	at   map[string]func() // what happens at a cue
	want want
}

// want is what the SDK must make of an answer.
type want struct {
	class    string // of the SDK's error; empty for success
	tries    []int  // the statuses that came over the line, in order
	status   int    // that the error tells; 0 for an error on the way
	kind     string // error.type in Anthropic's shape
	says     []string
	retry    string // x-should-retry
	waits    bool   // retry-after is there
	upstream bool   // the upstream's own answer
	foreign  bool   // no class of the SDK's
}

// told is what the script says of one call.
type told struct {
	Name  string `json:"name"`
	Tries []struct {
		Status      int    `json:"status"`
		RequestID   string `json:"requestID"`
		ShouldRetry string `json:"shouldRetry"`
		RetryAfter  string `json:"retryAfter"`
		Text        string `json:"text"` // of a refusal
	} `json:"tries"`
	Value json.RawMessage `json:"value"`
	Error *struct {
		Classes   []string          `json:"classes"`
		SDK       bool              `json:"sdk"`
		Message   string            `json:"message"`
		Status    int               `json:"status"`
		RequestID string            `json:"requestID"`
		Headers   map[string]string `json:"headers"`
		Body      struct {
			Type      string `json:"type"`
			RequestID string `json:"request_id"`
			Error     struct {
				Type    string `json:"type"`
				Message string `json:"message"`
			} `json:"error"`
		} `json:"body"`
	} `json:"error"`
}

// typescript runs the calls in their order with the official SDK, unmodified, as the lock of tools/npm pins it.
func typescript(t *testing.T, box *signalboxtest.Box, calls []call) map[string]told {
	t.Helper()
	install := exec.Command("../../scripts/npm.sh")
	var complaint bytes.Buffer
	install.Stderr = &complaint
	home, err := install.Output()
	require.NoError(t, err, "the TypeScript SDK is not there: %s", complaint.String())

	type cue struct {
		act  func()
		done chan struct{}
	}
	cues := make(chan cue)
	director := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		i := slices.IndexFunc(calls, func(c call) bool { return c.Name == q.Get("call") })
		if i < 0 || calls[i].at[q.Get("at")] == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		c := cue{calls[i].at[q.Get("at")], make(chan struct{})}
		select {
		case cues <- c:
		case <-r.Context().Done():
			return
		}
		select {
		case <-c.done:
		case <-r.Context().Done():
		}
	}))
	defer director.Close()
	defer director.CloseClientConnections() // one waits for its cue when the test fails

	for i := range calls {
		for at := range calls[i].at {
			calls[i].Cues = append(calls[i].Cues, at)
		}
	}
	table, err := json.Marshal(map[string]any{"baseURL": box.URL, "cue": director.URL, "calls": calls})
	require.NoError(t, err)
	// An import is looked for beside the script, so it runs beside the packages' directory.
	work := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(strings.TrimSpace(string(home)), "node_modules"), filepath.Join(work, "node_modules")))
	script, err := os.ReadFile("testdata/typescript.mjs")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(work, "typescript.mjs"), script, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(work, "calls.json"), table, 0o600))
	alive, kill := context.WithCancel(t.Context())
	defer kill()
	node := exec.CommandContext(alive, "node", "typescript.mjs", "calls.json")
	node.Dir, node.Env = work, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + work} // nothing of the user's own settings
	var out, errs bytes.Buffer
	node.Stdout, node.Stderr = &out, &errs
	require.NoError(t, node.Start())
	ended := make(chan error, 1)
	go func() { ended <- node.Wait() }()
	deadline := time.After(3 * time.Minute)
	for running := true; running; {
		select {
		case c := <-cues: // here and not in the handler, so that what fails ends the test
			c.act()
			close(c.done)
		case err := <-ended:
			require.NoError(t, err, "%s", errs.String())
			running = false
		case <-deadline:
			t.Fatalf("the script does not end: %s", errs.String())
		}
	}
	require.Empty(t, errs.String(), "the SDK warned")
	var report struct {
		Version string `json:"version"`
		Calls   []told `json:"calls"`
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &report), "%s", out.String())
	require.Equal(t, "Anthropic/JS "+pinned(t, "node_modules/@anthropic-ai/sdk"), report.Version, "another SDK ran than the lock names")
	box.Planted.Absent(t, "what the SDK was told", out.Bytes())
	byName := map[string]told{}
	for _, c := range report.Calls {
		byName[c.Name] = c
	}
	require.Len(t, byName, len(calls))
	return byName
}

// pinned returns the version of a package in the lock.
func pinned(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile("../../tools/npm/package-lock.json")
	require.NoError(t, err)
	var lock struct {
		Packages map[string]struct {
			Version string `json:"version"`
		} `json:"packages"`
	}
	require.NoError(t, json.Unmarshal(b, &lock))
	require.NotEmpty(t, lock.Packages[path].Version)
	return lock.Packages[path].Version
}

// check holds what the SDK made of a call against what is wanted.
func (c call) check(t *testing.T, got told) {
	t.Helper()
	var statuses []int
	for _, try := range got.Tries {
		statuses = append(statuses, try.Status)
		require.NotEmpty(t, try.RequestID, "an answer without X-Request-ID")
	}
	if c.want.tries == nil {
		c.want.tries = []int{max(c.want.status, 200)}
	}
	if c.want.class == "" {
		require.Nil(t, got.Error, "%+v", got.Error)
		require.Equal(t, c.want.tries, statuses)
		for _, says := range c.want.says { // of the refusal that the SDK took for a reason to try again
			require.Contains(t, got.Tries[0].Text, says)
			require.Equal(t, "true", got.Tries[0].ShouldRetry)
			require.NotEmpty(t, got.Tries[0].RetryAfter)
		}
		return
	}
	e := got.Error
	require.NotNil(t, e, "the SDK saw no error: %s", got.Value)
	require.Equal(t, c.want.tries, statuses, "the requests that the SDK made: %s", e.Message)
	require.Equal(t, c.want.class, e.Classes[0], e.Message)
	require.Equal(t, c.want.foreign, !e.SDK, "an error of the SDK's: %v", e.Classes)
	require.Equal(t, c.want.status, e.Status)
	require.Equal(t, c.want.kind, e.Body.Error.Type)
	for _, text := range c.want.says {
		require.Contains(t, e.Body.Error.Message, text)
		require.Contains(t, e.Message, text, "what a user reads in the terminal")
	}
	if c.want.status == 0 {
		return
	}
	require.NotEmpty(t, c.want.says, "the row does not say what must be read")
	require.Equal(t, "error", e.Body.Type)
	require.Equal(t, c.want.retry, e.Headers["x-should-retry"])
	require.Equal(t, c.want.waits, e.Headers["retry-after"] != "")
	require.NotEmpty(t, e.RequestID, "error.requestID")
	require.Equal(t, e.RequestID, e.Body.RequestID)
	require.Equal(t, c.want.upstream, e.RequestID != e.Headers["x-request-id"], "whose answer it is")
	require.Equal(t, c.want.status == 401 && !c.want.upstream, e.Headers["www-authenticate"] != "")
}

// served returns the ids of the requests under /v1 that a box has logged, with how often it did: one line each.
func served(t *testing.T, box *signalboxtest.Box) map[string]int {
	t.Helper()
	out := map[string]int{}
	for line := range bytes.Lines(box.Log.Bytes()) {
		var entry struct {
			Msg, Path string
			RequestID string `json:"request_id"`
		}
		require.NoError(t, json.Unmarshal(line, &entry))
		if entry.Msg == "request" && strings.HasPrefix(entry.Path, "/v1/") {
			out[entry.RequestID]++
		}
	}
	return out
}

// TestTypeScriptSDK drives @anthropic-ai/sdk through the real listener.
func TestTypeScriptSDK(t *testing.T) {
	signalboxtest.Each(t, func(t *testing.T, box *signalboxtest.Box) {
		lane := box.Lane(t, "")
		calls := []call{
			{Name: "messages", Do: "messages", Key: lane.Key},
			{Name: "messages with a token", Do: "messages", Key: lane.Key, As: "authToken"},
			{Name: "messages with x-api-key", Do: "messages", Key: lane.Key, As: "x-api-key"},
			{Name: "messages with both", Do: "messages", Key: lane.Key, Headers: map[string]string{"X-Api-Key": lane.Key}},
			{Name: "messages of a named account", Do: "messages", Key: lane.Key, Headers: map[string]string{"MSL-Account": lane.Accounts[0].Name, "MSL-Train-Id": lane.Train}},
			{Name: "beta", Do: "beta", Key: lane.Key},
			{Name: "stream", Do: "stream", Key: lane.Key},
			{Name: "count", Do: "count", Key: lane.Key},
			{Name: "models", Do: "models", Key: lane.Key, want: want{tries: []int{200, 200, 200, 200}}},
		}
		got := typescript(t, box, calls)
		requests := 0
		for _, c := range calls {
			c.check(t, got[c.Name])
			requests += len(got[c.Name].Tries)
		}
		require.Len(t, served(t, box), requests)

		type message struct {
			Content []struct{ Text string }
			Usage   struct {
				Out int `json:"output_tokens"`
			}
		}
		var plain message
		require.NoError(t, json.Unmarshal(got["messages"].Value, &plain))
		require.Contains(t, plain.Content[0].Text, "Is the line clear?")
		for _, name := range []string{"messages with a token", "messages with both", "messages with x-api-key", "messages of a named account", "beta"} {
			var same message
			require.NoError(t, json.Unmarshal(got[name].Value, &same))
			require.Equal(t, plain, same, name)
		}
		var stream struct {
			Events  []string
			Text    string
			Message message
		}
		require.NoError(t, json.Unmarshal(got["stream"].Value, &stream))
		require.Equal(t, plain, stream.Message, "the final message of the stream")
		require.Equal(t, plain.Content[0].Text, stream.Text)
		require.Equal(t, "message_start content_block_start content_block_delta", strings.Join(slices.Compact(slices.Clone(stream.Events))[:3], " "))
		require.Equal(t, []string{"content_block_stop", "message_delta", "message_stop"}, stream.Events[len(stream.Events)-3:])
		var count struct {
			In int `json:"input_tokens"`
		}
		require.NoError(t, json.Unmarshal(got["count"].Value, &count))
		require.Positive(t, count.In)
		var models struct {
			IDs   []string
			Model struct{ ID string }
		}
		require.NoError(t, json.Unmarshal(got["models"].Value, &models))
		require.Greater(t, len(models.IDs), 10, "three pages")
		require.Equal(t, models.IDs[0], models.Model.ID)

		seen := box.Upstream.Requests()
		require.Len(t, seen, requests)
		for _, r := range seen {
			require.True(t, r.Accepted)
			require.True(t, r.Credential().Equal(lane.Accounts[0].Secret), "the upstream must see the account's key")
			require.NotEqual(t, "2023-06-01", r.Header.Get("Anthropic-Version"), "the SDK's own version passes")
			for name := range r.Header {
				require.False(t, strings.HasPrefix(name, "Msl-"), name)
			}
		}
	})
}
