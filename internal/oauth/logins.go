package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// Binder makes and compares the MACs that hold a stored provider to its addresses.
type Binder interface {
	MAC(purpose string, data []byte) ([]byte, error)
	SameMAC(purpose string, mac, data []byte) (bool, error)
}

// LoginsConfig is what [Logins] are made of. All but Clients, Log and Clock is required.
type LoginsConfig struct {
	DB     *store.DB
	Vault  *vault.Room
	Ring   Sealer
	Binder Binder // the same keyring
	Wire   *provider.Client
	// CheckURL refuses a URL that Signalbox would not call. Its error must be a fault that does not quote the URL.
	CheckURL func(*url.URL) error
	// Clients are client ids of the installation for rows of the catalogue, by name.
	Clients map[string]string
	// PublicURL is where browsers reach this Signalbox; when it is nil, logins in a browser work on this machine alone.
	PublicURL *url.URL
	Log       *slog.Logger
	// Clock is the time by which access tokens end; nil means the wall clock.
	Clock func() time.Time
}

// Logins hold the providers, and lead people (and programs) through consent to tokens in the vault. Make them with [NewLogins], end them with
// [Logins.Close].
type Logins struct {
	db        *store.DB
	vault     *vault.Room
	ring      Sealer
	binder    Binder
	wire      *provider.Client
	catalogue []provider.Provider
	checkURL  func(*url.URL) error
	log       *slog.Logger
	now       func() time.Time
	public    *url.URL

	mu       sync.Mutex
	closed   bool
	leavings sync.WaitGroup // revocations under way
}

// NewLogins returns the logins.
func NewLogins(cfg LoginsConfig) (*Logins, error) {
	if cfg.DB == nil || cfg.Vault == nil || cfg.Ring == nil || cfg.Binder == nil || cfg.Wire == nil || cfg.CheckURL == nil {
		return nil, errors.New("oauth: a database, a vault, a keyring, a client and a check of URLs are required")
	}
	l := &Logins{db: cfg.DB, vault: cfg.Vault, ring: cfg.Ring, binder: cfg.Binder, wire: cfg.Wire, checkURL: cfg.CheckURL, log: cfg.Log, now: cfg.Clock, public: cfg.PublicURL}
	for _, p := range provider.Catalogue() {
		if id := cfg.Clients[p.Name]; id != "" {
			p = p.WithClientID(id)
		}
		l.catalogue = append(l.catalogue, p)
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	return l, nil
}

// Close begins nothing more and waits for the revocations under way, each of which ends by itself within seconds.
func (l *Logins) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.leavings.Wait()
}

// Lookup returns the server that a credential's provider is; ok is false when there is none, or none that may be called.
func (l *Logins) Lookup(tx *store.Tx, name string) (s Server, ok bool, err error) {
	if !providerName.MatchString(name) {
		return s, false, nil
	}
	k, err := l.find(tx, name, "")
	if err != nil || k.Tampered {
		return s, false, ifNotFound(err)
	}
	return Server{Provider: k.Provider, Secret: k.secret, Changed: k.UpdatedAt}, true, nil
}

func background(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), limit)
}
