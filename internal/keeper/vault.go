package keeper

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"signalbox.dev/signalbox/internal/secret"
)

// vault is the transit engine of HashiCorp Vault, or of OpenBao, which speaks the same API.
type vault struct {
	wire
	base string
	cfg  Config
}

func openVault(cfg Config) (*vault, error) {
	a := cfg.Address
	scheme := "https"
	if a.plain {
		scheme = "http"
	}
	roots, err := cfg.trusted("VAULT_CACERT")
	if err != nil {
		return nil, err
	}
	client, err := guarded([]string{a.host}, nil, roots)
	if err != nil {
		return nil, fmt.Errorf("the address of the root key's keeper: %w", err)
	}
	v := &vault{base: scheme + "://" + a.host + "/v1/" + a.mount, cfg: cfg}
	v.wire = wire{at: a, client: client, quick: cfg.quick, sign: v.sign, judge: judgeVault}
	return v, nil
}

// sign reads the token anew for each call: a Vault agent replaces the file while this process runs.
func (v *vault) sign(_ context.Context, req *http.Request) error {
	token, err := v.token()
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", token.Reveal())
	req.Header.Set("X-Vault-Request", "true")
	if ns := v.cfg.Getenv("VAULT_NAMESPACE"); ns != "" {
		req.Header.Set("X-Vault-Namespace", ns)
	}
	return nil
}

func (v *vault) token() (secret.Value, error) {
	if t := strings.TrimSpace(v.cfg.Getenv("VAULT_TOKEN")); t != "" {
		return v.usable(secret.FromString(t))
	}
	path := v.cfg.Getenv("VAULT_TOKEN_FILE")
	if path == "" {
		home := v.cfg.Getenv("HOME")
		if home == "" {
			return secret.Value{}, v.at.fault(noCredentials, nil)
		}
		if path = filepath.Join(home, ".vault-token"); !exists(path) {
			return secret.Value{}, v.at.fault(noCredentials, nil)
		}
	}
	t, err := secret.ReadFile(path)
	if err != nil {
		return secret.Value{}, v.at.fault(noCredentials, fmt.Errorf("the file of the token cannot be read: %w", err))
	}
	return v.usable(secret.FromString(strings.TrimSpace(t.Reveal())))
}

// usable refuses what would not be one header: net/http's own error quotes it.
func (v *vault) usable(t secret.Value) (secret.Value, error) {
	if t.IsZero() || strings.ContainsFunc(t.Reveal(), func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return secret.Value{}, v.at.fault(noCredentials, errors.New("the token is empty or not one word"))
	}
	return t, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// judgeVault knows Vault by its statuses and, where one status means several things, by phrases of its transit engine.
func judgeVault(status int, body []byte) (trouble, bool) {
	has := func(phrase string) bool { return bytes.Contains(body, []byte(phrase)) }
	switch {
	case status == http.StatusForbidden && has("invalid token"), status == http.StatusForbidden && has("bad token"):
		return unknownCaller, false
	case status == http.StatusForbidden:
		return denied, false
	case status == http.StatusUnauthorized:
		return unknownCaller, false
	case status == http.StatusNotFound:
		return keyMissing, false
	case status == http.StatusBadRequest && has("missing client token"):
		return unknownCaller, false
	case status == http.StatusBadRequest && has("encryption key not found"):
		return keyMissing, false
	case status == http.StatusBadRequest && (has("not supported") || has("does not support") || has("is for other purposes")):
		return keyUnusable, false
	case status == http.StatusBadRequest:
		return foreign, false
	case status == http.StatusPreconditionFailed: // a performance standby that is behind
		return failed, true
	case status == http.StatusServiceUnavailable && has("sealed"):
		return sealedVault, false
	case status == http.StatusServiceUnavailable:
		return sealedVault, true
	}
	return failed, status >= 500
}

// Wrap encrypts under the newest version of the key. A Vault whose policy lets this server make keys would make one of a misspelt name; that is
// why the key is looked for first, where the policy lets it be.
func (v *vault) Wrap(ctx context.Context, root secret.RootKey) (Wrapped, error) {
	if _, err := v.Look(ctx); isTrouble(err, keyMissing) {
		return Wrapped{}, err
	}
	var out struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	in := map[string]string{
		"plaintext":       base64.StdEncoding.EncodeToString(root.Value().Bytes()),
		"associated_data": base64.StdEncoding.EncodeToString(binding(root.ID())),
	}
	if err := v.call(ctx, http.MethodPost, v.base+"/encrypt/"+v.at.key, in, &out); err != nil {
		return Wrapped{}, err
	}
	version, ok := vaultVersion(out.Data.Ciphertext)
	if !ok {
		return Wrapped{}, v.at.fault(failed, errors.New("its ciphertext has no version"))
	}
	return Wrapped{Blob: []byte(out.Data.Ciphertext), KeyVersion: version}, nil
}

// vaultVersion reads "v3" of "vault:v3:…".
func vaultVersion(ciphertext string) (string, bool) {
	part := strings.SplitN(ciphertext, ":", 3)
	if len(part) != 3 || part[0] != "vault" || len(part[1]) < 2 || part[1][0] != 'v' || strings.Trim(part[1][1:], "0123456789") != "" {
		return "", false
	}
	return part[1], true
}

// Unwrap decrypts.
func (v *vault) Unwrap(ctx context.Context, rootKeyID string, w Wrapped) (secret.RootKey, error) {
	if _, ok := vaultVersion(string(w.Blob)); !ok {
		return secret.RootKey{}, v.at.fault(foreign, errors.New("the wrapping is none of Vault's"))
	}
	var out struct {
		Data struct {
			Plaintext []byte `json:"plaintext"`
		} `json:"data"`
	}
	in := map[string]string{"ciphertext": string(w.Blob), "associated_data": base64.StdEncoding.EncodeToString(binding(rootKeyID))}
	if err := v.call(ctx, http.MethodPost, v.base+"/decrypt/"+v.at.key, in, &out); err != nil {
		return secret.RootKey{}, err
	}
	return v.at.checked(secret.New(out.Data.Plaintext), rootKeyID)
}

// Look reads the key's newest version.
func (v *vault) Look(ctx context.Context) (Key, error) {
	var out struct {
		Data struct {
			Latest  int64 `json:"latest_version"`
			Encrypt *bool `json:"supports_encryption"`
		} `json:"data"`
	}
	if err := v.call(ctx, http.MethodGet, v.base+"/keys/"+v.at.key, nil, &out); err != nil {
		return Key{}, err
	}
	if out.Data.Latest < 1 {
		return Key{}, v.at.fault(failed, errors.New("it tells no version of the key"))
	}
	if e := out.Data.Encrypt; e != nil && !*e {
		return Key{}, v.at.fault(keyUnusable, errors.New("the key does not encrypt"))
	}
	return Key{Version: fmt.Sprintf("v%d", out.Data.Latest), State: Enabled}, nil
}
