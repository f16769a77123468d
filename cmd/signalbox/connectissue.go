package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/identity"
)

// own divides keys into those that the caller made and those of others: people have the same programs, and keys of the same names.
func own(ctx context.Context, c *client.Client, keys []client.Key) (mine, others []client.Key, err error) {
	if len(keys) == 0 {
		return nil, nil, nil
	}
	who, err := c.WhoAmI(ctx)
	if err != nil {
		return nil, nil, err
	}
	me := who.UserID
	if me == "" {
		me = who.ID
	}
	for _, k := range keys {
		if me != "" && k.CreatedBy == me {
			mine = append(mine, k)
		} else {
			others = append(others, k)
		}
	}
	return mine, others, nil
}

// ofName are the active keys of a name.
func ofName(name string, keys []client.Key) []client.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k client.Key) bool { return k.Name != name || k.Status != "active" })
}

// olderKeys are the active keys of the same name that a train had before.
type olderKeys struct{ mine, others []client.Key }

// replaced revokes the older keys of the caller, or says that there are some: each run without --write issues another. Whoever calls it has seen to it that
// somebody has the new one.
func (s *shell) replaced(ctx context.Context, c *client.Client, revoke bool, out *connection, name string, older olderKeys) error {
	if !revoke {
		if len(older.mine) > 1 {
			s.note("Train %s has %d older keys named %q. Revoke them when they are not used any more: add --replace next time, or see signalbox key list %s.", out.Train, len(older.mine), name, out.Train)
		}
		return nil
	}
	var left []string
	var why error
	for _, k := range older.mine {
		if err := c.RevokeKey(ctx, out.Train, k.ID); err != nil && !isNotFound(err) {
			left, why = append(left, k.ID), err
			continue
		}
		out.Revoked = append(out.Revoked, k.ID)
	}
	if len(out.Revoked) > 0 {
		s.note("Revoked what it replaces: %s.", strings.Join(out.Revoked, ", "))
	}
	if len(older.others) > 0 {
		var ids []string
		for _, k := range older.others {
			ids = append(ids, k.ID)
		}
		s.note("Train %s also has keys named %q that somebody else made, or another token. They stay: %s.", out.Train, name, strings.Join(ids, ", "))
	}
	if why != nil {
		return fmt.Errorf("the new key %s works, but what it replaces is not revoked: %s (%s). Revoke that with: signalbox key revoke %s KEY", out.KeyID, strings.Join(left, ", "), problem(why).Detail, out.Train)
	}
	return nil
}

// succeed issues the new key as the successor of an older one of its name, where the train has as many keys as it may have: a successor takes
// the place of what it replaces, which works on until the new key is where it belongs. Without one that can be replaced, full stands.
func (s *shell) succeed(ctx context.Context, c *client.Client, train string, draft client.KeyDraft, mine []client.Key, full error) (client.IssuedKey, string, error) {
	for _, k := range ofName(draft.Name, mine) {
		if k.ReplacedBy != "" {
			continue
		}
		key, err := s.issueOnce(ctx, c, train, func(c *client.Client) (client.IssuedKey, error) {
			return c.ReplaceKey(ctx, train, k.ID, client.KeyReplacement{Name: draft.Name, ExpiresAt: draft.ExpiresAt, OverlapSeconds: int(identity.MaxOverlap / time.Second)})
		})
		return key, k.ID, err
	}
	return client.IssuedKey{}, "", full
}

// issueOnce has a key issued under an Idempotency-Key. Where the answer is lost on the way, the same request is sent once more: it hears what became of the
// first, and a key that was issued and reached nobody is revoked before another is asked for.
func (s *shell) issueOnce(ctx context.Context, c *client.Client, train string, issue func(*client.Client) (client.IssuedKey, error)) (client.IssuedKey, error) {
	for range 2 {
		same := c.Idempotent("connect-" + rand.Text())
		key, err := settled(ctx, func() (client.IssuedKey, error) { return issue(same) })
		if onTheWay(ctx, err) {
			key, err = settled(ctx, func() (client.IssuedKey, error) { return issue(same) })
		}
		id := lostAnswer(err) // the HTTP client may have sent it again by itself
		if id == "" {
			if onTheWay(ctx, err) {
				s.note("If a key was issued whose answer was lost, it is in the list: signalbox key list %s", train)
			}
			return key, err
		}
		if err := c.RevokeKey(ctx, train, id); err != nil && !isNotFound(err) {
			return client.IssuedKey{}, fmt.Errorf("the key %s was issued, but its answer was lost, and it is not revoked (%s). Revoke it with: signalbox key revoke %s %s", id, problem(err).Detail, train, id)
		}
		s.note("The key %s was issued, but its answer was lost; it is revoked.", id)
	}
	return client.IssuedKey{}, errors.New("the server issues keys, but its answers are lost on the way; look at what stands between it and this machine, and run this again")
}

// settled sends a request, always the same one under one Idempotency-Key, until it is not under way any more.
func settled(ctx context.Context, send func() (client.IssuedKey, error)) (client.IssuedKey, error) {
	limited, cancel := context.WithTimeout(ctx, issueTime)
	defer cancel()
	for {
		made, err := send()
		if err == nil || problem(err).Code != "idempotency_in_progress" {
			return made, err
		}
		select { // the one that was cut off is not through yet
		case <-time.After(time.Second):
		case <-limited.Done():
			return made, err
		}
	}
}

// onTheWay reports whether a request may have been carried out although its answer did not arrive.
func onTheWay(ctx context.Context, err error) bool {
	if !away(ctx, err) {
		return false
	}
	var refused *client.Error
	if errors.As(err, &refused) {
		return refused.Status != http.StatusTooManyRequests
	}
	var op *net.OpError
	return !errors.As(err, &op) || op.Op != "dial"
}
