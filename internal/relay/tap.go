package relay

import (
	"cmp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"signalbox.dev/signalbox/internal/notify"
	"signalbox.dev/signalbox/internal/stray"
	"signalbox.dev/signalbox/internal/transcript"
	"signalbox.dev/signalbox/internal/usage"
)

// About says whose request it is.
type About struct {
	TrainID, Train string // the train's id and slug
	KeyID, Key     string // of the client key, and what it is called
	Account        string // the name of the account that was lent
	Request        string // its id
	// Agent is what the client calls itself, and Session the conversation that it names, if it names one.
	Agent, Session string
	// Keys are the client keys that came with the request, and Hide takes the credential that was lent out of a text; neither is ever told.
	Keys []string
	Hide func(string) string
}

// End is how an answer ended.
type End struct {
	Usage usage.Count
	// Model is the one that was asked for, where the answer names none.
	Model string
	// Note says in our own words what went wrong, if something did.
	Note string
}

// Tap hears one request and its answer. A nil Tap hears nothing. Its methods are called by the request's goroutine, one after the other.
type Tap struct {
	room  *Room
	about About
	reply *transcript.Reply
	deaf  bool // what was asked could not be kept

	asked transcript.Asked // the worker's
	end   End
}

// Listen returns a tap where the train's people are told what its agents are asked, else nil. events says that the answer is a stream of events.
func (r *Room) Listen(train string, events bool, about func() About) *Tap {
	if !r.want(train).Content {
		return nil
	}
	return &Tap{room: r, about: about(), reply: transcript.NewReply(events)}
}

// Ask hears what was asked: the whole body, which stays as it is until free is called.
func (t *Tap) Ask(body []byte, free func()) {
	r := t.room
	if n := int64(len(body)); r.held.Add(n) <= heldMost {
		select {
		case r.queue <- job{tap: t, body: body, free: free}:
			return
		default:
		}
	}
	r.held.Add(-int64(len(body)))
	free()
	t.deaf = true
}

// Add hears the next bytes of the answer. It does not keep p.
func (t *Tap) Add(p []byte) {
	if t != nil && !t.deaf {
		t.reply.Add(p)
	}
}

// Done ends the hearing, and has it told.
func (t *Tap) Done(end End) {
	if t == nil {
		return
	}
	t.end = end
	if !t.deaf {
		select {
		case t.room.queue <- job{tap: t}:
			return
		default:
		}
	}
	t.room.lose(t.about.TrainID, 1)
}

func (t *Tap) read(body []byte) { t.asked = transcript.Read(body) }

// Claude Code asks on its own as well: for titles and summaries, without offering tools; whether there is quota left, with one token; to warm a cache; for
// what its person might type next. It says who it is.
const claudeCode = "claude-cli/"

func ownBeginnings() []string { return []string{"[SUGGESTION MODE:", "Warmup"} }

// aside reports that nobody asked this: a program did, for itself.
func (t *Tap) aside() bool {
	a := &t.asked
	if a.Place == 0 || a.MaxTokens == 1 {
		return true
	}
	if !strings.HasPrefix(t.about.Agent, claudeCode) {
		return false
	}
	for _, begins := range ownBeginnings() {
		if strings.HasPrefix(a.Prompt, begins) && (len(a.Prompt) == len(begins) || strings.HasSuffix(begins, ":")) {
			return true
		}
	}
	return !a.Equipped
}

