package broker

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"signalbox.dev/signalbox/internal/contents"
	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/relay"
	"signalbox.dev/signalbox/internal/train"
	"signalbox.dev/signalbox/internal/usage"
)

// ears are those who listen to an answer as it passes: what counts its cost, what has people told, and what keeps it. Each may be nil.
type ears struct {
	count *usage.Counter
	tap   *relay.Tap
	keep  *contents.Tap
}

func (e ears) add(p []byte) {
	if e.count != nil {
		e.count.Add(p)
	}
	e.tap.Add(p)
	e.keep.Add(p)
}

// keeps returns what keeps a message and its answer, where the train wants that. It has copied what it needs of the body.
func (b *Broker) keeps(r *http.Request, lease *train.Lease, header http.Header, body *body) *contents.Tap {
	if r.URL.Path != "/v1/messages" || !b.contents.Wants(lease.TrainID()) {
		return nil
	}
	asked := body.bytes()
	if compressed(r.Header) {
		asked = nil
	}
	tap := b.contents.Listen(lease.TrainID(), asked, func() contents.About {
		return contents.About{Request: lease.Told().Request, Keys: clientKeys(r.Header), Hide: lease.Hide}
	})
	if compressed(r.Header) {
		tap.Note("The request was compressed, and is not kept.")
	}
	if compressed(header) {
		tap.Mute()
	}
	return tap
}

// endKeep ends what keeps began.
func endKeep(tap *contents.Tap, o *train.Outcome) {
	switch o.Result {
	case train.ClientCancelled:
		tap.Note("The client went away before the answer was through.")
	case train.Revoked:
		tap.Note("The right to lend ended while the answer was under way.")
	case train.UpstreamBroke:
		tap.Note("The upstream broke off its answer.")
	}
	tap.Done()
}

// listen returns what hears a request and its answer for the people of its train, where they want that. The body stays as it is until it was read, beside the request.
func (b *Broker) listen(r *http.Request, lease *train.Lease, resp *http.Response, body *body, readable bool) *relay.Tap {
	if b.relay == nil || !readable || compressed(r.Header) {
		return nil
	}
	tap := b.relay.Listen(lease.TrainID(), isEventStream(resp.Header), func() relay.About {
		of := lease.Told()
		about := relay.About{TrainID: of.TrainID, Train: of.Train, KeyID: of.KeyID, Key: of.Key, Account: of.Account, Request: of.Request,
			Agent: r.UserAgent(), Keys: clientKeys(r.Header), Hide: lease.Hide}
		if session := r.Header["X-Claude-Code-Session-Id"]; len(session) > 0 {
			about.Session = session[0]
		}
		return about
	})
	if tap == nil {
		return nil
	}
	body.refs.Add(1)
	tap.Ask(body.bytes(), body.unref)
	return tap
}

// tell ends what listen began, and counts an answer that is a failure.
func (b *Broker) tell(tap *relay.Tap, lease *train.Lease, o *train.Outcome) {
	if b.relay == nil {
		return
	}
	note, what := "", ""
	switch o.Result {
	case train.ClientCancelled:
		note = "The client went away before the answer was through."
	case train.Revoked:
		note, what = "The right to lend ended while the answer was under way.", "cut: the right to lend ended"
	case train.UpstreamBroke:
		note, what = "The upstream broke off its answer.", "the upstream broke off its answer"
	case train.UpstreamError:
		if o.Status >= http.StatusInternalServerError {
			what = answeredWith(o.Status)
		}
	}
	if what != "" {
		of := lease.Told()
		b.relay.Failed(of.TrainID, of.Train, what)
	}
	if tap != nil {
		tap.Done(relay.End{Usage: o.Usage, Model: lease.Told().Model, Note: note})
	}
}

func answeredWith(status int) string { return "the upstream answered " + strconv.Itoa(status) }

// refusedTo counts a refusal of ours as a failure of the train's, unless the client did something wrong or went away, and passes it on.
func (b *Broker) refusedTo(caller identity.Caller, err error) error {
	if err == nil || b.relay == nil || errors.Is(err, context.Canceled) {
		return err
	}
	switch f := fault.Of(err); f.Kind {
	case fault.Invalid, fault.NotFound, fault.TooLarge, fault.MethodNotAllowed:
	default:
		b.relay.Failed(caller.TrainID, b.trains.Slug(caller.TrainID), "refused: "+f.Code)
	}
	return err
}
