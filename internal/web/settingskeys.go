package web

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/keyring"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/web/ui"
)

const settingsKeys = "/settings/keys"

// Keys are the data keys, and what changes them. Ring and Rekeyer are required, or the zero value has no page.
type Keys struct {
	Ring    *keyring.Ring
	Rekeyer *keyring.Rekeyer
	// Sealed counts what lies under the data key that seals; nil does not.
	Sealed func(context.Context) (int64, error)
}

func (s *site) hasKeys() bool { return s.DB != nil && s.Keys.Ring != nil && s.Keys.Rekeyer != nil }

// routeKeys names the pages of the data key.
func (s *site) routeKeys(mux *http.ServeMux) {
	mux.HandleFunc("GET "+settingsKeys, s.signedIn(s.withKeys(identity.KeyringRead, s.keysNow)))
	mux.HandleFunc("GET "+settingsKeys+"/~change", s.signedIn(s.withKeys(identity.KeyringWrite, s.fresh(s.keysChangeForm))))
	mux.HandleFunc("POST "+settingsKeys, s.submitted(s.withKeys(identity.KeyringWrite, s.keysChange)))
	mux.HandleFunc("GET "+settingsKeys+"/~seal", s.signedIn(s.withKeys(identity.KeyringWrite, s.fresh(s.sealForm))))
	mux.HandleFunc("POST "+settingsKeys+"/seal", s.submitted(s.withKeys(identity.KeyringWrite, s.sealNow)))
	mux.HandleFunc("GET "+settingsKeys+"/~give-up", s.signedIn(s.withKeys(identity.KeyringWrite, s.fresh(s.keysGiveUpForm))))
	mux.HandleFunc("POST "+settingsKeys+"/give-up", s.submitted(s.withKeys(identity.KeyringWrite, s.keysGiveUp)))
}

// withKeys asks for a permission on the keyring, and puts a refusal on record as the API does.
func (s *site) withKeys(p identity.Permission, serve func(http.ResponseWriter, *http.Request, visitor)) func(http.ResponseWriter, *http.Request, visitor) {
	return func(w http.ResponseWriter, r *http.Request, v visitor) {
		if verdict := identity.Allow(v.Caller, p); verdict != nil {
			s.refused(w, r, v, s.keysRefused(r.Context(), v, verdict))
			return
		}
		serve(w, r, v)
	}
}

// keysRefused records that somebody tried to see or to change the data key, and returns why they may not.
func (s *site) keysRefused(ctx context.Context, v visitor, verdict error) error {
	ev := v.Event(store.AdminRekey, store.Target{Kind: "keyring"})
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	if err := s.DB.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	return verdict
}

// keysPage is the data key that seals, and how its change goes, or how the last one went.
type keysPage struct {
	ui.Frame
	Tabs   []ui.NavLink
	Alert  string
	Reader ui.Reader
	Facts  []ui.Fact
	Acts   []templ.Component
	Seals  int64
	// State is the badge of the change and Said what it means, Total and Moved how much there is to do and how much is done; without a Total there is nothing to draw.
	State        templ.Component
	Said         string
	Total, Moved int64
	Change       []ui.Fact
	// Seal is where all servers are sealed, "" for who may not.
	Seal string
	// Stuck is how many records keep the old key, and GiveUp where they are given up, "" for who may not.
	Stuck  int64
	GiveUp string
}

// maxSeals is how often one data key may seal at most.
const maxSeals = 1 << 32

// rekeyWords say of each state what it is called and what happens in it.
func rekeyWords(r keyring.Rekey) (ui.Tone, string, string) {
	switch r.State {
	case keyring.RekeyAnnounced:
		return ui.Warn, "announced", "The new data key is made. Every server gets to know it before one seals with it."
	case keyring.RekeyMoving:
		return ui.Warn, "moving", "The new data key seals, and what lies under the old one is sealed anew, while everything goes on."
	case keyring.RekeyLeaving:
		return ui.Warn, "leaving", "Nothing can be stored under the old data key any more. It is looked through once more, and then destroyed."
	case keyring.RekeyDone:
		return ui.Good, "done", "Everything is sealed under the new data key, and the old one was destroyed."
	}
	return ui.Idle, "none", "The data key was never changed."
}

