package train

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Strategy says in which order a train's accounts are tried.
type Strategy string

// The strategies.
const (
	// Hash orders by the first 8 bytes of SHA-256 of "slug::account name", as a big-endian unsigned number, descending; ties by name. Each
	// train thereby has an order of its own that does not change when other accounts come and go.
	Hash Strategy = "hash"
	// Priority orders by the links' priority, ascending: 1 before 2; ties as with [Hash].
	Priority Strategy = "priority"
	// LeastLoaded takes the account that is used least, as its upstream says, and keeps a conversation on the account that it began on; ties as with
	// [Hash]. See [line.choose].
	LeastLoaded Strategy = "least-loaded"
)

// Strategies returns all of them, the default first.
func Strategies() []Strategy { return []Strategy{Hash, Priority, LeastLoaded} }

func (s Strategy) known() bool { return s == Hash || s == Priority || s == LeastLoaded }

// score is the place of an account in the hash order of a train.
func score(slug, account string) uint64 {
	sum := sha256.Sum256([]byte(slug + "::" + account))
	return binary.BigEndian.Uint64(sum[:8])
}

// rank sorts rungs into the order in which they are tried, the train's default account before all others. A strategy that is not known here (a newer version wrote it) is ranked as
// [Hash]; [line.closed] sees to it that nothing is lent then.
func rank(s Strategy, rungs []rung) {
	slices.SortFunc(rungs, func(a, b rung) int {
		if a.first != b.first {
			if a.first {
				return -1
			}
			return 1
		}
		if s == Priority {
			if c := cmp.Compare(a.priority, b.priority); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.account.name, b.account.name), cmp.Compare(a.account.id, b.account.id))
	})
}
