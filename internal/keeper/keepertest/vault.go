// Package keepertest plays the APIs of key management services, for tests.
//
// Promise: each fake speaks the part of its service's HTTP API that Signalbox uses, as the public documentation describes it, seals with
// AES-GCM under keys of its own, and binds what it seals to the data that it was handed for that.
//
// Limits: they are ours, not the services' own: they show that Signalbox does what it read in the documentation, not that the documentation
// was read right.
//
// Invariants: a key that was disabled or deleted seals and opens nothing; a request without the right credentials is answered as the service
// would, and nothing else happens.
package keepertest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// answer is one that a fake gives in place of its own.
type answer struct {
	status int
	body   string
}

// Service is what the fakes have in common: keys with versions, credentials, and faults to be played.
type Service struct {
	*httptest.Server
	mu    sync.Mutex
	keys  map[string]*key
	queue []answer // the next answers, in place of the fake's own
	calls []string // method and path of each
	token string
}

type key struct {
	versions [][]byte
	disabled bool
	least    int // versions below open nothing
}

func (s *Service) init() {
	s.keys = map[string]*key{}
}

// MakeKey makes a key with one version.
func (s *Service) MakeKey(name string) { s.Rotate(name) }

// Rotate makes a further version of a key.
func (s *Service) Rotate(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[name]
	if k == nil {
		k = &key{}
		s.keys[name] = k
	}
	k.versions = append(k.versions, random())
}

// Disable makes a key unusable, or usable again.
func (s *Service) Disable(name string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].disabled = yes
}

// Retire makes the versions below least open nothing.
func (s *Service) Retire(name string, least int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].least = least
}

// Delete removes a key.
func (s *Service) Delete(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, name)
}

// Answer has the next call answered in this way.
func (s *Service) Answer(status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, answer{status: status, body: body})
}

// Calls returns the method and path of the calls since the last time.
func (s *Service) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

// played answers from the queue, if there is something in it.
func (s *Service) played(w http.ResponseWriter, r *http.Request) bool {
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	if len(s.queue) == 0 {
		return false
	}
	a := s.queue[0]
	s.queue = s.queue[1:]
	if a.status >= 300 && a.status < 400 {
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write([]byte(a.body))
	return true
}

func random() []byte {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil
	}
	return b
}

func aead(k []byte) cipher.AEAD {
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil
	}
	g, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil
	}
	return g
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Vault plays the transit engine of HashiCorp Vault 1.21 and OpenBao (https://developer.hashicorp.com/vault/api-docs/secret/transit).
type Vault struct{ Service }

// StartVault starts a Vault with the transit engine at transit/ that takes one token.
func StartVault(t testing.TB, token string) *Vault {
	v := &Vault{}
	v.init()
	v.token = token
	v.Server = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.Close)
	return v
}

// Keeper is the address of one of its keys.
func (v *Vault) Keeper(name string) string {
	return "vault-transit+http://" + strings.TrimPrefix(v.URL, "http://") + "/transit/" + name
}

func (v *Vault) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.played(w, r) {
		return
	}
	bad := func(status int, text string) { reply(w, status, map[string]any{"errors": []string{text}}) }
	if r.Header.Get("X-Vault-Token") != v.token {
		bad(http.StatusForbidden, "permission denied")
		return
	}
	act, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/")
	k := v.keys[name]
	switch {
	case act == "keys" && r.Method == http.MethodGet && k == nil:
		reply(w, http.StatusNotFound, map[string]any{"errors": []string{}})
	case act == "keys" && r.Method == http.MethodGet:
		reply(w, http.StatusOK, map[string]any{"data": map[string]any{"name": name, "type": "aes256-gcm96", "latest_version": len(k.versions), "min_decryption_version": k.least, "supports_encryption": true}})
	case k == nil:
		bad(http.StatusBadRequest, "encryption key not found")
	default:
		var in struct {
			Plaintext  []byte `json:"plaintext"`
			Ciphertext string `json:"ciphertext"`
			Associated []byte `json:"associated_data"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			bad(http.StatusBadRequest, "failed to parse JSON input")
			return
		}
		if act == "encrypt" {
			n := len(k.versions)
			box := aead(k.versions[n-1]).Seal(nil, nil, in.Plaintext, in.Associated)
			reply(w, http.StatusOK, map[string]any{"data": map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", n, base64.StdEncoding.EncodeToString(box)), "key_version": n}})
			return
		}
		plain, err := k.open(in.Ciphertext, in.Associated)
		if err != nil {
			bad(http.StatusBadRequest, err.Error())
			return
		}
		reply(w, http.StatusOK, map[string]any{"data": map[string]any{"plaintext": plain}})
	}
}

func (k *key) open(ciphertext string, associated []byte) ([]byte, error) {
	part := strings.SplitN(ciphertext, ":", 3)
	if len(part) != 3 {
		return nil, errors.New("invalid ciphertext: no prefix")
	}
	n, err := strconv.Atoi(strings.TrimPrefix(part[1], "v"))
	if err != nil || n < 1 || n > len(k.versions) {
		return nil, errors.New("invalid ciphertext: version is invalid")
	}
	if n < k.least {
		return nil, errors.New("ciphertext or signature version is disallowed by policy (too old)")
	}
	box, err := base64.StdEncoding.DecodeString(part[2])
	if err != nil {
		return nil, errors.New("invalid ciphertext: could not decode base64")
	}
	plain, err := aead(k.versions[n-1]).Open(nil, nil, box, associated)
	if err != nil {
		return nil, errors.New("cipher: message authentication failed")
	}
	return plain, nil
}
