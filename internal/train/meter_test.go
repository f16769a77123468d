package train_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/store/storetest"
	"signalbox.dev/signalbox/internal/train"
)

// tape writes down what is metered.
type tape struct {
	mu   sync.Mutex
	said []string
	kept map[string]bool
}

type tapeMeter struct {
	tape *tape
	name string
}

func (p *tape) Meter(slug, account string) train.Meter { return tapeMeter{p, slug + "/" + account} }

func (p *tape) Keep(used map[train.Meter]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = map[string]bool{}
	for m := range used {
		if m, ok := m.(tapeMeter); ok {
			p.kept[m.name] = true
		}
	}
}

func (m tapeMeter) say(format string, args ...any) {
	m.tape.mu.Lock()
	defer m.tape.mu.Unlock()
	m.tape.said = append(m.tape.said, m.name+" "+fmt.Sprintf(format, args...))
}

func (m tapeMeter) Settled(o train.Outcome) {
	m.say("%s %d first=%t took=%t", o.Result, o.Status, o.FirstByte > 0, o.Duration > 0)
}
func (m tapeMeter) FailedOver()            { m.say("failed over") }
func (m tapeMeter) Cooled(f train.Failure) { m.say("cooled %d", f.Status) }

// TestMeters: each attempt is metered once, where it was made, with fail-overs and the cool-downs that it set; a pair that is gone is let go.
func TestMeters(t *testing.T) {
	for _, e := range storetest.Engines() {
		t.Run(string(e), func(t *testing.T) {
			s := newSite(t, e)
			p := &tape{}
			s.meters = p
			y := s.open(t)
			y.train("web", train.Priority)
			first, second := y.account("alpha"), y.account("beta")
			y.linkAt("web", first, 1)
			y.linkAt("web", second, 2)
			password := y.password("plain") // no account: never lent, never metered
			y.link("web", password)
			caller, _ := y.key("web")
			require.Equal(t, map[string]bool{"web/alpha": true, "web/beta": true}, p.kept)

			l := y.lend(caller, want())
			also := y.lend(caller, want())
			next, err := l.Next(t.Context(), train.Failure{Status: 500})
			require.NoError(t, err)
			_, err = l.Next(t.Context(), train.Failure{Status: 500})
			require.ErrorIs(t, err, train.ErrSettled)
			next.Done(train.Outcome{Result: train.OK, Status: 200, FirstByte: time.Millisecond, Duration: time.Second})
			next.Done(train.Outcome{Result: train.OK, Status: 200})
			require.Equal(t, []string{"web/alpha upstream_error 500 first=false took=true", "web/alpha cooled 500", "web/alpha failed over", "web/beta ok 200 first=true took=true"}, p.said)

			trains, all := y.Tallies()
			require.Equal(t, []train.TrainTally{{Train: "web", Tally: train.Tally{Usable: 1, Cooling: 1}}}, trains)
			require.Equal(t, train.Tally{Usable: 1, Cooling: 1}, all)

			// The account rests already: another failure sets no cool-down.
			p.said = nil
			more, err := also.Next(t.Context(), train.Failure{Status: 500})
			require.NoError(t, err)
			_, err = more.Next(t.Context(), train.Failure{Status: 429})
			require.ErrorIs(t, err, train.ErrNoOther)
			require.Equal(t, []string{"web/alpha upstream_error 500 first=false took=true", "web/alpha failed over", "web/beta upstream_error 429 first=false took=true", "web/beta cooled 429"}, p.said)

			require.NoError(t, y.Unlink(t.Context(), y.admin, "web", second, ""))
			require.Equal(t, map[string]bool{"web/alpha": true}, p.kept)
			y.clock.Add(time.Hour)
			disabled := true
			_, err = y.UpdateTrain(t.Context(), y.admin, "web", train.Patch{Disabled: &disabled}, "")
			require.NoError(t, err)
			trains, all = y.Tallies()
			require.Equal(t, train.Tally{Unusable: 1}, trains[0].Tally, "nothing can be lent to a disabled train")
			require.Equal(t, train.Tally{Usable: 1}, all)
		})
	}
}