func (s *site) keysPage(r *http.Request, v visitor) (*keysPage, error) {
	at, err := s.Keys.Rekeyer.Status(r.Context())
	if err != nil {
		return nil, err
	}
	frame := s.settingsOf(r, v, "Keys", "", settingsKeys)
	p := &keysPage{Frame: frame.Frame, Tabs: frame.Tabs, Reader: s.reader(r), Seals: s.Keys.Ring.Seals()}
	number := func(n int64) templ.Component { return ui.Text(p.Reader.Number(n)) }
	running, write := at.ID != "" && at.State != keyring.RekeyDone, s.changes(v, identity.KeyringWrite)
	p.Facts = []ui.Fact{{Term: "Data key that seals", Value: number(int64(s.Keys.Ring.Active()))}}
	if s.Keys.Ring.Active() == 0 {
		p.Facts[0].Value = ui.Badge(ui.Warn, "none is open")
	}
	if write && !running {
		p.Acts = []templ.Component{ui.LinkButton("Change the data key…", settingsKeys+"/~change", ui.Plain, true)}
	}
	if write {
		p.Seal = settingsKeys + "/~seal"
	}
	tone, word, said := rekeyWords(at)
	p.State, p.Said = ui.Badge(tone, word), said
	if at.ID == "" {
		return p, nil
	}
	p.Change = []ui.Fact{{Term: "New data key", Value: number(at.To)}, {Term: "Begun", Value: ui.When(p.Reader, at.StartedAt)}}
	if running {
		p.Total = at.Total
		p.Moved = min(max(at.Total-at.Remaining, 0), at.Total)
	} else {
		p.Change = append(p.Change, ui.Fact{Term: "Ended", Value: ui.When(p.Reader, at.FinishedAt)}, ui.Fact{Term: "Sealed anew", Value: number(at.Moved)})
	}
	if at.Unreadable > 0 && !running {
		p.Change = append(p.Change, ui.Fact{Term: "Given up", Value: number(at.Unreadable)})
	}
	if at.Unreadable > 0 && running {
		if p.Stuck = at.Unreadable; write {
			p.GiveUp = settingsKeys + "/~give-up"
		}
	}
	if v.may(identity.AuditRead) {
		p.Change = append(p.Change, ui.Fact{Term: "Record", Value: ui.Link("Who changed it, and when", auditPath(nil, "target", at.ID))})
	}
	return p, nil
}

func (s *site) keysNow(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.keysPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, map[string]string{"begun": "The change has begun. It goes on by itself, also after a restart.", "given-up": "What does not open is given up. The change goes on."})
	s.show(w, r, http.StatusOK, keysView(p))
}

// countTime bounds the counting of what is sealed, for a page.
const countTime = 10 * time.Second

