package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"signalbox.dev/signalbox/client"
	"signalbox.dev/signalbox/internal/fault"
)

const (
	// shortestKey and longestKey bound the life of the keys that a helper issues. The longest is the server's bound for keys that end with a sign-in.
	shortestKey, longestKey = 15 * time.Minute, 12 * time.Hour
	usualKeyLife            = "8h"
	// recheck is for how long a kept key is handed out without asking the server. It is only to spare the server a burst: who asks because a
	// request was refused must get another key.
	recheck = 3 * time.Second
	// awayRest is for how long a kept key is handed out without asking a server that did not answer: those who wait for the lock do not each wait for it too.
	awayRest = 30 * time.Second
	// checkTime and issueTime bound what the server may take: whoever asked waits for the key.
	checkTime, issueTime = 3 * time.Second, 20 * time.Second
	// leastMargin and mostMargin bound how long before its end a key is replaced: for so long a program may go on with a key that it was handed. Claude Code
	// asks again after five minutes.
	leastMargin, mostMargin = 6 * time.Minute, 30 * time.Minute
)

func (s *shell) helperCommand() *cobra.Command {
	return parent("helper", "Hand a client key or a credential to another program, in the way in which that asks for it", s.helperAnthropic(), s.helperGit(), s.helperDocker())
}

// handed is what a helper hands out.
type handed struct {
	APIKey    string    `json:"api_key"`
	KeyID     string    `json:"key_id"`
	Train     string    `json:"train_id"`
	ExpiresAt time.Time `json:"expires_at"`
}

// helperAnthropic is a command for apiKeyHelper of Claude Code (code.claude.com/docs/en/settings): it is run without input, and what it prints is the
// key, sent as X-Api-Key and as Authorization: Bearer. It is run again after CLAUDE_CODE_API_KEY_HELPER_TTL_MS (five minutes) and after a 401.
func (s *shell) helperAnthropic() *cobra.Command {
	var train, expires string
	cmd := s.remote("anthropic", "Print a client key for Claude Code's apiKeyHelper", words(), func(cmd *cobra.Command, _ []string) error {
		life, err := keyLife(expires)
		if err != nil {
			return err
		}
		key, err := s.handOut(cmd, train, life)
		if err != nil {
			return err
		}
		return s.show(handed{key.value.Reveal(), key.id, key.Train, key.expires}, func() { s.say("%s", key.value.Reveal()) })
	})
	cmd.Flags().StringVar(&train, "train", defaultTrain, "train whose accounts it may use")
	cmd.Flags().StringVar(&expires, "expires", usualKeyLife, "how long a key lives, 15m to 12h; another is issued in time")
	return cmd
}

func keyLife(text string) (time.Duration, error) {
	life, err := parseSpan(text)
	if err == nil && (life < shortestKey || life > longestKey) {
		err = usage("--expires must be 15m to 12h, not %s", text)
	}
	return life, err
}

// margin is how long before its end a key of such a life is replaced.
func margin(life time.Duration) time.Duration { return min(max(life/4, leastMargin), mostMargin) }

// handOut returns the key that is kept for whoever asks, or another one. Of commands that ask at the same moment one issues it.
func (s *shell) handOut(cmd *cobra.Command, train string, life time.Duration) (keptKey, error) {
	ctx := cmd.Context()
	c, cfg, err := s.client(cmd)
	if err != nil {
		return keptKey{}, err
	}
	dir, ok := s.configDir()
	if !ok {
		return keptKey{}, usage("there is no home directory to keep the key in; set HOME or XDG_CONFIG_HOME")
	}
	unlock, err := dir.lock(ctx, keysLockName)
	if err != nil {
		return keptKey{}, err
	}
	defer unlock()
	kept, err := readKeys(dir)
	if err != nil {
		return keptKey{}, err
	}
	h := &helping{shell: s, client: c, dir: dir, kept: kept, who: keyFor{serverOf(cfg.URL), train, s.holder, int64(life / time.Second)}, life: life, now: time.Now().UTC()}
	return h.key(ctx)
}

// helping is one run of a helper, under the lock.
type helping struct {
	*shell
	client *client.Client
	dir    privateDir
	kept   keptKeys
	who    keyFor
	life   time.Duration
	now    time.Time
}

