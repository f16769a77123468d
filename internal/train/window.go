package train

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Window is what an upstream said, beside an answer, of one of an account's limits.
type Window struct {
	// Name is the upstream's: "5h", "7d", "7d_sonnet" and the like of a subscription, "requests", "tokens", "input-tokens" or "output-tokens" of
	// an API key.
	Name string
	// Used is the part that is used up, in ten-thousandths; it may be a little over [whole].
	Used int
	// Status is the upstream's word for it: allowed, allowed_warning or rejected; "" when it said none that we know.
	Status string
	// Reset is when the window begins anew; zero when the upstream did not say, or nothing that can be believed.
	Reset time.Time
	// Heard is when it was said.
	Heard time.Time
	// Refused says that a request was refused for it, and Model for which model.
	Refused bool
	Model   string
}

// UsedText is [Window.Used] in words.
func (w *Window) UsedText() string { return percent(w.Used) }

// percent tells ten-thousandths in whole percent.
func percent(n int) string { return strconv.Itoa((n+50)/100) + " %" }

const (
	// whole is all of a window, in the unit of [Window.Used].
	whole = 10_000
	// mostUsed is the largest value that is taken for a part: windows run over their end by a little, never by as much again.
	mostUsed = 2 * whole
	// shortLimit and longLimit are from where on an account is tried after those below: of the short windows, and of the long and the model's.
	shortLimit = 9_000
	longLimit  = 9_500
	// maxWindows bounds the windows that are read of one answer, and maxRare those that are remembered of an account beside the common ones.
	maxWindows = 12
	maxRare    = 6
	// fadeShort and fadeLong are how long a window without a reset is believed.
	fadeShort = 5 * time.Minute
	fadeLong  = time.Hour
	// probeEvery is how often a window that refuses is asked again: an upstream may begin one anew before its time.
	probeEvery = 6 * time.Hour
	rejected   = "rejected"
	// modelMost bounds the name of the model that is remembered of a refusal.
	modelMost = 64
)

const (
	limitPrefix   = "Anthropic-Ratelimit-"
	unifiedPrefix = "Unified-"
)

// buckets are the limits of API keys, by the words in their headers. The upstream refills them all the time; their reset says when they will be full again.
func bucket(name string) bool {
	return name == "requests" || name == "tokens" || name == "input-tokens" || name == "output-tokens"
}

// span returns how long a window is; short windows are counted in hours. ok is false for a name that no window has.
func span(name string) (long time.Duration, short, ok bool) {
	if bucket(name) {
		return time.Minute, true, true
	}
	size, scope, scoped := strings.Cut(name, "_")
	if scoped && (scope == "" || len(scope) > 16 || strings.Trim(scope, "abcdefghijklmnopqrstuvwxyz0123456789") != "") {
		return 0, false, false
	}
	if len(size) < 2 || len(size) > 3 {
		return 0, false, false
	}
	n, err := strconv.ParseUint(size[:len(size)-1], 10, 8)
	if err != nil || n == 0 {
		return 0, false, false
	}
	switch size[len(size)-1] {
	case 'h':
		return time.Duration(n) * time.Hour, !scoped, true
	case 'd':
		return time.Duration(n) * 24 * time.Hour, false, true
	}
	return 0, false, false
}

// Models returns the word that says for which models a window is; "" for all.
func (w *Window) Models() string {
	_, scope, _ := strings.Cut(w.Name, "_")
	return scope
}

// counts reports whether a window counts for a request that names this model.
func (w *Window) counts(model string) bool {
	scope := w.Models()
	switch {
	case scope == "":
		return true
	case model == "":
		return false
	case w.Model == model || strings.Contains(model, scope):
		return true
	}
	return scope == "oi" && strings.Contains(model, "fable") // what the upstream calls it; see docs/design/http.md
}

// Limit returns from where on an account is tried after those below, in ten-thousandths.
func (w *Window) Limit() int {
	if _, short, _ := span(w.Name); short {
		return shortLimit
	}
	return longLimit
}

