package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// llmPage is one account of an LLM provider.
type llmPage struct {
	ui.Frame
	Account vault.Credential
	Summary string
	Facts   []ui.Fact
	// Live is the part that changes by itself: the facts.
	Trains ui.Table
	// Windows is how far its limits are used, and Used whether that is shown.
	Windows ui.Table
	Used    bool
	Tokens  *connectionPart
	// Write says whether the visitor may change accounts, Link whether they may link it, Refresh and Again what can be done with its tokens.
	Write, Link, Refresh, Again, Requests bool
	// Pause, Drain and Resume say which of them changes anything.
	Pause, Drain, Resume bool
}

// accountOf reads an account for its page; what is no account has its own.
func (s *site) accountOf(r *http.Request, v visitor) (vault.Credential, error) {
	c, err := s.Vault.Get(r.Context(), v.Caller, r.PathValue("account"))
	if err == nil && !c.IsAccount() {
		err = fault.New(fault.NotFound, "not_found", "This credential cannot serve an LLM provider, so it is no account.")
	}
	return c, err
}

// accountForChange is accountOf for a form that changes it.
func (s *site) accountForChange(r *http.Request, v visitor) (vault.Credential, error) {
	if err := mayAtAll(v, identity.CredentialWrite); err != nil {
		return vault.Credential{}, err
	}
	return s.accountOf(r, v)
}

// mayAtAll turns away early who may do it to nothing; to what, the room decides.
func mayAtAll(v visitor, p identity.Permission) error {
	_, err := identity.Within(v.Caller, p)
	return err
}

func (s *site) llmAccount(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.llmPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, map[string]string{
		"made": "The account was stored.", "changed": "The account was changed.", "rotated": "The account has a new key from now on. Open uses of the old one go on.", "paused": "The account is paused: it is lent to nobody until somebody resumes it. Open uses were cut.",
		"drained": "The account is drained: it is lent to no new request until somebody resumes it. What runs on it finishes.",
		"resumed": "The account is lent again.", "refreshed": "The provider gave new tokens.", "linked": "The account was linked.",
	})
	s.show(w, r, http.StatusOK, llmView(p))
}

func (s *site) llmPage(r *http.Request, v visitor) (*llmPage, error) {
	c, err := s.accountOf(r, v)
	if err != nil {
		return nil, err
	}
	stands, err := s.standings(r.Context(), v, []vault.Credential{c})
	if err != nil {
		return nil, err
	}
	reader := s.reader(r)
	stand, linked := stands[c.ID]
	p := &llmPage{Frame: s.frame(r, v, c.Name), Account: c, Summary: kindText(c), Write: s.changes(v, identity.CredentialWrite)}
	p.Link = s.changes(v, identity.TrainWrite) && v.may(identity.CredentialRead)
	p.Pause, p.Drain = p.Write && c.Lending.State != vault.Paused, p.Write && c.Lending.State == vault.Lent
	p.Resume = p.Write && c.Lending.State != vault.Lent && (c.Status == vault.Active || c.Status == vault.Expiring)
	p.Requests = v.may(identity.AuditRead)
	base := c.BaseURL
	if base == "" {
		base = "the provider's own"
	}
	p.Facts = []ui.Fact{
		{Term: "State", Value: accountState(reader, c, stand, linked)}, {Term: "Account id", Value: ui.Code(c.AccountID)}, {Term: "Used at", Value: ui.Text(base), Wide: c.BaseURL != ""},
		{Term: "Secret", Value: ui.Text("version " + reader.Number(c.Version))}, {Term: "Ends", Value: ui.WhenOr(reader, c.ExpiresAt, "never")},
		{Term: "Added", Value: ui.When(reader, c.CreatedAt)}, {Term: "Changed", Value: ui.When(reader, c.UpdatedAt)}, {Term: "Last used", Value: ui.WhenOr(reader, c.LastUsedAt, "never")}, {Term: "Id", Value: ui.Code(c.ID), Wide: true},
	}
	p.Facts = append(p.Facts, upstreamFacts(c.Upstream)...)
	if c.Suffix != "" {
		p.Facts = append(p.Facts, ui.Fact{Term: "Ends with", Value: ui.Code("…" + c.Suffix)})
	}
	if stand.CoolingUntil != nil {
		p.Facts = slices.Insert(p.Facts, 1, ui.Fact{Term: "Cooling since", Value: ui.WhenOr(reader, stand.CoolingSince, "")}, ui.Fact{Term: "Free again", Value: ui.WhenOr(reader, stand.CoolingUntil, "")})
	}
	p.Facts = append(p.Facts, s.usedFact(v, "credential_id", c.ID)...)
	if c.Description != "" {
		p.Facts = append(p.Facts, ui.Fact{Term: "Description", Value: ui.Text(c.Description), Wide: true})
	}
	if len(c.Hosts) > 0 {
		p.Facts = append(p.Facts, ui.Fact{Term: "Sent only to", Value: ui.Text(strings.Join(c.Hosts, ", "))})
	}
	p.Trains = p.trainsOf(stand, stands != nil, hiddenTrains(reader, stand))
	if p.Used = linked; linked {
		p.Windows = windowTable("Window", "How far its limits are used, as its upstream said beside answers")
		windowRows(reader, &p.Windows, c.ID, "", stand.Windows)
		p.Facts = append(p.Facts, ui.Fact{Term: "In flight on this instance", Value: ui.Text(reader.Number(int64(stand.InFlight)))})
	}
	if c.Type == vault.OAuth {
		if p.Tokens, err = s.connectionPart(r, v, c); err != nil {
			return nil, err
		}
		p.Again = p.Write && logsIn(c)
		p.Refresh = p.Write && s.OAuth != nil && c.Refreshes()
	}
	return p, nil
}

