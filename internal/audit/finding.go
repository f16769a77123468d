package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// Kind says how the log differs from what was recorded or signed.
type Kind string

// The kinds of findings.
const (
	Edited       Kind = "edited"       // a record, an index column or a stored hash was changed
	Deleted      Kind = "deleted"      // a record, a leaf, a node, a checkpoint or a search reference is gone
	Reordered    Kind = "reordered"    // records are not in the order in which they were signed
	Forked       Kind = "forked"       // the log's own key signed two histories: the database was rolled back and went on, or was forged with its key
	Cut          Kind = "cut"          // the log is shorter than what was signed
	Rechained    Kind = "re-chained"   // records and hashes agree with each other and not with what was signed
	Unreferenced Kind = "unreferenced" // a record that is neither in the log nor waiting for it
	Forged       Kind = "forged"       // a checkpoint or a signing key that is not the log's
)

// Finding is one difference.
type Finding struct {
	Kind Kind
	// Leaf is the first leaf that it can concern, and To the leaf after the last: Leaf+1 where it is known exactly. Both are -1 for what
	// is not about a leaf.
	Leaf, To int64
	// ID is the event at Leaf, where the database still tells.
	ID string
	// Detail is a sentence for the reader.
	Detail string
}

// String describes the finding in one line.
func (f Finding) String() string {
	where := ""
	switch {
	case f.Leaf >= 0 && f.To > f.Leaf+1:
		where = fmt.Sprintf(" leaves %d to %d", f.Leaf, f.To-1)
	case f.Leaf >= 0:
		where = fmt.Sprintf(" leaf %d", f.Leaf)
	}
	if f.ID != "" {
		where += " (" + f.ID + ")"
	}
	return string(f.Kind) + where + ": " + f.Detail
}

// Report is the result of [Verify].
type Report struct {
	// Size is the number of leaves that were checked.
	Size int64
	// Anchored leaves are covered by a given anchor that the log agrees with: any change to them would have been found. SignedOnly ones
	// are covered by a checkpoint in the database alone, Unsigned ones by none yet.
	Anchored, SignedOnly, Unsigned int64
	// Pending is the number of events that wait to be sequenced.
	Pending int64
	// Checkpoints and Anchors are the numbers of those that were checked.
	Checkpoints, Anchors int64
	// Findings are the first of what was found, in the order of the log; what is not about a leaf comes last.
	Findings []Finding
	// Found is the number of all findings.
	Found int64
}

// OK reports whether nothing was found.
func (r Report) OK() bool { return r.Found == 0 }

// First returns the first finding in the order of the log, and false when there is none.
func (r Report) First() (Finding, bool) {
	if len(r.Findings) == 0 {
		return Finding{}, false
	}
	return r.Findings[0], true
}

// maxFindings bounds the findings that a report lists.
const maxFindings = 100

// findings collects in any order.
type findings struct {
	list  []Finding
	total int64
}

func (f *findings) add(kind Kind, leaf, to int64, id, format string, args ...any) {
	f.total++
	if len(f.list) >= 4*maxFindings { // keep the earliest of them
		f.sort()
		f.list = f.list[:2*maxFindings]
	}
	f.list = append(f.list, Finding{kind, leaf, to, id, fmt.Sprintf(format, args...)})
}

// aside adds what is not about a leaf.
func (f *findings) aside(kind Kind, format string, args ...any) {
	f.add(kind, -1, -1, "", format, args...)
}

func (f *findings) merge(g *findings) {
	for _, x := range g.list {
		f.add(x.Kind, x.Leaf, x.To, x.ID, "%s", x.Detail)
	}
	f.total += g.total - int64(len(g.list))
}

// sort puts what was found in the order of the log. At one leaf the index comes last: where records are not as they were, it follows.
func (f *findings) sort() {
	slices.SortStableFunc(f.list, func(a, b Finding) int {
		if (a.Leaf < 0) != (b.Leaf < 0) {
			return cmp.Compare(b.Leaf, a.Leaf)
		}
		derived := func(x Finding) int {
			if x.Detail == searchGone {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.Leaf, b.Leaf), cmp.Compare(derived(a), derived(b)), cmp.Compare(a.To, b.To))
	})
}
