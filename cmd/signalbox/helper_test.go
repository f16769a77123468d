package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/secret"
)

// keys are the client keys of the train web that a helper made, by their status.
func (d *desk) keys() (byStatus map[string]int, issued int) {
	d.Helper()
	out, errs, code := d.run(d.admin, "", "key", "list", "web", "--json")
	require.Zero(d, code, errs)
	byStatus = map[string]int{}
	var list struct {
		Keys []struct{ Name, Status string } `json:"api_keys"`
	}
	require.NoError(d, json.Unmarshal([]byte(out), &list))
	for _, k := range list.Keys {
		if strings.HasPrefix(k.Name, "helper anthropic on ") {
			byStatus[k.Status]++
		}
	}
	out, errs, code = d.run(d.admin, "", "audit", "search", "--action", "key.issue", "--limit", "200", "--json")
	require.Zero(d, code, errs)
	return byStatus, strings.Count(out, "helper anthropic on ")
}

func (d *desk) helper(args ...string) string {
	d.Helper()
	out, errs, code := d.run(d.env, "", append([]string{"helper", "anthropic", "--train", "web"}, args...)...)
	require.Zero(d, code, errs)
	require.Regexp(d, `\Asbx_live_[A-Za-z0-9]+\n\z`, out, "the key and a newline, and nothing else")
	require.NotContains(d, errs, strings.TrimSpace(out))
	return out
}

// kept changes what the helper keeps.
func (d *desk) kept(change func(k *keptKeys)) keptKeys {
	d.Helper()
	dir := privateDir(d.file.dir)
	k, err := readKeys(dir)
	require.NoError(d, err)
	change(&k)
	require.NoError(d, k.write(dir))
	return k
}

// TestHelpersShareOneKey: of many that ask at the same moment one has a key issued, and all get that one; again when it is near its end, and when it was
// revoked. What has ended is taken from the train's list.
func TestHelpersShareOneKey(t *testing.T) {
	d := newDesk(t)
	d.login()
	together := func() string {
		t.Helper()
		var mu sync.Mutex
		got := map[string]int{}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				out, errs, code := d.run(d.env, "", "helper", "anthropic", "--train", "web")
				mu.Lock()
				defer mu.Unlock()
				got[out]++
				if code != 0 || errs != "" {
					got[errs] += 100
				}
			})
		}
		wg.Wait()
		require.Len(t, got, 1, "one key for all of them")
		for key, n := range got {
			require.Equal(t, 10, n)
			require.Regexp(t, `\Asbx_live_[A-Za-z0-9]+\n\z`, key)
			return key
		}
		return ""
	}
	first := together()
	byStatus, issued := d.keys()
	require.Equal(t, map[string]int{"active": 1}, byStatus)
	require.Equal(t, 1, issued)

	// Near its end there is another; who was handed the one before can go on with it until then.
	d.kept(func(k *keptKeys) { k.keys[0].expires = time.Now().Add(29 * time.Minute) })
	second := together()
	require.NotEqual(t, first, second)
	byStatus, issued = d.keys()
	require.Equal(t, map[string]int{"active": 2}, byStatus)
	require.Equal(t, 2, issued)

	// What ended is tidied away with the next.
	d.kept(func(k *keptKeys) {
		require.Len(t, k.ended, 1)
		k.ended[0].ExpiresAt = time.Now().Add(-time.Minute)
		k.keys[0].expires = time.Now().Add(time.Minute)
	})
	require.NotEqual(t, second, d.helper())
	byStatus, issued = d.keys()
	require.Equal(t, map[string]int{"active": 2}, byStatus)
	require.Equal(t, 3, issued)

	// The access token at its end is no hindrance, and neither is a proof that is not fresh: the key ends with the sign-in.
	d.age()
	d.kept(func(k *keptKeys) { k.keys[0].asked = time.Time{} })
	third := d.helper()
	file, err := os.ReadFile(filepath.Join(d.file.dir, keysFileName))
	require.NoError(t, err)
	require.Contains(t, string(file), strings.TrimSpace(third))
	require.Regexp(t, `"holder": "session ses_`, string(file))

	// Another sign-in of the same person is another holder, and the keys of the one before have ended.
	d.login()
	require.NotEqual(t, third, d.helper())
	byStatus, _ = d.keys()
	require.Equal(t, 1, byStatus["active"])
	_, errs, code := d.run(d.env, "", "logout")
	require.Zero(t, code, errs)
	byStatus, _ = d.keys()
	require.Zero(t, byStatus["active"])

	left, err := os.ReadDir(d.file.dir)
	require.NoError(t, err)
	for _, f := range left {
		require.Regexp(t, regexp.MustCompile(`^(keys\.json|keys\.lock|login\.lock)$`), f.Name(), "and nothing half written")
	}
}

// TestAKeyOutlivesTheNextQuestion: whoever is handed a key can use it for longer than the five minutes after which Claude Code asks again.
func TestAKeyOutlivesTheNextQuestion(t *testing.T) {
	const asksAgain = 5 * time.Minute
	for life := shortestKey; life <= longestKey; life += time.Minute {
		require.Greater(t, margin(life), asksAgain)
		require.LessOrEqual(t, margin(life), mostMargin)
		require.Greater(t, life-margin(life), asksAgain, "and a new one is handed out more than once")
	}
	_, err := keyLife("14m")
	require.Error(t, err)
	_, err = keyLife("15m")
	require.NoError(t, err)
}

