package api_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/store/storetest"
)

// keyed returns the request with an Idempotency-Key.
func (r request) keyed(key string) request {
	r.header = http.Header{"Idempotency-Key": {key}}
	return r
}

func passwordBody(name string) []byte {
	return []byte(`{"type":"password","name":"` + name + `","notes":"planted-notes-7q","secrets":{"password":"planted-replay-7q"}}`)
}

func (h *house) count(table string) int {
	h.t.Helper()
	return h.counts()[table]
}

// forget moves every claim of a key into the past.
func (h *house) forget(age time.Duration) {
	h.t.Helper()
	h.write(func(tx *store.Tx) error {
		_, err := tx.Exec(`UPDATE idempotency_keys SET created_at = created_at - $1`, age.Microseconds())
		return err
	})
}

// TestIdempotencyKeyOnEveryPost derives from the document every POST there is, and sends each twice with one key: the act happens once, and
// the second answer is the first, or says what was issued.
func TestIdempotencyKeyOnEveryPost(t *testing.T) {
	d := readDocument(t)
	each(t, func(t *testing.T, h *house) {
		once := map[string]bool{"issue-key": true, "replace-key": true, "issue-token": true, "reveal-credential": true, "create-user": true, "log-in": true, "refresh-login": true, "exchange-login-code": true, "reset-password": true, "offer-totp": true, "renew-recovery-codes": true}
		posts := 0
		for _, o := range d.operations(t) {
			named := false
			for _, p := range o.Parameters {
				named = named || p.In == "header" && p.Name == "Idempotency-Key"
			}
			keyless := slices.Contains([]string{"log-out", "step-up", "change-password", "use-invitation", "confirm-totp",
				"start-login", "finish-login", "start-device-login", "poll-device-login", "login-client", "refresh-credential", "test-credential", "export-credentials"}, o.ID)
			require.Equal(t, o.method == "POST" && !keyless, named, "%s", o)
			if !named || o.ID == "set-up" { // which has its own test
				continue
			}
			posts++
			w := h.world()
			asker := h.asker(o)
			h.prepare(o, &w, asker)
			r := request{method: o.method, target: w.target(o), token: asker, body: h.body(d, o, w)}.keyed("key of " + o.ID)
			require.Equal(t, 400, h.do(r).status, "a space is not visible")
			r = r.keyed("key-of-" + o.ID)
			first := h.do(r)
			require.Contains(t, []int{200, 201, 202, 204}, first.status, "%s: %s", o, first.body)
			require.Empty(t, first.header.Get("Idempotency-Replayed"))
			before := h.countsBesideRecords()
			again := h.do(r)
			require.Equal(t, before, h.countsBesideRecords(), "%s happened twice", o)
			if once[o.ID] {
				require.Equal(t, 409, again.status, "%s: %s", o, again.body)
				p := h.problem(again)
				require.Equal(t, "already_issued", p.Code)
				require.Regexp(t, `(key|ses|tok|cred|user)_[0-9a-z]{26}`, p.Detail)
			} else {
				require.Equal(t, first.status, again.status, "%s: %s", o, again.body)
				require.Equal(t, string(first.body), string(again.body))
				require.Equal(t, "true", again.header.Get("Idempotency-Replayed"), "%s", o)
				for _, name := range []string{"ETag", "Location", "Content-Type"} {
					require.Equal(t, first.header.Get(name), again.header.Get(name), "%s: %s", o, name)
				}
				h.headers(again)
				require.NotEqual(t, first.header.Get("X-Request-Id"), again.header.Get("X-Request-Id"))
			}
			// Another request with that key is none.
			other := r
			if r.body != nil {
				other.body = append([]byte(" "), r.body...)
			} else {
				name, value := "n", "2"
				switch {
				case o.ID == "test-sink":
					name, value = "id", "snk_00000000000000000000000000"
				case strings.Contains(o.path, "/{kind}/"):
					name, value = "kind", "webhook"
				case o.ID == "test-channel":
					name, value = "id", "ntc_00000000000000000000000000"
				case strings.Contains(o.path, "/sso/"):
					name, value = "id", store.NewID("sso")
				case strings.Contains(o.path, "/users/"):
					name, value = "id", h.user.ID
				}
				other.target, _ = w.targetWith(o, name, value)
				if o.ID == "rebuild-usage" {
					other.target = "/api/factors/totp"
				}
				if strings.HasPrefix(o.path, "/api/factors/") { // which have no parameter
					other.target = map[bool]string{true: "/api/factors/recovery-codes", false: "/api/factors/totp"}[o.ID == "offer-totp"]
				}
			}
			a := h.do(other)
			require.Equal(t, 422, a.status, "%s: %s", o, a.body)
			require.Equal(t, "idempotency_mismatch", h.problem(a).Code)
			require.Equal(t, before, h.countsBesideRecords())
		}
		require.GreaterOrEqual(t, posts, 9)
		kept := h.keptAnswers()
		require.GreaterOrEqual(t, len(kept), 9)
		for _, answer := range kept {
			require.NotRegexp(t, bearer, answer)
		}
	})
}

