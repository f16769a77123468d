package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

const (
	keysFileName = "keys.json"
	keysLockName = "keys.lock"
	// mostEnded bounds how many ended keys are remembered to be tidied away.
	mostEnded = 50
)

// keyFor says for what a key is kept: it is handed to nobody else, and sent to no other server.
type keyFor struct {
	Server string `json:"server"`
	Train  string `json:"train"`
	Holder string `json:"holder"`
	// Life is how long it was to live, in seconds: who asks for another life is another, so that two on one machine do not replace each other's keys for ever.
	Life int64 `json:"life_seconds"`
}

// keptKey is a client key that a helper keeps, so that it hands out the same one until it ends.
type keptKey struct {
	keyFor
	id      string
	value   secret.Value
	expires time.Time
	asked   time.Time // when the server had last been asked whether it is good
	away    bool      // it did not answer then
	// brief says that the server gave it no longer than the margin in which a key is replaced: another would end when this one does, since the sign-in does.
	brief bool
}

// fresh reports whether the server was asked so short a time ago.
func (k keptKey) fresh(now time.Time, within time.Duration) bool {
	since := now.Sub(k.asked)
	return since >= 0 && since < within
}

// keyText is its form in the file.
type keyText struct {
	keyFor
	KeyID     string    `json:"key_id"`
	APIKey    string    `json:"api_key"`
	ExpiresAt time.Time `json:"expires_at"`
	AskedAt   time.Time `json:"asked_at"`
	Away      bool      `json:"away,omitempty"`
	Brief     bool      `json:"brief,omitempty"`
}

// endedKey is one that was replaced.
type endedKey struct {
	keyFor
	KeyID     string    `json:"key_id"`
	ExpiresAt time.Time `json:"expires_at"`
}

// keptKeys is what the file of the helpers holds, of which only its person can read anything.
type keptKeys struct {
	keys     []keptKey
	ended    []endedKey
	attempts []attempt
}

type keysText struct {
	Keys     []keyText  `json:"keys"`
	Ended    []endedKey `json:"ended,omitempty"`
	Attempts []attempt  `json:"attempts,omitempty"`
}

func readKeys(dir privateDir) (keptKeys, error) {
	b, err := dir.read(keysFileName)
	switch {
	case errors.Is(err, errNotYours):
		return keptKeys{}, fmt.Errorf("%s is not yours alone (it must be your file, with mode 0600), so the keys in it may be known to others: revoke them, and delete the file", dir.path(keysFileName))
	case err != nil:
		return keptKeys{}, fmt.Errorf("read the keys that signalbox helper keeps: %w", err)
	case b == nil:
		return keptKeys{}, nil
	}
	var text keysText
	if json.Unmarshal(b, &text) != nil { // its error may quote the text
		return keptKeys{}, fmt.Errorf("%s is not what signalbox helper writes; delete it", dir.path(keysFileName))
	}
	out := keptKeys{ended: text.Ended, attempts: text.Attempts}
	for _, k := range text.Keys {
		switch {
		case k.APIKey == "":
		case k.Life == 0: // a version before this one wrote it: nobody asks for it any more
			out.ended = append(out.ended, endedKey{k.keyFor, k.KeyID, k.ExpiresAt})
		default:
			out.keys = append(out.keys, keptKey{k.keyFor, k.KeyID, secret.FromString(k.APIKey), k.ExpiresAt, k.AskedAt, k.Away, k.Brief})
		}
	}
	return out, nil
}

func (k *keptKeys) write(dir privateDir) error {
	text := keysText{Keys: []keyText{}, Ended: k.ended, Attempts: k.attempts}
	for _, one := range k.keys {
		text.Keys = append(text.Keys, keyText{one.keyFor, one.id, one.value.Reveal(), one.expires.UTC(), one.asked.UTC(), one.away, one.brief})
	}
	b, err := json.MarshalIndent(text, "", "  ")
	if err == nil {
		err = dir.write(keysFileName, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("%w in %s: %w", errNotKept, dir.path(keysFileName), err)
	}
	return nil
}

// errNotKept is that the file could not be written, on a disk that is full for instance.
var errNotKept = errors.New("nothing can be kept")

func (k *keptKeys) find(who keyFor) (keptKey, bool) {
	i := slices.IndexFunc(k.keys, func(h keptKey) bool { return h.keyFor == who })
	if i < 0 {
		return keptKey{}, false
	}
	return k.keys[i], true
}

// put keeps a key in place of the one before, and forgets what ended long ago.
func (k *keptKeys) put(key keptKey) {
	k.keys = slices.DeleteFunc(k.keys, func(h keptKey) bool {
		switch {
		case h.keyFor == key.keyFor && h.id != key.id:
			k.ended = append(k.ended, endedKey{h.keyFor, h.id, h.expires}) // a program may go on with it until then
			return true
		case h.keyFor == key.keyFor:
			return true
		}
		return time.Since(h.expires) > longestKey // of a sign-in that is over, or of a train that nobody uses any more
	})
	k.keys = append(k.keys, key)
	k.ended = k.ended[max(0, len(k.ended)-mostEnded):]
}

// forgetKeys drops what is kept for a sign-in that has ended. The server has revoked those keys with it, so that it does no harm when this fails.
func (s *shell) forgetKeys(ctx context.Context, session string) {
	dir, ok := s.configDir()
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTime)
	defer cancel()
	if b, err := dir.read(keysFileName); err != nil || !strings.Contains(string(b), session) {
		return
	}
	unlock, err := dir.lock(ctx, keysLockName)
	if err != nil {
		return
	}
	defer unlock()
	kept, err := readKeys(dir)
	if err != nil {
		return
	}
	kept.keys = slices.DeleteFunc(kept.keys, func(h keptKey) bool {
		if h.Holder != ofSession+session {
			return false
		}
		kept.ended = append(kept.ended, endedKey{h.keyFor, h.id, time.Now().UTC()})
		return true
	})
	kept.attempts = slices.DeleteFunc(kept.attempts, func(a attempt) bool { return a.Holder == ofSession+session })
	_ = kept.write(dir)
}
