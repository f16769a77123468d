package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const design = "| 2 | `cmd/top` | x |\n| 1 | `internal/mid` | y |\n| 0 | `internal/low` | z |\n| 0 | `internal/later` | planned |\n"

const packages = `{"ImportPath":"signalbox.dev/signalbox/cmd/top","Imports":["fmt","signalbox.dev/signalbox/internal/low","signalbox.dev/signalbox/internal/mid"]}
{"ImportPath":"signalbox.dev/signalbox/internal/mid","Imports":["signalbox.dev/signalbox/internal/low"]}
{"ImportPath":"signalbox.dev/signalbox/internal/low"}
{"ImportPath":"signalbox.dev/signalbox/internal/tests","Imports":["signalbox.dev/signalbox/cmd/top"]}`

func TestPicture(t *testing.T) {
	rooms, err := survey(design, []byte(packages))
	require.NoError(t, err)
	svg := draw(rooms)
	for dec := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "the picture is no XML")
	}
	require.Equal(t, 4, strings.Count(svg, "<rect class=\"box"), "one box a room; what is on no floor is not drawn")
	require.Contains(t, svg, "cmd/top: imports internal/low, internal/mid")
	require.Equal(t, 2, strings.Count(svg, `class="edge"`), "the arrow from top to low follows from the other two")
	require.Equal(t, 1, strings.Count(svg, `class="box planned"`))
	again, err := survey(design, []byte(packages))
	require.NoError(t, err)
	require.Equal(t, svg, draw(again))
}

func TestSurveyRefusesAPageWithoutFloors(t *testing.T) {
	_, err := survey("# House", []byte(packages))
	require.ErrorContains(t, err, "no table of floors")
}

func TestArrowsGoAroundRooms(t *testing.T) {
	from, between, to := &room{x: 300, y: 0}, &room{x: 300, y: 66}, &room{x: 300, y: 132}
	rooms := []*room{from, between, to}
	require.Greater(t, math.Abs(lane(rooms, from, to)-between.x), boxWidth/2)
	require.Equal(t, 300.0, lane(rooms, from, between), "nothing stands in between")
}