// keysChangeForm says what a change does, and to how much.
func (s *site) keysChangeForm(w http.ResponseWriter, r *http.Request, v visitor) {
	at, err := s.Keys.Rekeyer.Status(r.Context())
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	c := ui.Confirm{Lead: "Signalbox makes a new data key, seals everything anew under it while all goes on, and then destroys the old key for good.", Action: settingsKeys, Back: settingsKeys, Hidden: v.proving()}
	if at.ID != "" && at.State != keyring.RekeyDone {
		c.Lead = "The data key is being changed already. Wait until that is done."
		s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Change the data key"), "Keys", c))
		return
	}
	if s.Keys.Sealed != nil {
		ctx, cancel := context.WithTimeout(r.Context(), countTime)
		defer cancel()
		n, err := s.Keys.Sealed(ctx)
		switch {
		case err == nil && n == 1:
			c.Touches = append(c.Touches, "1 sealed value is sealed anew: fields of credentials with their versions, tokens, second factors, destinations of messages.")
		case err == nil:
			c.Touches = append(c.Touches, s.reader(r).Number(n)+" sealed values are sealed anew: fields of credentials with their versions, tokens, second factors, destinations of messages.")
		case ctx.Err() != nil && r.Context().Err() == nil:
			c.Touches = append(c.Touches, "Everything that is sealed is sealed anew. It is too much to be counted for this page.")
		default:
			s.refused(w, r, v, err)
			return
		}
	}
	c.Touches = append(c.Touches, "No id, no version and no address changes, and nobody has to sign in again.", "It goes on by itself, also after a restart. It cannot be stopped or taken back.",
		"Backups that were taken before still hold the old key, wrapped by the root key. Delete those when the old key must not be used again.")
	c.Submit = "Change the data key"
	s.show(w, r, http.StatusOK, confirmView(s.frame(r, v, "Change the data key"), "Keys", c))
}

// keysBegin begins a change, or lets one go on that waits for what does not open.
func (s *site) keysBegin(r *http.Request, v visitor, giveUp bool) error {
	if err := identity.RequireFresh(v.Caller, time.Now()); err != nil {
		return s.keysRefused(r.Context(), v, err)
	}
	_, err := s.Keys.Rekeyer.Begin(r.Context(), v.Event(store.AdminRekey, store.Target{Kind: "keyring"}), giveUp)
	return err
}

// keysAgain shows how it stands, with why nothing was begun.
func (s *site) keysAgain(w http.ResponseWriter, r *http.Request, v visitor) func(*fault.Error) {
	return func(f *fault.Error) {
		p, err := s.keysPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		p.Alert = f.Detail
		s.refuse(w, r, f, keysView(p))
	}
}

func (s *site) keysChange(w http.ResponseWriter, r *http.Request, v visitor) {
	err := s.keysBegin(r, v, false)
	s.settled(w, r, v, err, settingsKeys+"?done=begun", settingsKeys+"/~change", s.keysAgain(w, r, v))
}

// keysGiveUpForm asks before records are lost for good.
func (s *site) keysGiveUpForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.keysGiveUpShown(w, r, v, http.StatusOK, "")
}

func (s *site) keysGiveUpShown(w http.ResponseWriter, r *http.Request, v visitor, status int, wrong string) {
	at, err := s.Keys.Rekeyer.Status(r.Context())
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	c := ui.Confirm{Lead: "No change of the data key waits for records that do not open, so there is nothing to give up.", Action: settingsKeys + "/give-up", Back: settingsKeys, Hidden: v.proving()}
	if at.Unreadable > 0 && at.State != keyring.RekeyDone {
		c.Lead = "What does not open under the old data key is lost with it, for good. Look first whether a backup has those records."
		c.Touches = []string{s.reader(r).Count(int(at.Unreadable), "record") + " can never be opened again; the server's log names the tables.", "The change goes on, and the old data key is destroyed."}
		c.Submit, c.Type, c.Wrong = "Give them up", "give up", wrong
	}
	s.show(w, r, status, confirmView(s.frame(r, v, "Give up what does not open"), "Keys", c))
}

func (s *site) keysGiveUp(w http.ResponseWriter, r *http.Request, v visitor) {
	if r.PostForm.Get("typed") != "give up" {
		s.keysGiveUpShown(w, r, v, http.StatusUnprocessableEntity, "Type give up, as it stands there. Nothing was given up.")
		return
	}
	at, err := s.Keys.Rekeyer.Status(r.Context())
	if err == nil && (at.State == keyring.RekeyDone || at.Unreadable == 0) { // a change that waits for nothing is not to be begun by this form
		err = fault.New(fault.Conflict, "state_conflict", "No change of the data key waits for records that do not open, so nothing was given up.")
	}
	if err == nil {
		err = s.keysBegin(r, v, true)
	}
	s.settled(w, r, v, err, settingsKeys+"?done=given-up", settingsKeys+"/~give-up", s.keysAgain(w, r, v))
}

