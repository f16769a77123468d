package rate

// Meet makes the limiter remember who, as their first act does, without asking the database for a share.
func (l *Limiter) Meet(rule Rule, who string) { l.share(rule, who) }

// Held returns how many of the kind that the rule is for are remembered.
func (l *Limiter) Held(rule Rule) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rule.Strangers {
		return len(l.strange)
	}
	return len(l.known)
}
