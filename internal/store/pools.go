package store

import (
	"time"

	"github.com/jmoiron/sqlx"
)

// Pool tells of one pool of connections at a moment.
type Pool struct {
	Name string // read, write, wal and feed; on PostgreSQL read and write are one, main
	// Max is how many connections it may have.
	Max, Open, InUse int
	// Waits is how often somebody had to wait for a connection since the start, and Waited for how long altogether.
	Waits  int64
	Waited time.Duration
}

// Pools returns the pools of this engine, from memory.
func (db *DB) Pools() []Pool {
	var out []Pool
	add := func(name string, p *sqlx.DB) {
		if p == nil {
			return
		}
		s := p.Stats()
		out = append(out, Pool{Name: name, Max: s.MaxOpenConnections, Open: s.OpenConnections, InUse: s.InUse, Waits: s.WaitCount, Waited: s.WaitDuration})
	}
	if db.engine == Postgres {
		add("main", db.write)
		add("feed", db.news)
		return out
	}
	add("read", db.read)
	add("write", db.write)
	add("wal", db.wal.pool)
	return out
}
