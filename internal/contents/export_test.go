package contents

// Held is how much room the room's requests count for.
func (r *Room) Held() int64 { return r.held.Load() }
