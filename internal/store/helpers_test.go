package store_test

import (
	"io"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
)

func secretOf(s string) secret.Value { return secret.FromString(s) }

func textLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func lease(key, cred string) store.Event {
	return store.Event{
		Actor: store.Actor{Kind: "client_key", ID: key, Name: "laptop"}, OnBehalf: "train_x", Action: store.LeaseGranted,
		Target: store.Target{Kind: "credential", ID: cred, Name: "team"}, Outcome: store.OutcomePending, RequestID: "req_1",
		Details: store.Details{store.Str("lease", "lease_1"), store.Str("model", "claude"), store.Int("attempt", 1)},
	}
}

// cpuTime returns the user and system time of this process.
func cpuTime() time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
