package notify

import (
	"math/rand/v2"
	"time"
)

const (
	backoffFirst = 5 * time.Second
	backoffMost  = time.Hour
	// lifetime is how long a delivery is tried.
	lifetime = 24 * time.Hour
)

// life is how long a delivery of a message of a kind is tried.
func life(k Kind) time.Duration {
	if k == Conversation {
		return talkLife
	}
	return lifetime
}

// backoff is how long to wait after the n-th attempt, from 1: three times as long as before, at most an hour, with up to a fifth more or
// less so that what failed together does not come back together. random is from 0 to 1.
func backoff(n int64, random float64) time.Duration {
	d := backoffFirst
	for i := int64(1); i < n && d < backoffMost; i++ {
		d *= 3
	}
	d = min(d, backoffMost)
	return time.Duration(float64(d) * (0.8 + 0.4*random))
}

// wait is the back-off, or as long as the receiver asks for when that is longer.
func (v verdict) wait(n int64) time.Duration { return max(backoff(n, rand.Float64()), v.after) }