// TestAHungServerHoldsUpOneHelper: of several that wait for each other one asks a server that does not answer, and the others hand out the key at hand.
func TestAHungServerHoldsUpOneHelper(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"api_key":{"id":"key_1","train_id":"web","name":"k","status":"active","api_key":"sbx_live_planted","expires_at":"`+time.Now().Add(8*time.Hour).UTC().Format(time.RFC3339)+`"}}`)
			return
		}
		asked.Add(1)
		<-r.Context().Done()
	}))
	defer server.Close()
	d := &desk{T: t, file: loginFile{filepath.Join(t.TempDir(), "signalbox")}}
	d.env = []string{"XDG_CONFIG_HOME=" + filepath.Dir(d.file.dir), "SIGNALBOX_DATA_DIR=" + t.TempDir(), "SIGNALBOX_URL=" + server.URL, "SIGNALBOX_TOKEN=sbx_planted_token"}
	hand := func() {
		t.Helper()
		out, errs, code := d.run(d.env, "", "helper", "anthropic", "--train", "web")
		require.Zero(t, code, errs)
		require.Equal(t, "sbx_live_planted\n", out)
	}
	hand()
	require.Zero(t, asked.Load(), "it was just issued")
	d.kept(func(k *keptKeys) { k.keys[0].asked = time.Now().Add(-recheck) })
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(hand)
	}
	wg.Wait()
	require.EqualValues(t, 1, asked.Load())
	// Half a minute later it is asked again.
	d.kept(func(k *keptKeys) { k.keys[0].asked = time.Now().Add(-awayRest) })
	hand()
	require.EqualValues(t, 2, asked.Load())
}

// TestHelperInTheMidst: a helper whose answer was lost, and one that cannot keep what it got, leave nothing that anybody could use unknown.
func TestHelperThatCannotKeepItsKey(t *testing.T) {
	d := newDesk(t)
	d.login()
	key := d.helper()
	d.kept(func(k *keptKeys) { k.keys[0].expires = time.Now().Add(-time.Minute) })
	// A directory stands where the file is to be: whatever becomes of the new key, it is revoked.
	file := filepath.Join(d.file.dir, keysFileName)
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Mkdir(file, 0o700))
	out, _, code := d.run(d.env, "", "helper", "anthropic", "--train", "web")
	require.Equal(t, 1, code)
	require.Empty(t, out)
	require.NoError(t, os.Remove(file))
	byStatus, issued := d.keys()
	require.Equal(t, 1, byStatus["active"], "the first, of which the file knew")
	require.Equal(t, 1, issued, "what cannot be read is found before a key is issued")
	require.NotEqual(t, key, d.helper())
}

// TestKeysThatAnOlderVersionKept are handed to nobody, since it is not known for how long they were asked, and are tidied away when they have ended.
func TestKeysThatAnOlderVersionKept(t *testing.T) {
	dir := privateDir(t.TempDir())
	require.NoError(t, os.Chmod(string(dir), 0o700))
	ends := time.Now().Add(time.Hour).UTC()
	who := keyFor{Server: "http://127.0.0.1:1", Train: "web", Holder: "token x"}
	k := keptKeys{keys: []keptKey{{keyFor: who, id: "key_1", value: secret.FromString("sbx_live_planted"), expires: ends}}}
	require.NoError(t, k.write(dir))
	k, err := readKeys(dir)
	require.NoError(t, err)
	require.Empty(t, k.keys)
	require.Equal(t, []endedKey{{who, "key_1", ends}}, k.ended)
	who.Life = 3600
	k.put(keptKey{keyFor: who, id: "key_2", value: secret.FromString("sbx_live_planted"), expires: ends})
	require.NoError(t, k.write(dir))
	k, err = readKeys(dir)
	require.NoError(t, err)
	_, found := k.find(who)
	require.True(t, found)
	who.Life = 7200
	_, found = k.find(who)
	require.False(t, found, "another life is another key")
}

// TestAFullDiskDoesNotTakeTheKeyAtHand: what a helper only notes down must not keep a good key from whoever asks.
func TestAFullDiskDoesNotTakeTheKeyAtHand(t *testing.T) {
	now := time.Now().UTC()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusTeapot) // it is not asked: what cannot be kept is not issued
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"api_key":{"id":"key_1","status":"active"}}`)
	}))
	defer server.Close()
	for what, ends := range map[string]time.Duration{"nothing can be kept": 8 * time.Hour, "There is no other key: nothing can be kept": 20 * time.Minute} {
		told, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		require.NoError(t, err)
		who := keyFor{Server: server.URL, Train: "web", Holder: "token x", Life: int64((8 * time.Hour).Seconds())}
		h := &helping{
			shell: &shell{err: told}, client: client.New(server.URL, "sbp_planted"), dir: privateDir(filepath.Join(t.TempDir(), "gone")), who: who, life: 8 * time.Hour, now: now,
			kept: keptKeys{keys: []keptKey{{keyFor: who, id: "key_1", value: secret.FromString("sbx_live_planted"), expires: now.Add(ends)}}},
		}
		key, err := h.key(t.Context())
		require.NoError(t, err)
		require.Equal(t, "sbx_live_planted", key.value.Reveal())
		text, err := os.ReadFile(told.Name())
		require.NoError(t, err)
		require.Contains(t, string(text), what)
		require.NotContains(t, string(text), "sbx_live_")
	}
}
