package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"signalbox.dev/signalbox/internal/secret"
)

// macVersion is the length of the data key's version before a MAC.
const macVersion = 4

// MAC returns a keyed hash (HMAC-SHA256) of data for one purpose under the active data key. It may lie in the database: without the data
// key it says nothing about data, however few values data can have. [Ring.SameMAC] compares it, also after another data key became active.
func (r *Ring) MAC(purpose string, data []byte) ([]byte, error) {
	if r.closed() {
		return nil, sealed()
	}
	return r.mac(r.at.Load().active, purpose, data)
}

// SameMAC reports whether mac is what [Ring.MAC] returned for the same purpose and data. The error is [ErrUnknownKey] when the data key is
// not in the ring (or the fault encryption_key_missing).
func (r *Ring) SameMAC(purpose string, mac, data []byte) (bool, error) {
	if r.closed() {
		return false, sealed()
	}
	if len(mac) != macVersion+sha256.Size {
		return false, nil
	}
	want, err := r.mac(binary.BigEndian.Uint32(mac), purpose, data)
	if err != nil {
		return false, err
	}
	return hmac.Equal(want, mac), nil
}

func (r *Ring) mac(version uint32, purpose string, data []byte) ([]byte, error) {
	if purpose == "" {
		return nil, errors.New("keyring: a purpose is needed")
	}
	sub, err := r.macKey(version, purpose)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, sub)
	_, _ = h.Write(data) // a hash never fails
	return h.Sum(binary.BigEndian.AppendUint32(nil, version)), nil
}

// macKey derives a subkey once: a start checks every credential, key and token.
func (r *Ring) macKey(version uint32, purpose string) ([]byte, error) {
	at := subkey{version, purpose}
	if sub, ok := r.macs.Load(at); ok {
		return sub.([]byte), nil
	}
	key, err := r.key(version)
	if err != nil {
		return nil, err
	}
	sub, err := key.Subkey("mac/"+purpose, secret.KeySize) // a subkey that seals nothing
	if err != nil {
		return nil, err
	}
	r.macs.Store(at, sub)
	return sub, nil
}
