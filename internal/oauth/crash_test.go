package oauth_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/oauth"
	"signalbox.dev/signalbox/internal/provider"
	"signalbox.dev/signalbox/internal/secret"
	"signalbox.dev/signalbox/internal/store"
	"signalbox.dev/signalbox/internal/vault"
)

// TestDeathAtEachStep: a process dies at each step of a refresh, and another one on the same machine goes on, with a provider that takes a
// spent token again for a while and with one that revokes the grant. What comes of it is the old pair, the new one, or a pair from a recovery
// that is on record; never a silent loss.
func TestDeathAtEachStep(t *testing.T) {
	for _, lenient := range []bool{false, true} {
		for _, point := range oauth.Points() {
			name := string(point) + "/strict"
			if lenient {
				name = string(point) + "/lenient"
			}
			t.Run(name, func(t *testing.T) {
				each(t, func(t *testing.T, s *site) {
					if lenient {
						s.lenient()
					}
					s.server.lifetime = time.Hour
					p := s.open()
					p.channel(t)
					id := s.connect(p)
					p.dies(point)
					_, err := p.needs(t, id)
					require.Error(t, err)
					p.Close()
					posted := s.server.count()

					next := s.open()
					require.Eventually(t, func() bool { return next.Owed() == 0 }, 5*time.Second, 5*time.Millisecond)
					_, _, version := next.pair(t, id)
					onDisk := point == oauth.AtSpilled || point == oauth.AtCommitted || point == oauth.AtCleared
					if onDisk {
						require.EqualValues(t, 2, version, "the pair was on disk or stored already")
						require.Equal(t, oauth.Ready, next.state(t, id))
						require.Equal(t, 1, s.server.count())
						s.cleared()
						require.EqualValues(t, 3, next.mustRefresh(t, id))
						require.Zero(t, s.server.revoked())
						return
					}
					// An expired claim is no permission: its owner may have spent the token.
					require.EqualValues(t, 1, version)
					hasty := s.open()
					hasty.SetPatience(50 * time.Millisecond)
					_, err = hasty.needs(t, id)
					requireFault(t, "refresh_pending", err)
					s.clock.Add(oauth.ClaimFor + oauth.TakeoverAfter - time.Second)
					_, err = hasty.needs(t, id)
					requireFault(t, "refresh_pending", err)
					require.Equal(t, posted, s.server.count())
					s.clock.Add(2 * time.Second)
					next.Sweep()
					require.Equal(t, []string{"oauth.refresh pending", "oauth.recovery ok claim_lapsed"}, words(next.events(t, refreshes...)))
					require.Equal(t, vault.RefreshUncertain, next.health(t, id))
					if !lenient {
						_, err = next.needs(t, id)
						requireFault(t, "refresh_failed", err)
						require.Equal(t, posted, s.server.count(), "what works is not risked")
						s.clock.Add(time.Hour)
						next = s.open()
					}
					v, err := next.needs(t, id)
					evs := next.events(t, refreshes...)
					require.Equal(t, "true", detail(t, evs[2], "recovery"))
					require.Equal(t, posted+1, s.server.count())
					if point == oauth.AtAnswered && !lenient {
						// The provider had issued a pair, and nobody has it.
						requireFault(t, "login_required", err)
						require.Len(t, next.told(t), 1)
						require.Equal(t, vault.NeedsLogin, next.health(t, id))
						require.Equal(t, "oauth.needs_login failed invalid_grant", words(evs)[len(evs)-1])
						return
					}
					require.NoError(t, err)
					require.EqualValues(t, 2, v)
					require.Empty(t, next.told(t))
					require.Zero(t, s.server.revoked())
					require.Equal(t, vault.Healthy, next.health(t, id))
				})
			})
		}
	}
}

