package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web"
)

// rekeys makes the change of the data key stand as a rekeyer would have left it, which this test has not started. Nothing tells the pages.
func (s *site) rekeys(set string) {
	s.Helper()
	require.NoError(s, s.db.Write(s.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(`UPDATE rekeys SET ` + set); err != nil {
			return err
		}
		return tx.Record(identity.System("test").Event(store.AdminStart, store.Target{Kind: "test"}))
	}))
}

// TestKeysInABrowser: the page says what a change of the data key does and to how much, begins one, follows it by itself where there are scripts, and gives
// up what does not open only when that is typed.
func TestKeysInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		c := s.keep(vault.APIKey, vault.Meta{Name: "Forge"}, map[string]string{"api_key": "planted-forge-0123456789"})
		b := s.window(scripts)
		b.signInHere("/settings/keys")
		require.Contains(b, b.text(), "The data key was never changed.")
		b.inspect("keys")
		look := func(expression string) {
			b.Helper()
			if !scripts {
				b.open("/settings/keys")
			}
			b.until(expression)
		}
		b.click(`#data-key a[href="/settings/keys/~change"]`)
		b.until(`document.querySelector('form[action="/settings/keys"] button.danger')`)
		require.Contains(b, b.text(), "4,321 sealed values are sealed anew")
		b.inspect("keys-change")
		b.submitIn(`form[action="/settings/keys"]`)
		b.until(`location.search === "?done=begun" && document.querySelector("#change .badge").textContent.includes("announced")`)
		require.Empty(b, b.js(`(document.querySelector('a[href="/settings/keys/~change"]') || {}).href || ""`), "one at a time")
		if scripts {
			b.until(`document.documentElement.dataset.live === "on"`)
			b.js(`window.same = 1; ""`)
		}

		s.rekeys(`state = 'moving', total = 4000, moved = 2800, remaining = 1200, unreadable = 0`)
		look(`document.querySelector("#change .usage") && document.querySelector("#change .usage").innerText.includes("2,800 of 4,000")`)
		b.inspect("keys-moving")
		s.rekeys(`moved = 3997, remaining = 3, unreadable = 3`)
		look(`document.querySelector("#change .alert") && document.querySelector("#change .alert").innerText.includes("3 records")`)
		if scripts {
			require.Equal(b, "1", b.js(`String(window.same)`), "nobody has loaded the page again")
		}
		b.inspect("keys-stuck")
		b.click(`#change a[href="/settings/keys/~give-up"]`)
		b.until(`document.querySelector('form[action="/settings/keys/give-up"]')`)
		b.inspect("keys-give-up")
		b.submitIn(`form[action="/settings/keys/give-up"]`, "typed", "yes")
		b.until(`document.querySelector("#typed-error")`)
		b.submitIn(`form[action="/settings/keys/give-up"]`, "typed", "give up")
		b.until(`location.search === "?done=given-up"`)

		s.rekeys(`state = 'announced', give_up = 0, total = 0, moved = 0, remaining = 0, unreadable = 0`)
		s.rekeyer.Start(s.Context())
		require.Eventually(b, func() bool {
			at, err := s.rekeyer.Status(s.Context())
			return err == nil && at.State == keyring.RekeyDone
		}, 60*time.Second, 10*time.Millisecond)
		look(`document.querySelector("#change .badge").textContent.includes("done")`)
		require.Contains(b, b.text(), "the old one was destroyed")
		b.until(`document.querySelector('#data-key a[href="/settings/keys/~change"]')`)
		b.inspect("keys-done")
		require.EqualValues(b, 2, s.ring.Active())
		got, err := s.vault.Reveal(s.Context(), boss, c.ID, "api_key", "test")
		require.NoError(b, err)
		require.Equal(b, "planted-forge-0123456789", got.Reveal())
	})
}

