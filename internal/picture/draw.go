package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	boxWidth, boxHeight = 150.0, 34.0
	rowHeight           = 66.0
	span                = 640.0 // between the middles of the outermost boxes
	gap                 = 190.0 // between the middles of boxes on an inner floor
	left, top           = 150.0, 36.0
)

// place gives each room its spot. On each floor the rooms stand in the order of the middle of those that import them, which keeps most
// arrows from crossing; the widest floor and the ground floor take the whole width, so that long arrows run along the sides.
func place(rooms []*room) (floors [][]*room) {
	var levels []int
	for _, r := range rooms {
		if !slices.Contains(levels, r.floor) {
			levels = append(levels, r.floor)
		}
	}
	slices.SortFunc(levels, func(a, b int) int { return cmp.Compare(b, a) })
	widest := 0
	for _, level := range levels {
		var row []*room
		for _, r := range rooms {
			if r.floor == level {
				row = append(row, r)
			}
		}
		widest = max(widest, len(row))
		floors = append(floors, row)
	}
	for n, row := range floors {
		pull := func(r *room) float64 {
			sum, count := 0.0, 0.0
			for _, above := range rooms {
				if slices.Contains(direct(rooms, above), r) {
					sum, count = sum+above.x, count+1
				}
			}
			if count == 0 {
				return left + span // nobody needs it yet: out of the way
			}
			return sum / count
		}
		slices.SortStableFunc(row, func(a, b *room) int { return cmp.Compare(pull(a), pull(b)) })
		step := gap
		if len(row) > 1 && (len(row) == widest || n == len(floors)-1) {
			step = span / float64(len(row)-1)
		}
		for i, r := range row {
			r.y = top + float64(n)*rowHeight
			if at, only := alone(rooms, row); only {
				r.x = at
				continue
			}
			r.x = left + span/2 + (float64(i)-float64(len(row)-1)/2)*step
		}
	}
	return floors
}

// alone says where the only room of a floor stands: below the only one that imports it, and beside the way of the others while it is planned.
func alone(rooms, row []*room) (x float64, only bool) {
	if len(row) > 1 {
		return 0, false
	}
	if !row[0].built {
		return left + span/2 + gap, true
	}
	var above []*room
	for _, r := range rooms {
		if slices.Contains(direct(rooms, r), row[0]) {
			above = append(above, r)
		}
	}
	if len(above) != 1 {
		return 0, false
	}
	return above[0].x, true
}

// lane returns where an arrow falls past the floors between: as near to its room as it can without crossing another.
func lane(rooms []*room, from, to *room) float64 {
	free := func(x float64) bool {
		return !slices.ContainsFunc(rooms, func(r *room) bool {
			return r.y > from.y && r.y < to.y && x > r.x-boxWidth/2-8 && x < r.x+boxWidth/2+8
		})
	}
	for off := 0.0; off < span; off += 6 {
		for _, x := range []float64{from.x + off, from.x - off} {
			if free(x) {
				return x
			}
		}
	}
	return from.x
}

// draw returns the picture.
func draw(rooms []*room) string {
	floors := place(rooms)
	width, height := left+span+boxWidth/2+20, top+float64(len(floors)-1)*rowHeight+boxHeight+26
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-labelledby="title about">
<!-- Made by "make generate" from go list (internal/picture). Do not edit. -->
<title id="title">The packages of Signalbox on their floors</title>
<desc id="about">An arrow points from a package to one that it imports, always to a lower floor. Arrows that follow from others are left out.</desc>
<style>
:root { --paper: #ffffff; --ink: #1f2328; --line: #59636e; --box: #f6f8fa; --rule: #d1d9e0 }
@media (prefers-color-scheme: dark) { :root { --paper: #0d1117; --ink: #f0f6fc; --line: #9198a1; --box: #151b23; --rule: #3d444d } }
.paper { fill: var(--paper) } .rule { stroke: var(--rule) } .box { fill: var(--box); stroke: var(--line) }
.planned { stroke-dasharray: 4 3 } .edge { fill: none; stroke: var(--line); stroke-width: 1.4 } .head { fill: var(--line) }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, monospace; fill: var(--ink); text-anchor: middle } .floor { fill: var(--line); text-anchor: start; font-size: 12px }
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker></defs>
<rect class="paper" width="100%%" height="100%%"/>
`, width, height, width, height)
	for _, row := range floors {
		y := row[0].y
		fmt.Fprintf(&b, "<line class=\"rule\" x1=\"10\" x2=\"%g\" y1=\"%g\" y2=\"%g\"/><text class=\"floor\" x=\"10\" y=\"%g\">floor %d</text>\n",
			width-10, y+boxHeight/2+16, y+boxHeight/2+16, y+4, row[0].floor)
	}
	for _, row := range floors {
		for _, r := range row {
			for _, to := range direct(rooms, r) {
				from, at := r.y+boxHeight/2, to.y-boxHeight/2
				turn := at - (rowHeight - boxHeight) // an arrow falls past what stands between and turns above its target
				x, way := lane(rooms, r, to), ""
				if x != r.x {
					below := from + rowHeight - boxHeight
					way = fmt.Sprintf(" C%.1f %.1f %.1f %.1f %.1f %.1f", r.x, below-6, x, from+8, x, below)
				}
				fmt.Fprintf(&b, "<path class=\"edge\" marker-end=\"url(#head)\" d=\"M%.1f %.1f%s V%.1f C%.1f %.1f %.1f %.1f %.1f %.1f\"/>\n", r.x, from, way, turn, x, at-6, to.x, turn+2, to.x, at)
			}
		}
	}
	for _, row := range floors {
		for _, r := range row {
			class, about := "box", "imports "+strings.Join(r.imports, ", ")
			switch {
			case !r.built:
				class, about = "box planned", "planned"
			case len(r.imports) == 0:
				about = "imports no other package of the house"
			}
			fmt.Fprintf(&b, "<g><title>%s: %s</title><rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%g\" height=\"%g\" rx=\"6\"/><text x=\"%.1f\" y=\"%.1f\">%s</text></g>\n",
				r.path, about, class, r.x-boxWidth/2, r.y-boxHeight/2, boxWidth, boxHeight, r.x, r.y+4.5, strings.TrimPrefix(r.path, "internal/"))
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}