// TestTheDatabaseIsAwayWhenTheAnswerComes: the pair waits on disk and is stored when the database is back, by this process or by the next;
// the token is not sent again.
func TestTheDatabaseIsAwayWhenTheAnswerComes(t *testing.T) {
	for _, restart := range []bool{false, true} {
		each(t, func(t *testing.T, s *site) {
			p := s.open()
			id := s.connect(p)
			var back func()
			p.meets(oauth.AtSpilled, func() { back = p.hide(t) })
			_, err := p.Fresh(t.Context(), id, 1, oauth.Needed)
			require.Error(t, err)
			require.NotContains(t, err.Error(), planted)
			require.Len(t, s.spilled(), 1)
			for range 3 {
				_, err = p.Fresh(t.Context(), id, 1, oauth.Needed)
				require.Error(t, err)
			}
			require.Equal(t, 1, s.server.count())
			next := p
			if restart {
				p.Close()
				next = s.open()
				require.Equal(t, 1, next.Owed())
			}
			s.clock.Add(time.Hour) // long after the claim, and after the access token has ended
			back()
			v, err := next.Fresh(t.Context(), id, 1, oauth.Needed)
			require.NoError(t, err)
			require.EqualValues(t, 2, v, "who holds the pair does not recover")
			require.Eventually(t, func() bool { return next.Owed() == 0 }, 20*time.Second, 10*time.Millisecond)
			_, _, version := next.pair(t, id)
			require.EqualValues(t, 2, version)
			s.cleared()
			require.Equal(t, 1, s.server.count())
			require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh ok"}, words(next.events(t, refreshes...)))
			require.Equal(t, vault.Healthy, next.health(t, id))
			require.EqualValues(t, 3, next.mustRefresh(t, id))
			require.Zero(t, s.server.revoked())
		})
	}
}

// TestTheDatabaseIsAwayWhenARefusalComes: what a call came to that brought nothing is stored later, too.
func TestTheDatabaseIsAwayWhenARefusalComes(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		var back func()
		p.meets(oauth.AtAnswered, func() { back = p.hide(t) })
		_, err := p.Fresh(t.Context(), id, 1, oauth.Needed)
		require.Error(t, err)
		back()
		require.Eventually(t, func() bool { return p.Owed() == 0 }, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, vault.NeedsLogin, p.health(t, id))
		require.Len(t, p.told(t), 1)
		require.Equal(t, 1, s.server.count())
	})
}

// TestNoClaimNoCall: when the database takes no writes, the token is not spent.
func TestNoClaimNoCall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		back := p.hide(t)
		_, err := p.Fresh(t.Context(), id, 1, oauth.Needed)
		require.Error(t, err)
		require.Zero(t, s.server.count())
		back()
		require.Eventually(t, func() bool {
			v, err := p.Fresh(context.Background(), id, 1, oauth.Needed)
			return err == nil && v == 2
		}, 10*time.Second, 20*time.Millisecond)
	})
}

// TestTheDiskIsFull: without a disk the database has the pair at once; without both it waits in memory until one is back.
func TestTheDiskIsFull(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		require.NoError(t, os.Remove(s.disk)) // not even root can write there now
		require.NoError(t, os.WriteFile(s.disk, nil, 0o600))
		require.EqualValues(t, 2, p.mustRefresh(t, id))

		var back func()
		p.meets(oauth.AtAnswered, func() { back = p.hide(t) })
		_, err := p.Fresh(t.Context(), id, 2, oauth.Needed)
		require.Error(t, err)
		require.Equal(t, 1, p.Owed())
		require.NoError(t, os.Remove(s.disk))
		require.NoError(t, os.Mkdir(s.disk, 0o700))
		require.Eventually(t, func() bool { return len(s.spilled()) == 1 }, 20*time.Second, 10*time.Millisecond, "the disk is back first")
		back()
		require.Eventually(t, func() bool { return p.Owed() == 0 }, 20*time.Second, 10*time.Millisecond)
		_, _, version := p.pair(t, id)
		require.EqualValues(t, 3, version)
		require.Equal(t, 2, s.server.count())
		s.cleared()
	})
}

// TestALateAnswerCounts: whether a claim has ended is not asked as long as nobody has taken it over.
func TestALateAnswerCounts(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		q := s.open()
		p.meets(oauth.AtAnswered, func() {
			s.clock.Add(oauth.ClaimFor + oauth.TakeoverAfter + time.Second)
			q.Sweep()
			require.Equal(t, oauth.Uncertain, q.state(t, id))
		})
		require.EqualValues(t, 2, p.mustRefresh(t, id))
		require.Equal(t, vault.Healthy, p.health(t, id))
		evs := p.events(t, refreshes...)
		require.Equal(t, []string{"oauth.refresh pending", "oauth.recovery ok claim_lapsed", "oauth.refresh ok"}, words(evs))
		require.Equal(t, "true", detail(t, evs[2], "recovery"))
	})
}

