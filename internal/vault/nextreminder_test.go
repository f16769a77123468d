package vault

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheNextReminderIsTheNearestStep: of the end and of the plan, at the beginning of its day; a plan is not reminded of by steps as long as itself, and
// what was put aside of nothing.
func TestTheNextReminderIsTheNearestStep(t *testing.T) {
	now := time.Date(2027, 3, 10, 15, 0, 0, 0, time.UTC)
	on := func(days int) *time.Time { at := now.AddDate(0, 0, days); return &at }
	for name, one := range map[string]struct {
		c    Credential
		want string
	}{
		"nothing":               {Credential{}, ""},
		"far":                   {Credential{Meta: Meta{ExpiresAt: on(100)}}, "2027-05-19"},
		"between steps":         {Credential{Meta: Meta{ExpiresAt: on(10)}}, "2027-03-13"},
		"tomorrow":              {Credential{Meta: Meta{ExpiresAt: on(1)}}, "2027-03-11"},
		"today":                 {Credential{Meta: Meta{ExpiresAt: on(0)}}, "2027-03-11"},
		"over":                  {Credential{Meta: Meta{ExpiresAt: on(-2)}}, ""},
		"a plan of a week":      {Credential{Meta: Meta{RotateEvery: 7}, CreatedAt: now}, "2027-03-16"},
		"the nearer of the two": {Credential{Meta: Meta{RotateEvery: 7, ExpiresAt: on(3)}, CreatedAt: now}, "2027-03-12"},
		"disabled":              {Credential{Meta: Meta{ExpiresAt: on(10)}, Status: Disabled}, ""},
	} {
		got := one.c.NextReminder(now)
		if one.want == "" {
			require.Nil(t, got, name)
			continue
		}
		require.NotNil(t, got, name)
		require.Equal(t, one.want, got.Format(time.DateOnly), name)
	}
}