func TestIdempotencyKeySyntax(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		for _, values := range [][]string{{""}, {" "}, {"a b"}, {"planted\tb"}, {"plänted"}, {strings.Repeat("p", 256)}, {"one", "two"}, {"one", "one"}, {}} {
			if len(values) == 0 {
				continue
			}
			a := h.do(request{method: "POST", target: "/api/credentials", token: h.token, body: passwordBody("x"), header: http.Header{"Idempotency-Key": values}})
			require.Equal(t, 400, a.status, "%q: %s", values, a.body)
			require.Equal(t, "malformed_request", h.problem(a).Code)
			require.NotContains(t, string(a.body), "pl")
		}
		require.Zero(t, h.count("credentials"))
		for _, key := range []string{"!", strings.Repeat("~", 255), `"8e03978e-40d5-43dd-bc93-6894a57f9324"`} {
			require.Equal(t, 201, h.do(request{method: "POST", target: "/api/credentials", token: h.token, body: passwordBody("x")}.keyed(key)).status)
		}
		// Elsewhere it says nothing.
		require.Equal(t, 200, h.do(request{method: "GET", target: "/api/credentials", token: h.token}.keyed("!")).status)
	})
}

// TestRefusalsClaimNoKey: what was refused can be mended and sent with the same key; who may not, is refused whatever the key has done.
func TestRefusalsClaimNoKey(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		reader := h.with(identity.CredentialRead)
		post := func(token string, body []byte) answered {
			return h.do(request{method: "POST", target: "/api/credentials", token: token, body: body}.keyed("mend"))
		}
		require.Equal(t, 422, post(h.token, []byte(`{"type":"password","name":"x","secrets":{"password":""}}`)).status)
		require.Equal(t, 422, post(h.token, []byte(`{"type":"password","name":"x","secrets":{"api_key":"a"}}`)).status)
		require.Equal(t, 401, post("", passwordBody("x")).status)
		require.Equal(t, 403, post(reader, passwordBody("x")).status)
		require.Zero(t, h.count("idempotency_keys"))
		require.Equal(t, 201, post(h.token, passwordBody("x")).status)
		require.Equal(t, 1, h.count("idempotency_keys"))
		require.Equal(t, 401, post("", passwordBody("x")).status)
		require.Equal(t, 403, post(reader, passwordBody("x")).status, "the key of one caller is nothing to another")
		require.Equal(t, 201, h.do(request{method: "POST", target: "/api/credentials", token: h.with(identity.CredentialWrite), body: passwordBody("x")}.keyed("mend")).status)
		require.Equal(t, 2, h.count("credentials"))

		// A reveal that found the material damaged showed nothing, so its key is free again.
		cred := h.account("damaged")
		h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credential_secrets SET field = 'api_keyx' WHERE credential_id = $1`, cred)
			return err
		})
		before := h.count("idempotency_keys")
		reveal := request{method: "POST", target: "/api/credentials/" + cred + "/reveal", token: h.token, body: []byte(`{"field":"api_key","reason":"test"}`)}.keyed("look")
		require.Equal(t, 500, h.do(reveal).status)
		require.Equal(t, before, h.count("idempotency_keys"))
		h.write(func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE credential_secrets SET field = 'api_key' WHERE credential_id = $1`, cred)
			return err
		})
		require.Equal(t, 200, h.do(reveal).status)
		require.Equal(t, 409, h.do(reveal).status)
	})
}