func (h *helping) key(ctx context.Context) (keptKey, error) {
	key, ok := h.kept.find(h.who)
	ok = ok && key.expires.After(h.now) && !key.expires.After(h.now.Add(h.life+time.Minute)) // no longer than is asked for now
	if ok && key.away && key.fresh(h.now, awayRest) {
		return key, nil
	}
	if ok && (key.brief || key.expires.Sub(h.now) > margin(h.life)) {
		if key.brief {
			h.sayBrief(key)
		}
		good, err := h.stillGood(ctx, &key)
		if err != nil || good {
			return key, err
		}
		ok = false
	}
	next, err := h.issue(ctx)
	if err == nil || !ok {
		return next, err
	}
	switch {
	case errors.Is(err, errNotKept):
		h.note("There is no other key: %v. The one at hand is good until %s.", err, moment(key.expires))
	case away(ctx, err) || problem(err).Code == "key_limit_reached" || problem(err).Code == "idempotency_in_progress":
		h.note("Signalbox at %s issues no other key just now; the one at hand is good until %s.", h.who.Server, moment(key.expires))
		h.asked(&key, away(ctx, err))
	default:
		return next, err
	}
	return key, nil
}

// stillGood asks the server whether it knows the key as active, unless that was asked a moment ago. Where the server is away, the key stands.
func (h *helping) stillGood(ctx context.Context, key *keptKey) (bool, error) {
	if key.fresh(h.now, recheck) {
		return true, nil
	}
	limited, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	is, err := h.client.GetKey(limited, key.Train, key.id)
	var refused *client.Error
	switch {
	case err == nil && is.Status != "active":
		h.note("The client key %s was revoked, or has expired; it is replaced.", key.id)
		return false, nil
	case err == nil:
		if is.ExpiresAt != nil {
			key.expires = is.ExpiresAt.UTC()
		}
	case isNotFound(err):
		h.note("The client key %s is gone; it is replaced.", key.id)
		return false, nil
	case away(ctx, err):
		h.note("Signalbox at %s does not answer; the key at hand is good until %s.", h.who.Server, moment(key.expires))
	case errors.As(err, &refused) && refused.Code == "scope_missing": // a token that may issue keys need not be one that may read them
		h.note("Nobody can tell whether the key at hand was revoked: the token lacks keys:read.")
	default:
		return false, err
	}
	h.asked(key, away(ctx, err))
	return true, nil
}

// asked keeps that the server was asked, by now: it may have taken its time. away says that it did not answer. Where that cannot be kept (a disk that is full),
// the key is as good, and the server is asked once more by the next.
func (h *helping) asked(key *keptKey, away bool) {
	key.asked, key.away = time.Now().UTC(), away
	h.kept.put(*key)
	if err := h.kept.write(h.dir); err != nil {
		h.note("The key at hand is good, but %v.", err)
	}
}

// tidy takes keys that have ended from the train's list: one of each machine and day would stay there for ever. What they did stays on record.
func (h *helping) tidy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	changed := false
	h.kept.ended = slices.DeleteFunc(h.kept.ended, func(k endedKey) bool {
		if k.Server != h.who.Server || k.Train != h.who.Train || k.ExpiresAt.After(h.now) || ctx.Err() != nil {
			return false
		}
		if err := h.client.RevokeKey(ctx, k.Train, k.KeyID); err != nil && !isNotFound(err) {
			return false
		}
		if err := h.client.PurgeKey(ctx, k.Train, k.KeyID); err != nil && !isNotFound(err) {
			return false
		}
		changed = true
		return true
	})
	if changed {
		_ = h.kept.write(h.dir) // at worst the next one does it again
	}
}

// away reports whether the server could not be asked, or could not answer, as opposed to a refusal or to somebody who does not want to wait.
func away(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var refused *client.Error
	if errors.As(err, &refused) {
		return refused.Status >= http.StatusInternalServerError || refused.Status == http.StatusTooManyRequests
	}
	var net *url.Error
	f, isFault := fault.As(err)
	return errors.As(err, &net) || errors.Is(err, context.DeadlineExceeded) || isFault && f.Kind == fault.Unavailable
}
