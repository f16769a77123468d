package notify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"signalbox.dev/signalbox/internal/store"
)

const (
	// aboutMost bounds the trains and the credentials by which the channels of trains are looked up.
	aboutMost = 100
	// trainsTold bounds the channels of trains that one message is stored for: a credential may be linked to every train there is.
	trainsTold = 500
)

// taker is a channel as far as it decides what it takes.
type taker struct {
	ID       string `db:"id"`
	Severity string `db:"severity"`
	Kinds    string `db:"kinds"`
}

// takes reports whether the channel takes a message of a kind. What is for the people of a train is taken by an installation's channel only where it names the kind.
func (t taker) takes(kind Kind, severity Severity, ofTrain bool) (bool, error) {
	var only []Kind
	if err := json.Unmarshal([]byte(t.Kinds), &only); err != nil {
		return false, fmt.Errorf("read the kinds of channel %s: %w", t.ID, err)
	}
	all := len(only) == 0 && (ofTrain || !kind.ofTrains())
	return severity.reaches(Severity(t.Severity)) && (all || slices.Contains(only, kind)), nil
}

// wanted returns the channels that take a message: the installation's and those of the trains that it is about.
func wanted(tx *store.Tx, m Message, c content) ([]string, error) {
	var out []string
	var own []taker
	if err := tx.Select(&own, `SELECT id, severity, kinds FROM notify_channels WHERE enabled = 1 AND train_id IS NULL ORDER BY id`); err != nil {
		return nil, err
	}
	theirs, err := ofTrains(tx, m)
	if err != nil {
		return nil, err
	}
	for i, t := range append(own, theirs...) {
		takes, err := t.takes(m.Kind, c.Severity, i >= len(own))
		if err != nil {
			return nil, err
		}
		if takes {
			out = append(out, t.ID)
		}
	}
	return out, nil
}

// about returns the trains and the credentials that a message is about.
func (m Message) about() (trains, credentials []any) {
	if m.TrainID != "" {
		trains = append(trains, m.TrainID)
	}
	for _, t := range append([]store.Target{m.Subject}, m.About...) {
		switch {
		case t.Kind == "train" && len(trains) < aboutMost:
			trains = append(trains, t.ID)
		case t.Kind == "credential" && len(credentials) < aboutMost:
			credentials = append(credentials, t.ID)
		}
	}
	return trains, credentials
}

// ofTrains returns the channels of the trains that a message is about, or that link a credential which it is about; each once.
func ofTrains(tx *store.Tx, m Message) ([]taker, error) {
	trains, credentials := m.about()
	var which []string
	var w store.Where
	in := func(column string, ids []any) {
		if len(ids) == 0 {
			return
		}
		marks := make([]string, len(ids))
		for i, id := range ids {
			marks[i] = w.Arg(id)
		}
		which = append(which, column+` IN (`+strings.Join(marks, ",")+`)`)
	}
	in(`train_id`, trains)
	if len(credentials) > 0 {
		in(`train_id IN (SELECT train_id FROM train_links WHERE credential_id`, credentials)
		which[len(which)-1] += `)`
	}
	if len(which) == 0 {
		return nil, nil
	}
	var out []taker
	err := tx.Select(&out, `SELECT id, severity, kinds FROM notify_channels WHERE enabled = 1 AND train_id IS NOT NULL AND (`+strings.Join(which, ` OR `)+`) ORDER BY id LIMIT `+w.Arg(trainsTold), w.Args()...)
	return out, err
}
