package ledger

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/usage"
)

// record is what matters here of a record of the log.
type record struct {
	At       time.Time    `json:"at"`
	Actor    store.Actor  `json:"actor"`
	OnBehalf string       `json:"on_behalf_of"`
	Action   store.Action `json:"action"`
	Target   store.Target `json:"target"`
	Outcome  string       `json:"outcome"`
}

// lent are the details of an intent and of an outcome.
type lent struct {
	Lease  string `json:"lease"`
	Train  string `json:"train"`
	Path   string `json:"path"`
	Model  string `json:"model"`
	Result string `json:"result"`
	Usage  string `json:"usage"`
	Status int64  `json:"status"`
	Unsent bool   `json:"unsent"`

	Input        int64 `json:"input_tokens"`
	Output       int64 `json:"output_tokens"`
	CacheRead    int64 `json:"cache_read_tokens"`
	CacheWrite5m int64 `json:"cache_creation_5m_tokens"`
	CacheWrite1h int64 `json:"cache_creation_1h_tokens"`
	ToolCalls    int64 `json:"tool_calls"`
}

// costly is the one path whose answers cost tokens.
const costly = "/v1/messages"

// class says in which of its four ways an attempt ended; none is that of one that was never sent.
type class int

const (
	none class = iota
	complete
	partial
	unknown
	failed
)

// class tells how an attempt ended. What tells no cost although its answer should, has one that is unknown: the upstream may have answered a request whose client hung up,
// whose lease was cut or whose answer did not come in time; or the record is older than the counting. That the upstream refused it, or was not reached, is no such doubt.
func (l *lent) class(costs bool) class {
	switch l.Usage {
	case "complete":
		return complete
	case "partial":
		return partial
	case "unknown":
		return unknown
	}
	switch {
	case l.Result == "refused", l.Unsent && (l.Result == "revoked" || l.Result == "client_cancelled"):
		return none
	case l.Status >= 400, l.Result == "upstream_error", l.Unsent:
		return failed
	case costs:
		return unknown
	case l.Result == "ok", l.Result == "client_cancelled":
		return complete
	}
	return failed
}

// bound takes what no answer can cost, or nobody can have counted, for unknown: a record that is older than the bounds of usage, or is none of ours.
func (l *lent) bound() {
	sum := int64(0)
	for _, n := range [...]int64{l.Input, l.Output, l.CacheRead, l.CacheWrite5m, l.CacheWrite1h} {
		if sum += n; n < 0 || n > usage.Most || sum > usage.Most {
			l.nothing()
			return
		}
	}
	if l.ToolCalls < 0 || l.ToolCalls > usage.Most {
		l.nothing()
	}
}

// nothing makes the cost unknown.
func (l *lent) nothing() {
	l.Usage, l.Model = string(usage.Unknown), ""
	l.Input, l.Output, l.CacheRead, l.CacheWrite5m, l.CacheWrite1h, l.ToolCalls = 0, 0, 0, 0, 0, 0
}

// grouped are the records of a chunk by what they are for.
type grouped struct {
	intents, outcomes []use
	owners            map[string]string // of keys
	names             map[string]string // of people and service accounts
	renames           map[string]string // of what has a name here already
	last              time.Time         // of the newest record
	bad               int
}

// use is an intent or an outcome.
type use struct {
	record
	lent `json:"details"`
}

// leaseMark is in every record of a lease; in a text its quotes would be escaped.
var leaseMark = []byte(`"action":"lease.`)

// mcpMark is in the records of what was lent for an MCP server, as [leaseMark] is.
var mcpMark = []byte(`"mcp_server":"`)

// group reads the records of a chunk. One that cannot be read, or is gone, counts for nothing: verification tells of it.
func group(leaves []audit.Leaf) *grouped {
	g := &grouped{owners: map[string]string{}, names: map[string]string{}, renames: map[string]string{}}
	for _, leaf := range leaves {
		var u use
		var err error
		lease := bytes.Contains(leaf.Record, leaseMark)
		if lease && bytes.Contains(leaf.Record, mcpMark) {
			continue // of no train, and without a cost
		}
		if lease {
			u, err = decodeLease(leaf.Record)
		} else {
			err = json.Unmarshal(leaf.Record, &u.record) // what its details are is none of our affair
		}
		if leaf.Record == nil || err != nil || lease && u.Lease == "" {
			g.bad++
			continue
		}
		if u.At.After(g.last) {
			g.last = u.At
		}
		switch u.Action {
		case store.LeaseGranted:
			g.intents = append(g.intents, u)
			g.again(u.Target.ID, u.Target.Name)
			g.again(u.Actor.ID, u.Actor.Name)
			continue
		case store.LeaseOutcome:
			u.bound()
			g.outcomes = append(g.outcomes, u)
			continue
		case store.KeyIssue:
			g.owns(u.Target.ID, &u.record)
		case store.KeyReplace:
			var d struct {
				Details struct {
					Successor string `json:"successor"`
				} `json:"details"`
			}
			if json.Unmarshal(leaf.Record, &d) == nil {
				g.owns(d.Details.Successor, &u.record)
			}
		}
		g.called(&u.record)
	}
	return g
}

// owns notes who made a key.
func (g *grouped) owns(key string, rec *record) {
	if rec.Outcome == store.OutcomeOK && key != "" {
		g.owners[key] = personOf(rec)
	}
}

// personOf is the person or the service account behind an act, "" for our own chores.
func personOf(rec *record) string {
	who := cmp.Or(rec.OnBehalf, rec.Actor.ID)
	if strings.HasPrefix(who, "user_") || rec.Actor.Kind == "service" || rec.Actor.Kind == "jwt" {
		return who
	}
	return ""
}

// decodeLease reads the record of a lease, however it is written.
func decodeLease(line []byte) (u use, err error) {
	if u, ok := readLease(line); ok {
		return u, nil
	}
	err = json.Unmarshal(line, &u)
	return u, err
}

// again takes a newer name of what was renamed before in the same chunk.
func (g *grouped) again(id, name string) {
	if _, renamed := g.renames[id]; renamed && name != "" {
		g.renames[id] = name
	}
}

// called notes what things and people are called.
func (g *grouped) called(rec *record) {
	if rec.Outcome != store.OutcomeOK {
		return
	}
	if rec.Actor.Kind == "person" && rec.Actor.Name != "" {
		g.names[rec.Actor.ID] = rec.Actor.Name
	}
	if rec.Target.ID == "" || rec.Target.Name == "" {
		return
	}
	switch rec.Target.Kind {
	case "user", "service_account":
		g.names[rec.Target.ID] = rec.Target.Name
	case "credential", "client_key":
		g.renames[rec.Target.ID] = rec.Target.Name
	}
}
