package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/demo"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/vault"
)

// Dev is a Signalbox on throw-away data, with a fake upstream behind two sample accounts. Make it with [OpenDev].
type Dev struct {
	*App
	// Train is the slug of the sample train, and Key a client key of it.
	Train string
	Key   secret.Value
	// Upstream is the address of the fake.
	Upstream string

	fake     *demo.Upstream
	accounts []string
	dir      string
}

// Accounts are the names of the sample accounts.
func (d *Dev) Accounts() []string { return d.accounts }

// OpenDev opens a Signalbox in a new temporary directory and fills it. Whatever cfg says of data directory, database and root key is not
// used: nothing of a real installation may be touched by a trial.
func OpenDev(ctx context.Context, cfg Config) (_ *Dev, err error) {
	d := &Dev{Train: "web"}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.dir, err = os.MkdirTemp("", "signalbox-dev-"); err != nil {
		return nil, err
	}
	cfg.DataDir, cfg.DatabaseURL, cfg.RootKey = d.dir, secret.Value{}, secret.Value{}
	cfg.styleguide = true
	cfg.CheckpointFile = cfg.dataPath("checkpoints.log")

	names := []string{"team-alpha", "team-beta"}
	keys := make([]secret.Value, len(names))
	for i := range keys {
		keys[i] = secret.FromString("sk-fake-" + strings.ToLower(rand.Text()))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the fake upstream: %w", err)
	}
	d.fake = demo.NewUpstream(demo.Options{Keys: keys})
	d.Upstream = "http://" + l.Addr().String()
	go func() {
		if err := d.fake.Serve(l); err != nil {
			cfg.logger().Error("the fake upstream stopped", "cause", err)
		}
	}()
	cfg.AllowPrivateUpstreams = append(cfg.AllowPrivateUpstreams, l.Addr().String())
	if d.App, err = Open(ctx, cfg); err != nil {
		return nil, err
	}
	return d, d.fill(ctx, names, keys)
}

// fill makes the sample train.
func (d *Dev) fill(ctx context.Context, names []string, keys []secret.Value) error {
	caller := identity.System("dev")
	if _, err := d.trains.CreateTrain(ctx, caller, train.Draft{Slug: d.Train, Name: "Sample train"}); err != nil {
		return err
	}
	for i, name := range names {
		account, err := d.vault.Create(ctx, caller, vault.Draft{
			Type:    vault.APIKey,
			Meta:    vault.Meta{Name: name, Provider: "anthropic", BaseURL: d.Upstream, Description: "sample account at the built-in fake"},
			Secrets: map[string]secret.Value{"api_key": keys[i]},
		})
		if err != nil {
			return err
		}
		if _, _, err := d.trains.Link(ctx, caller, d.Train, train.LinkDraft{Credential: account.ID}); err != nil {
			return err
		}
		d.accounts = append(d.accounts, name)
	}
	var err error
	_, d.Key, err = d.trains.IssueKey(ctx, caller, d.Train, identity.KeyDraft{Name: "sample"})
	return err
}

// Close ends the server and the fake and removes the data.
func (d *Dev) Close() error {
	var errs []error
	if d.App != nil {
		errs = append(errs, d.App.Close())
	}
	if d.fake != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = d.fake.Shutdown(ctx) // cuts what is still open
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}
