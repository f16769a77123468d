package identity

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"signalbox.dev/signalbox/internal/fault"
	"signalbox.dev/signalbox/internal/jwt"
	"signalbox.dev/signalbox/internal/outbound"
)

// outsider is an outside issuer in memory.
type outsider struct {
	Issuer
	listed map[string]string // subject → person
	shared jwt.Set
	remote *jwt.Remote // nil when there is a shared secret
}

// outsiders makes the memory of the issuers. What an issuer has published already is kept unless it is to be found elsewhere now.
func (r *Room) outsiders(rows webRows, before map[string]*outsider) map[string]*outsider {
	out := map[string]*outsider{}
	for _, row := range rows.issuers {
		i, err := row.issuer(rows.subjects)
		if err == nil && i.Active {
			o := &outsider{Issuer: i, listed: map[string]string{}}
			for _, s := range i.Subjects {
				o.listed[s.Subject] = s.UserID
			}
			if i.Shared {
				o.shared, err = r.sharedKey(row)
			} else if was := before[i.ID]; was != nil && was.remote != nil && was.JWKSURL == i.JWKSURL {
				o.remote = was.remote
			} else {
				o.remote = r.remote(i)
			}
			if err == nil {
				out[i.ID] = o
			}
		}
		if err != nil {
			r.cfg.Log.Error("an outside issuer cannot be read; its tokens are refused", "issuer", row.ID)
		}
	}
	return out
}

func (r *Room) sharedKey(row issuerRow) (jwt.Set, error) {
	shared, err := r.cfg.Ring.Open(issuerPurpose, row.Sealed, row.aad())
	if err != nil {
		return jwt.Set{}, err
	}
	key, err := jwt.SharedKey(shared)
	if err != nil {
		return jwt.Set{}, err
	}
	return jwt.NewSet(key)
}

func (r *Room) remote(i Issuer) *jwt.Remote {
	return jwt.NewRemote(jwt.RemoteConfig{
		Clock: r.cfg.Clock,
		Fetch: func(ctx context.Context) ([]byte, time.Duration, error) { return r.fetchKeys(ctx, i.JWKSURL) },
		Told: func(skipped []string, err error) {
			if err != nil {
				r.cfg.Log.Warn("the keys of an outside issuer could not be fetched; those that are known hold for a while", "issuer", i.ID, "name", i.Name, "cause", err)
			}
			if len(skipped) > 0 {
				r.cfg.Log.Info("some keys of an outside issuer are of no use here", "issuer", i.ID, "name", i.Name, "why", strings.Join(skipped, "; "))
			}
		},
	})
}

