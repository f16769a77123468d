package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"
)

// Action is what becomes of an entry.
type Action string

// The actions.
const (
	Create    Action = "create"
	Duplicate Action = "duplicate" // it is here already
	Skip      Action = "skip"      // nothing can be made of it, or nothing should
	Invalid   Action = "invalid"   // it stands in the way of the whole import
)

// Row is what becomes of one entry. None of it is a secret, and nothing of an entry that cannot be read is in it.
type Row struct {
	Number      int // from 1, in the order of the files
	File, Place string
	Format      string
	Kind        string // credential, client_key, mcp_connection, or empty
	Type        string // of a credential
	Name        string
	Username    string
	Train       string // of a client key
	Action      Action
	Reason      string
	DuplicateOf string // the id of what is here already
	SameAs      int    // the number of the entry that is like it
	ID          string // of what was stored
	Notes       []string
}

// Report is what becomes, or became, of an import.
type Report struct {
	ID     string
	DryRun bool
	// Applied says that it was stored.
	Applied                                      bool
	Files                                        int
	Formats                                      []string
	Entries, Created, Duplicates, Skipped, Wrong int
	// Trains were made for client keys.
	Trains []string
	// SecretsCompared says whether secrets were compared with those that are stored; it takes the right to reveal them.
	SecretsCompared bool
	// Sum names what becomes of all entries, for [Request.Expect].
	Sum string
	// Rows are the entries; beyond 5,000 those that are stored or skipped are left out first, LeftOut of them.
	Rows    []Row
	LeftOut int
}

// reportRows bounds what a report lists.
const reportRows = 5_000

func (p *plan) report(rolled bool) Report {
	out := Report{
		ID: p.id, DryRun: p.dry, Applied: !rolled, Files: p.files, Formats: p.formats, Entries: len(p.rows), Created: p.count(Create), Duplicates: p.count(Duplicate),
		Skipped: p.count(Skip), Wrong: p.invalid(), Trains: p.trains, Sum: p.sum(), SecretsCompared: !p.likeness.Blind,
	}
	rank := func(a Action) int { return slices.Index([]Action{Invalid, Duplicate, Create, Skip}, a) }
	chosen := make([]int, len(p.rows))
	for i := range chosen {
		chosen[i] = i
	}
	if len(chosen) > reportRows {
		slices.SortStableFunc(chosen, func(a, b int) int { return rank(p.rows[a].action) - rank(p.rows[b].action) })
		out.LeftOut = len(chosen) - reportRows
		chosen = chosen[:reportRows]
		slices.Sort(chosen)
	}
	out.Rows = make([]Row, len(chosen))
	for i, n := range chosen {
		out.Rows[i] = p.shown(n, rolled)
	}
	return out
}

// sum names what becomes of all entries, and where each came from. It is of what a report tells, and of no value.
func (p *plan) sum() string {
	h := sha256.New()
	put := func(text string) { _, _ = h.Write([]byte(strconv.Itoa(len(text)) + ":" + text)) } // a hash never fails
	for n := range p.rows {
		w := p.shown(n, true)
		for _, text := range []string{w.File, w.Place, w.Format, w.Kind, w.Type, w.Name, w.Username, w.Train, string(w.Action), w.Reason, w.DuplicateOf, strconv.Itoa(w.SameAs)} {
			put(text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// shown is one row as it is told. What stands in an entry that cannot be stored may be anything, so no name of it is told.
func (p *plan) shown(n int, rolled bool) Row {
	w := p.rows[n]
	out := Row{Number: n + 1, File: w.file, Place: w.place, Format: w.format, Action: w.action, Reason: w.reason, DuplicateOf: w.other, SameAs: w.same, Notes: w.notes}
	if !rolled {
		out.ID = w.id
	}
	switch {
	case w.ready >= 0:
		m := p.ready[w.ready].Meta()
		out.Kind, out.Type, out.Name, out.Username = "credential", string(w.credential.Type), m.Name, m.Username
		if w.renamed != "" {
			out.Name = w.renamed
		}
	case w.credential != nil:
		out.Kind, out.Type = "credential", string(w.credential.Type)
	case w.key != nil:
		out.Kind = "client_key"
		if w.action != Invalid {
			out.Name, out.Train = w.key.Draft.Name, w.key.Train
		}
	case w.connection != nil:
		out.Kind = "mcp_connection"
		if w.action != Invalid {
			out.Name, out.Username = w.connection.Deposit.Server, w.connection.User
		}
	}
	return out
}