// overtaken makes a process get a pair that comes too late: it is dead while another machine recovers, within the provider's grace. It returns the
// process that takes up what the dead one has left, and the one on the other machine.
func (s *site) overtaken(t *testing.T, id string, p *process) (heir, other *process) {
	t.Helper()
	disk := s.disk
	p.dies(oauth.AtSpilled)
	_, err := p.needs(t, id)
	require.Error(t, err)
	p.Close()
	s.disk = t.TempDir()
	other = s.open()
	s.clock.Add(oauth.ClaimFor + oauth.TakeoverAfter + time.Second)
	require.EqualValues(t, 2, other.mustRefresh(t, id))
	s.disk = disk
	heir = s.open()
	require.Eventually(t, func() bool { return heir.Owed() == 0 && heir.Spare() == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Len(t, s.spilled(), 1)
	_, _, version := heir.pair(t, id)
	require.EqualValues(t, 2, version, "a loser never overwrites the winner")
	return heir, other
}

// TestAnOvertakenPairIsTriedOnce: when the provider refuses what is stored, the pair that came too late saves the connection.
func TestAnOvertakenPairIsTriedOnce(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		heir, _ := s.overtaken(t, id, p)
		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		require.EqualValues(t, 3, heir.mustRefresh(t, id))
		evs := heir.events(t, refreshes...)
		last := evs[len(evs)-4:]
		require.Equal(t, []string{"oauth.refresh pending", "oauth.refresh failed invalid_grant", "oauth.refresh pending", "oauth.refresh ok"}, words(last))
		require.Equal(t, "true", detail(t, last[2], "recovery"))
		require.NotEmpty(t, detail(t, last[2], "overtaken_claim"))
		require.Empty(t, heir.told(t))
		heir.spent(t)
		s.cleared()
		require.EqualValues(t, 4, heir.mustRefresh(t, id))
	})
}

// TestAnOvertakenPairElsewhere: the process that holds it tries it also when another one has met the refusal.
func TestAnOvertakenPairElsewhere(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		heir, other := s.overtaken(t, id, p)
		s.server.next(answers(provider.Refused, "invalid_grant", 400, 0))
		_, err := other.needs(t, id)
		requireFault(t, "login_required", err)
		require.Eventually(t, func() bool {
			heir.Sweep()
			return heir.Spare() == 0 && heir.Owed() == 0 && heir.Waiting() == 0
		}, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, vault.Healthy, heir.health(t, id))
		_, _, version := heir.pair(t, id)
		require.EqualValues(t, 3, version)
		s.cleared()
	})
}

// TestAnOvertakenPairIsRefused: it is tried once, then people hear of it, once.
func TestAnOvertakenPairIsRefused(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		heir, _ := s.overtaken(t, id, p)
		refused := answers(provider.Refused, "invalid_grant", 400, 0)
		s.server.next(refused, refused)
		calls := s.server.count()
		_, err := heir.needs(t, id)
		requireFault(t, "login_required", err)
		require.Equal(t, calls+2, s.server.count())
		heir.spent(t)
		require.Len(t, heir.told(t), 1)
		heir.Sweep()
		require.Equal(t, calls+2, s.server.count())
		s.cleared()
	})
}

// TestAnOvertakenPairIsRefusedElsewhere: another process has met the refusal and told people; while the overtaken pair is tried the connection
// still needs a login, and when it is refused too they do not hear it again.
func TestAnOvertakenPairIsRefusedElsewhere(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		p.channel(t)
		id := s.connect(p)
		heir, other := s.overtaken(t, id, p)
		refused := answers(provider.Refused, "invalid_grant", 400, 0)
		s.server.next(refused, refused)
		_, err := other.needs(t, id)
		requireFault(t, "login_required", err)
		tried := make(chan vault.Health, 1)
		heir.meets(oauth.AtSending, func() { tried <- other.health(t, id) })
		require.Eventually(t, func() bool {
			heir.Sweep()
			return heir.Spare() == 0 && heir.Owed() == 0 && heir.Waiting() == 0
		}, 10*time.Second, 10*time.Millisecond)
		require.Equal(t, vault.NeedsLogin, <-tried)
		require.Equal(t, vault.NeedsLogin, heir.health(t, id))
		require.Len(t, heir.told(t), 1)
		require.Len(t, heir.events(t, "oauth.needs_login"), 1)
		s.cleared()
	})
}

