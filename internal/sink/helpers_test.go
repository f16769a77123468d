package sink_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/outbound"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/sink"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// planted is in every secret that the tests store; nothing but what leaves for a receiver may hold it.
const planted = "planted-91c4e07b"

func signing() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(planted+"-and-more-of-it"))
}

// logs collects what was logged.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// office is an instance with a log and a room.
type office struct {
	*sink.Room
	t    testing.TB
	db   *store.DB
	root secret.RootKey
	ring *keyring.Ring
	book *audit.Log
	log  *logs
}

// open opens an instance on a database; with a root key, on one that others have.
func open(t testing.TB, cfg store.Config, root secret.RootKey, claim time.Duration) *office {
	t.Helper()
	o := &office{t: t, root: root, log: &logs{}}
	logger := slog.New(slog.NewJSONHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.Log = logger
	var err error
	o.db, err = store.Open(context.Background(), cfg)
	require.NoError(t, err)
	o.ring, err = keyring.Open(context.Background(), keyring.Config{DB: o.db, Root: root})
	require.NoError(t, err)
	o.book, err = audit.New(context.Background(), audit.Config{DB: o.db, Ring: o.ring, Log: logger, Every: 20 * time.Millisecond, SignEvery: 50 * time.Millisecond})
	require.NoError(t, err)
	policy, err := outbound.ParsePolicy([]string{"127.0.0.1", "localhost"})
	require.NoError(t, err)
	o.Room, err = sink.New(sink.Config{DB: o.db, Ring: o.ring, Audit: o.book, Policy: policy, Instance: "test", Every: 30 * time.Millisecond, Claim: claim, Log: logger})
	require.NoError(t, err)
	require.NoError(t, o.db.Start(context.Background()))
	o.book.Start(context.Background())
	return o
}

func (o *office) close() {
	o.Close()
	o.book.Close()
	require.NoError(o.t, o.db.Close())
}

// each runs fn with a started instance on both engines, and looks for secrets at the end.
func each(t *testing.T, fn func(t *testing.T, o *office)) {
	t.Helper()
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			cfg := storetest.Config(t, e)
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			o := open(t, cfg, root, 0)
			o.Start(context.Background())
			fn(t, o)
			o.noSecret()
			o.close()
			if e == store.SQLite {
				files, err := filepath.Glob(filepath.Join(cfg.DataDir, "*"))
				require.NoError(t, err)
				for _, f := range files {
					if b, err := os.ReadFile(f); err == nil {
						require.NotContains(t, string(b), planted, f)
					}
				}
			}
		})
	}
}

// noSecret looks for the planted text in the log, in every text of the room's tables and in the audit.
func (o *office) noSecret() {
	o.t.Helper()
	require.NotContains(o.t, o.log.String(), planted)
	var texts []string
	require.NoError(o.t, o.db.Read(context.Background(), func(tx *store.Tx) error {
		return tx.Select(&texts, `SELECT s.settings || s.name || s.secret_fields || c.detail || c.holder FROM audit_sinks s JOIN audit_sink_cursors c ON c.sink_id = s.id`)
	}))
	for _, text := range texts {
		require.NotContains(o.t, text, planted)
	}
	page, err := o.book.Search(context.Background(), audit.Query{Limit: 1000})
	require.NoError(o.t, err)
	require.NotContains(o.t, fmt.Sprintf("%+v", page), planted)
}

// person is a caller.
type person struct{}

// Event begins a record.
func (person) Event(a store.Action, t store.Target) store.Event {
	return store.Event{Actor: store.Actor{Kind: "person", ID: "user_a", Name: "Ada"}, Action: a, Target: t}
}

func values(pairs ...string) map[string]secret.Value {
	out := map[string]secret.Value{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = secret.FromString(pairs[i+1])
	}
	return out
}

// act records an event of its own and returns how long that took.
func (o *office) act(n int) time.Duration {
	o.t.Helper()
	begun := time.Now()
	require.NoError(o.t, o.db.Write(context.Background(), func(tx *store.Tx) error {
		return tx.Record(store.Event{Actor: store.Actor{Kind: "person", ID: "user_a", Name: "Ada"}, Action: store.CredentialUpdate, Outcome: []string{"ok", "refused"}[n%2],
			Target: store.Target{Kind: "credential", ID: "cred_1", Name: "prod"}, Reason: fmt.Sprintf("number %d, \"quoted\"\nand a line", n)})
	}))
	return time.Since(begun)
}

