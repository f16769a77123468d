package identity

import (
	"context"
	"errors"
	"runtime"

	"github.com/alexedwards/argon2id"

	"signalbox.dev/signalbox/internal/secret"
)

// argon are the parameters of Argon2id: 19 MiB and two passes, the floor that OWASP recommends (Password Storage Cheat Sheet). More memory
// would let logins crowd out lending on the small machines that Signalbox runs on.
func argon() *argon2id.Params {
	return &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// nobody is a hash with our parameters that no password is known for. An unknown person's password is compared with it, so that the answer
// takes as long as for a known one.
const nobody = "$argon2id$v=19$m=19456,t=2,p=1$RQ+FffeiK1O99p4aiRToow$IM5OmhYVSQZXx9eHDv64K0derjsxIk/scrGPQK+SFvA"

// outdated reports whether a hash was made with weaker parameters than ours.
func outdated(hash string) bool {
	p, _, _, err := argon2id.DecodeHash(hash)
	now := argon()
	return err == nil && (p.Memory < now.Memory || p.Iterations < now.Iterations || p.KeyLength < now.KeyLength || p.SaltLength < now.SaltLength)
}

// hasher hashes passwords, a few at a time: each takes 19 MiB and some 30 ms of a core.
type hasher struct{ slots chan struct{} }

func newHasher() hasher {
	return hasher{slots: make(chan struct{}, min(runtime.GOMAXPROCS(0), 4))}
}

func (h hasher) acquire(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h hasher) release() { <-h.slots }

func (h hasher) hash(ctx context.Context, password secret.Value) (string, error) {
	if err := h.acquire(ctx); err != nil {
		return "", err
	}
	defer h.release()
	text, err := argon2id.CreateHash(password.Reveal(), argon())
	if err != nil {
		return "", errors.New("a password could not be hashed")
	}
	return text, nil
}

// verify reports whether the password belongs to the hash. An empty hash belongs to nobody and takes as long.
func (h hasher) verify(ctx context.Context, password secret.Value, hash string) (bool, error) {
	if err := h.acquire(ctx); err != nil {
		return false, err
	}
	defer h.release()
	known := hash != ""
	if !known {
		hash = nobody
	}
	match, err := argon2id.ComparePasswordAndHash(password.Reveal(), hash)
	if err != nil {
		return false, errors.New("a stored password hash is not readable")
	}
	return match && known, nil
}
