package app

import (
	"context"

	"signalbox.dev/signalbox/internal/audit"
	"signalbox.dev/signalbox/internal/incident"
)

// openDetectors makes what watches the audit log for incidents.
func (a *App) openDetectors() (err error) {
	rules := a.cfg.Detectors
	if rules == nil {
		rules = incident.Rules()
	}
	a.detectors, err = incident.NewDetectors(incident.DetectorConfig{DB: a.db, Audit: a.audit, Rules: rules, Log: a.log, Verify: a.verifyAudit,
		Canaries: a.cfg.Canaries, Freeze: a.identity.Freeze})
	return err
}

// verifyAudit verifies the audit log of the running server against its checkpoint file, and returns how much it found.
func (a *App) verifyAudit(ctx context.Context) (int, error) {
	anchors, err := anchorsOf(a.cfg.CheckpointFile, nil)
	if err != nil {
		return 0, err
	}
	report, err := audit.Verify(ctx, a.db, audit.VerifyOptions{Anchors: anchors})
	return int(report.Found), err
}
