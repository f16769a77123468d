package identity

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"signalbox.dev/signalbox/internal/quota"
	"signalbox.dev/signalbox/internal/store"
)

// follow keeps the memory equal to the database: the subscriber of the change feed. Each change costs one small read.
func (r *Room) follow(ctx context.Context, changes []store.Change) error {
	var ours []store.Change
	for _, c := range changes {
		switch c.Topic {
		case store.TopicReset:
			return r.load(ctx)
		case store.TopicKey, store.TopicToken, store.TopicUser, store.TopicSession, store.TopicService, store.TopicWebToken:
			ours = append(ours, c)
		}
	}
	if len(ours) == 0 {
		return nil
	}
	return r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		for _, c := range ours {
			var err error
			switch c.Topic {
			case store.TopicKey:
				err = r.reload(tx, &r.keys, livingKeys, c.Subject)
			case store.TopicToken:
				err = r.reload(tx, &r.tokens, livingTokens, c.Subject)
			case store.TopicSession:
				err = r.reloadSession(tx, c.Subject)
			case store.TopicWebToken:
				err = r.reloadWebTokens(tx)
			case store.TopicUser:
				err = r.reloadUser(tx, c.Subject)
			case store.TopicService:
				err = r.reloadService(tx, c.Subject)
			}
			if err != nil {
				return fmt.Errorf("reload a %s: %w", c.Topic, err)
			}
		}
		return nil
	})
}

// Both queries give a holder's columns. What is revoked is not in memory at all; what is expired is, so that its holder can be told why.
const (
	livingKeys   = `SELECT id, train_id, name, '', hash, COALESCE(expires_at, 0), limits, created_by FROM client_keys WHERE revoked_at IS NULL`
	livingTokens = `SELECT id, COALESCE(user_id, service_account_id), name, scopes, hash, COALESCE(expires_at, 0), '', '' FROM tokens WHERE revoked_at IS NULL`
	livingUsers  = `SELECT id, name, role, active, email, limits FROM users`
)

func (r *Room) load(ctx context.Context) error {
	var keys, tokens, sessions []*holder
	people, services := map[string]person{}, map[string]person{}
	var web webRows
	err := r.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		var err error
		// PostgreSQL may run this again, so nothing is carried over from an earlier try.
		if keys, err = holders(tx, livingKeys, r.keys.size()); err != nil {
			return err
		}
		if tokens, err = holders(tx, livingTokens, r.tokens.size()); err != nil {
			return err
		}
		if sessions, err = r.sessionHolders(tx, livingSessions); err != nil {
			return err
		}
		if people, err = users(tx, livingUsers); err != nil {
			return err
		}
		if services, err = users(tx, livingServices); err != nil {
			return err
		}
		web, err = readWebTokens(tx)
		return err
	})
	if err != nil {
		return fmt.Errorf("load keys, tokens, sessions, people and service accounts: %w", err)
	}
	r.peopleMu.Lock()
	r.people, r.services, r.emails = people, services, map[string]string{}
	for id, p := range people {
		r.emails[p.email] = id
	}
	r.countLimited()
	r.peopleMu.Unlock()
	r.keys.replace(keys)
	r.tokens.replace(tokens)
	r.sessions.replace(sessions)
	r.takeWebTokens(web)
	r.loaded.Store(true)
	return nil
}

func (r *Room) reload(tx *store.Tx, reg *register, query, id string) error {
	found, err := holders(tx, query+" AND id = $1", 1, id)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		reg.remove(id)
		return nil
	}
	reg.put(found[0])
	return nil
}

func (r *Room) reloadUser(tx *store.Tx, id string) error {
	found, err := users(tx, livingUsers+" WHERE id = $1", id)
	if err != nil {
		return err
	}
	r.peopleMu.Lock()
	defer r.peopleMu.Unlock()
	defer r.countLimited()
	if was := r.people[id]; r.emails[was.email] == id {
		delete(r.emails, was.email)
	}
	if p, ok := found[id]; ok {
		r.people[id] = p
		r.emails[p.email] = id
	} else {
		delete(r.people, id)
	}
	return nil
}

// holders reads rows without reflection: at the start there may be a hundred thousand.
func holders(tx *store.Tx, query string, expect int, args ...any) (out []*holder, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = make([]*holder, 0, expect)
	var scopes, limits, maker string
	var sum []byte
	for rows.Next() {
		h := &holder{}
		if err := rows.Scan(&h.id, &h.owner, &h.name, &scopes, &sum, &h.expires, &limits, &maker); err != nil {
			return nil, err
		}
		if len(sum) != sha256.Size {
			return nil, fmt.Errorf("the hash of %s has %d bytes instead of %d", h.id, len(sum), sha256.Size)
		}
		copy(h.sum[:], sum)
		h.limits, h.maker = quota.Parse(limits), personBehind(maker)
		h.pack()
		if scopes != "" {
			if h.scopes, err = decodeScopes(scopes); err != nil {
				return nil, fmt.Errorf("the scopes of %s: %w", h.id, err)
			}
		}
		out = append(out, h)
	}
	return out, rows.Err()
}

// person is what a token's caller needs to know of its person.
type person struct {
	name   string
	email  string
	role   Role
	active bool
	limits *quota.Limits // nil for none
}

func users(tx *store.Tx, query string, args ...any) (out map[string]person, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = map[string]person{}
	for rows.Next() {
		var id, limits string
		var p person
		var active int64
		if err := rows.Scan(&id, &p.name, &p.role, &active, &p.email, &limits); err != nil {
			return nil, err
		}
		p.active, p.limits = active == 1, quota.Parse(limits)
		out[id] = p
	}
	return out, rows.Err()
}

func encodeScopes(s Scopes) (string, error) {
	b, err := json.Marshal(s)
	return string(b), err
}

// decodeScopes keeps scopes that this version does not know: they allow nothing here, and are shown as they were issued.
func decodeScopes(text string) (Scopes, error) {
	var s Scopes
	err := json.Unmarshal([]byte(text), &s)
	return s, err
}
