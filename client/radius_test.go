package client_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/client"
)

// TestPartsOfABlastRadiusAddUp: who is in both parts is one contact, with the sums, the earliest and the latest.
func TestPartsOfABlastRadiusAddUp(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2027, 1, 31, hour, 0, 0, 0, time.UTC) }
	newer := client.BlastRadius{Counted: 3, NextCursor: "next", Since: new(time.Time), Contacts: []client.RadiusContact{
		{Relation: "by", Kind: "person", ID: "user_1", Name: "Ada", Count: 3, Used: 2, Refused: 1, First: at(5), Last: at(9), Acts: []client.RadiusAct{{Action: "lease.granted", Outcome: "ok", Count: 2}, {Action: "x", Outcome: "refused", Count: 1}}},
	}}
	older := client.BlastRadius{Counted: 4, Complete: true, Contacts: []client.RadiusContact{
		{Relation: "did", Kind: "credential", Count: 1, Read: 1, First: at(2), Last: at(2), Acts: []client.RadiusAct{{Action: "credential.list", Outcome: "ok", Count: 1}}},
		{Relation: "by", Kind: "person", ID: "user_1", Name: "Ada L.", Count: 3, Refused: 3, First: at(1), Last: at(4), Acts: []client.RadiusAct{{Action: "x", Outcome: "refused", Count: 3}}},
	}}
	got := newer.Add(older)
	require.Equal(t, int64(7), got.Counted)
	require.True(t, got.Complete)
	require.Nil(t, got.Since)
	require.Empty(t, got.NextCursor)
	require.Len(t, got.Contacts, 2)
	require.Equal(t, "did", got.Contacts[0].Relation)
	require.Equal(t, client.RadiusContact{Relation: "by", Kind: "person", ID: "user_1", Name: "Ada", Count: 6, Used: 2, Refused: 4, First: at(1), Last: at(9),
		Acts: []client.RadiusAct{{Action: "x", Outcome: "refused", Count: 4}, {Action: "lease.granted", Outcome: "ok", Count: 2}}}, got.Contacts[1])
	require.Equal(t, int64(3), newer.Contacts[0].Count, "the parts stay as they were")
	require.Equal(t, int64(1), newer.Contacts[0].Acts[1].Count)
}
