package client

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// RadiusQuery says of what time a blast radius is told. Without From it is the last seven days, and of an incident since it happened.
type RadiusQuery struct {
	From, To *time.Time
	Cursor   string
}

func (q RadiusQuery) query() url.Values {
	return AuditFilter{From: q.From, To: q.To, Cursor: q.Cursor}.query()
}

// BlastRadius is what one subject did and what was done to it, from the audit log. Parts of one question add up: each record is in one of them.
type BlastRadius struct {
	Subject    IncidentLink    `json:"subject" doc:"What it is told of. The kind is credential, user, service_account, train, key or token."`
	From       time.Time       `json:"from"`
	To         time.Time       `json:"to" doc:"The time before which; when it was asked, if nothing earlier was asked for."`
	Counted    int64           `json:"counted" doc:"How many records were counted. A use counts with what became of it, not twice."`
	Complete   bool            `json:"complete" doc:"Whether these are all. Otherwise they are the newest, and next_cursor goes on from there."`
	Since      *time.Time      `json:"since,omitempty" doc:"Where the counting ended, when it is not complete: everything newer was counted."`
	Contacts   []RadiusContact `json:"contacts" nullable:"false" doc:"By relation, the last seen first."`
	NextCursor string          `json:"next_cursor,omitempty" doc:"Goes on where this ended, at /api/audit/blast-radius/{id}."`
}

// RadiusContact is one other that the subject of a blast radius had to do with, with the number of records.
type RadiusContact struct {
	Relation string      `json:"relation" enum:"did,through,for,by,behind" doc:"did: the subject, or somebody in its name, did something to this. through: this did it in the subject's name, as a person's token or a train's key does. for: the subject acted in the name of this. by: this did something to the subject. behind: in the name of this something was done to the subject."`
	Kind     string      `json:"kind"`
	ID       string      `json:"id,omitempty" doc:"Left out of what has none, such as a list."`
	Name     string      `json:"name,omitempty" doc:"As the newest record has it; of whom others acted for, as it is now."`
	Count    int64       `json:"count" doc:"The sum of the six that follow."`
	Used     int64       `json:"used" doc:"Lent, or tested."`
	Revealed int64       `json:"revealed" doc:"A secret left as text."`
	Read     int64       `json:"read" doc:"Metadata or the log were looked at."`
	Changed  int64       `json:"changed"`
	Refused  int64       `json:"refused" doc:"Whatever was tried and refused."`
	Other    int64       `json:"other" doc:"Chores, and signing in and out."`
	First    time.Time   `json:"first"`
	Last     time.Time   `json:"last"`
	Acts     []RadiusAct `json:"acts" nullable:"false" doc:"The same records by act and outcome, the most frequent first."`
}

// RadiusAct is an act with its outcome and the number of records.
type RadiusAct struct {
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	Count   int64  `json:"count"`
}

// IncidentRadius is the blast radius of what an incident touches, a few of them at a time. NextCursor is "" on the last.
type IncidentRadius struct {
	Radii      []BlastRadius `json:"radii" nullable:"false" doc:"One for each credential, person, service account, train and client key that it touches, in the order of their ids."`
	NextCursor string        `json:"next_cursor,omitempty"`
}

// BlastRadius returns what a person, service account, credential, train, client key or token did and what was done to it since q.From. A train may be named by its slug.
func (c *Client) BlastRadius(ctx context.Context, subject string, q RadiusQuery) (BlastRadius, error) {
	var out struct {
		Radius BlastRadius `json:"blast_radius"`
	}
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("audit", "blast-radius", subject), query: q.query()}, &out)
	return out.Radius, err
}

// IncidentBlastRadius returns the blast radius of what an incident touches.
func (c *Client) IncidentBlastRadius(ctx context.Context, id string, q RadiusQuery) (IncidentRadius, error) {
	var out IncidentRadius
	_, err := c.do(ctx, call{method: http.MethodGet, path: path("security-incidents", id, "blast-radius"), query: q.query()}, &out)
	return out, err
}

// Add returns what two parts of one question tell together; next is the part that NextCursor of r led to.
func (r BlastRadius) Add(next BlastRadius) BlastRadius {
	r.Counted += next.Counted
	r.Complete, r.Since, r.NextCursor = next.Complete, next.Since, next.NextCursor
	r.Subject.Name = cmp.Or(r.Subject.Name, next.Subject.Name)
	r.Contacts = slices.Clone(r.Contacts)
	at := make(map[[3]string]int, len(r.Contacts))
	key := func(c RadiusContact) [3]string {
		if c.ID != "" {
			return [3]string{c.Relation, c.ID} // a kind may be known in one part alone
		}
		return [3]string{c.Relation, "", c.Kind}
	}
	for n, c := range r.Contacts {
		at[key(c)] = n
	}
	for _, c := range next.Contacts {
		if n, have := at[key(c)]; have {
			r.Contacts[n] = r.Contacts[n].add(c)
		} else {
			r.Contacts = append(r.Contacts, c)
		}
	}
	order := []string{"did", "through", "for", "by", "behind"}
	slices.SortStableFunc(r.Contacts, func(a, b RadiusContact) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Relation), slices.Index(order, b.Relation)), b.Last.Compare(a.Last), cmp.Compare(a.ID, b.ID))
	})
	return r
}

func (c RadiusContact) add(o RadiusContact) RadiusContact {
	c.Kind, c.Name = cmp.Or(c.Kind, o.Kind), cmp.Or(c.Name, o.Name)
	c.Count += o.Count
	c.Used += o.Used
	c.Revealed += o.Revealed
	c.Read += o.Read
	c.Changed += o.Changed
	c.Refused += o.Refused
	c.Other += o.Other
	if o.First.Before(c.First) {
		c.First = o.First
	}
	if o.Last.After(c.Last) {
		c.Last = o.Last
	}
	c.Acts = slices.Clone(c.Acts)
	for _, act := range o.Acts {
		if n := slices.IndexFunc(c.Acts, func(have RadiusAct) bool { return have.Action == act.Action && have.Outcome == act.Outcome }); n >= 0 {
			c.Acts[n].Count += act.Count
		} else {
			c.Acts = append(c.Acts, act)
		}
	}
	slices.SortStableFunc(c.Acts, func(a, b RadiusAct) int { return cmp.Compare(b.Count, a.Count) })
	return c
}
