package main

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
)

const fakeEmail = "browsing@example.com"

// fakeBrowser is a browser as BROWSER names one: a person's eyes and fingers on the pages, told by the environment what to type. It writes down
// where it was and what it saw.
func fakeBrowser() {
	log, err := os.OpenFile(os.Getenv("FAKE_LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		p := &fakePerson{email: os.Getenv("FAKE_EMAIL"), password: os.Getenv("FAKE_PASSWORD"), clicks: os.Getenv("FAKE_CLICKS"), log: log}
		err = errors.Join(p.visit(os.Args[len(os.Args)-1]), log.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fakePerson goes through the pages of a sign-in.
type fakePerson struct {
	email, password string
	clicks          string // "cancel", or "" to agree
	log             io.Writer
	code            string // that a page showed

	cookies map[string]string // by host; the jar of net/http keeps Secure cookies from 127.0.0.1, browsers do not
}

var fakeForm = regexp.MustCompile(`(?s)<form method="post" action="([^"]+)".*?</form>`)

// visit opens an address and does what its pages ask, until one asks for nothing.
func (p *fakePerson) visit(address string) error {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	p.cookies = map[string]string{}
	var form url.Values
	for range 12 {
		method, body := http.MethodGet, io.Reader(nil)
		if form != nil {
			method, body = http.MethodPost, strings.NewReader(form.Encode())
		}
		req, err := http.NewRequest(method, address, body)
		if err != nil {
			return err
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", req.URL.Scheme+"://"+req.URL.Host)
		}
		req.Header.Set("Cookie", p.cookies[req.URL.Host])
		req.Header.Set("User-Agent", "Fake Browser")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(resp.Body)
		if err = errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		for _, c := range resp.Cookies() {
			p.cookies[req.URL.Host] = c.Name + "=" + c.Value
		}
		fmt.Fprintf(p.log, "%s %s %d\n%s\n", method, address, resp.StatusCode, text)
		form = nil
		if resp.StatusCode == http.StatusSeeOther {
			next, err := resp.Location()
			if err != nil {
				return err
			}
			address = next.String()
			continue
		}
		if found := regexp.MustCompile(`id="login-code">([^<]+)<`).FindSubmatch(text); found != nil {
			p.code = string(found[1])
		}
		action, fields := p.next(string(text))
		if action == "" {
			return nil
		}
		to, err := req.URL.Parse(action)
		if err != nil {
			return err
		}
		address, form = to.String(), fields
	}
	return errors.New("the pages lead around in circles")
}

// next fills the form that a person would.
func (p *fakePerson) next(page string) (string, url.Values) {
	want := map[string]bool{"/sign-in": true, "/step-up": true, "/cli": p.clicks == "", "/cli/cancel": p.clicks == "cancel"}
	for _, f := range fakeForm.FindAllStringSubmatch(page, -1) {
		if !want[f[1]] {
			continue
		}
		fields := url.Values{}
		for _, tag := range regexp.MustCompile(`<input[^>]*>`).FindAllString(f[0], -1) {
			name := regexp.MustCompile(` name="([^"]*)"`).FindStringSubmatch(tag)
			value := regexp.MustCompile(` value="([^"]*)"`).FindStringSubmatch(tag)
			fields.Set(name[1], html.UnescapeString(value[1]))
		}
		for name, value := range map[string]string{"email": p.email, "password": p.password} {
			if fields.Has(name) {
				fields.Set(name, value)
			}
		}
		return f[1], fields
	}
	return "", nil
}