// TestFiftyWithOneKeyMakeOne sends the same request fifty times at once; on PostgreSQL to two instances.
func TestFiftyWithOneKeyMakeOne(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			t.Parallel()
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			cfg := storetest.Config(t, e)
			h := newInstance(t, e, cfg, root)
			h.setUp()
			doors := []*house{h}
			if e == store.Postgres {
				doors = append(doors, newInstance(t, e, cfg, root))
				require.Eventually(t, func() bool { _, err := doors[1].as(h.token).WhoAmI(t.Context()); return err == nil }, 5*time.Second, 10*time.Millisecond)
			}
			for _, body := range [][]byte{
				passwordBody("same"),
				// An account's name is unique, so that the losers fail for another reason than the key.
				[]byte(`{"type":"api_key","provider":"anthropic","name":"same","secrets":{"api_key":"planted-replay-7q"}}`),
			} {
				before := h.count("credentials")
				key := store.NewID("try")
				var wg sync.WaitGroup
				var mu sync.Mutex
				codes, ids := map[int]int{}, map[string]bool{}
				for i := range 50 {
					wg.Go(func() {
						for {
							at := doors[i%len(doors)]
							a := at.do(request{method: "POST", target: "/api/credentials", token: h.token, body: body}.keyed(key))
							mu.Lock()
							codes[a.status]++
							if a.status == 201 {
								_, rest, _ := bytes.Cut(a.body, []byte(`"id":"`))
								ids[string(rest[:31])] = true
							} else {
								require.Equal(t, "idempotency_in_progress", at.problem(a).Code)
								require.Equal(t, "1", a.header.Get("Retry-After"))
							}
							mu.Unlock()
							if a.status == 201 {
								return
							}
						}
					})
				}
				wg.Wait()
				require.Len(t, ids, 1, "%v", codes)
				require.Equal(t, 50, codes[201], "everybody gets the answer in the end")
				require.Equal(t, before+1, h.count("credentials"))
				t.Logf("answers: %v", codes)
			}
		})
	}
}

// TestKeyWhileTheFirstRuns: between the act and its answer a second one is told to wait, by this instance and by another.
func TestKeyWhileTheFirstRuns(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			cfg := storetest.Config(t, e)
			h := newInstance(t, e, cfg, root)
			h.setUp()
			others := []*house{h}
			if e == store.Postgres {
				others = append(others, newInstance(t, e, cfg, root))
			}
			r := request{method: "POST", target: "/api/credentials", token: h.token, body: passwordBody("x")}.keyed("slow")
			committed, go_ := make(chan struct{}), make(chan struct{})
			var first sync.Once
			h.after.Store(ptr(func(ctx context.Context) {
				if ctx.Value(byFeed{}) == nil { // the request's own goroutine: others commit beside it
					first.Do(func() { close(committed); <-go_ })
				}
			}))
			goOn := sync.OnceFunc(func() { close(go_) })
			defer goOn() // a check that fails must not leave the request waiting for ever
			done := make(chan answered, 1)
			go func() { done <- h.do(r) }()
			<-committed
			for _, other := range others {
				a := other.do(r)
				require.Equal(t, 409, a.status, "%s", a.body)
				require.Equal(t, "idempotency_in_progress", other.problem(a).Code)
				require.Equal(t, "1", a.header.Get("Retry-After"))
			}
			goOn()
			require.Equal(t, 201, (<-done).status)
			for _, other := range others {
				a := other.do(r)
				require.Equal(t, 201, a.status, "%s", a.body)
				require.Equal(t, "true", a.header.Get("Idempotency-Replayed"))
			}
		})
	}
}

// TestCrashBetweenActAndAnswer: the act stands, once; the key says what it was, and is never carried out again.
func TestCrashBetweenActAndAnswer(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			root, err := secret.NewRootKey()
			require.NoError(t, err)
			cfg := storetest.Config(t, e)
			h := newInstance(t, e, cfg, root)
			h.setUp()
			h.after.Store(ptr(func(ctx context.Context) {
				if ctx.Value(byFeed{}) == nil { // the request's own goroutine
					panic(errors.New("planted crash"))
				}
			}))
			r := request{method: "POST", target: "/api/credentials", token: h.token, body: passwordBody("x")}.keyed("crash")
			require.Equal(t, 500, h.do(r).status)
			issue := request{method: "POST", target: "/api/tokens", token: h.token, body: []byte(`{"name":"ci"}`)}.keyed("crash-2")
			require.Equal(t, 500, h.do(issue).status)
			h.after.Store(nil)
			require.Equal(t, 1, h.count("credentials"))

			lost := func(at *house) {
				a := at.do(r)
				require.Equal(t, 409, a.status, "%s", a.body)
				p := at.problem(a)
				require.Equal(t, "idempotency_answer_lost", p.Code)
				require.Regexp(t, `credential\.create of cred_[0-9a-z]{26}`, p.Detail)
				require.Empty(t, a.header.Get("Retry-After"))
				require.Equal(t, 1, h.count("credentials"))
			}
			lost(h)
			a := h.do(issue)
			require.Equal(t, "already_issued", h.problem(a).Code)
			require.Regexp(t, `revoke tok_[0-9a-z]{26}`, h.problem(a).Detail)

			if e == store.Postgres { // another instance cannot know at once whether the first still works on it
				other := newInstance(t, e, cfg, root)
				require.Equal(t, "idempotency_in_progress", other.problem(other.do(r)).Code)
				h.forget(11 * time.Second)
				lost(other)
			}
		})
	}
}

