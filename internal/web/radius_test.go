package web_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"signalbox.dev/signalbox/internal/identity"
	"signalbox.dev/signalbox/internal/incident"
)

// TestBlastRadiusInABrowser: from an incident to who used what it touches, and on to what they did besides.
func TestBlastRadiusInABrowser(t *testing.T) {
	scripted(t, func(s *site, scripts bool) {
		s.administrator()
		i, c := s.leaked()
		_, err := s.incidents.Update(s.Context(), boss, i.ID, incident.Patch{IncidentDate: ptrTo(time.Now().Add(-time.Hour))}, "")
		require.NoError(s, err)
		b := s.window(scripts)
		b.signInHere("/incidents/" + i.ID)
		b.click(`a[href$="/blast-radius"]`)
		b.until(`document.querySelector("#by-` + c.ID + ` tbody tr")`)
		require.Contains(b, b.text(), "Leaked <b>key (credential)")
		require.Contains(b, b.text(), "web (train)")
		b.inspect("incident-radius")
		b.open("/audit/blast-radius?subject=web")
		b.until(`document.querySelector("table tbody tr")`)
		b.submitIn(`form.filter`, "subject", c.ID)
		b.until(`document.querySelector("#by-` + c.ID + ` tbody tr")`)
		b.inspect("radius")
		b.open("/audit/blast-radius?subject=nothing")
		b.until(`document.querySelector(".alert")`)
		require.Contains(b, b.text(), "There is no such person")
		b.open("/audit/blast-radius?subject=web&from=never")
		b.until(`document.querySelector("#from-error")`)
		b.inspect("radius-error")
	})
}

func ptrTo[T any](v T) *T { return &v }

// TestBlastRadiusByRole: who may not read the log reads none of it here, and each look is on record.
func TestBlastRadiusByRole(t *testing.T) {
	each(t, func(s *site) {
		cookie := s.administrator()
		i, c := s.leaked()
		paths := []string{"/audit/blast-radius", "/audit/blast-radius?subject=" + c.ID, "/incidents/" + i.ID + "/blast-radius?from=2020-01-01"}
		for role, may := range map[identity.Role]bool{identity.Auditor: true, identity.Operator: false, identity.Member: false} {
			cookie := s.person(role)
			for _, path := range paths {
				a := s.do("GET", path, nil, "Cookie", cookie)
				require.Equal(s, may, a.StatusCode == http.StatusOK, "%s %s %d", role, path, a.StatusCode)
				require.Equal(s, !may, a.StatusCode == http.StatusForbidden, "%s %s %d", role, path, a.StatusCode)
				if !may {
					require.NotContains(s, a.text, "Leaked")
				}
			}
		}
		for _, path := range paths {
			s.weigh(cookie, path)
		}
		a := s.do("GET", paths[1], nil, "Cookie", cookie)
		require.Contains(s, a.text, "Who did something to it")
		require.NotContains(s, a.text, planted)
		a = s.do("GET", paths[1]+"&cursor=planted", nil, "Cookie", cookie)
		require.Equal(s, http.StatusUnprocessableEntity, a.StatusCode)
	})
}