// fetchKeys gets a JWK Set and for how long its server says that it is good. Its error holds nothing of the answer.
func (r *Room) fetchKeys(ctx context.Context, url string) ([]byte, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, errors.New("the address of the keys is malformed")
	}
	if err := r.cfg.Outgoing.CheckURL(req.URL); err != nil {
		return nil, 0, outbound.Clean(err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Header.Set("User-Agent", "Signalbox")
	resp, err := r.outgoing.Do(req)
	if err != nil {
		return nil, 0, outbound.Clean(err)
	}
	doc, err := outbound.ReadCapped(resp, jwt.MaxSet)
	if err != nil {
		return nil, 0, outbound.Clean(err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the server of the keys answered with status %d", resp.StatusCode)
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, 0, errors.New("the server of the keys answered in a coding that was not asked for")
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && strings.HasPrefix(kind, "text/html") {
		return nil, 0, errors.New("the server of the keys answered with a page")
	}
	return doc, cacheAge(resp.Header.Get("Cache-Control")), nil
}

// cacheAge reads max-age; 0 when there is none. What must not be kept is kept for the least time that there is: somebody has to ask for less.
func cacheAge(header string) time.Duration {
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
		switch name {
		case "no-store", "no-cache":
			return time.Second
		case "max-age":
			if n, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && n >= 0 && n < 1<<30 {
				return max(time.Duration(n)*time.Second, time.Second)
			}
		}
	}
	return 0
}

// outsideToken verifies the token of an outside issuer: one that is pinned to whom the token says to be from, or one that is not pinned.
func (r *Room) outsideToken(ctx context.Context, u jwt.Unverified, bearer string) (Caller, error) {
	r.web.mu.RLock()
	var candidates []*outsider
	for _, o := range r.web.outside {
		if o.AnyIssuer || o.Issuer.Issuer == u.Issuer() {
			candidates = append(candidates, o)
		}
	}
	r.web.mu.RUnlock()
	var away error
	for _, o := range candidates {
		claims, err := r.verifyOutside(ctx, o, u, bearer)
		var bad *jwt.Invalid
		switch {
		case err == nil:
			return r.outsideCaller(o, claims)
		case errors.As(err, &bad):
			r.cfg.Log.Info("a JSON web token was refused", "why", bad.Error(), "issuer", o.ID)
		default:
			away = err
		}
	}
	if away != nil {
		return Caller{}, fault.New(fault.Unavailable, "issuer_unreachable", "The keys of the issuer of this token cannot be fetched at the moment, so it cannot be verified. Try again in a minute.").After(60).Because(away)
	}
	if len(candidates) == 0 {
		r.cfg.Log.Info("a JSON web token was refused", "why", "no issuer that is trusted here has made it")
	}
	return Caller{}, notValid()
}

func (r *Room) verifyOutside(ctx context.Context, o *outsider, u jwt.Unverified, bearer string) (jwt.Claims, error) {
	rules := jwt.Rules{
		Algorithms: o.Algorithms, Issuer: o.Issuer.Issuer, AnyIssuer: o.AnyIssuer, Audience: o.Audience, AnyAudience: o.AnyAudience, MaxLife: o.MaxLife, Clock: r.cfg.Clock,
	}
	set := o.shared
	if o.remote != nil {
		var err error
		if set, err = o.remote.Keys(ctx, u.KeyID); err != nil {
			return jwt.Claims{}, err
		}
	}
	return rules.Verify(bearer, set)
}

// outsideCaller finds out who the subject of a verified token is here.
func (r *Room) outsideCaller(o *outsider, claims jwt.Claims) (Caller, error) {
	refuse := func(why string) (Caller, error) {
		r.cfg.Log.Info("a JSON web token was refused", "why", why, "issuer", o.ID)
		return Caller{}, notValid()
	}
	read := claims.Text
	if o.SubjectForm == SubjectNumber {
		read = claims.Number
	}
	subject, ok := read(o.SubjectClaim)
	if !ok {
		return refuse("its subject is missing or not of the form that it must have")
	}
	c := Caller{
		Kind: KindJWT, ID: o.ID + "/" + subject, Name: o.Name + " / " + subject, OnBehalf: subject, Scopes: o.Scopes, IssuerID: o.ID, Subject: subject, Until: claims.Expires(),
	}
	switch o.SubjectIs {
	case SubjectOutsider:
		return c, nil
	case SubjectUserID:
		c.UserID = subject
	case SubjectEmail:
		if !claims.Is("email_verified") {
			return refuse("its e-mail address is not verified")
		}
		c.UserID = r.byEmail(subject)
	case SubjectListed:
		c.UserID = o.listed[subject]
	}
	r.peopleMu.RLock()
	p, ok := r.people[c.UserID]
	r.peopleMu.RUnlock()
	if !ok || !p.active || p.email == LocalOperator { // who works on the server's machine is known by being there
		return refuse("its subject is nobody here, or deactivated")
	}
	c.Role, c.OnBehalf = p.role, c.UserID
	return c, nil
}

// byEmail returns the id of the person with that address, "" when there is none.
func (r *Room) byEmail(email string) string {
	r.peopleMu.RLock()
	defer r.peopleMu.RUnlock()
	return r.emails[canonicalEmail(email)]
}

// outsideAgain returns the caller of an outside token as they are now: their token may have expired, their issuer may have been withdrawn,
// and their person may have been deactivated.
func (r *Room) outsideAgain(c Caller) (Caller, error) {
	r.web.mu.RLock()
	o := r.web.outside[c.IssuerID]
	r.web.mu.RUnlock()
	if o == nil || !r.now().Before(c.Until) {
		return Caller{}, notValid()
	}
	c.Scopes = o.Scopes
	if o.SubjectIs == SubjectOutsider {
		c.Role = ""
		return c, nil
	}
	if o.SubjectIs == SubjectListed && o.listed[c.Subject] != c.UserID {
		return Caller{}, notValid()
	}
	r.peopleMu.RLock()
	p, ok := r.people[c.UserID]
	r.peopleMu.RUnlock()
	if !ok || !p.active {
		return Caller{}, notValid()
	}
	c.Role = p.role
	return c, nil
}
