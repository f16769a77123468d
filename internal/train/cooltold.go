package train

import (
	"strconv"
	"time"

	"signalbox.dev/signalbox/internal/notify"
)

// message tells the people of the trains that link an account that it rests.
func (c *coolDown) message(a *account, until time.Time) notify.Message {
	answer := "none"
	if c.status != 0 {
		answer = strconv.Itoa(c.status)
	}
	return notify.Message{
		Kind: notify.AccountCooling, Subject: a.target(), DedupKey: a.id + "/" + strconv.FormatInt(c.version, 10) + "/" + answer,
		Title: "Account " + a.Name + " is not lent for a while",
		Text:  "It rests because " + c.reason + ". Agents get another account that is linked to their train, or an error that says when to come back.",
		Facts: []notify.Fact{{Name: "Account", Value: a.Name}, {Name: "Answer", Value: answer}, {Name: "Not lent until", Value: until.UTC().Format(time.RFC3339)}},
	}
}