// TestKeysByRole: what a role may not do is not shown, and refused and recorded when forced; without a fresh proof nothing is begun, and a change is begun
// once.
func TestKeysByRole(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		refused := 0
		for _, one := range []struct {
			role                  identity.Role
			settings, read, write bool
		}{{identity.Operator, true, false, false}, {identity.Auditor, true, true, false}, {identity.Member, false, false, false}, {identity.Administrator, true, true, true}} {
			cookie := s.person(one.role)
			get := func(path string) answer {
				s.Helper()
				return s.do("GET", path, nil, "Cookie", cookie)
			}
			require.Equal(s, one.settings, get("/settings/backups").StatusCode == http.StatusOK, one.role)
			if one.settings {
				page := get("/settings").text
				require.Equal(s, one.read, strings.Contains(page, `href="/settings/keys"`), one.role)
				require.Contains(s, page, `href="/settings/backups"`, one.role)
				s.weigh(cookie, "/settings/backups")
			}
			page := get("/settings/keys")
			require.Equal(s, one.read, page.StatusCode == http.StatusOK, one.role)
			require.Equal(s, one.write, strings.Contains(page.text, "/settings/keys/~change"), one.role)
			require.Equal(s, one.write, get("/settings/keys/~change").StatusCode == http.StatusOK, one.role)
			require.Equal(s, one.write, get("/settings/keys/~give-up").StatusCode == http.StatusOK, one.role)
			require.Equal(s, one.write, get("/settings/keys/~seal").StatusCode == http.StatusOK, one.role)
			require.Equal(s, one.write, strings.Contains(page.text, "/settings/keys/~seal"), one.role)
			form := s.form(cookie, "/account").Get("form")
			require.Equal(s, http.StatusForbidden, s.do("POST", "/settings/keys", url.Values{}, "Cookie", cookie).StatusCode, "without the form's token")
			if one.read {
				s.weigh(cookie, "/settings/keys")
			}
			if !one.write {
				for _, path := range []string{"/settings/keys", "/settings/keys/give-up", "/settings/keys/seal"} {
					require.Equal(s, http.StatusForbidden, s.do("POST", path, url.Values{"form": {form}, "typed": {"give up"}}, "Cookie", cookie).StatusCode, "%s %s", one.role, path)
				}
				refused += 6 // with the three forms' pages
				if !one.read {
					refused++
				}
			}
		}
		begun := func(outcome string) int {
			s.Helper()
			require.NoError(s, s.audit.Flush(s.Context()))
			found, err := s.audit.Search(s.Context(), audit.Query{Action: store.AdminRekey, Outcome: outcome, Limit: 100})
			require.NoError(s, err)
			return len(found.Events)
		}
		require.Equal(s, refused, begun(store.OutcomeRefused))

		form := s.form(cookie, "/account")
		s.prove(-time.Hour)
		stale := s.do("POST", "/settings/keys", form, "Cookie", cookie)
		require.Equal(s, "/step-up?next=%2Fsettings%2Fkeys%2F~change", stale.Header.Get("Location"), stale.text)
		require.Equal(s, "/step-up?next=%2Fsettings%2Fkeys%2F~change", s.do("GET", "/settings/keys/~change", nil, "Cookie", cookie).Header.Get("Location"))
		require.Equal(s, refused+1, begun(store.OutcomeRefused))
		require.Zero(s, begun(store.OutcomeOK))
		s.prove(time.Hour)
		nothing := s.do("POST", "/settings/keys/give-up", url.Values{"form": {form.Get("form")}, "typed": {"give up"}}, "Cookie", cookie)
		require.Equal(s, http.StatusConflict, nothing.StatusCode, "the form that gives up begins no change")
		require.Zero(s, begun(store.OutcomeOK))
		require.Equal(s, "/settings/keys?done=begun", s.do("POST", "/settings/keys", form, "Cookie", cookie).Header.Get("Location"))
		again := s.do("POST", "/settings/keys", form, "Cookie", cookie)
		require.Equal(s, http.StatusConflict, again.StatusCode)
		require.Contains(s, again.text, "being changed already")
		require.NotContains(s, s.do("GET", "/settings/keys/~change", nil, "Cookie", cookie).text, "<button type=\"submit\" class=\"button danger\"")
		require.Equal(s, 1, begun(store.OutcomeOK))
	})
}

// sealed returns the seal of the database.
func (s *site) sealed() keyring.ServerSeal {
	s.Helper()
	got, err := keyring.SealOf(s.Context(), s.db)
	require.NoError(s, err)
	return got
}