// TestAnOvertakenPairGoes: with the credential, and with a person's new login.
func TestAnOvertakenPairGoes(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		s.lenient()
		p := s.open()
		id := s.connect(p)
		heir, _ := s.overtaken(t, id, p)
		access, refresh := s.server.login()
		_, err := heir.vault.Rotate(t.Context(), admin(), id, map[string]secret.Value{"access_token": secret.FromString(access), "refresh_token": secret.FromString(refresh)}, "login")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return heir.Spare() == 0 && len(s.spilled()) == 0 }, 10*time.Second, 10*time.Millisecond)

		id = s.connect(heir)
		third, _ := s.overtaken(t, id, heir)
		require.NoError(t, third.vault.Delete(t.Context(), admin(), id, ""))
		require.Eventually(t, func() bool { return third.Spare() == 0 && len(s.spilled()) == 0 }, 10*time.Second, 10*time.Millisecond)
	})
}

// TestSpillsOfAnotherKeyring: a file that does not open is left alone and told; it may be somebody's only token.
func TestSpillsOfAnotherKeyring(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		p.dies(oauth.AtSpilled)
		_, err := p.needs(t, id)
		require.Error(t, err)
		p.Close()
		name := s.spilled()[0]
		moved := store.NewID("cred") + name[len(id):]
		require.NoError(t, os.Rename(s.disk+"/"+name, s.disk+"/"+moved))
		q := s.open()
		require.Zero(t, q.Owed(), "invariant 7: bound to its credential")
		require.Contains(t, s.logs.String(), "move it away")
		require.Equal(t, []string{moved}, s.spilled())
	})
}

// TestAnUnreadSpillIsNotPassedOver: when the machine does not give a file, the process does not start without it; once it does, the pair is stored.
func TestAnUnreadSpillIsNotPassedOver(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		p.dies(oauth.AtSpilled)
		_, err := p.needs(t, id)
		require.Error(t, err)
		p.Close()
		path := filepath.Join(s.disk, s.spilled()[0])
		aside := filepath.Join(t.TempDir(), "aside")
		require.NoError(t, os.Rename(path, aside))
		require.NoError(t, os.Symlink(path, path)) // fails to be read also by root
		room := s.room(&process{db: p.db, vault: p.vault, disk: s.disk}, slog.New(slog.DiscardHandler))
		err = room.Start()
		require.ErrorIs(t, err, syscall.ELOOP)
		require.ErrorContains(t, err, "start again")
		room.Close()
		require.NoError(t, os.Remove(path))
		require.NoError(t, os.Rename(aside, path))
		q := s.open()
		require.Eventually(t, func() bool { return q.Owed() == 0 }, 10*time.Second, 5*time.Millisecond)
		_, _, version := q.pair(t, id)
		require.EqualValues(t, 2, version)
		require.Equal(t, 1, s.server.count())
	})
}

// TestAStoppedProcessDoesNotCall: one that slept past the time that its claim leaves for a call gives it up.
func TestAStoppedProcessDoesNotCall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		p.meets(oauth.AtSending, func() { p.Sleep(oauth.ClaimFor) })
		_, err := p.needs(t, id)
		require.Contains(t, requireFault(t, "refresh_failed", err).Detail, "claim_too_old")
		require.Zero(t, s.server.count())
		s.clock.Add(oauth.CoolMost)
		require.EqualValues(t, 2, s.open().mustRefresh(t, id))
	})
}

// TestAForcedRefreshIsOneCall: a process whose claim was taken over while a person waited for it does not send the spent token again for that person.
func TestAForcedRefreshIsOneCall(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		p := s.open()
		id := s.connect(p)
		q := s.open()
		_, token, _ := p.pair(t, id)
		p.meets(oauth.AtAnswered, func() {
			s.clock.Add(time.Hour) // past the claim, and the access token has ended
			_, err := q.needs(t, id)
			requireFault(t, "login_required", err)
		})
		_, err := p.Refresh(t.Context(), admin(), id)
		requireFault(t, "login_required", err)
		p.Sweep()
		p.spent(t)
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		sent := 0
		for _, call := range s.server.posts {
			if call.token == token {
				sent++
			}
		}
		require.Equal(t, 2, sent, "once, and once more on record")
	})
}
