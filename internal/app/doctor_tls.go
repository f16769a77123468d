package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// renewSoon is how long before its end a certificate should have been renewed: those of public authorities live for weeks.
const renewSoon = 7 * 24 * time.Hour

// lookAtCertificate says whether the listener's certificate can be used, and for how long.
func lookAtCertificate(_ context.Context, p *patient) []Check {
	if !p.cfg.servesTLS() {
		return nil
	}
	c, err := openCertificate(p.cfg.TLSCertFile, p.cfg.TLSKeyFile, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		return []Check{{State: Broken, Found: sentence(err.Error()), Do: "Correct it; the server does not start with it."}}
	}
	if info, err := os.Stat(p.cfg.TLSKeyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
		return []Check{{State: Warning, Found: fmt.Sprintf("everybody on this machine may read %s (mode %04o)", p.cfg.TLSKeyFile, info.Mode().Perm()), Do: "Run: chmod o-rwx " + word(p.cfg.TLSKeyFile)}}
	}
	left := time.Until(c.NotAfter())
	found := p.cfg.TLSCertFile + " is valid for another " + age(left)
	if left < renewSoon {
		return []Check{{State: Warning, Found: found, Do: "Renew it; a running server reads the new files by itself."}}
	}
	return []Check{{State: Fine, Found: found}}
}