// telling is what is told of the request, if anything is.
func (t *Tap) telling() (notify.Telling, bool) {
	a, answer := &t.asked, t.reply.Answer()
	if t.aside() || !a.New && answer.Calls > 0 { // in between
		return notify.Telling{}, false
	}
	talk := &notify.Talk{Tools: t.plainAll(answer.Tools), Calls: answer.Calls, Note: t.end.Note}
	talk.Reply, talk.ReplyBytes = t.plain(answer.Text, answer.Long, answer.CutShort())
	if a.New {
		talk.Prompt, talk.PromptBytes = t.plain(a.Prompt, a.Long, false)
		if a.Others > 0 {
			talk.Prompt = strings.TrimSpace(talk.Prompt + "\n[and " + strconv.Itoa(a.Others) + " pictures or documents]")
		}
	} else {
		talk.Tools, talk.Calls = t.plainAll(a.Tools), a.Calls
	}
	if talk.Note == "" && answer.Trouble != "" {
		talk.Note = "The upstream reported an error on the way; what came so far is incomplete."
	}
	state := "whole"
	if !answer.Whole || talk.Note != "" {
		state = "broken"
	}
	same := []string{t.about.KeyID, t.about.Session, state, strconv.Itoa(a.Place), strconv.FormatInt(a.Long, 10), a.Prompt}
	if !a.New {
		same = append(same, "on", strconv.Itoa(a.Messages))
	}
	n := t.end.Usage
	title := "Train " + t.about.Train + ": an agent was asked"
	if !a.New {
		title = "Train " + t.about.Train + ": an agent is through"
	}
	m := notify.Message{Kind: notify.Conversation, TrainID: t.about.TrainID, Title: title, Facts: []notify.Fact{
		{Name: "Account", Value: t.about.Account}, {Name: "Client key", Value: t.about.Key}, {Name: "Model", Value: t.modelName()}, {Name: "Tokens", Value: tokens(n)}, {Name: "Request", Value: t.about.Request},
	}}
	return notify.Telling{Message: m, Talk: talk, Same: []byte(strings.Join(same, "\x00"))}, true
}

// modelName is the model that answered, or the one that was asked for. Either is somebody's word.
func (t *Tap) modelName() string {
	name := cmp.Or(t.end.Usage.Model, t.end.Model)
	if !usage.IsModel(name) || t.secret(name) != name {
		return "unknown"
	}
	return name
}

func tokens(n usage.Count) string {
	if n.State == usage.Unknown || n.State == "" {
		return "unknown"
	}
	in := n.Input + n.CacheRead + n.CacheWrite5m + n.CacheWrite1h
	out := strconv.FormatInt(in, 10) + " in, " + strconv.FormatInt(n.Output, 10) + " out"
	if n.CacheRead > 0 {
		out += " (" + strconv.FormatInt(n.CacheRead, 10) + " read from the cache)"
	}
	if n.State == usage.Partial {
		out += ", so far"
	}
	return out
}

const (
	// charsTold bounds what is told of a text.
	charsTold = 3000
	// cutOff stands for the last word of an answer that broke off, and for a text that was cut in its first word.
	cutOff = "[cut off]"
	blanks = " \t\r\n"
)

// plain is what may be told of a text of which the beginning was kept, and how long all of it is where that is not all. Of one that was cut, by us or because the answer broke off, the last word is not
// told: half a secret is not recognised. What looks like a secret is taken out before the text is made as short as it is told, so that no end of ours hides one.
func (t *Tap) plain(text string, long int64, broke bool) (string, int64) {
	all, lost := long <= int64(len(text)), false
	if all {
		long = 0
	}
	if !all || broke {
		kept := text[:transcript.WholeWords([]byte(text))]
		lost = (all || kept == "") && strings.TrimRight(kept, blanks) != strings.TrimRight(text, blanks)
		text = kept
	}
	text = t.secret(clean(text))
	if lost {
		text = strings.TrimSpace(text + " " + cutOff)
	}
	n := 0
	for i := range text {
		if n == charsTold {
			return text[:i], max(long, int64(len(text)))
		}
		n++
	}
	return text, long
}

func (t *Tap) plainAll(texts []string) []string {
	var out []string
	for _, s := range texts {
		out = append(out, t.secret(clean(s)))
	}
	return out
}

// clean drops what cannot be seen, so that nothing hides in it, and control characters.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r' || unicode.Is(unicode.Cf, r) || r == '\u115f' || r == '\u1160' || r == '\u3164' || r == '\ufe0f' || r == '\u034f':
			return -1
		case r == utf8.RuneError, r == '\u2028', r == '\u2029', unicode.IsControl(r):
			return ' '
		}
		return r
	}, text)
}

// secret takes out of a text what must not be told.
func (t *Tap) secret(text string) string {
	for _, key := range t.about.Keys {
		if len(key) >= 8 {
			text = strings.ReplaceAll(text, key, "[redacted: the client key]")
		}
	}
	if t.about.Hide != nil {
		text = t.about.Hide(text)
	}
	return stray.Redact(text)
}
