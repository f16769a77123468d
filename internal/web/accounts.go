package web

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/a-h/templ"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
	"signalbox.dev/signalbox/internal/web/ui"
)

// newAccount is where an account is added. No id begins with a tilde.
const newAccount = "/accounts/~new"

// bulkForm is the form that takes the picked accounts.
const bulkForm = "accounts-act"

// routeAccounts names the pages of LLM accounts.
func (s *site) routeAccounts(mux *http.ServeMux) {
	mux.HandleFunc("GET /accounts", s.signedIn(s.accounts))
	mux.HandleFunc("GET /accounts.csv", s.signedIn(s.accountsFile))
	mux.HandleFunc("GET /accounts/~new", s.signedIn(s.accountForm))
	mux.HandleFunc("POST /accounts", s.submitted(s.accountMake))
	mux.HandleFunc("POST /accounts/~act", s.submitted(s.accountsAct))
	mux.HandleFunc("GET /accounts/~requests", s.signedIn(s.requests))
	mux.HandleFunc("GET /accounts/{account}", s.signedIn(s.llmAccount))
	mux.HandleFunc("POST /accounts/{account}/edit", s.submitted(s.accountRename))
	mux.HandleFunc("GET /accounts/{account}/settings", s.signedIn(s.accountSettingsForm))
	mux.HandleFunc("POST /accounts/{account}/settings", s.submitted(s.accountSettings))
	mux.HandleFunc("GET /accounts/{account}/key", s.signedIn(s.accountKeyForm))
	mux.HandleFunc("POST /accounts/{account}/key", s.submitted(s.accountKey))
	mux.HandleFunc("GET /accounts/{account}/trains", s.signedIn(s.accountTrainsForm))
	mux.HandleFunc("POST /accounts/{account}/trains", s.submitted(s.accountTrains))
	mux.HandleFunc("POST /accounts/{account}/pause", s.submitted(s.accountSwitch(vault.Paused, "paused")))
	mux.HandleFunc("POST /accounts/{account}/drain", s.submitted(s.accountSwitch(vault.Drained, "drained")))
	mux.HandleFunc("POST /accounts/{account}/resume", s.submitted(s.accountSwitch(vault.Lent, "resumed")))
	mux.HandleFunc("POST /accounts/{account}/refresh", s.submitted(s.accountRefresh))
	mux.HandleFunc("GET /accounts/{account}/delete", s.signedIn(s.accountDeleteForm))
	mux.HandleFunc("POST /accounts/{account}/delete", s.submitted(s.accountDelete))
}

// accountsPage is the list of LLM accounts.
type accountsPage struct {
	ui.Frame
	Q      string
	States []ui.Option
	Table  ui.Table
	Kept   ui.Saved
	// Write says whether the visitor may change accounts, Refresh whether this instance refreshes, Requests whether they may see what was asked for.
	Write, Refresh, Requests bool
}

