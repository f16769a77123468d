package broker

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/fault"
)

func TestTopLevelModel(t *testing.T) {
	for _, c := range []struct{ body, want string }{
		{`{"model":"claude-x"}`, "claude-x"},
		{" \n{ \"max_tokens\" : 1 , \"model\" : \"m\\u00e9\" }", "mé"},
		{`{"messages":[{"model":"inner","content":"\"model\":\"text\""}],"model":"outer"}`, "outer"},
		{`{"metadata":{"model":"inner"},"x":["model","model"],"model":"outer"}`, "outer"},
		{`{"system":"model","y":"model","model":"outer"}`, "outer"},
		{`{"a":"\\\\\\\"","model":"m"}`, "m"},
		{`{"a":"\\","model":"m"}`, "m"},
		{`{"model":7}`, ""},
		{`{"model":"` + strings.Repeat("x", 300) + `"}`, ""},
		{`[{"model":"m"}]`, ""}, {``, ""}, {`{`, ""}, {`{"model`, ""}, {`{"model"`, ""}, {`{"model":`, ""}, {`{"model":"m`, ""}, {`"model"`, ""}, {`nonsense`, ""},
		{`{"a":{"model":"x"`, ""},
		{strings.Repeat("[", 100000), ""},
	} {
		got, _, err := topLevel([]byte(c.body))
		require.NoError(t, err, c.body[:min(60, len(c.body))])
		require.Equal(t, c.want, got, c.body[:min(60, len(c.body))])
	}
}

func TestDuplicateModelIsRefused(t *testing.T) {
	for _, body := range []string{
		`{"model":"a","model":"b"}`, `{"model":"a","x":{"y":[1,2]},"model":"a"}`, `{"model":"a","mod\u0065l":"b"}`, `{"\u006dodel":1,"model":2}`, `{"model":"a","m\u006fdel":"b"}`, `{"model":"a","x":"model","mode\u006C":"b"}`,
	} {
		_, _, err := topLevel([]byte(body))
		f, ok := fault.As(err)
		require.True(t, ok, body)
		require.Equal(t, "model_duplicate", f.Code)
		require.Equal(t, 400, statusOf(f))
	}
}

// FuzzTopLevelModel holds the scan against encoding/json: where that reads an object, both see the same model, and a model that is there
// once is never called a duplicate.
func FuzzTopLevelModel(f *testing.F) {
	f.Add([]byte(`{"model":"a","x":[{"model":"b"}],"s":"\"}{"}`))
	f.Add([]byte(`{"a":"\\","model":"b"}`))
	f.Add([]byte(`{"model":"a","model":"b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, _, err := topLevel(body)
		if !json.Valid(body) {
			return
		}
		count, want := 0, ""
		dec := json.NewDecoder(bytes.NewReader(body))
		if tok, _ := dec.Token(); tok != json.Delim('{') {
			if err != nil || got != "" {
				t.Fatalf("no object, yet %q %v", got, err)
			}
			return
		}
		for dec.More() {
			key, _ := dec.Token()
			var v json.RawMessage
			if dec.Decode(&v) != nil {
				return
			}
			if key == "model" {
				count++
				_ = json.Unmarshal(v, &want)
			}
		}
		if (count > 1) != (err != nil) {
			t.Fatalf("model %d times: %v", count, err)
		}
		if count == 1 && len(want) < 200 && got != want {
			t.Fatalf("read %q, want %q", got, want)
		}
	})
}

func BenchmarkTopLevelModel64KB(b *testing.B) {
	body := []byte(`{"model":"m","system":"` + strings.Repeat(`func main() {\n\tfmt.Println(\"the quick brown fox\")\n}\n`, 64<<10/55) + `"}`)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if m, _, err := topLevel(body); m != "m" || err != nil {
			b.Fatal(m, err)
		}
	}
}