// trainsOf lists the trains that have the account.
func (p *llmPage) trainsOf(stand train.Standing, seen bool, hidden string) ui.Table {
	t := ui.Table{ID: "account-trains", Caption: "Trains that may be lent this account", Live: "train", Columns: []ui.Column{{Label: "Train"}},
		Empty: ui.Empty{Text: "No train has it, so nobody is lent it.", Command: "signalbox train link TRAIN " + p.Account.Name}}
	if !seen {
		t.Empty = ui.Empty{Text: "Your role does not read trains."}
	} else if p.Link {
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Link it to trains", accountPath(p.Account.ID, "trains"), true
	}
	for _, slug := range stand.Trains {
		t.Rows = append(t.Rows, ui.Row{ID: slug, Name: slug, Cells: []templ.Component{ui.Link(slug, trainPath(slug))}})
	}
	if hidden != "" {
		t.Rows = append(t.Rows, ui.Row{ID: "~private", Name: hidden, Cells: []templ.Component{ui.Text(hidden + " that you are no member of")}})
	}
	return t
}

// acts are what can be done with the account as a whole.
func (p *llmPage) linkActs() []templ.Component {
	if !p.Link || len(p.Trains.Rows) == 0 {
		return nil
	}
	return []templ.Component{ui.LinkButton("Link it to trains", accountPath(p.Account.ID, "trains"), ui.Plain, true)}
}

// accountFields are what is asked of a new account and of one that is changed.
func accountFields(c vault.Credential, fresh bool) []ui.Field {
	fields := []ui.Field{{Name: "name", Label: "Name", Value: c.Name, MaxLength: 200, Autocomplete: "off", Focus: fresh, Hint: "What people and agents call it. No other account has it."}}
	if fresh {
		fields = append(fields, ui.Field{Name: "api_key", Label: "API key", Type: "password", Autocomplete: "off", MaxLength: 8192, Hint: "Kept sealed; no page shows it."})
	}
	return append(fields,
		ui.Field{Name: "base_url", Label: "Base URL", Value: c.BaseURL, MaxLength: 2048, Autocomplete: "off", Optional: true, Hint: "Where the key is sent. The provider's own when it is left out."},
		ui.Field{Name: "description", Label: "Description", Value: c.Description, MaxLength: 2000, Rows: 2, Optional: true},
	)
}

func accountPosted(r *http.Request) vault.Credential {
	return vault.Credential{Type: vault.APIKey, Meta: vault.Meta{Name: r.PostForm.Get("name"), Provider: r.PostForm.Get("provider"), BaseURL: r.PostForm.Get("base_url"), Description: r.PostForm.Get("description")}}
}

