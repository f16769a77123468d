package store

import "time"

// SkipTransactions makes the feed believe that it has seen n more transactions than there were, as after a fail-over to a server whose
// numbers are behind.
func (db *DB) SkipTransactions(n uint64) {
	db.feed.polling <- struct{}{}
	db.feed.safe += n
	<-db.feed.polling
}

// Silence makes the feed's last news d old.
func (db *DB) Silence(d time.Duration) {
	db.feed.polling <- struct{}{}
	at := time.Now().Add(-d)
	db.feed.last.Store(&at)
	<-db.feed.polling
}

// BoundWAL sets the number of frames beyond which SQLite's log is emptied; before [DB.Start].
func (db *DB) BoundWAL(frames int) { db.wal.most = frames }
