package contents

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWhatIsShownHidesSecrets: whatever form a secret has in the text, behind escapes and in quotes within quotes, it is not shown; the rest means what it meant.
func TestWhatIsShownHidesSecrets(t *testing.T) {
	const key = "sk-ant-api03-plantedplantedplantedplantedplanted"
	inner, err := json.Marshal(map[string]any{"password": "correct-horse-battery", "note": "stays"})
	require.NoError(t, err)
	body, err := json.Marshal(map[string]any{
		"a": "line1\n" + key + "\nline3", "b": "\t" + key, "c": string(inner), "api_key": "whatever-form-it-has", "max_tokens": 17, "d": []any{true, nil, 1.5, "<b>&\u2028"},
		"e": "-----BEGIN RSA PRIVATE KEY-----\nplantedkey\n-----END RSA PRIVATE KEY-----", "token_count": "12 tokens",
	})
	require.NoError(t, err)
	cut := string(body[:len(body)-1]) // no JSON
	stream := "event: x\ndata: " + string(body) + "\n\n: a comment " + key + "\ndata: [DONE]\n"
	for _, text := range []string{string(body), cut, stream} {
		got := shown(text)
		for _, never := range []string{"plantedplanted", "correct-horse", "plantedkey"} {
			require.NotContains(t, got, never, "%s", text)
		}
		for _, stays := range []string{"line1", "line3", "stays", "12 tokens", "17"} {
			require.Contains(t, got, stays)
		}
	}
	require.NotContains(t, shown(string(body)), "whatever-form")
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(shown(string(body))), &v))
	require.Equal(t, []any{true, nil, 1.5, "<b>&\u2028"}, v["d"])
	require.Equal(t, float64(17), v["max_tokens"])
	require.Contains(t, shown(stream), "event: x\ndata: {")
	require.Contains(t, shown(stream), "data: [DONE]\n")

	// A private key without an end does not take the texts after it along.
	got := shown(`["-----BEGIN PRIVATE KEY-----\nplantedkey","after"]`)
	require.Contains(t, got, `"after"`)
	require.NotContains(t, got, "plantedkey")

	for text, want := range map[string]string{
		`{"b":[],"a":{},"c":[1,{"d":"e"}]}`: "{\n  \"b\": [],\n  \"a\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": \"e\"\n    }\n  ]\n}",
		`"x"`:                               `"x"`, `1`: "1", "": "", "plain text": "plain text", `{"a":1} {"b":2}`: `{"a":1} {"b":2}`, `{"a":`: `{"a":`,
	} {
		require.Equal(t, want, shown(text), "%s", text)
	}
}

// TestWhatIsShownIsBounded: a value of thousands of brackets does not become gigabytes of blanks, nor take long.
func TestWhatIsShownIsBounded(t *testing.T) {
	began := time.Now()
	for _, text := range []string{
		strings.Repeat("[", 9000) + strings.Repeat("1,", 100_000) + "1" + strings.Repeat("]", 9000),
		strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000),
		"[" + strings.Repeat(`"a",`, 250_000) + `"a"]`,
	} {
		require.LessOrEqual(t, len(shown(text)), shownMost+len(text))
	}
	require.Less(t, time.Since(began), 60*time.Second)
}

// TestAnAnswerThatBreaksOff: of an answer that is no stream, too, nothing is shown of a secret that goes on behind its end.
func TestAnAnswerThatBreaksOff(t *testing.T) {
	for _, h := range hidden {
		body := `{"id":"msg_1","content":[{"type":"text","text":"Hello ` + written(h.before, 0)
		secret := written(h.secret, 0)
		core := strings.TrimSuffix(strings.TrimPrefix(h.secret, "-----BEGIN RSA PRIVATE KEY-----"), "-----END RSA PRIVATE KEY-----")
		for end := range len(secret) + 1 {
			got := shown(body + secret[:end])
			requireNothingOf(t, core, got)
			require.Contains(t, got, "Hello ")
		}
	}
}
