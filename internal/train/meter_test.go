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

// tape writes down what is metered, and who uses which meter how often.
type tape struct {
	mu   sync.Mutex
	said []string
	uses map[string]int
}

type tapeMeter struct {
	tape *tape
	name string
}

func newTape() *tape { return &tape{uses: map[string]int{}} }

func (p *tape) Meter(slug, account string) train.Meter {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := tapeMeter{p, slug + "/" + account}
	p.uses[m.name]++
	return m
}

func (p *tape) Drop(m train.Meter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := m.(tapeMeter).name
	switch p.uses[name]--; p.uses[name] {
	case 0:
		delete(p.uses, name)
		p.said = append(p.said, name+" forgotten")
	case -1:
		p.said = append(p.said, name+" dropped once too often")
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
			p := newTape()
			s.meters = p
			y := s.open(t)
			y.train("web", train.Priority)
			first, second := y.account("alpha"), y.account("beta")
			y.linkAt("web", first, 1)
			y.linkAt("web", second, 2)
			password := y.password("plain") // no account: never lent, never metered
			y.link("web", password)
			caller, _ := y.key("web")
			require.Equal(t, map[string]int{"web/alpha": 1, "web/beta": 1}, p.uses)
			require.Empty(t, p.said, "a meter that stays in use is never let go, whatever else changes on its line")

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
			require.Equal(t, map[string]int{"web/alpha": 1}, p.uses)
			require.Equal(t, "web/beta forgotten", p.said[len(p.said)-1])
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