// TestAnswerThatCannotBeKept: the act stands and is answered; only its repetition cannot be.
func TestAnswerThatCannotBeKept(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		h.write(func(tx *store.Tx) error {
			if h.engine == store.SQLite {
				_, err := tx.Exec(`CREATE TRIGGER full_disk BEFORE UPDATE ON idempotency_keys BEGIN SELECT RAISE(ABORT, 'no'); END`)
				return err
			}
			_, err := tx.Exec(`ALTER TABLE idempotency_keys ADD CONSTRAINT full_disk CHECK (answer IS NULL)`)
			return err
		})
		r := request{method: "POST", target: "/api/credentials", token: h.token, body: passwordBody("x")}.keyed("k")
		require.Equal(t, 201, h.do(r).status)
		require.Contains(t, h.log.String(), "was not kept")
		require.Equal(t, "idempotency_answer_lost", h.problem(h.do(r)).Code)
		require.Equal(t, 1, h.count("credentials"))
	})
}

// TestKeysAreForgottenAfterADay, and the row of one is gone after the chore has run.
func TestKeysAreForgottenAfterADay(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		r := request{method: "POST", target: "/api/credentials", token: h.token, body: passwordBody("x")}.keyed("k")
		require.Equal(t, 201, h.do(r).status)
		h.forget(24*time.Hour - time.Minute)
		require.Equal(t, "true", h.do(r).header.Get("Idempotency-Replayed"))
		h.forget(2 * time.Minute)
		a := h.do(r)
		require.Equal(t, 201, a.status)
		require.Empty(t, a.header.Get("Idempotency-Replayed"))
		require.Equal(t, 2, h.count("credentials"))
		require.Equal(t, 1, h.count("idempotency_keys"))
		require.Equal(t, "true", h.do(r).header.Get("Idempotency-Replayed"))

		require.Equal(t, 201, h.do(r.keyed("young")).status)
		h.forget(25 * time.Hour)
		require.Equal(t, 201, h.do(r.keyed("younger")).status)
		h.door.Start(t.Context())
		require.Eventually(t, func() bool { return h.count("idempotency_keys") == 1 }, 10*time.Second, 10*time.Millisecond)
		h.door.Close()
		h.door.Close()
	})
}

// TestClaimsHoldNothingReadable: neither the key nor the request nor the answer lies there in the clear.
func TestClaimsHoldNothingReadable(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		c := h.client.Idempotent("planted-key-7q")
		draft := client.CredentialDraft{Type: "password", Name: "planted-name-7q", Notes: "planted-notes-7q", Secrets: map[string]string{"password": "planted-replay-7q"}}
		made, err := c.CreateCredential(t.Context(), draft)
		require.NoError(t, err)
		again, err := c.CreateCredential(t.Context(), draft)
		require.NoError(t, err)
		require.Equal(t, made, again, "the ETag among it")
		var row struct {
			ID      string `db:"id"`
			Request []byte `db:"request"`
			Answer  []byte `db:"answer"`
			State   string `db:"state"`
			Rest    string `db:"rest"`
		}
		require.NoError(t, h.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Get(&row, `SELECT id, request, answer, state, route || action || target_id || instance || request_id AS rest FROM idempotency_keys`)
		}))
		require.Equal(t, "kept", row.State)
		require.NotEmpty(t, row.Answer)
		for _, text := range []string{row.ID, string(row.Request), string(row.Answer), row.Rest} {
			require.NotContains(t, text, "planted") // shorter pieces occur in random ids by themselves
		}
		require.NotContains(t, h.log.String(), "planted")
	})
}

// TestSetUpWithAKey: the first administrator's token is shown once, to whoever repeats it as well.
func TestSetUpWithAKey(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			h := newHouse(t, e)
			link, err := h.identity.NewSetupLink(t.Context())
			require.NoError(t, err)
			c := h.as("").Idempotent("set-up")
			draft := client.SetupRequest{Token: link.Reveal(), Email: adminEmail, Name: "Ada", Password: adminPassword}
			_, err = c.Setup(t.Context(), draft)
			require.NoError(t, err)
			_, err = c.Setup(t.Context(), draft)
			got := refused(t, err, 409, "already_issued")
			require.Regexp(t, `tok_[0-9a-z]{26}`, got.Detail)
		})
	}
}