// ends is the first moment at which the window is unknown again.
func (w *Window) ends() time.Time {
	switch {
	case !w.Reset.IsZero():
		return w.Reset
	case bucket(w.Name):
		return w.Heard.Add(fadeShort)
	}
	return w.Heard.Add(fadeLong)
}

// ended reports whether the window is unknown again.
func (w *Window) ended(now time.Time) bool { return !w.ends().After(now) }

// Over reports whether the window is used so far that other accounts are tried first.
func (w *Window) Over() bool { return w.Used >= w.Limit() }

// refuses returns until when requests for the window's models are not sent; zero for now.
func (w *Window) refuses(now time.Time) time.Time {
	if !w.Refused || w.ended(now) {
		return time.Time{}
	}
	until := w.Heard.Add(probeEvery)
	if !w.Reset.IsZero() && w.Reset.Before(until) {
		until = w.Reset
	}
	if !until.After(now) {
		return time.Time{}
	}
	return until
}

// said is what one answer says, as it is read.
type said struct {
	windows []Window
	// status, claim and reset are of the whole account: the word, the window that it goes by, and when that begins anew.
	status, claim string
	reset         string
}

// readWindows reads what an answer's headers say of an account's limits. They are an upstream's, so anything may stand there: what is no number, is not
// believable or has no name that a window has is left out.
func readWindows(h http.Header, status int, model string, now time.Time) []Window {
	var s said
	for key, values := range h {
		rest, ours := strings.CutPrefix(key, limitPrefix)
		if !ours || len(values) != 1 || len(values[0]) > 64 {
			continue
		}
		if part, unified := strings.CutPrefix(rest, unifiedPrefix); unified {
			s.unified(part, values[0])
			continue
		}
		if name, ok := strings.CutSuffix(rest, "-Remaining"); ok {
			s.bucket(strings.ToLower(name), values[0], h.Get(limitPrefix+name+"-Limit"))
		}
	}
	if s.status == rejected && !slices.ContainsFunc(s.windows, func(w Window) bool { return w.Status == rejected }) {
		if w := s.window(claimed(s.claim)); w != nil {
			w.Status = rejected
		}
	}
	out := s.windows[:0]
	for _, w := range s.windows {
		w.Heard = now
		if bucket(w.Name) {
			w.Reset = resetAt(h.Get(limitPrefix+w.Name+"-Reset"), w.Name, now)
		} else {
			w.Reset = resetAt(h.Get(limitPrefix+unifiedPrefix+w.Name+"-Reset"), w.Name, now)
		}
		if w.Status == rejected {
			if w.Reset.IsZero() && w.Name == claimed(s.claim) {
				w.Reset = resetAt(s.reset, w.Name, now)
			}
			w.Used = max(w.Used, whole)
			if status == http.StatusTooManyRequests && s.refusedBy(&w) {
				w.Refused, w.Model = true, ""
				if w.Models() != "" {
					w.Model = strings.Clone(clip(model, modelMost))
				}
			}
		}
		if w.Used >= 0 {
			out = append(out, w)
		}
	}
	return out
}

// refusedBy reports whether a window that is used up can be why a request was refused. Accounts that pay beyond their plan have such windows and are served, so that
// a burst there says that they are allowed; and a window of some models refuses nobody where one of the whole account does, unless the upstream names it.
func (s *said) refusedBy(w *Window) bool {
	if s.status != "" && s.status != rejected {
		return false
	}
	return w.Models() == "" || w.Name == claimed(s.claim) || !slices.ContainsFunc(s.windows, func(o Window) bool { return o.Status == rejected && o.Models() == "" })
}

// window returns the window of that name, made where there is none; nil for a name that none has, and where there are too many.
func (s *said) window(name string) *Window {
	if i := slices.IndexFunc(s.windows, func(w Window) bool { return w.Name == name }); i >= 0 {
		return &s.windows[i]
	}
	if _, _, ok := span(name); !ok || len(s.windows) >= maxWindows {
		return nil
	}
	if s.windows == nil {
		s.windows = make([]Window, 0, 4)
	}
	s.windows = append(s.windows, Window{Name: name, Used: -1})
	return &s.windows[len(s.windows)-1]
}