// TestSealInABrowser: the page says what a seal does, wants a reason and a word to be typed, keeps what was typed, and sets it once. That servers then stand
// sealed is another test's.
func TestSealInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/settings/keys")
		b.click(`#seal a[href="/settings/keys/~seal"]`)
		form := `form[action="/settings/keys/seal"]`
		b.until(`document.querySelector('` + form + ` button.danger')`)
		require.Contains(b, b.text(), "signalbox unseal")
		b.inspect("seal")
		b.submitIn(form, "reason", "a laptop is gone", "typed", "yes")
		b.until(`document.querySelector("#typed-error")`)
		require.Equal(b, "a laptop is gone", b.js(`document.querySelector('`+form+` [name="reason"]').value`))
		b.inspect("seal-wrong")
		require.False(b, s.sealed().InForce())
		b.submitIn(form, "reason", "a laptop is gone", "typed", "seal")
		b.until(`location.pathname === "/"`)
		require.True(b, s.sealed().InForce())
		require.Equal(b, "a laptop is gone", s.sealed().Reason)
		require.Equal(b, "Ada", s.sealed().By)
	})
}

// TestSealWantsAFreshProof: without one, without a reason and without the word nothing is sealed, and the attempt is on record.
func TestSealWantsAFreshProof(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		form := s.form(cookie, "/account")
		post := func(reason, typed string) answer {
			s.Helper()
			return s.do("POST", "/settings/keys/seal", url.Values{"form": {form.Get("form")}, "reason": {reason}, "typed": {typed}}, "Cookie", cookie)
		}
		require.Equal(s, http.StatusUnprocessableEntity, post("x", "SEAL").StatusCode)
		require.Equal(s, http.StatusUnprocessableEntity, post("  ", "seal").StatusCode)
		require.Equal(s, http.StatusUnprocessableEntity, post(strings.Repeat("ü", 501), "seal").StatusCode)
		s.prove(-time.Hour)
		require.Equal(s, "/step-up?next=%2Fsettings%2Fkeys%2F~seal", post("x", "seal").Header.Get("Location"))
		require.False(s, s.sealed().InForce())
		s.prove(time.Hour)
		require.Equal(s, "/", post("x", "seal").Header.Get("Location"))
		require.True(s, s.sealed().InForce())
		require.Equal(s, http.StatusConflict, post("x", "seal").StatusCode)
		require.NoError(s, s.audit.Flush(s.Context()))
		for outcome, want := range map[string]int{store.OutcomeOK: 1, store.OutcomeRefused: 1} {
			found, err := s.audit.Search(s.Context(), audit.Query{Action: store.AdminSeal, Outcome: outcome, Limit: 10})
			require.NoError(s, err)
			require.Len(s, found.Events, want, outcome)
		}
	})
}

// setBackups changes what is known of backups, of which open pages ask meanwhile.
func (s *site) setBackups(change func(*web.Backups)) {
	known := *s.backups.Load()
	known.Running, known.Taken = slices.Clone(known.Running), slices.Clone(known.Taken)
	change(&known)
	s.backups.Store(&known)
}

