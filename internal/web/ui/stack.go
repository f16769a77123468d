package ui

import "strconv"

// Stack is a chart of bars that are made of several kinds, one on top of the other, with its table.
type Stack struct {
	Reader Reader
	Title  string
	// Unit names what is counted; "" where Text says it.
	Unit string
	// Layers are the kinds, the lowest first.
	Layers []string
	Piles  []Pile
	// Text writes a number; nil is the reader's way.
	Text func(int64) string
}

// Pile is one bar: how much of each layer.
type Pile struct {
	Label  string
	Values []int64
}

// stackHigh is how high a chart is, in its own measure.
const stackHigh = 600

func (p Pile) sum() (n int64) {
	for _, v := range p.Values {
		n += max(0, v)
	}
	return n
}

func (s Stack) text(n int64) string {
	if s.Text != nil {
		return s.Text(n)
	}
	return s.Reader.Number(n)
}

func (s Stack) most() (m int64) {
	for _, p := range s.Piles {
		m = max(m, p.sum())
	}
	return m
}

// block is one rectangle of a bar.
type block struct{ class, x, y, height string }

// blocks are the rectangles of all bars. What is not nothing is seen.
func (s Stack) blocks() (out []block) {
	all := s.most()
	if all == 0 {
		return nil
	}
	for i, p := range s.Piles {
		sum, below := int64(0), 0
		for layer, v := range p.Values {
			if v <= 0 {
				continue
			}
			sum += v
			top := max(below+4, int(float64(sum)/float64(all)*(stackHigh-20)))
			out = append(out, block{"layer" + strconv.Itoa(layer), strconv.Itoa(i*10 + 1), strconv.Itoa(stackHigh - top), strconv.Itoa(top - below)})
			below = top
		}
	}
	return out
}

// summary is the chart in a sentence.
func (s Stack) summary() string {
	var all int64
	for _, p := range s.Piles {
		all += p.sum()
	}
	unit := ""
	if s.Unit != "" {
		unit = " " + s.Unit
	}
	return s.Title + ": " + s.text(all) + unit + " in all, at most " + s.text(s.most()) + " at once; the table below has each"
}