func (s *said) unified(part, value string) {
	switch part {
	case "Status":
		s.status = statusWord(value)
		return
	case "Representative-Claim":
		s.claim = value
		return
	case "Reset":
		s.reset = value
		return
	}
	name, field, ok := strings.Cut(part, "-")
	if !ok {
		return
	}
	switch field {
	case "Utilization":
		if used, ok := part10k(value); ok {
			if w := s.window(name); w != nil {
				w.Used = used
			}
		}
	case "Status":
		if word := statusWord(value); word != "" {
			if w := s.window(name); w != nil {
				w.Status = word
			}
		}
	}
}

// bucket takes what is left of an API key's limit.
func (s *said) bucket(name, remaining, limit string) {
	if !bucket(name) {
		return
	}
	left, err := strconv.ParseUint(remaining, 10, 50)
	if err != nil {
		return
	}
	all, err := strconv.ParseUint(limit, 10, 50)
	if err != nil || all == 0 {
		return
	}
	if w := s.window(name); w != nil {
		w.Used = int(whole - min(left, all)*whole/all)
	}
}

// part10k reads a part of one as ten-thousandths.
func part10k(v string) (int, bool) {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || !(f >= 0 && f*whole <= mostUsed) { // NaN is neither
		return 0, false
	}
	return int(f*whole + 0.5), true
}

func statusWord(v string) string {
	if v == "allowed" || v == "allowed_warning" || v == rejected {
		return v
	}
	return ""
}

// claimed returns the name of the window that the upstream calls by a longer one; "" for what it does not name.
func claimed(claim string) string {
	switch {
	case claim == "five_hour":
		return "5h"
	case claim == "seven_day":
		return "7d"
	case claim == "seven_day_overage_included":
		return "7d_oi"
	}
	if scope, ok := strings.CutPrefix(claim, "seven_day_"); ok {
		return "7d_" + scope
	}
	return ""
}

// resetAt reads when a window begins anew: seconds since 1970, or a date (RFC 3339). What lies further off than two such windows is nothing to go by. A
// time that has passed is kept: the window is unknown then.
func resetAt(v, name string, now time.Time) time.Time {
	var at time.Time
	if secs, err := strconv.ParseUint(v, 10, 40); err == nil {
		at = time.Unix(int64(secs), 0)
	} else if at, err = time.Parse(time.RFC3339, v); err != nil {
		return time.Time{}
	}
	long, _, _ := span(name)
	if at.After(now.Add(furthest(long))) || at.Year() < 2000 {
		return time.Time{}
	}
	return at.UTC()
}

// furthest is how far off the reset of a window of that length may be.
func furthest(long time.Duration) time.Duration { return max(2*long, time.Hour) }

// merge returns what is known after an answer: what it says, and of the other windows what was said before and is not over.
func merge(have, fresh []Window, now time.Time) []Window {
	out := make([]Window, 0, len(have)+len(fresh))
	for _, w := range fresh {
		if !w.ended(now) {
			out = append(out, w)
		}
	}
	for _, w := range have {
		if !w.ended(now) && !slices.ContainsFunc(fresh, func(n Window) bool { return n.Name == w.Name }) {
			out = append(out, w)
		}
	}
	slices.SortStableFunc(out, func(a, b Window) int { return b.Heard.Compare(a.Heard) })
	rare := 0
	out = slices.DeleteFunc(out, func(w Window) bool {
		if w.Name == "5h" || w.Name == "7d" || bucket(w.Name) {
			return false
		}
		rare++
		return rare > maxRare
	})
	sortWindows(out)
	return out
}

// sortWindows puts short windows before long ones, and those of all models before those of one.
func sortWindows(list []Window) {
	slices.SortFunc(list, func(a, b Window) int {
		la, _, _ := span(a.Name)
		lb, _, _ := span(b.Name)
		return cmp.Or(cmp.Compare(la, lb), cmp.Compare(a.Name, b.Name))
	})
}