func (o *office) webhook(name, url string, change func(*sink.Draft)) sink.Sink {
	o.t.Helper()
	d := sink.Draft{Kind: sink.Webhook, Name: name, Beginning: true, Secrets: values("url", url+"/hook?token="+planted, "signing_secret", signing(), "authorization", "Bearer "+planted)}
	if change != nil {
		change(&d)
	}
	_, s, err := o.Create(context.Background(), person{}, d)
	require.NoError(o.t, err)
	return s
}

// leaf is a line as receivers get it.
type leaf struct {
	Leaf   int64           `json:"leaf"`
	Hash   string          `json:"hash"`
	Record json.RawMessage `json:"record"`
}

// shelf is what a receiver has, in the order in which it came.
type shelf struct {
	mu     sync.Mutex
	leaves []leaf
	ids    map[string]string // body by webhook-id
	posts  int
}

// take notes lines; a hash that is not that of the record is an error.
func (s *shelf) take(body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range bytes.Lines(body) {
		var one leaf
		if err := json.Unmarshal(line, &one); err != nil {
			return err
		}
		sum := sha256.Sum256(append([]byte{0}, one.Record...)) // RFC 6962
		if base64.StdEncoding.EncodeToString(sum[:]) != one.Hash {
			return fmt.Errorf("leaf %d is not what its hash says", one.Leaf)
		}
		s.leaves = append(s.leaves, one)
	}
	return nil
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.leaves)
}

// gaps returns what is missing of the first size leaves, whether a new leaf came out of order, and how many came again.
func (s *shelf) gaps(size int64) (missing []int64, ordered bool, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := map[int64]bool{}
	next := int64(-1)
	ordered = true
	for _, l := range s.leaves {
		if have[l.Leaf] {
			again++
			continue
		}
		have[l.Leaf] = true
		if next >= 0 && l.Leaf != next {
			ordered = false
		}
		next = l.Leaf + 1
	}
	for i := range size {
		if !have[i] {
			missing = append(missing, i)
		}
	}
	return missing, ordered, again
}

// receiver is a webhook that a test can spoil. Each answer comes from mood; 0 means that it hangs until the client goes.
type receiver struct {
	*httptest.Server
	shelf
	t    testing.TB
	mood func(n int) int
}

func newReceiver(t testing.TB, mood func(n int) int) *receiver {
	r := &receiver{t: t, mood: mood, shelf: shelf{ids: map[string]string{}}}
	done := make(chan struct{})
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.posts++
		n := r.posts
		before, had := r.ids[req.Header.Get("Webhook-Id")]
		r.ids[req.Header.Get("Webhook-Id")] = string(body)
		r.mu.Unlock()
		if had && before != string(body) {
			t.Errorf("one id has two bodies")
		}
		if req.Header.Get("Authorization") != "Bearer "+planted || !strings.HasPrefix(req.Header.Get("Webhook-Signature"), "v1,") {
			t.Errorf("the headers are wrong: %v", req.Header)
		}
		code := r.mood(n)
		if code == 0 {
			select {
			case <-req.Context().Done():
			case <-done:
			}
			return
		}
		if code < 300 && req.Header.Get("Content-Type") == "application/x-ndjson" {
			if err := r.take(body); err != nil {
				t.Error(err)
			}
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, planted+" of the receiver")
	}))
	t.Cleanup(func() { close(done); r.Close() })
	return r
}

// complete waits until a shelf has everything up to now.
func (o *office) complete(s *shelf) int64 {
	o.t.Helper()
	require.NoError(o.t, o.book.Flush(context.Background()))
	size, err := o.book.Size(context.Background())
	require.NoError(o.t, err)
	require.Eventually(o.t, func() bool {
		missing, _, _ := s.gaps(size)
		return len(missing) == 0
	}, 60*time.Second, 20*time.Millisecond, "%d of %d records came", s.len(), size)
	return size
}
