package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// remindEvery is how often an instance looks whether a reminder has come. A step comes with a day, so this is how late it is told at most.
const remindEvery = 10 * time.Minute

// reminders has people reminded of what expires and of what is to be rotated: it goes through all credentials at the start and from then on in
// turns. Every instance does; which of them tells is decided with each reminder.
type reminders struct {
	remind func(context.Context) (int, error)
	every  time.Duration
	log    *slog.Logger

	begin, end sync.Once
	cut        context.CancelFunc
	loop       sync.WaitGroup
}

func newReminders(remind func(context.Context) (int, error), every time.Duration, log *slog.Logger) *reminders {
	return &reminders{remind: remind, every: every, log: log}
}

// Start begins in the background. End it with Close.
func (r *reminders) Start(ctx context.Context) {
	r.begin.Do(func() {
		run, cut := context.WithCancel(context.WithoutCancel(ctx))
		r.cut = cut
		r.loop.Go(func() {
			tick := time.NewTicker(r.every)
			defer tick.Stop()
			for {
				r.pass(run)
				select {
				case <-run.Done():
					return
				case <-tick.C:
				}
			}
		})
	})
}

// Close cuts the pass under way, of which each reminder is stored wholly or not at all, and waits for its end. It may be called more than once, and
// without Start.
func (r *reminders) Close() {
	r.end.Do(func() {
		if r.cut != nil {
			r.cut()
		}
	})
	r.loop.Wait()
}

func (r *reminders) pass(ctx context.Context) {
	told, err := r.remind(ctx)
	if told > 0 {
		r.log.Info("people were reminded of credentials that expire or are to be rotated", "reminders", told)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Error("reminders of credentials could not be stored; it is tried again", "cause", err, "in", r.every)
	}
}