func accountPath(id string, more ...string) string {
	path := "/accounts/" + url.PathEscape(id)
	for _, part := range more {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// accountsSaid are the sentences for what an address of the list may say was done.
func accountsSaid() map[string]string {
	return map[string]string{
		"renamed": "The account was changed.", "paused": "The accounts are paused: they are lent to nobody until somebody resumes them. Open uses were cut.",
		"resumed": "The accounts are lent again.", "deleted": "The account was deleted, and its sealed material destroyed.",
	}
}

func accountFilter(r *http.Request) vault.Filter {
	q := r.URL.Query()
	return vault.Filter{Accounts: true, Q: q.Get("q"), Status: vault.Status(q.Get("status")), Limit: pageSize, Cursor: q.Get("cursor")}
}

func (s *site) accountsPage(r *http.Request, v visitor) (*accountsPage, error) {
	f := accountFilter(r)
	list, next, err := s.Vault.List(r.Context(), v.Caller, f)
	if err != nil {
		return nil, err
	}
	stands, err := s.standings(r.Context(), v, list)
	if err != nil {
		return nil, err
	}
	p := &accountsPage{Frame: s.frame(r, v, "Accounts"), Q: f.Q, Write: s.changes(v, identity.CredentialWrite), Refresh: s.OAuth != nil, Requests: v.may(identity.AuditRead)}
	p.States = append(p.States, ui.Option{Label: "Any"})
	for _, one := range vault.Statuses() {
		p.States = append(p.States, ui.Option{Value: string(one), Label: string(one), Chosen: one == f.Status})
	}
	p.Table = s.llmTable(r, v, p, list, stands)
	query := url.Values{"q": {f.Q}, "status": {string(f.Status)}}
	if len(list) > 0 {
		p.Table.CSV = "/accounts.csv?" + query.Encode()
	} else if f.Q != "" || f.Status != "" {
		p.Table.Empty = ui.Empty{Text: "No account that you see is like this.", Label: "Show all", Href: "/accounts"}
	}
	if f.Cursor != "" {
		p.Table.First = "/accounts?" + query.Encode()
	}
	if next != "" {
		query.Set("cursor", next)
		p.Table.Next = "/accounts?" + query.Encode()
	}
	s.keeps(r, v, "accounts", &p.Table)
	if !partial(r) {
		p.Kept, err = s.kept(r, v, &p.Frame, "accounts")
	}
	return p, err
}

// standings are how accounts stand on the trains; nothing of it for who may not read all trains.
func (s *site) standings(ctx context.Context, v visitor, list []vault.Credential) (map[string]train.Standing, error) {
	if !v.mayAll(identity.TrainRead) {
		return nil, nil
	}
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = c.ID
	}
	return s.Trains.Standings(ctx, v.Caller, ids)
}

func (s *site) accounts(w http.ResponseWriter, r *http.Request, v visitor) {
	p, err := s.accountsPage(r, v)
	if err != nil {
		s.refused(w, r, v, err)
		return
	}
	announce(&p.Frame, r, accountsSaid())
	if partial(r) {
		s.show(w, r, http.StatusOK, ui.List(p.Table))
		return
	}
	s.show(w, r, http.StatusOK, accountsView(p))
}

func (s *site) llmTable(r *http.Request, v visitor, p *accountsPage, list []vault.Credential, stands map[string]train.Standing) ui.Table {
	reader := s.reader(r)
	t := ui.Table{
		ID: "llm-accounts", Caption: "Accounts at LLM providers, which trains lend", Live: "credential train windows",
		Columns: []ui.Column{{Label: "Account"}, {Label: "Kind"}, {Label: "State"}, {Label: "Used"}, {Label: "Trains"}},
		Empty:   ui.Empty{Text: "There is no account that you see. An account is what agents use at an LLM provider: an API key or a login.", Command: "signalbox account add"},
	}
	if p.Write {
		t.Empty.Label, t.Empty.Href, t.Empty.Dialog = "Add an account", newAccount, true
		t.Pick = bulkForm
		t.Columns = append(t.Columns, ui.Column{Label: "Name and base URL"})
	}
	for _, c := range list {
		stand, linked := stands[c.ID]
		trains, used := ui.Faint("none"), fullestCell(reader, stand.Windows)
		if stands == nil {
			trains, used = ui.Faint("not shown to you"), ui.Faint("not shown to you")
		} else if linked {
			trains = trainLinks(stand.Trains, 3, hiddenTrains(reader, stand))
		}
		row := ui.Row{ID: c.ID, Name: c.Name, Cells: []templ.Component{
			ui.Link(c.Name, accountPath(c.ID)), kindView(kindText(c), c.Suffix), accountState(reader, c, stand, linked), used, trains,
		}}
		if p.Write {
			row.Cells = append(row.Cells, accountEdit(accountDraft{Form: v.formToken(), ID: c.ID, Of: c.Name, Name: c.Name, BaseURL: c.BaseURL, Tag: c.ETag()}))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// hiddenTrains tells of the trains that have an account and that its reader does not reach; "" when there are none.
func hiddenTrains(reader ui.Reader, stand train.Standing) string {
	if stand.Hidden == 0 {
		return ""
	}
	return reader.Count(stand.Hidden, "private train")
}

// accountDraft is an account in its row, as it is or as somebody wants it.
type accountDraft struct{ Form, ID, Of, Name, BaseURL, Tag, Wrong string }

// kindText says what agents use at the provider.
func kindText(c vault.Credential) string {
	kind := "login, " + c.Provider
	if c.Type == vault.APIKey {
		kind = "API key, " + c.Provider
	}
	return kind
}

// accountState is how an account stands: what its owner said of it, then what its tokens are, then what the trains go by.
func accountState(reader ui.Reader, c vault.Credential, stand train.Standing, linked bool) templ.Component {
	tone, text, why := ui.Good, "usable", ""
	switch {
	case c.Tampered:
		tone, text, why = ui.Bad, "changed outside", "it is not lent until its destinations are set anew"
	case c.Status == vault.Disabled:
		tone, text = ui.Idle, "disabled"
	case c.Status == vault.Compromised, c.Status == vault.Expired:
		tone, text = ui.Bad, string(c.Status)
	case c.Lending.State == vault.Drained:
		tone, text, why = ui.Idle, "drained", lendingWhy(reader, c, stand, linked)
	case c.Lending.State != vault.Lent:
		tone, text, why = ui.Idle, "paused", lendingWhy(reader, c, stand, linked)
	case c.Health == vault.NeedsLogin:
		tone, text = ui.Bad, "needs a login"
	case linked && stand.State == train.Cooling && stand.CoolingUntil != nil:
		tone, text, why = ui.Warn, "cooling", "free "+reader.Ago(*stand.CoolingUntil)+": "+stand.Why
	case linked && stand.State == train.Unusable:
		tone, text, why = ui.Bad, "unusable", stand.Why
	case c.Health == vault.RefreshFailing, c.Health == vault.RefreshUncertain:
		tone, text = ui.Warn, healthText(c.Health)
	case c.Status == vault.Expiring && c.ExpiresAt != nil:
		tone, text = ui.Warn, "ends "+reader.Ago(*c.ExpiresAt)
	case linked && stand.Why != "ready":
		why = stand.Why
	}
	return stateView(tone, text, why)
}

// accountsFile is the list as a file, all of it.
func (s *site) accountsFile(w http.ResponseWriter, r *http.Request, v visitor) {
	f := accountFilter(r)
	f.Limit = sheetRows
	s.sendSheet(w, r, v, sheet{
		name: "accounts",
		head: []string{"credential_id", "name", "account_id", "provider", "type", "suffix", "status", "health", "state", "why", "cooling_until", "trains", "base_url", "last_used_at", "version", "created_at", "updated_at"},
		page: func(ctx context.Context, v visitor, cursor string) (rows [][]string, next string, err error) {
			f.Cursor = cursor
			list, next, err := s.Vault.List(ctx, v.Caller, f)
			if err != nil {
				return nil, "", err
			}
			stands, err := s.standings(ctx, v, list)
			for _, c := range list {
				stand := stands[c.ID]
				rows = append(rows, []string{c.ID, c.Name, c.AccountID, c.Provider, string(c.Type), c.Suffix, string(c.Status), string(c.Health), string(stand.State), stand.Why,
					fileTimeOr(stand.CoolingUntil), strings.Join(stand.Trains, " "), c.BaseURL, fileTimeOr(c.LastUsedAt), strconv.FormatInt(c.Version, 10), fileTime(c.CreatedAt), fileTime(c.UpdatedAt)})
			}
			return rows, next, err
		},
	})
}

// accountRename changes the name and the base URL of an account in its row.
func (s *site) accountRename(w http.ResponseWriter, r *http.Request, v visitor) {
	id, name, base := r.PathValue("account"), r.PostForm.Get("name"), r.PostForm.Get("base_url")
	_, err := s.Vault.Update(r.Context(), v.Caller, id, vault.Patch{Name: vault.To(name), BaseURL: vault.To(base)}, r.PostForm.Get("if_match"))
	s.settled(w, r, v, err, "/accounts?done=renamed", "/accounts", func(f *fault.Error) {
		p, err := s.accountsPage(r, v)
		if err != nil {
			s.refused(w, r, v, err)
			return
		}
		for i := range p.Table.Rows {
			if row := &p.Table.Rows[i]; row.ID == id {
				row.Cells[len(row.Cells)-1] = accountEdit(accountDraft{Form: v.formToken(), ID: id, Of: row.Name, Name: name, BaseURL: base, Tag: r.PostForm.Get("if_match"), Wrong: alertOf(f)})
				s.refuse(w, r, f, accountsView(p))
				return
			}
		}
		s.refused(w, r, v, f) // it is on another page of the list
	})
}