// TestBackupsInABrowser: when backups were taken and restored, and how; nothing is offered that the page cannot do.
func TestBackupsInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		b := s.window(scripts)
		b.signInHere("/settings/backups")
		require.Contains(b, b.text(), "No backup of this database was taken")
		b.inspect("backups-none")
		now := time.Now()
		s.setBackups(func(known *web.Backups) {
			*known = web.Backups{Late: true, Taken: []web.Backup{{ID: "bak_00000000000000000000000002", At: now.Add(-9 * 24 * time.Hour), Bytes: 1234567, Rows: 4321}, {ID: "bak_00000000000000000000000001", At: now.Add(-10 * 24 * time.Hour), Bytes: 12, Rows: 3}},
				Restored: []web.Restored{{BackupID: "bak_00000000000000000000000000", BackupAt: now.Add(-30 * 24 * time.Hour), At: now.Add(-29 * 24 * time.Hour)}}}
		})
		b.open("/settings/backups")
		b.until(`document.querySelectorAll("#taken tbody tr").length === 2 && document.querySelectorAll("#restored tbody tr").length === 1`)
		for _, text := range []string{"long ago", "1,234,567", "4,321", "9 days ago", "the past", "signalbox backup --output", "signalbox restore --check"} {
			require.Contains(b, b.text(), text)
		}
		require.Equal(b, "0", b.js(`String(document.querySelectorAll('main form[method="post"]').length)`))
		b.inspect("backups")
		if scripts {
			b.until(`document.documentElement.dataset.live === "on"`)
			b.js(`window.same = 1; ""`)
		}
		look := func(expression string) {
			b.Helper()
			if !scripts {
				b.open("/settings/backups")
			}
			b.until(expression)
		}
		s.setBackups(func(known *web.Backups) {
			known.Running = []web.BackupRun{{ID: "bak_00000000000000000000000003", At: now, Done: 300, Total: 4000}}
		})
		look(`document.querySelector("#backup-runs .usage") && document.querySelector("#backup-runs .usage").innerText.includes("300 of 4,000")`)
		b.inspect("backups-running")
		s.setBackups(func(known *web.Backups) { known.Running[0].Done = 3900 })
		look(`document.querySelector("#backup-runs .usage").innerText.includes("3,900 of 4,000")`)
		s.setBackups(func(known *web.Backups) {
			known.Running, known.Late = nil, false
			known.Taken = append([]web.Backup{{ID: "bak_00000000000000000000000003", At: now, Bytes: 7, Rows: 4000}}, known.Taken...)
		})
		look(`!document.querySelector("#backup-runs .usage") && document.querySelectorAll("#taken tbody tr").length === 3`)
		if scripts {
			require.Equal(b, "1", b.js(`String(window.same)`), "nobody has loaded the page again")
		}
		b.open("/settings/backups")
		b.click(`#taken tbody tr:nth-child(2) a`)
		b.until(`location.pathname === "/audit" && location.search.includes("bak_00000000000000000000000002")`)
		b.open("/settings/backups")
		b.click(`#taken tbody a`)
		b.until(`location.pathname === "/audit" && location.search.includes("bak_00000000000000000000000003")`)
	})
}

// TestKeysByKeyboard: the data key is changed by keyboard alone, with the proof asked for in between, and what the page reads again leaves the focus.
func TestKeysByKeyboard(t *testing.T) {
	onOne(t, func(s *site) {
		s.administrator()
		k := s.typist()
		k.open("/settings")
		k.signIn("ada@example.com", planted)
		k.until(`location.pathname === "/settings"`)
		k.content()
		k.enter(`.tabs a[href="/settings/backups"]`)
		k.until(`location.pathname === "/settings/backups"`)
		k.content()
		k.tab(`#backup-command`)
		k.enter(`[data-copy="backup-command"]`)
		k.until(`document.querySelector('[data-copy="backup-command"]').textContent === "Copied"`)
		k.tabBack(`.tabs a[href="/settings/keys"]`)
		k.press(kb.Enter)
		k.until(`location.pathname === "/settings/keys" && document.documentElement.dataset.live === "on"`)

		k.content()
		change := `#data-key a[href="/settings/keys/~change"]`
		k.enter(change)
		k.until(`document.querySelector("dialog[open] form")`)
		k.caught()
		k.escapes(change)
		s.age()
		k.press(kb.Enter)
		k.has(`#proof-password`)
		k.press(planted + kb.Enter)
		k.until(`!document.querySelector("#proof[open]") && document.querySelector("#dialog[open] form")`)
		k.enter(`dialog[open] button.danger`)
		k.until(`location.search === "?done=begun"`)
		k.until(`document.documentElement.dataset.live === "on"`)
		k.content()
		k.tab(`#change a`)
		s.rekeyer.Start(s.Context())
		k.until(`document.querySelector("#change .badge").textContent.includes("done")`)
		k.has(`#change a`)
	})
}

// TestWhoHearsOfKeys: that a change of the data key moves on is told to those alone who may see how it goes.
func TestWhoHearsOfKeys(t *testing.T) {
	each(t, func(s *site) {
		s.administrator()
		for _, role := range []identity.Role{identity.Operator, identity.Member} {
			require.Equal(s, http.StatusBadRequest, s.do("GET", "/live?topics=keyring", nil, "Cookie", s.person(role)).StatusCode, role)
		}
	})
}
