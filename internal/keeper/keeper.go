// Package keeper lets a key management service (KMS) keep the root key: AWS KMS, Google Cloud KMS, Azure Key Vault, or the transit engine of
// HashiCorp Vault and OpenBao.
//
// Promise: with a keeper the root key exists outside memory only wrapped by a key that the KMS never gives away; the wrapping lies in the
// database. What a KMS says goes into no message and no log; a failure says which keeper it was, of what kind, and what to do.
//
// Limits: the KMS is asked when a process starts, and when somebody asks for the root key again; nothing is asked in between, so that taking
// the key away there stops no process that runs. Random bytes come from this machine, not from the KMS.
//
// Invariants: no call is made inside a transaction; every call has a deadline; a wrapping counts only if it unwraps to the root key whose id
// stands beside it; a wrapping is tried once before it is stored.
package keeper

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"signalbox.dev/signalbox/internal/secret"
)

// Keeper wraps and unwraps a root key under one key of a KMS. It is safe for concurrent use. Make it with [Open].
type Keeper interface {
	// Wrap wraps the root key under the newest version of the key.
	Wrap(ctx context.Context, root secret.RootKey) (Wrapped, error)
	// Unwrap returns what Wrap wrapped for the root key of that id.
	Unwrap(ctx context.Context, rootKeyID string, w Wrapped) (secret.RootKey, error)
	// Look says what the KMS tells of its key. It needs a permission that Wrap and Unwrap do not.
	Look(ctx context.Context) (Key, error)
}

// Wrapped is a wrapped root key.
type Wrapped struct {
	// Blob is what the KMS returned; it alone can open it.
	Blob []byte
	// KeyVersion names the key, or its version, as the KMS does.
	KeyVersion string
}

// Key is what a KMS tells of its key.
type Key struct {
	// Version is the newest version, as in [Wrapped]; "" where the KMS does not name one.
	Version string
	// State is a word of ours: enabled, disabled or about to be deleted.
	State string
}

// The states of a key.
const (
	Enabled  = "enabled"
	Disabled = "disabled"
	Going    = "about to be deleted"
)

// Config says which keeper, and what it may use.
type Config struct {
	Address Address
	// Getenv returns variables of the process environment: the places where each service's own tools look for credentials.
	Getenv func(name string) string
	Log    *slog.Logger

	// Of the tests.
	roots *x509.CertPool
	base  string // the address of the service's API in place of the real one
	quick bool   // no pauses between tries
}

// Limits of one act, over all its tries.
const (
	tries   = 3
	oneTry  = 10 * time.Second
	allOfIt = 30 * time.Second
)

// Open makes the keeper of an address. It asks nothing yet.
func Open(cfg Config) (Keeper, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch cfg.Address.kind {
	case VaultTransit:
		return openVault(cfg)
	case AWS:
		return openAWS(cfg)
	case GCP:
		return openGCP(cfg)
	case Azure:
		return openAzure(cfg)
	}
	return nil, errors.New("keeper: no address given")
}

// trusted reads the certificate authorities of the file that a variable names; nil for the system's.
func (c Config) trusted(variable string) (*x509.CertPool, error) {
	path := c.Getenv(variable)
	if path == "" || c.roots != nil {
		return c.roots, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s names a file without a certificate in PEM", variable)
	}
	return roots, nil
}

// checked makes a root key of what a KMS unwrapped, if it is the one that was wrapped.
func (a Address) checked(raw secret.Value, rootKeyID string) (secret.RootKey, error) {
	root, err := secret.RootKeyFrom(raw)
	if err != nil {
		return secret.RootKey{}, a.fault(otherKey, fmt.Errorf("what was unwrapped is no key: %w", err))
	}
	if root.ID() != rootKeyID {
		return secret.RootKey{}, a.fault(otherKey, fmt.Errorf("what was unwrapped is root key %s, not %s", root.ID(), rootKeyID))
	}
	return root, nil
}

// Make wraps a root key and opens the wrapping again, so that nothing is stored that could not be opened.
func Make(ctx context.Context, k Keeper, root secret.RootKey) (Wrapped, error) {
	w, err := k.Wrap(ctx, root)
	if err != nil {
		return Wrapped{}, err
	}
	back, err := k.Unwrap(ctx, root.ID(), w)
	if err != nil {
		return Wrapped{}, err
	}
	if !back.Value().Equal(root.Value()) {
		return Wrapped{}, errors.New("keeper: the KMS does not return what it was given")
	}
	return w, nil
}

// binding is what a wrapping is bound to where the service can bind it: it opens for this root key of Signalbox and for nothing else.
func binding(rootKeyID string) []byte { return []byte("signalbox root key " + rootKeyID) }
