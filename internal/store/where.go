package store

import (
	"slices"
	"strconv"
	"strings"
)

// Where accumulates the conditions of a dynamic list with their arguments. Values never enter the SQL text.
type Where struct {
	conds []string
	args  []any
}

// Add adds a condition in which each ? stands for the next argument.
func (w *Where) Add(cond string, args ...any) {
	for _, a := range args {
		w.args = append(w.args, a)
		cond = strings.Replace(cond, "?", "$"+strconv.Itoa(len(w.args)), 1)
	}
	w.conds = append(w.conds, cond)
}

// Arg adds an argument outside the conditions, such as a limit, and returns its placeholder.
func (w *Where) Arg(a any) string {
	w.args = append(w.args, a)
	return "$" + strconv.Itoa(len(w.args))
}

// Clone returns the same conditions, to which others are added.
func (w *Where) Clone() *Where {
	return &Where{conds: slices.Clone(w.conds), args: slices.Clone(w.args)}
}

// SQL returns " WHERE a AND b", or nothing without conditions.
func (w *Where) SQL() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

// Args returns the arguments in the order of their placeholders.
func (w *Where) Args() []any { return w.args }

// Like escapes s for a LIKE pattern with ESCAPE '\' and surrounds it with wildcards.
func Like(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}
