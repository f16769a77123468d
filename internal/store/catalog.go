package store

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a column holds, the same on both engines.
type Kind byte

// The kinds. The schema has no others; a time, a switch and a JSON document are one of them (docs/design/store.md).
const (
	Whole Kind = 'i' // int64
	Text  Kind = 't' // string
	Bytes Kind = 'b' // []byte
)

// Column is a column of a [Table].
type Column struct {
	Name string
	Kind Kind
}

// Table is a table as the database itself describes it, with the number of its rows.
type Table struct {
	Name    string
	Columns []Column
	Rows    int64
}

var (
	madeTable    = regexp.MustCompile(`CREATE TABLE (\w+)`)
	madeFunction = regexp.MustCompile(`CREATE (?:OR REPLACE )?FUNCTION (\w+)`)
)

// made returns the names that a pattern finds in the schema's text for PostgreSQL, which has every table that stays. What somebody else has put
// beside ours is none of our affair.
func made(pattern *regexp.Regexp) ([]string, error) {
	texts, err := Schema(Postgres)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range pattern.FindAllStringSubmatch(strings.Join(texts, "\n"), -1) {
		if !slices.Contains(out, m[1]) {
			out = append(out, m[1])
		}
	}
	return out, nil
}

// LeftOut names the tables that a [DB.Dump] leaves out, and why. Every other one is in it, those of later migrations too.
func LeftOut() map[string]string {
	return map[string]string{
		"changes":          "PostgreSQL's change feed of the last half hour, which speaks of transactions of this server alone",
		"goose_db_version": "the number of the schema, which is in the head of a dump and is written by whoever loads it",
	}
}

// tables lists what there is to dump, so ordered that a table refers to earlier ones only.
func (tx *Tx) tables() ([]Table, error) {
	known, err := made(madeTable)
	if err != nil {
		return nil, err
	}
	columns, references := `SELECT m.name AS "table", c.name AS "column", c.type AS type, c.cid AS place FROM sqlite_master m, pragma_table_xinfo(m.name) c
			WHERE m.type = 'table' AND c.hidden = 0`,
		`SELECT m.name AS "table", f."table" AS "column" FROM sqlite_master m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`
	if tx.db.engine == Postgres {
		columns = `SELECT c.relname AS "table", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type, a.attnum AS place
			FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
			WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''`
		references = `SELECT c.relname AS "table", r.relname AS "column" FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
			WHERE f.contype = 'f' AND c.relnamespace = current_schema()::regnamespace`
	}
	type described struct {
		Table, Column, Type string
		Place               int64
	}
	var rows []described
	if err := tx.Select(&rows, columns); err != nil {
		return nil, err
	}
	byName := map[string]*Table{}
	slices.SortFunc(rows, func(a, b described) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), cmp.Compare(a.Place, b.Place))
	})
	var names []string
	for _, r := range rows {
		if _, out := LeftOut()[r.Table]; out || !slices.Contains(known, r.Table) {
			continue
		}
		kind, err := kindOf(r.Type)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", r.Table, r.Column, err)
		}
		t := byName[r.Table]
		if t == nil {
			t = &Table{Name: r.Table}
			byName[r.Table] = t
			names = append(names, r.Table)
		}
		t.Columns = append(t.Columns, Column{r.Column, kind})
	}
	var edges []struct{ Table, Column string }
	if err := tx.Select(&edges, references); err != nil {
		return nil, err
	}
	needs := map[string][]string{}
	for _, e := range edges {
		if e.Table == e.Column {
			return nil, fmt.Errorf("store: the table %s refers to itself, and a dump keeps no order of rows", e.Table)
		}
		needs[e.Table] = append(needs[e.Table], e.Column)
	}
	var out []Table
	for len(names) > 0 {
		before := len(names)
		names = slices.DeleteFunc(names, func(name string) bool {
			for _, need := range needs[name] {
				if slices.Contains(names, need) {
					return false
				}
			}
			out = append(out, *byName[name])
			return true
		})
		if len(names) == before {
			return nil, fmt.Errorf("store: the tables %s refer to each other in a ring", strings.Join(names, ", "))
		}
	}
	return out, nil
}

// kindOf takes the names that the engines give the types of the schema.
func kindOf(declared string) (Kind, error) {
	switch strings.ToLower(declared) {
	case "bigint", "integer":
		return Whole, nil
	case "text":
		return Text, nil
	case "blob", "bytea":
		return Bytes, nil
	}
	return 0, fmt.Errorf("store: a column of type %q has no form in a dump", declared)
}

// as gives a value the form of its kind. SQLite keeps what it was given, whatever the column says.
func (k Kind) as(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case int64:
		if k == Whole {
			return v, nil
		}
	case string:
		switch k {
		case Text:
			return v, nil
		case Bytes:
			return []byte(v), nil
		}
	case []byte:
		switch k {
		case Text:
			return string(v), nil
		case Bytes:
			if v == nil {
				v = []byte{}
			}
			return v, nil
		}
	}
	return nil, fmt.Errorf("store: a %T lies in a column of another kind", v)
}