// sealForm asks before all servers are sealed.
func (s *site) sealForm(w http.ResponseWriter, r *http.Request, v visitor) {
	s.show(w, r, http.StatusOK, confirmView(s.sealAsks(r, v, nil)))
}

// sealAsks is the form, with what was wrong with it the last time.
func (s *site) sealAsks(r *http.Request, v visitor, f *fault.Error) (ui.Frame, string, ui.Confirm) {
	c := ui.Confirm{Lead: "For when you do not know yet what an attacker has: everything stops, on every server, within a second.", Action: settingsKeys + "/seal", Back: settingsKeys, Hidden: v.proving(), Submit: "Seal Signalbox", Type: "seal",
		Touches: []string{"Every running answer is cut, and nothing is lent to any agent.", "Nobody can sign in, look or change anything, you among them. Servers answer that they are sealed, also after a restart.",
			"No page and no token lifts the seal. Somebody on a machine that has the root key does, with: signalbox unseal"},
		Fields: []ui.Field{{Name: "reason", Label: "Reason", Value: r.PostForm.Get("reason"), MaxLength: 500, Autocomplete: "off", Hint: "It is recorded with your name, and told to whoever unseals."}}}
	if f != nil {
		if wrong := mark(f, c.Fields); wrong != "" {
			c.Wrong = wrong
		}
	}
	return s.frame(r, v, "Seal Signalbox"), "Keys", c
}

func (s *site) sealNow(w http.ResponseWriter, r *http.Request, v visitor) {
	reason := strings.TrimSpace(r.PostForm.Get("reason"))
	var err error
	switch {
	case r.PostForm.Get("typed") != "seal":
		err = fault.New(fault.Unprocessable, "validation_failed", "Type seal, as it stands there. Nothing was sealed.")
	case reason == "":
		err = fault.New(fault.Unprocessable, "validation_failed", "Nothing was sealed.").With("/reason", "say why; it is recorded")
	case utf8.RuneCountInString(reason) > 500:
		err = fault.New(fault.Unprocessable, "validation_failed", "Nothing was sealed.").With("/reason", "is longer than 500 characters")
	default:
		if err = identity.RequireFresh(v.Caller, time.Now()); err != nil {
			err = s.sealRefused(r.Context(), v, err)
			break
		}
		_, err = keyring.SealServers(r.Context(), s.DB, v.Event(store.AdminSeal, store.Target{Kind: "keyring"}), reason)
	}
	s.settled(w, r, v, err, "/", settingsKeys+"/~seal", func(f *fault.Error) { s.refuse(w, r, f, confirmView(s.sealAsks(r, v, f))) })
}

// sealRefused records that somebody tried to seal the servers, and returns why they may not.
func (s *site) sealRefused(ctx context.Context, v visitor, verdict error) error {
	ev := v.Event(store.AdminSeal, store.Target{Kind: "keyring"})
	ev.Outcome, ev.Reason = store.OutcomeRefused, fault.Of(verdict).Code
	if err := s.DB.Write(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Record(ev) }); err != nil {
		return err
	}
	return verdict
}

// strides tells the pages that stand open that something has moved on of which the change feed tells nothing: a change of the data key, whose batches are
// too many for it, or a backup.
type strides[T comparable] struct {
	mu   sync.Mutex
	at   time.Time
	seen T
	news int64
}

// taken returns a number that grows when something moved on. It is looked once for all pages in each time of [feedPulse].
func (t *strides[T]) taken(ctx context.Context, look func(context.Context) (T, error)) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) < feedPulse/2 {
		return t.news
	}
	t.at = time.Now()
	now, err := look(ctx)
	if err == nil && now != t.seen { // an error is another look's
		t.seen = now
		t.news++
	}
	return t.news
}
