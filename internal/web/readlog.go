package web

import (
	"context"
	"net/http"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/store"
)

// readsLog returns why a visitor may not read the audit log, on record. The audit room takes no caller, so the doors ask the permission.
func (s *site) readsLog(ctx context.Context, v visitor, of store.Target) error {
	err := identity.Allow(v.Caller, identity.AuditRead)
	if err == nil {
		return nil
	}
	if kept := s.Audit.RefuseRead(ctx, v.Event(store.AuditRead, of), err); kept != nil {
		return kept
	}
	return err
}

// mayAudit answers whoever may not read the log.
func (s *site) mayAudit(w http.ResponseWriter, r *http.Request, v visitor) bool {
	err := s.readsLog(r.Context(), v, store.Target{Kind: "audit"})
	if err != nil {
		s.refused(w, r, v, err)
	}
	return err == nil
}
