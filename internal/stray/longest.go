package stray

// longest finds the longest of many values that stands at each place of a text. However many they are and however alike, it looks at each byte of them and of the text once: a tree of the values read
// from behind, in which each node knows where to go on when the next byte is not among its own (Aho and Corasick). Who writes a text chooses its values, so no look-up may cost by their number or length.
type longest struct {
	// Of each node; the first is the root. child is its first child and sibling the next child of its parent, by the byte in label; 0 is none.
	child, sibling, back []int32
	label                []byte
	// size is the length of the longest value that ends there.
	size []int32
}

// longestOf makes the tree of values, none of which is empty.
func longestOf(values map[string]string) *longest {
	l := &longest{}
	l.node(0)
	for value := range values {
		at := int32(0)
		for i := len(value) - 1; i >= 0; i-- {
			next := l.to(at, value[i])
			if next == 0 {
				next = l.node(value[i])
				l.sibling[next], l.child[at] = l.child[at], next
			}
			at = next
		}
		l.size[at] = int32(len(value))
	}
	// Level by level, since a node goes back to one that is nearer to the root.
	queue := []int32{0}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for next := l.child[at]; next != 0; next = l.sibling[next] {
			if at != 0 {
				l.back[next] = l.step(l.back[at], l.label[next])
			}
			l.size[next] = max(l.size[next], l.size[l.back[next]])
			queue = append(queue, next)
		}
	}
	return l
}

func (l *longest) node(label byte) int32 {
	l.child, l.sibling, l.back = append(l.child, 0), append(l.sibling, 0), append(l.back, 0)
	l.label, l.size = append(l.label, label), append(l.size, 0)
	return int32(len(l.label) - 1)
}

// to is the child of a node by a byte.
func (l *longest) to(at int32, b byte) int32 {
	next := l.child[at]
	for next != 0 && l.label[next] != b {
		next = l.sibling[next]
	}
	return next
}

// step is where a byte leads from a node.
func (l *longest) step(at int32, b byte) int32 {
	for {
		if next := l.to(at, b); next != 0 || at == 0 {
			return next
		}
		at = l.back[at]
	}
}

// at returns for each byte of a text how long the longest value is that begins there; 0 is none.
func (l *longest) at(text string) []int32 {
	out := make([]int32, len(text))
	at := int32(0)
	for i := len(text) - 1; i >= 0; i-- {
		at = l.step(at, text[i])
		out[i] = l.size[at]
	}
	return out
}