// newAccountPage asks for an API key; who has a login instead is led to the connect page.
func (s *site) newAccountPage(r *http.Request, v visitor, c vault.Credential, trains []string) (*askedPage, error) {
	if err := mayAtAll(v, identity.CredentialWrite); err != nil {
		return nil, err
	}
	p := &askedPage{Frame: s.frame(r, v, "Add an account"), Back: "/accounts", BackLabel: "Accounts", Action: "/accounts", Submit: "Store the account", Hidden: v.hidden(), Inputs: accountFields(c, true)}
	p.Elsewhere = []templ.Component{ui.Link("Log in at the provider instead (OAuth)", "/connect?next=/accounts")}
	of := ui.Choice{Name: "provider", Label: "Provider"}
	for _, one := range vault.Providers() {
		of.Options = append(of.Options, ui.Option{Value: one.Name, Label: one.Name, Chosen: one.Name == c.Provider})
	}
	p.Choices = []ui.Choice{of}
	if v.may(identity.TrainWrite) {
		choice, err := s.trainChoice(r, v, nil, trains)
		if err != nil {
			return nil, err
		}
		if len(choice.Options) > 0 {
			p.Choices = append(p.Choices, choice)
		}
	}
	return p, nil
}

// trainChoice offers the trains to link to, but for those that have it.
func (s *site) trainChoice(r *http.Request, v visitor, has, chosen []string) (ui.Choice, error) {
	c := ui.Choice{Name: "train", Label: "Trains", Multiple: true, Hint: "Whoever holds a client key of one of them may be lent the account."}
	list, _, err := s.Trains.ListTrains(r.Context(), v.Caller, train.Filter{Limit: 1000})
	if err != nil {
		return c, err
	}
	for _, t := range list {
		if !slices.Contains(has, t.Slug) {
			c.Options = append(c.Options, ui.Option{Value: t.Slug, Label: t.Slug + " (" + t.Name + ")", Chosen: slices.Contains(chosen, t.Slug)})
		}
	}
	return c, nil
}

func (s *site) accountForm(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.newAccountPage(r, v, vault.Credential{}, nil)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	s.show(w, r, http.StatusOK, askedView(p))
}

// accountMake stores an account and links it. When a link is refused the account stays, and the page says so.
func (s *site) accountMake(w http.ResponseWriter, r *http.Request, v visitor) {
	draft, trains := accountPosted(r), r.PostForm["train"]
	secrets := map[string]secret.Value{}
	if key := strings.TrimSpace(r.PostForm.Get("api_key")); key != "" {
		secrets["api_key"] = secret.FromString(key)
	}
	c, err := s.Vault.Create(r.Context(), v.Caller, vault.Draft{Type: vault.APIKey, Meta: draft.Meta, Secrets: secrets})
	if err != nil {
		s.settled(w, r, v, err, "", newAccount, func(f *fault.Error) {
			p, err := s.newAccountPage(r, v, draft, trains)
			if err != nil {
				s.refused(w, r, v, err)
				return
			}
			s.again(w, r, keyFault(f), p)
		})
		return
	}
	s.linkedTo(w, r, v, c, trains, "made")
}

// keyFault puts what is wrong with the secret beside the field that asks for it.
func keyFault(f *fault.Error) *fault.Error {
	out := *f
	out.Fields = slices.Clone(f.Fields)
	for i := range out.Fields {
		if strings.HasPrefix(out.Fields[i].Pointer, "/secrets") {
			out.Fields[i].Pointer = "/api_key"
		}
	}
	return &out
}

// linkedTo links an account to trains, one after the other, and leads to its page.
func (s *site) linkedTo(w http.ResponseWriter, r *http.Request, v visitor, c vault.Credential, trains []string, done string) {
	for _, slug := range slices.Compact(slices.Sorted(slices.Values(trains))) {
		err := s.Admit(r.Context(), v.Caller) // each is an act of its own
		if err == nil {
			_, _, err = s.Trains.Link(r.Context(), v.Caller, slug, train.LinkDraft{Credential: c.ID})
		}
		if err != nil {
			s.settled(w, r, v, err, "", accountPath(c.ID, "trains"), func(f *fault.Error) {
				p, err := s.accountTrainsPage(r, v, c.ID, trains)
				if err != nil {
					s.refused(w, r, v, err)
					return
				}
				p.Choices[0].Error = "Not linked to " + slug + ": " + alertOf(f)
				s.refuse(w, r, f, askedView(p))
			})
			return
		}
	}
	http.Redirect(w, r, accountPath(c.ID)+"?done="+done, http.StatusSeeOther)
}
