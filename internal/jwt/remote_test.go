package jwt_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/jwt"
)

// origin plays the issuer's server.
type origin struct {
	mu    sync.Mutex
	doc   []byte
	age   time.Duration
	err   error
	hold  chan struct{} // while it is open, answers wait
	now   time.Time
	asked atomic.Int64
	told  []string
}

func (o *origin) set(doc []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.doc, o.err = doc, err
}

func (o *origin) add(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = o.now.Add(d)
}

func (o *origin) remote(t *testing.T) *jwt.Remote {
	o.now = now
	r := jwt.NewRemote(jwt.RemoteConfig{
		Fetch: func(ctx context.Context) ([]byte, time.Duration, error) {
			o.asked.Add(1)
			o.mu.Lock()
			hold := o.hold
			o.mu.Unlock()
			if hold != nil {
				select {
				case <-hold:
				case <-ctx.Done():
					return nil, 0, ctx.Err()
				}
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.doc, o.age, o.err
		},
		Told: func(skipped []string, err error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.told = append(o.told, skipped...)
			if err != nil {
				o.told = append(o.told, err.Error())
			}
		},
		Clock: func() time.Time {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.now
		},
	})
	t.Cleanup(r.Close)
	return r
}

// TestRemoteKeysRotate: a new key is found at the first token that names it, and invented ids do not make us a nuisance.
func TestRemoteKeysRotate(t *testing.T) {
	k := newKeys(t)
	o := &origin{doc: document(k.ecJWK(t, "e1"))}
	r := o.remote(t)
	set, err := r.Keys(t.Context(), "e1")
	require.NoError(t, err)
	require.Equal(t, 1, set.Len())
	require.EqualValues(t, 1, o.asked.Load())
	o.set(document(k.ecJWK(t, "e1"), k.rsaJWK("r2")), nil)
	for range 100 {
		set, err = r.Keys(t.Context(), "r2")
		require.NoError(t, err)
		require.Equal(t, 1, set.Len(), "asked within the minute: the old set stands")
	}
	require.EqualValues(t, 1, o.asked.Load())
	o.add(time.Minute)
	set, err = r.Keys(t.Context(), "r2")
	require.NoError(t, err)
	require.Equal(t, 2, set.Len())
	for range 100 {
		_, err = r.Keys(t.Context(), "../invented")
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, o.asked.Load())
}

// TestRemoteOutage: while the issuer cannot be asked its last keys hold for a bounded time, and nobody waits for it.
func TestRemoteOutage(t *testing.T) {
	k := newKeys(t)
	for name, answer := range map[string]struct {
		doc []byte
		err error
	}{
		"down":    {nil, errors.New("connection refused")},
		"garbage": {[]byte("<html>"), nil},
		"huge":    {[]byte(strings.Repeat(" ", jwt.MaxSet+1)), nil},
		"empty":   {document(), nil},
		"leaked":  {document(k.ecJWK(t, "e1").with(fields{"d": "AQAB"})), nil},
	} {
		t.Run(name, func(t *testing.T) {
			o := &origin{doc: answer.doc, err: answer.err}
			r := o.remote(t)
			_, err := r.Keys(t.Context(), "e1")
			require.ErrorIs(t, err, jwt.ErrUnreachable)
			_, err = r.Keys(t.Context(), "e1")
			require.ErrorIs(t, err, jwt.ErrUnreachable)
			require.EqualValues(t, 1, o.asked.Load(), "not for each token")

			o.set(document(k.ecJWK(t, "e1")), nil)
			o.add(time.Minute)
			_, err = r.Keys(t.Context(), "e1")
			require.NoError(t, err)
			o.set(answer.doc, answer.err)
			for range 6 {
				o.add(time.Hour)
				before := o.asked.Load()
				set, err := r.Keys(t.Context(), "e1")
				require.NoError(t, err)
				require.Equal(t, 1, set.Len())
				require.Eventually(t, func() bool { return o.asked.Load() > before }, 10*time.Second, time.Millisecond, "it is tried behind the token's back")
				require.Eventually(t, func() bool { o.mu.Lock(); defer o.mu.Unlock(); return int64(len(o.told)) >= o.asked.Load()-1 }, 10*time.Second, time.Millisecond)
			}
			o.add(2 * time.Hour)
			_, err = r.Keys(t.Context(), "e1")
			require.ErrorIs(t, err, jwt.ErrUnreachable, "an hour current and six more")
			o.set(document(k.ecJWK(t, "e1")), nil)
			o.add(time.Minute)
			_, err = r.Keys(t.Context(), "e1")
			require.NoError(t, err, "it comes back by itself")
		})
	}
}

// TestRemoteSlow: a slow issuer holds up only tokens that need its answer, each no longer than it wants to wait, and all of
// them together ask once.
func TestRemoteSlow(t *testing.T) {
	k := newKeys(t)
	o := &origin{doc: document(k.ecJWK(t, "e1")), age: time.Minute}
	r := o.remote(t)
	_, err := r.Keys(t.Context(), "e1")
	require.NoError(t, err)
	o.mu.Lock()
	o.hold = make(chan struct{})
	o.doc = document(k.ecJWK(t, "e1"), k.rsaJWK("r2"))
	o.mu.Unlock()
	o.add(10 * time.Minute)
	set, err := r.Keys(t.Context(), "e1")
	require.NoError(t, err, "known keys do not wait")
	require.Equal(t, 1, set.Len())

	impatient, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = r.Keys(impatient, "r2")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	var wait sync.WaitGroup
	var sets [20]jwt.Set
	for i := range sets {
		wait.Go(func() { sets[i], _ = r.Keys(context.Background(), "r2") })
	}
	close(o.hold)
	wait.Wait()
	for _, s := range sets {
		require.Equal(t, 2, s.Len())
	}
	require.EqualValues(t, 2, o.asked.Load())
}

// TestRemoteCloses: Close ends a try that hangs, and there are no keys afterwards.
func TestRemoteCloses(t *testing.T) {
	k := newKeys(t)
	o := &origin{doc: document(k.ecJWK(t, "e1")), hold: make(chan struct{})}
	r := o.remote(t)
	failed := make(chan error)
	go func() {
		_, err := r.Keys(context.Background(), "e1")
		failed <- err
	}()
	require.Eventually(t, func() bool { return o.asked.Load() == 1 }, 10*time.Second, time.Millisecond)
	r.Close()
	require.ErrorIs(t, <-failed, jwt.ErrUnreachable)
	_, err := r.Keys(t.Context(), "e1")
	require.ErrorIs(t, err, jwt.ErrUnreachable)
}
