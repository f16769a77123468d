package notify

import (
	"context"
	"time"
)

// Backoff is the wait after the n-th attempt.
func Backoff(n int64, random float64) time.Duration { return backoff(n, random) }

// Pass makes one pass and waits for its attempts.
func (r *Room) Pass(ctx context.Context) {
	r.pass(ctx)
	r.worker.attempts.Wait()
}

// Trim removes what is past its time.
func (r *Room) Trim(ctx context.Context) error { return r.trim(ctx) }
