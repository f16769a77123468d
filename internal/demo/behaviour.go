package demo

import (
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Break says how an answer fails after its first byte.
type Break int

// The ways in which an answer ends.
const (
	// Whole answers end as they should.
	Whole Break = iota
	// Overloaded streams end with an error event half-way; other answers are a plain 529.
	Overloaded
	// CutInEvent aborts the connection in the middle of an event, or of a JSON body.
	CutInEvent
	// CutBetweenEvents aborts the connection half-way through the stream, after a complete event; a JSON body is cut in its middle.
	CutBetweenEvents
)

// Forever is a [Behaviour.Wait] that ends only when the client goes away.
const Forever = time.Duration(math.MaxInt64)

// Behaviour is how one request is answered. The zero value echoes the prompt at full speed.
type Behaviour struct {
	// Status other than 0 and 200 answers with that error at once.
	Status int
	// RetryAfter is sent as retry-after, in whole seconds, with an error status.
	RetryAfter time.Duration
	// Header is added to the answer in place of what the fake would send; a nil value takes a header away.
	Header http.Header
	// Early answers an error status before the request's body is read.
	Early bool
	// Wait passes before the status line.
	Wait time.Duration
	// Deltas is the number of text deltas; 0 echoes the prompt, cut at max_tokens.
	Deltas int
	// Every passes before each delta; a JSON answer takes the sum of it.
	Every time.Duration
	// Break is how the answer ends.
	Break Break
}

func (b Behaviour) isError() bool { return b.Status != 0 && b.Status != http.StatusOK }

// Script decides how the n-th request (from 0) with one key is answered; false leaves it to the model's name. It may look at the request
// but not read its body, and may block, for instance on r.Context(). Scripts run concurrently.
type Script func(n int, r *http.Request) (Behaviour, bool)

// Always answers every request in one way.
func Always(b Behaviour) Script {
	return func(int, *http.Request) (Behaviour, bool) { return b, true }
}

// Status answers every request with an HTTP error status, in the API's error shape.
func Status(code int) Script { return Always(errorBehaviour(code)) }

// InTurn answers the first requests as listed and leaves the following ones to the model's name.
func InTurn(list ...Behaviour) Script {
	list = slices.Clone(list)
	return func(n int, _ *http.Request) (Behaviour, bool) {
		if n >= len(list) {
			return Behaviour{}, false
		}
		return list[n], true
	}
}

// errorBehaviour is an error as the real API sends it; it tells when to come back for a rate limit only.
func errorBehaviour(code int) Behaviour {
	b := Behaviour{Status: code}
	if code == http.StatusTooManyRequests {
		b.RetryAfter = 5 * time.Second
	}
	return b
}

const (
	slowEvery = 50 * time.Millisecond
	maxDeltas = 1_000_000
	maxMillis = 600_000
)

// modelBehaviour reads a model's name. Names that begin with claude- echo; names that begin with fake- spell their behaviour out, in
// parts that can be joined ("fake-stream-200-slow-20"):
//
//	fake-echo                    as claude-…
//	fake-stream-N                N deltas
//	fake-slow[-MS]               a delta each MS milliseconds; 50 without MS
//	fake-error-STATUS            an error status from 400 to 599
//	fake-overloaded-midstream    an error event half-way
//	fake-cut                     the connection aborted within an event
//	fake-cut-boundary            the connection aborted between two events
//	fake-hang                    no answer at all
//
// Other names are unknown (false), as they are to the real API.
func modelBehaviour(model string) (Behaviour, bool) {
	if strings.HasPrefix(model, "claude-") {
		return Behaviour{}, true
	}
	spelled, ok := strings.CutPrefix(model, "fake-")
	if !ok {
		return Behaviour{}, false
	}
	var b Behaviour
	words := strings.Split(spelled, "-")
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		switch word {
		case "echo":
		case "stream":
			n, ok := number(&words, 1, maxDeltas)
			if !ok {
				return Behaviour{}, false
			}
			b.Deltas = n
		case "slow":
			b.Every = slowEvery
			if ms, ok := number(&words, 0, maxMillis); ok {
				b.Every = time.Duration(ms) * time.Millisecond
			}
		case "error":
			code, ok := number(&words, 400, 599)
			if !ok {
				return Behaviour{}, false
			}
			e := errorBehaviour(code)
			b.Status, b.RetryAfter = e.Status, e.RetryAfter
		case "overloaded":
			if len(words) == 0 || words[0] != "midstream" {
				return Behaviour{}, false
			}
			words = words[1:]
			b.Break = Overloaded
		case "cut":
			b.Break = CutInEvent
			if len(words) > 0 && words[0] == "boundary" {
				words = words[1:]
				b.Break = CutBetweenEvents
			}
		case "hang":
			b.Wait = Forever
		default:
			return Behaviour{}, false
		}
	}
	return b, true
}

// number takes a decimal number within bounds from the front of words.
func number(words *[]string, low, high int) (int, bool) {
	if len(*words) == 0 {
		return 0, false
	}
	n, err := strconv.Atoi((*words)[0])
	if err != nil || n < low || n > high {
		return 0, false
	}
	*words = (*words)[1:]
	return n, true
}
