// Command picture draws the house: the packages on their floors, and the arrows of who imports whom.
//
// Promise: docs/design/house.svg shows what `go list` says of the module today, on the floors that docs/design/house.md gives; the same
// packages give the same bytes.
//
// Limits: an arrow that follows from others is left out, since all of them together cannot be read: pointing at a box tells every
// package that it imports. Packages that are never shipped are not drawn.
//
// Invariants: every shipped package has one box; a planned one, which has a floor and no code yet, is dashed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "signalbox.dev/signalbox/"

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(out io.Writer) error {
	design, err := os.ReadFile("docs/design/house.md")
	if err != nil {
		return fmt.Errorf("run it in the module's root: %w", err)
	}
	list := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	list.Stderr = os.Stderr
	packages, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	rooms, err := survey(string(design), packages)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, draw(rooms))
	return err
}

// room is one package with a floor.
type room struct {
	path    string
	floor   int
	built   bool
	imports []string // inside the house, sorted
	x, y    float64  // the middle of its box
}

var floorRow = regexp.MustCompile("(?m)^\\| *(\\d+) *\\| *`([^`]+)` *\\|")

// survey reads the floors of the design and the imports that `go list` tells.
func survey(design string, packages []byte) ([]*room, error) {
	var rooms []*room
	byPath := map[string]*room{}
	for _, m := range floorRow.FindAllStringSubmatch(design, -1) {
		floor, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		r := &room{path: m[2], floor: floor}
		rooms, byPath[r.path] = append(rooms, r), r
	}
	if len(rooms) == 0 {
		return nil, errors.New("docs/design/house.md has no table of floors")
	}
	dec := json.NewDecoder(strings.NewReader(string(packages)))
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return rooms, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		r := byPath[strings.TrimPrefix(p.ImportPath, module)]
		if r == nil {
			continue // never shipped: the house test holds who may be on no floor
		}
		r.built = true
		for _, i := range p.Imports {
			if inside, ok := strings.CutPrefix(i, module); ok {
				r.imports = append(r.imports, inside)
			}
		}
		slices.Sort(r.imports)
	}
}

// direct returns the imports of r that do not follow from its other imports.
func direct(rooms []*room, r *room) []*room {
	find := func(path string) *room {
		for _, other := range rooms {
			if other.path == path {
				return other
			}
		}
		return nil
	}
	var reaches func(from *room, path string) bool
	reaches = func(from *room, path string) bool {
		return from != nil && slices.ContainsFunc(from.imports, func(i string) bool { return i == path || reaches(find(i), path) })
	}
	var out []*room
	for _, path := range r.imports {
		follows := slices.ContainsFunc(r.imports, func(other string) bool { return other != path && reaches(find(other), path) })
		if target := find(path); target != nil && !follows {
			out = append(out, target)
		}
	}
	return out
}
